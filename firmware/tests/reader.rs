//! The reader against a gateway's end: what it keeps, releases, shows and refuses.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use firmware::backup_clock::Told;
use firmware::journal::{RamStorage, Storage};
use firmware::{Reader, Show};
use protocol::*;

const KEY: Key = Key([3; 16]);
const GREEN: fn(u32) -> Show = |seq| Show::Punch { seq: Seq(seq), signal: Signal::Stored };

struct Desk<const N: usize> {
    reader: Reader<RamStorage<N>>,
    gateway: GatewayEnd,
    now: u64,
}

#[test]
fn a_swipe_is_kept_until_it_is_committed_and_only_then_shown_as_stored() {
    let mut desk = Desk::<8>::new();
    assert_eq!(desk.swipe(1), Some(Seq(1)));
    assert_eq!(desk.reader.poll_show(), None);

    assert_eq!(desk.badges(desk_collect(0)), [1]);
    assert_eq!(desk.badges(desk_collect(0)), [1]);
    assert_eq!(desk.reader.poll_show(), None);

    assert_eq!(desk.badges(desk_collect(1)), []);
    assert_eq!(desk.reader.poll_show(), Some(GREEN(1)));
    desk.badges(desk_collect(1));
    assert_eq!(desk.reader.poll_show(), None);
}

#[test]
fn a_power_cut_loses_no_punch_and_gives_no_number_twice() {
    let mut desk = Desk::<8>::new();
    desk.swipe(1);
    desk.swipe(2);
    desk.badges(desk_collect(1));
    let desk = &mut desk.power_cut();

    assert_eq!(desk.swipe(3), Some(Seq(3)));
    let Answer::Punches { released, first, punches, .. } = desk.ask(desk_collect(0)) else { panic!("no punches") };

    assert_eq!((released, first), (Seq(1), Seq(2)));
    let boots: Vec<u32> = punches.iter().map(|punch| punch.boot.0).collect();
    assert_eq!(boots, [1, 2]);
    desk.badges(desk_collect(2));
    assert_eq!(desk.reader.poll_show(), None, "whoever swiped before the power cut is gone");
}

#[test]
fn a_full_journal_refuses_counts_and_keeps_what_it_has() {
    let mut desk = Desk::<3>::new();
    for badge in 1..=3 {
        assert!(desk.swipe(badge).is_some());
    }
    assert_eq!(desk.swipe(4), None);
    assert_eq!(desk.reader.poll_show(), Some(Show::NotKept));
    let desk = &mut desk.power_cut();

    let Answer::Punches { lost, lost_seen, punches, .. } = desk.ask(desk_collect(0)) else { panic!("no punches") };
    assert_eq!((lost, lost_seen, punches.len()), (1, 0, 3));
    let Answer::Punches { lost_seen, .. } = desk.ask(Request::Collect { committed: Seq(3), lost_seen: 1, limit: 6 })
    else {
        panic!("no punches")
    };
    assert_eq!(lost_seen, 1);
    assert_eq!(desk.swipe(4), Some(Seq(4)));
}

#[test]
fn nothing_comes_next_until_there_is_a_punch_or_a_loss_and_asking_releases_nothing() {
    let mut desk = Desk::<1>::new();
    assert_eq!(desk.ask(Request::Next), Answer::Nothing { now: UptimeMs(desk.now) });
    desk.swipe(1);
    assert_eq!(desk.badges(Request::Next), [1]);
    assert_eq!(desk.badges(Request::Next), [1]);
    assert_eq!(desk.swipe(2), None);

    let Answer::Punches { released, lost, lost_seen, .. } = desk.ask(desk_collect(1)) else { panic!("no punches") };
    assert_eq!((released, lost, lost_seen), (Seq(1), 1, 0));
    let Answer::Punches { lost, punches, .. } = desk.ask(Request::Next) else { panic!("the loss is not told") };
    assert_eq!((lost, punches.len()), (1, 0));
    desk.ask(Request::Collect { committed: Seq(1), lost_seen: 1, limit: 6 });
    assert_eq!(desk.ask(Request::Next), Answer::Nothing { now: UptimeMs(desk.now) });
}

