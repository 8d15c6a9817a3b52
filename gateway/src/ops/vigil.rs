//! Conditions of the gateway as a whole, raised as alarms while they last: the store takes nothing, the clock is not set.
//!
//! Only looks. What the store and the couriers do about it is theirs.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Ops;
use super::alarms::{Kind, Severity};
use crate::clock::Clock;
use crate::punch::UnixMs;
use crate::store::{Damage, Room, Store, StoreHealth};

/// How often the clock is looked at; the store says by itself when it changes.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// Watches until `shutdown`. `data_dir` is the alarms' subject, as it stands in the configuration; from `kept_until` on
/// nothing in it may be kept.
pub async fn run(
    data_dir: PathBuf,
    kept_until: Option<UnixMs>,
    store: Store,
    clock: Clock,
    ops: Ops,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let place = data_dir.display().to_string();
    let (mut health, mut damage) = (store.watch_health(), store.watch_damage());
    loop {
        let now = health.borrow_and_update().clone();
        show_store(&ops, &place, &now);
        show_damage(&ops, &place, &damage.borrow_and_update().clone());
        show_clock(&ops, &clock);
        show_room(&ops, &place, store.room().ok());
        show_retention(&ops, &place, kept_until, &clock);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            // Whoever sends these lives as long as `store`.
            _ = health.changed() => {}
            _ = damage.changed() => {}
            () = tokio::time::sleep(CLOCK_EVERY) => {}
        }
    }
}

fn show_store(ops: &Ops, place: &str, health: &StoreHealth) {
    let (standing, text) = match health {
        StoreHealth::Open => (None, String::new()),
        StoreHealth::Full { free_bytes, .. } => {
            let free = free_bytes >> 20;
            let text = format!(
                "only {free} MiB are free: nothing is acknowledged, the terminals keep their punches. Make space; intake then goes on by itself"
            );
            (Some(Kind::StoreFull), text)
        }
        StoreHealth::Failing { cause, .. } => {
            let text = format!(
                "the disk refuses writes ({cause}): nothing is acknowledged, the terminals keep their punches. Check or replace the disk; intake goes on by itself when it can"
            );
            (Some(Kind::StoreFailing), text)
        }
    };
    for kind in [Kind::StoreFull, Kind::StoreFailing] {
        if standing == Some(kind) {
            ops.alarms.raise(Severity::Critical, kind, place, text.clone());
        } else {
            ops.alarms.clear(kind, place);
        }
    }
}

/// A warning while there is time to do something about it.
fn show_room(ops: &Ops, place: &str, room: Option<Room>) {
    match room {
        Some(room) if room.is_short() && !room.is_full() => {
            let (free, low) = (room.free >> 20, room.low >> 20);
            let text = format!(
                "{free} MiB are free; below {low} MiB nothing is acknowledged any more. Make space, or give `[store] budget_mib` more"
            );
            ops.alarms.raise(Severity::Warning, Kind::StoreShort, place, text);
        }
        Some(_) | None => ops.alarms.clear(Kind::StoreShort, place),
    }
}

/// Damage does not go away, so the alarm stands from each start's check to the next.
fn show_damage(ops: &Ops, place: &str, damage: &Damage) {
    if damage.places == 0 {
        return;
    }
    let Damage { places, latest } = damage;
    let text = format!(
        "the ledger is damaged in {places} place(s), the latest: {latest}. What can be read is kept, the damaged bytes are in quarantine/ and the gaps are recorded. Take a backup and replace the disk"
    );
    ops.alarms.raise(Severity::Critical, Kind::StoreDamaged, place, text);
}

fn show_retention(ops: &Ops, place: &str, kept_until: Option<UnixMs>, clock: &Clock) {
    if kept_until.is_none_or(|until| clock.now() < until) {
        ops.alarms.clear(Kind::RetentionOver, place);
        return;
    }
    let text = "the years for which wage records are kept are over: take out what a dispute still needs, stop the gateway and run `anxin-gateway erase`";
    ops.alarms.raise(Severity::Warning, Kind::RetentionOver, place, text);
}

