//! A reader on the bench is told who it is, over power cuts and lost answers.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod chip;

use chip::{Chip, Torn};
use firmware::pairing::{Hold, Unpaired, load};
use firmware::settings::Settings;
use protocol::{Address, Answer, Decoder, GatewayEnd, Key, Pairing, Refusal, Request, UptimeMs, Wire};

const PAGE: usize = 128;
const PLACE: usize = 1;

type Flash = Chip<PAGE>;

fn pairing(address: u8) -> Pairing {
    Pairing { address, baud: 9_600, key: Key([address; 16]) }
}

fn settings(address: u8) -> Settings {
    Settings { address: Address::new(address).unwrap(), key: Some(Key([address; 16])), baud: 9_600 }
}

/// A gateway's end and a reader on one desk.
struct Desk {
    end: GatewayEnd,
    reader: Unpaired<Flash>,
    now: u64,
}

impl Desk {
    fn new(flash: Flash) -> Desk {
        let mut desk =
            Desk { end: GatewayEnd::unkeyed(Address::UNPAIRED, 5), reader: Unpaired::new(flash, PLACE), now: 100 };
        let hello = desk.end.hello().unwrap();
        assert!(matches!(desk.exchange(&hello), Some(Answer::Welcome { .. })));
        desk
    }

    fn exchange(&mut self, wire: &Wire) -> Option<Answer> {
        let now = UptimeMs(self.now);
        let answers: Vec<Wire> = wire.iter().filter_map(|byte| self.reader.handle_line_byte(*byte, now)).collect();
        let mut decoder = Decoder::new();
        let bytes: Vec<u8> = answers.concat();
        let mut accepted = None;
        for byte in bytes {
            if let Some(frame) = decoder.handle_byte(byte) {
                accepted = self.end.accept(&frame).or(accepted);
            }
        }
        accepted.map(|accepted| accepted.answer)
    }

    fn ask(&mut self, request: Request) -> Option<Answer> {
        let wire = self.end.request(&request).unwrap();
        self.exchange(&wire)
    }

    fn pair(&mut self, address: u8) -> Option<Answer> {
        self.ask(Request::Pair(pairing(address)))
    }
}

#[test]
fn a_new_reader_takes_what_it_is_told_once_and_starts_again() {
    let mut desk = Desk::new(Flash::new(2, 1));
    assert!(!desk.reader.wants_restart(UptimeMs(u64::MAX)));
    assert_eq!(desk.pair(12), Some(Answer::Done));
    // Its answer may have got lost: the same again is no second pairing, another one is.
    assert_eq!(desk.pair(12), Some(Answer::Done));
    assert_eq!(desk.pair(13), Some(Answer::Refused(Refusal::Paired)));
    assert!(!desk.reader.wants_restart(UptimeMs(1_099)));
    assert!(desk.reader.wants_restart(UptimeMs(1_100)));
    assert_eq!(load(&mut desk.reader.into_flash(), PLACE), Some(settings(12)));
}

#[test]
fn nonsense_and_questions_for_a_paired_reader_change_nothing() {
    let mut desk = Desk::new(Flash::new(2, 1));
    for wrong in [
        Pairing { address: 0, ..pairing(1) },
        Pairing { address: 248, ..pairing(1) },
        Pairing { baud: 300, ..pairing(1) },
        Pairing { baud: 1_000_000, ..pairing(1) },
    ] {
        assert_eq!(desk.ask(Request::Pair(wrong)), Some(Answer::Refused(Refusal::NotUnderstood)));
    }
    for request in [Request::Status, Request::Image, Request::Install] {
        assert_eq!(desk.ask(request), Some(Answer::Refused(Refusal::NotUnderstood)));
    }
    let flash = desk.reader.into_flash();
    assert_eq!(flash.steps(), 0);
}

#[test]
fn a_replayed_pairing_is_not_taken() {
    let mut desk = Desk::new(Flash::new(2, 1));
    let recorded = desk.end.request(&Request::Pair(Pairing { address: 0, ..pairing(1) })).unwrap();
    assert!(desk.exchange(&recorded).is_some());
    assert_eq!(desk.pair(2), Some(Answer::Done));
    assert_eq!(desk.exchange(&recorded), None);
    assert_eq!(load(&mut desk.reader.into_flash(), PLACE), Some(settings(2)));
}

#[test]
fn a_power_cut_at_every_step_leaves_a_reader_that_is_paired_or_waits() {
    let mut whole = Desk::new(Flash::new(2, 1));
    whole.pair(9);
    let steps = whole.reader.into_flash().steps();
    assert_eq!(steps, 5);
    for (step, torn) in (0..steps).flat_map(|step| Torn::ALL.map(|torn| (step, torn))) {
        let mut flash = Flash::new(2, step as u64);
        flash.cut_after(step, torn);
        let mut desk = Desk::new(flash);
        assert_ne!(desk.pair(9), Some(Answer::Done), "said with its power gone");
        let mut flash = desk.reader.into_flash();
        for _ in 0..4 {
            flash.power_up();
            let found = load(&mut flash, PLACE);
            assert!(found.is_none_or(|found| found == settings(9)), "step {step} {torn:?}: {found:?}");
        }
        // Cleared by hand or waiting: it takes the next pairing, and keeps it.
        let mut desk = Desk::new(flash);
        assert_eq!(desk.pair(10), Some(Answer::Done), "step {step} {torn:?}");
        let mut flash = desk.reader.into_flash();
        for _ in 0..4 {
            flash.power_up();
            assert_eq!(load(&mut flash, PLACE), Some(settings(10)));
        }
    }
}

#[test]
fn no_key_is_ever_printed() {
    let secret = Pairing { key: Key([0xA5; 16]), ..pairing(3) };
    let kept = Settings { key: Some(secret.key), ..settings(3) };
    let text = format!("{:?} {kept:?}", Request::Pair(secret));
    assert!(text.contains("Key(…)") && !text.contains("165"), "{text}");
}

#[test]
fn a_button_counts_when_it_is_held_and_not_when_it_is_touched() {
    let mut hold = Hold::default();
    let pressed = [(0, true), (4_999, true), (5_000, false), (5_001, true), (9_999, true)];
    assert!(pressed.iter().all(|(at, pressed)| !hold.handle(*pressed, UptimeMs(*at))));
    assert!(hold.handle(true, UptimeMs(10_001)));
}