#[test]
fn a_commit_of_numbers_never_given_releases_nothing() {
    let mut desk = Desk::<4>::new();
    desk.swipe(1);
    assert_eq!(desk.badges(desk_collect(2)), [1]);
    assert_eq!(desk.badges(Request::Collect { committed: Seq(u32::MAX), lost_seen: 9, limit: 255 }), [1]);
}

#[test]
fn damage_in_the_journal_leaves_a_hole_that_the_numbers_show() {
    let mut desk = Desk::<8>::new();
    for badge in 1..=4 {
        desk.swipe(badge);
    }
    let mut storage = desk.reader.into_storage();
    storage.damage(Seq(1));
    storage.damage(Seq(3));
    let mut desk = Desk::start(storage, 1);

    let Answer::Punches { released, first, punches, .. } = desk.ask(desk_collect(0)) else { panic!("no punches") };
    assert_eq!((released, first, punches.len()), (Seq(0), Seq(2), 1));
    let Answer::Punches { released, first, punches, .. } = desk.ask(desk_collect(2)) else { panic!("no punches") };
    assert_eq!((released, first, punches.len()), (Seq(2), Seq(4), 1));
}

#[test]
fn a_card_that_lies_on_the_reader_is_one_swipe() {
    let mut desk = Desk::<8>::new();
    assert!(desk.swipe(1).is_some());
    for _ in 0..20 {
        desk.now += 2_900;
        assert_eq!(desk.swipe(1), None);
    }
    assert!(desk.swipe(2).is_some());
    desk.now += 3_000;
    assert!(desk.swipe(1).is_some());
}

#[test]
fn an_order_to_open_is_carried_out_once_and_not_after_its_time() {
    let mut desk = Desk::<1>::new();
    let open = |order, not_after| Request::Open { order, pulse_ms: 500, not_after: UptimeMs(not_after) };
    assert_eq!(desk.ask(open(5, desk.now + 1_000)), Answer::Done);
    assert_eq!(desk.reader.poll_show(), Some(Show::Open { pulse_ms: 500 }));

    assert_eq!(desk.ask(open(5, desk.now + 1_000)), Answer::Done);
    assert_eq!(desk.ask(open(4, desk.now + 1_000)), Answer::Refused(Refusal::OutOfOrder));
    assert_eq!(desk.ask(open(6, desk.now - 1)), Answer::Refused(Refusal::Expired));
    assert_eq!(desk.reader.poll_show(), None);
}

#[test]
fn a_punch_carries_the_time_once_the_reader_has_been_told() {
    let mut desk = Desk::<4>::new();
    let told = Request::SetTime { unix_ms: 1_772_406_065_000, at: UptimeMs(desk.now) };
    assert_eq!(desk.ask(told), Answer::Done);
    let future = Request::SetTime { unix_ms: 1_772_406_065_000, at: UptimeMs(desk.now + 1) };
    assert_eq!(desk.ask(future), Answer::Refused(Refusal::OutOfOrder));
    desk.now += 250;
    desk.swipe(1);
    let Answer::Punches { punches, .. } = desk.ask(desk_collect(0)) else { panic!("no punches") };
    assert_eq!(punches[0].unix_ms, Some(1_772_406_065_250));
}

#[test]
fn a_clock_with_a_battery_dates_the_swipes_of_a_boot_without_a_gateway() {
    let mut desk = Desk::<4>::new();
    desk.reader.handle_backup_clock(Told { unix_ms: 1_772_406_065_000, age_ms: 60_000 }, UptimeMs(1_000));
    desk.now = 4_000;
    desk.swipe(1);
    assert!(!desk.reader.status(UptimeMs(4_000)).time_set, "nobody has told the time in this boot");
    let told = Request::SetTime { unix_ms: 1_772_406_200_000, at: UptimeMs(4_000) };
    assert_eq!(desk.ask(told), Answer::Done);
    desk.now = 5_000;
    assert_eq!(desk.reader.poll_told(), Some(1_772_406_200_000), "for the clock, once");
    assert_eq!(desk.reader.poll_told(), None);
    // The gateway's word counts more.
    desk.reader.handle_backup_clock(Told { unix_ms: 1, age_ms: 1 }, UptimeMs(5_000));
    desk.swipe(2);
    let Answer::Punches { punches, .. } = desk.ask(desk_collect(0)) else { panic!("no punches") };
    let dates: Vec<_> = punches.iter().map(|punch| punch.unix_ms).collect();
    assert_eq!(dates, [Some(1_772_406_128_000), Some(1_772_406_201_000)]);
}