fn show_clock(ops: &Ops, clock: &Clock) {
    const SUBJECT: &str = "clock";
    if clock.is_trustworthy() {
        ops.alarms.clear(Kind::ClockUntrusted, SUBJECT);
        return;
    }
    let text = "the gateway's clock is not set: punches are kept, nothing is forwarded and no terminal is set from it. Set the clock, or give the box a time server";
    ops.alarms.raise(Severity::Critical, Kind::ClockUntrusted, SUBJECT, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCTOBER_2026: UnixMs = UnixMs(1_793_000_000_000);

    fn kinds(ops: &Ops) -> Vec<Kind> {
        ops.alarms.list().iter().map(|alarm| alarm.kind).collect()
    }

    #[test]
    fn a_store_that_takes_nothing_is_one_alarm_until_it_takes_again() {
        let ops = Ops::new(Clock::manual(OCTOBER_2026));
        let full = StoreHealth::Full { since: OCTOBER_2026, free_bytes: 3 << 20 };
        show_store(&ops, "/var/lib/anxin", &full);
        let alarm = ops.alarms.list().remove(0);
        assert_eq!(
            (alarm.kind, alarm.severity, alarm.subject.as_str()),
            (Kind::StoreFull, Severity::Critical, "/var/lib/anxin")
        );
        assert!(alarm.text.contains("3 MiB"), "{}", alarm.text);
        let failing = StoreHealth::Failing { since: OCTOBER_2026, cause: "input/output error".to_owned() };
        show_store(&ops, "/var/lib/anxin", &failing);
        assert_eq!(kinds(&ops), [Kind::StoreFailing]);
        show_store(&ops, "/var/lib/anxin", &StoreHealth::Open);
        assert_eq!(kinds(&ops), []);
    }

    #[test]
    fn little_room_is_a_warning_until_there_is_none_or_enough() {
        let ops = Ops::new(Clock::manual(OCTOBER_2026));
        let room = |free| Some(Room { free, total: 1 << 30, low: 50 << 20, enough: 70 << 20 });
        show_room(&ops, "/var/lib/anxin", room(99 << 20));
        let alarm = ops.alarms.list().remove(0);
        assert_eq!((alarm.kind, alarm.severity), (Kind::StoreShort, Severity::Warning));
        assert!(alarm.text.contains("99 MiB are free; below 50 MiB"), "{}", alarm.text);
        show_room(&ops, "/var/lib/anxin", room(49 << 20));
        assert_eq!(kinds(&ops), [], "the critical alarm says more");
        show_room(&ops, "/var/lib/anxin", room(70 << 20));
        show_room(&ops, "/var/lib/anxin", room(100 << 20));
        assert_eq!(kinds(&ops), []);
    }

    #[test]
    fn data_that_may_be_kept_no_longer_is_a_warning() {
        let (ops, clock) = (Ops::new(Clock::manual(OCTOBER_2026)), Clock::manual(OCTOBER_2026));
        show_retention(&ops, "/var/lib/anxin", None, &clock);
        show_retention(&ops, "/var/lib/anxin", Some(OCTOBER_2026.plus_ms(1)), &clock);
        assert_eq!(kinds(&ops), []);
        clock.advance(Duration::from_millis(1));
        show_retention(&ops, "/var/lib/anxin", Some(OCTOBER_2026.plus_ms(1)), &clock);
        assert_eq!(kinds(&ops), [Kind::RetentionOver]);
    }

    #[test]
    fn damage_in_the_ledger_is_an_alarm_that_names_the_place() {
        let ops = Ops::new(Clock::manual(OCTOBER_2026));
        show_damage(&ops, "/var/lib/anxin", &Damage::default());
        assert_eq!(kinds(&ops), []);
        let latest = "segment 3: 40 bytes at offset 96".to_owned();
        show_damage(&ops, "/var/lib/anxin", &Damage { places: 2, latest });
        let alarm = ops.alarms.list().remove(0);
        assert_eq!(alarm.kind, Kind::StoreDamaged);
        assert!(alarm.text.contains("2 place(s)") && alarm.text.contains("offset 96"), "{}", alarm.text);
    }

    #[test]
    fn a_clock_that_is_not_set_is_an_alarm_until_it_is() {
        let clock = Clock::manual(UnixMs(0));
        let ops = Ops::new(clock.clone());
        show_clock(&ops, &clock);
        assert_eq!(kinds(&ops), [Kind::ClockUntrusted]);
        show_clock(&ops, &Clock::manual(OCTOBER_2026));
        assert_eq!(kinds(&ops), []);
    }
}
