//! When was it, if all a reader knows is its uptime? Every date comes with the bound of its error, never with a guess.
//!
//! Knows nothing about lines; works on monotonic time, so that a wall clock set right in between does no harm.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use protocol::{BootId, Punch, UptimeMs};

use crate::punch::UnixMs;

/// What a reader's crystal may drift, in parts per million; double what their data sheets say.
const DRIFT_PPM: u64 = 100;
/// How exactly a reader knows a time that it was told.
const TOLD_MS: u64 = 1_000;
/// Boots whose uptime is remembered.
const BOOTS: usize = 16;

/// Now, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub instant: Instant,
    pub wall: UnixMs,
    /// Whether the wall clock can be believed.
    pub trusted: bool,
}

impl Moment {
    /// What the wall clock, as it goes now, would have shown at `then`.
    fn wall_at(&self, then: Instant) -> UnixMs {
        let before = self.instant.saturating_duration_since(then).as_millis() as i64;
        let after = then.saturating_duration_since(self.instant).as_millis() as i64;
        self.wall.plus_ms(after - before)
    }
}

/// A date and its bound: the truth lies within ± `uncertainty_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated {
    pub time: UnixMs,
    pub uncertainty_ms: u32,
}

/// At this instant the reader's clock said this.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    uptime: UptimeMs,
    instant: Instant,
    half_trip: Duration,
}

impl Anchor {
    /// When the boot began. Uptimes are bounded by what a reader can have run; a lie gives the anchor itself.
    fn start(&self) -> Instant {
        self.instant.checked_sub(Duration::from_millis(self.uptime.0)).unwrap_or(self.instant)
    }
}

/// What is known of one reader's clocks.
#[derive(Clone, Debug, Default)]
pub struct Dating {
    anchors: BTreeMap<BootId, Anchor>,
}

impl Dating {
    /// The reader's clock said `uptime` somewhere between `sent` and `now`.
    pub fn note(&mut self, boot: BootId, uptime: UptimeMs, sent: Instant, now: Instant) {
        let half_trip = now.saturating_duration_since(sent) / 2;
        self.anchors.insert(boot, Anchor { uptime, instant: now - half_trip, half_trip });
        while self.anchors.len() > BOOTS {
            self.anchors.pop_first();
        }
    }

    /// Forgets everything: the boots begin anew.
    pub fn clear(&mut self) {
        self.anchors.clear();
    }

    /// What the reader's clock says now, at least: never ahead of it by more than its drift.
    pub fn uptime(&self, boot: BootId, now: Instant) -> Option<UptimeMs> {
        let anchor = self.anchors.get(&boot)?;
        let since = now.saturating_duration_since(anchor.instant + anchor.half_trip).as_millis() as u64;
        Some(UptimeMs(anchor.uptime.0.saturating_add(since)))
    }

    /// Whether this boot's clock should say more than this by now: then it is another boot with the same number.
    pub fn is_rewound(&self, boot: BootId, uptime: UptimeMs, now: Instant) -> bool {
        let Some(anchor) = self.anchors.get(&boot) else { return false };
        let since = now.saturating_duration_since(anchor.instant).as_millis() as u64;
        let tolerance = TOLD_MS + 10 * drift_ms(since);
        uptime.0.saturating_add(tolerance) < anchor.uptime.0.saturating_add(since)
    }

    /// A moment of this boot on both clocks, in the reader's past.
    pub fn mapping(&self, boot: BootId, now: Moment) -> Option<(UptimeMs, UnixMs)> {
        let anchor = self.anchors.get(&boot)?;
        Some((anchor.uptime, now.wall_at(anchor.instant)))
    }

    /// When the punch was.
    pub fn date(&self, punch: &Punch, now: Moment) -> Dated {
        match self.anchors.get(&punch.boot) {
            Some(anchor) => by_anchor(anchor, punch.at, now),
            None => self.by_neighbours(punch, now),
        }
    }

    /// A boot that we never heard: as the reader was told in it, if that lies between the boots that we did hear; or
    /// somewhere between those.
    fn by_neighbours(&self, punch: &Punch, now: Moment) -> Dated {
        let before = self.anchors.range(..punch.boot).next_back().map(|(_, anchor)| anchor);
        let after = self.anchors.range(punch.boot..).next().map(|(_, anchor)| anchor);
        let ran = i64::try_from(punch.at.0).unwrap_or(i64::MAX);
        let earliest = before.map(|anchor| now.wall_at(anchor.instant).plus_ms(ran));
        let latest = after.map_or(now.wall, |anchor| now.wall_at(anchor.start()));

        let told = punch.unix_ms.and_then(|ms| i64::try_from(ms).ok()).map(UnixMs);
        let told_ms = TOLD_MS + drift_ms(punch.at.0);
        let possible = |told: &UnixMs| {
            let between = told.plus_ms(-(told_ms as i64)) <= latest && earliest.is_none_or(|at| *told >= at);
            between || !now.trusted
        };
        if let Some(time) = told.filter(possible) {
            return Dated { time, uncertainty_ms: bound(told_ms) };
        }
        let Some(earliest) = earliest.filter(|earliest| *earliest <= latest) else {
            return Dated { time: latest, uncertainty_ms: u32::MAX };
        };
        let half = latest.since(earliest) / 2;
        Dated { time: earliest.plus_ms(half), uncertainty_ms: bound(half as u64 + 1) }
    }
}