#[test]
fn a_clock_that_was_told_too_long_ago_dates_nothing() {
    let mut desk = Desk::<4>::new();
    desk.reader.handle_backup_clock(Told { unix_ms: 1_772_406_065_000, age_ms: 10_000_001 }, UptimeMs(1_000));
    desk.swipe(1);
    let Answer::Punches { punches, .. } = desk.ask(desk_collect(0)) else { panic!("no punches") };
    assert_eq!(punches[0].unix_ms, None);
}

#[test]
fn a_signal_is_shown_for_a_swipe_of_the_last_seconds_only() {
    let mut desk = Desk::<4>::new();
    let refused = |seq| Request::Signal { seq: Seq(seq), signal: Signal::Refused };
    desk.swipe(1);
    assert_eq!(desk.ask(refused(1)), Answer::Done);
    assert_eq!(desk.reader.poll_show(), Some(Show::Punch { seq: Seq(1), signal: Signal::Refused }));
    desk.ask(refused(2));
    desk.now += 10_000;
    desk.ask(refused(1));
    assert_eq!(desk.reader.poll_show(), None);
}

#[test]
fn without_a_gateway_a_swipe_is_shown_as_kept_at_once_and_only_once() {
    let address = Address::new(1).unwrap();
    let mut reader = Reader::keyed(address, KEY, RamStorage::<4>::new()).unwrap();
    for (badge, at) in [(1, 5), (2, 9_000)] {
        reader.handle_badge(Badge::Full(badge), UptimeMs(at)).unwrap();
        reader.handle_time(UptimeMs(at));
        assert_eq!(reader.poll_show(), Some(Show::Kept), "at {at}");
        reader.handle_time(UptimeMs(at + 5_000));
        assert_eq!(reader.poll_show(), None);
    }
}

#[test]
fn a_gateway_that_has_gone_is_waited_for_a_second_and_later_not_at_all() {
    let mut desk = Desk::<4>::new();
    desk.swipe(1);
    desk.now += 999;
    desk.reader.handle_time(UptimeMs(desk.now));
    assert_eq!(desk.reader.poll_show(), None);
    desk.now += 1;
    desk.reader.handle_time(UptimeMs(desk.now));
    assert_eq!(desk.reader.poll_show(), Some(Show::Kept));

    desk.now += 2_000;
    desk.swipe(2);
    assert_eq!(desk.reader.poll_show(), Some(Show::Kept), "it was heard three seconds ago");
}

#[test]
fn what_was_shown_as_kept_turns_green_when_it_is_stored_after_all() {
    let mut desk = Desk::<4>::new();
    desk.now += 3_000;
    desk.swipe(1);
    assert_eq!(desk.reader.poll_show(), Some(Show::Kept));
    desk.badges(desk_collect(1));
    assert_eq!(desk.reader.poll_show(), Some(GREEN(1)));
    desk.now += 9_000;
    desk.reader.handle_time(UptimeMs(desk.now));
    assert_eq!(desk.reader.poll_show(), None);
}

#[test]
fn what_was_shown_as_stored_is_never_shown_as_kept_after_it() {
    let mut desk = Desk::<4>::new();
    desk.swipe(1);
    desk.badges(desk_collect(1));
    assert_eq!(desk.reader.poll_show(), Some(GREEN(1)));
    desk.now += 5_000;
    desk.reader.handle_time(UptimeMs(desk.now));
    assert_eq!(desk.reader.poll_show(), None);
}

#[test]
fn a_full_journal_is_not_shown_as_kept() {
    let address = Address::new(1).unwrap();
    let mut reader = Reader::keyed(address, KEY, RamStorage::<1>::new()).unwrap();
    reader.handle_badge(Badge::Full(1), UptimeMs(5)).unwrap();
    reader.handle_time(UptimeMs(5));
    assert_eq!(reader.poll_show(), Some(Show::Kept));
    assert_eq!(reader.handle_badge(Badge::Full(2), UptimeMs(6)), None);
    assert_eq!((reader.poll_show(), reader.poll_show()), (Some(Show::NotKept), None));
}

#[test]
fn the_status_tells_supply_tamper_fill_and_damage() {
    let mut desk = Desk::<4>::new();
    desk.swipe(1);
    desk.reader.handle_health(11_900, true);
    desk.reader.handle_badge_noise(7);
    let before = desk.gateway.request(&Request::Status).unwrap();
    for byte in &before[..before.len() - 4] {
        desk.reader.handle_line_byte(*byte, UptimeMs(desk.now));
    }
    let Answer::Status(status) = desk.ask(Request::Status) else { panic!("no status") };
    assert_eq!((status.supply_mv, status.tamper, status.badge_noise), (11_900, true, 7));
    assert_eq!((status.journal_fill, status.journal_capacity, status.next), (1, 4, Seq(2)));
    assert_eq!(status.damage.cobs + status.damage.crc, 1);
    assert!(!status.time_set);
}

#[test]
fn the_reader_tells_why_it_started() {
    let mut desk = Desk::<1>::new();
    assert_eq!(desk.ask(Request::Start), Answer::Start(StartCause::Unknown));
    desk.reader.handle_start(StartCause::Watchdog);
    assert_eq!(desk.ask(Request::Start), Answer::Start(StartCause::Watchdog));
}

/// Nobody who recorded the line can make a reader do it again, in this boot or after a power cut.
#[test]
fn recorded_orders_do_nothing() {
    let mut desk = Desk::<4>::new();
    let open = Request::Open { order: 1, pulse_ms: 500, not_after: UptimeMs(u64::MAX) };
    let recorded = desk.gateway.request(&open).unwrap();
    desk.hear(&recorded).unwrap();
    assert!(desk.reader.poll_show().is_some());

    assert_eq!(desk.hear(&recorded), None);
    let desk = &mut desk.power_cut();
    assert_eq!(desk.hear(&recorded), None);

    assert_eq!(desk.reader.poll_show(), None);
    assert_eq!(desk.reader.status(UptimeMs(0)).damage.stale, 1);
}

#[test]
fn boot_ids_rise_over_power_cuts() {
    let mut storage = RamStorage::<1>::new();
    assert_eq!([(); 3].map(|()| storage.recover().unwrap().boot.0), [1, 2, 3]);
}

fn desk_collect(committed: u32) -> Request {
    Request::Collect { committed: Seq(committed), lost_seen: 0, limit: 6 }
}

impl<const N: usize> Desk<N> {
    fn new() -> Desk<N> {
        Desk::start(RamStorage::new(), 0)
    }

    fn start(storage: RamStorage<N>, nonce: u64) -> Desk<N> {
        let address = Address::new(1).unwrap();
        let reader = Reader::keyed(address, KEY, storage).unwrap();
        let mut desk = Desk { reader, gateway: GatewayEnd::keyed(address, KEY, nonce), now: 1_000 };
        let hello = desk.gateway.hello().unwrap();
        let welcome = desk.hear(&hello).unwrap();
        desk.believe(&welcome);
        desk
    }

    fn power_cut(self) -> Desk<N> {
        Desk::start(self.reader.into_storage(), 1)
    }

    fn swipe(&mut self, badge: u32) -> Option<Seq> {
        let seq = self.reader.handle_badge(Badge::Full(badge), UptimeMs(self.now));
        self.reader.handle_time(UptimeMs(self.now));
        seq
    }

    fn hear(&mut self, wire: &[u8]) -> Option<Wire> {
        for byte in wire {
            self.reader.handle_line_byte(*byte, UptimeMs(self.now));
        }
        self.reader.poll_transmit()
    }

    fn believe(&mut self, wire: &[u8]) -> Answer {
        let mut decoder = Decoder::new();
        wire.iter()
            .find_map(|byte| decoder.handle_byte(*byte).and_then(|frame| self.gateway.accept(&frame)))
            .unwrap()
            .answer
    }

    fn ask(&mut self, request: Request) -> Answer {
        let wire = self.gateway.request(&request).unwrap();
        let answered = self.hear(&wire).unwrap();
        self.believe(&answered)
    }

    fn badges(&mut self, request: Request) -> Vec<u32> {
        let Answer::Punches { punches, .. } = self.ask(request) else { panic!("no punches") };
        let number = |punch: &Punch| match punch.badge {
            Badge::Full(number) | Badge::Low24(number) => number,
        };
        punches.iter().map(number).collect()
    }
}