fn by_anchor(anchor: &Anchor, at: UptimeMs, now: Moment) -> Dated {
    let anchored = now.wall_at(anchor.instant);
    let offset = i128::from(at.0) - i128::from(anchor.uptime.0);
    let apart = offset.unsigned_abs().min(u128::from(u64::MAX)) as u64;
    let offset = offset.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
    let uncertainty = anchor.half_trip.as_millis() as u64 + 1 + drift_ms(apart);
    Dated { time: anchored.plus_ms(offset), uncertainty_ms: bound(uncertainty) }
}

fn drift_ms(apart_ms: u64) -> u64 {
    apart_ms / (1_000_000 / DRIFT_PPM)
}

fn bound(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use protocol::Badge;

    const NOW: UnixMs = UnixMs(1_772_406_065_000);

    fn punch(boot: u32, at: u64, unix_ms: Option<u64>) -> Punch {
        Punch { boot: BootId(boot), at: UptimeMs(at), unix_ms, badge: Badge::Full(1) }
    }

    fn moment(clock: &Clock) -> Moment {
        Moment { instant: clock.instant(), wall: clock.now(), trusted: true }
    }

    /// Boot 3 was heard at uptime 60 s, boot 5 an hour later at uptime 10 s, with trips of 8 ms; it is 20 s after that.
    fn heard() -> (Dating, Moment) {
        let clock = Clock::manual(NOW.plus_ms(-3_620_000));
        let mut dating = Dating::default();
        for (boot, uptime, then) in [(3, 60_000, 3_600), (5, 10_000, 20)] {
            let sent = clock.instant();
            clock.advance(Duration::from_millis(8));
            dating.note(BootId(boot), UptimeMs(uptime), sent, clock.instant());
            clock.advance(Duration::from_millis(then * 1_000 - 8));
        }
        (dating, moment(&clock))
    }

    #[test]
    fn a_boot_that_was_heard_dates_within_half_a_trip_and_the_drift() {
        let (dating, now) = heard();
        let dated = dating.date(&punch(5, 25_000, None), now);
        assert_eq!(dated, Dated { time: NOW.plus_ms(-4_996), uncertainty_ms: 4 + 1 + 1 });
        let dated = dating.date(&punch(3, 1_060_000, None), now);
        assert_eq!(dated, Dated { time: NOW.plus_ms(-3_620_000 + 4 + 1_000_000), uncertainty_ms: 4 + 1 + 100 });
    }

    #[test]
    fn a_wall_clock_set_right_in_between_does_not_move_a_punch_relative_to_now() {
        let (dating, mut now) = heard();
        now.wall = now.wall.plus_ms(86_400_000);
        let dated = dating.date(&punch(5, 30_000, None), now);
        assert_eq!(dated.time, now.wall.plus_ms(4));
    }

    #[test]
    fn a_boot_that_nobody_heard_lies_between_its_neighbours() {
        let (dating, now) = heard();
        let earliest = -3_620_000 + 4 + 500_000;
        let latest = -20_000 + 4 - 10_000;
        let dated = dating.date(&punch(4, 500_000, None), now);
        assert_eq!(dated.time, NOW.plus_ms(earliest + (latest - earliest) / 2));
        assert_eq!(i64::from(dated.uncertainty_ms), (latest - earliest) / 2 + 1);
    }

    #[test]
    fn a_time_that_the_reader_was_told_counts_when_it_is_possible() {
        let (dating, now) = heard();
        let told = NOW.plus_ms(-1_000_000);
        let dated = dating.date(&punch(4, 500_000, Some(told.0 as u64)), now);
        assert_eq!(dated, Dated { time: told, uncertainty_ms: 1_050 });
        for impossible in [-10_000, -3_500_000] {
            let told = NOW.plus_ms(impossible).0 as u64;
            assert!(dating.date(&punch(4, 500_000, Some(told)), now).uncertainty_ms > 1_000_000);
        }
    }

    #[test]
    fn without_any_earlier_contact_only_the_end_is_known() {
        let (dating, now) = heard();
        let dated = dating.date(&punch(2, 1_000, None), now);
        assert_eq!(dated, Dated { time: NOW.plus_ms(-3_620_000 + 4 - 60_000), uncertainty_ms: u32::MAX });
    }

    #[test]
    fn any_numbers_give_some_date() {
        let (dating, now) = heard();
        for boot in [0, 3, 4, 5, u32::MAX] {
            for at in [0, 1, u64::MAX] {
                dating.date(&punch(boot, at, Some(u64::MAX)), now);
                dating.date(&punch(boot, at, Some(at / 2)), now);
            }
        }
    }
}
