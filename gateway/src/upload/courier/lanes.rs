//! When the next request of each method may leave.
//!
//! Platforms allow one call per method at a time and one per interval; different methods run beside each other. A lane
//! keeps that rule, slows down when told to, and backs off while the platform does not answer.
//!
//! The platform counts from when a call arrived there, which nobody here sees: between its first byte and its answer.
//! A call that took longer than calls of its method take may have arrived as much later, and the next one waits for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::upload::profiles::Method;

/// Added to the interval, because a request may travel faster than the one before it.
const GUARD: Duration = Duration::from_millis(50);
/// Back-off after the first failure; doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);
/// The interval is at most doubled this often when a platform says that we are too fast.
const SLOWEST: u32 = 4;
/// So many failures in a row are an outage.
const DOWN_AFTER: u32 = 3;

/// One lane per method.
#[derive(Debug)]
pub struct Lanes {
    lanes: BTreeMap<Method, Lane>,
    interval: Duration,
    dice: u64,
}

#[derive(Debug)]
struct Lane {
    busy: bool,
    /// The rate rule.
    free_at: Instant,
    /// Back-off after failures.
    again_at: Instant,
    failures: u32,
    /// How often the interval is doubled.
    slowness: u32,
    /// What a call takes when nothing holds it up on its way.
    usual: Option<Duration>,
}

/// How a call went, as far as its lane cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// The platform answered sensibly.
    Well,
    /// No answer, or one that only a failing platform gives.
    Badly,
    /// Answered that we are too fast.
    TooFast,
}

impl Lanes {
    /// After a start nobody knows when the last request left, so every lane first waits one interval.
    pub fn new(now: Instant, interval: Duration, seed: u64) -> Lanes {
        let free_at = now + guarded(interval, Duration::ZERO);
        let lane = || Lane { busy: false, free_at, again_at: now, failures: 0, slowness: 0, usual: None };
        Lanes { lanes: Method::ALL.into_iter().map(|method| (method, lane())).collect(), interval, dice: seed | 1 }
    }

    pub fn is_free(&self, method: Method, now: Instant) -> bool {
        self.lanes.get(&method).is_some_and(|lane| !lane.busy && lane.free_at <= now && lane.again_at <= now)
    }

    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| !lane.busy)
    }

    pub fn take(&mut self, method: Method) {
        if let Some(lane) = self.lanes.get_mut(&method) {
            lane.busy = true;
        }
    }

    /// A call is over. `sent` is when its first byte could have left; `None` when none did.
    pub fn release(&mut self, method: Method, sent: Option<Instant>, now: Instant, went: Went) {
        let interval = self.interval;
        let jitter = self.roll();
        let Some(lane) = self.lanes.get_mut(&method) else { return };
        lane.busy = false;
        match went {
            Went::Well => {
                lane.failures = 0;
                lane.slowness = lane.slowness.saturating_sub(1);
            }
            Went::Badly => {
                lane.failures += 1;
                lane.again_at = now + backoff(lane.failures, jitter);
            }
            Went::TooFast => {
                lane.slowness = (lane.slowness + 1).min(SLOWEST);
                lane.again_at = now + interval.max(FIRST_BACKOFF) * 2_u32.pow(lane.slowness - 1);
            }
        }
        if let Some(sent) = sent {
            let held_up = if went == Went::Badly { Duration::ZERO } else { lane.held_up(now - sent) };
            let spacing = guarded(interval * 2_u32.pow(lane.slowness), held_up);
            lane.free_at = now.max(sent + spacing);
        }
        if went == Went::Well {
            self.wake_others(now);
        }
    }

    /// The platform answers again: what waits only because it did not need not wait longer.
    fn wake_others(&mut self, now: Instant) {
        for lane in self.lanes.values_mut().filter(|lane| lane.failures >= DOWN_AFTER) {
            lane.again_at = lane.again_at.min(now);
        }
    }

    /// Somebody repaired something: nothing is put off any longer, but the rate rule holds.
    pub fn forgive(&mut self, now: Instant) {
        for lane in self.lanes.values_mut() {
            lane.failures = 0;
            lane.again_at = now;
        }
    }

    /// Whether the platform has not answered sensibly for several calls.
    pub fn is_down(&self) -> bool {
        self.lanes.values().any(|lane| lane.failures >= DOWN_AFTER)
    }

    /// When the next lane becomes free.
    pub fn next_free(&self, now: Instant) -> Option<Instant> {
        let waiting = self.lanes.values().filter(|lane| !lane.busy);
        waiting.map(|lane| lane.free_at.max(lane.again_at)).filter(|at| *at > now).min()
    }

    /// A number from 0 to 99, the same for the same seed and history.
    fn roll(&mut self) -> u32 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice % 100) as u32
    }
}

impl Lane {
    /// How much longer than usual an answered call took.
    fn held_up(&mut self, took: Duration) -> Duration {
        let usual = self.usual.map_or(took, |usual| usual.min(took));
        let longer = took - usual;
        // A way that has become longer for good is the usual one after a while.
        self.usual = Some(usual + longer / 8);
        longer
    }
}

/// The time from one call's first byte to the next one's, when the first may have been held up for so long.
fn guarded(interval: Duration, held_up: Duration) -> Duration {
    if interval.is_zero() { interval } else { interval + GUARD + held_up }
}

/// 1 s, 2 s, 4 s … up to 15 minutes, each up to half longer, so that sites do not return all at once.
fn backoff(failures: u32, jitter_percent: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(20)));
    let spread = doubled + doubled * jitter_percent / 200;
    spread.min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::punch::UnixMs;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Instant {
        Clock::manual(UnixMs(0)).instant()
    }

    #[test]
    fn the_first_request_waits_one_interval() {
        let now = start();
        let lanes = Lanes::new(now, SECOND, 7);
        assert!(!lanes.is_free(Method::AddTeam, now + SECOND));
        assert!(lanes.is_free(Method::AddTeam, now + SECOND + GUARD));
    }

    #[test]
    fn a_request_waits_for_the_answer_and_for_the_interval() {
        let now = start() + 2 * SECOND;
        let mut lanes = Lanes::new(start(), SECOND, 7);
        lanes.take(Method::AddTeam);
        assert!(!lanes.is_free(Method::AddTeam, now + 60 * SECOND));
        assert!(lanes.is_free(Method::QueryTeams, now), "another method runs beside it");

        lanes.release(Method::AddTeam, Some(now), now + SECOND / 10, Went::Well);
        assert!(!lanes.is_free(Method::AddTeam, now + SECOND));
        assert!(lanes.is_free(Method::AddTeam, now + SECOND + GUARD));
    }

    #[test]
    fn a_platform_that_always_takes_long_is_called_as_soon_as_it_has_answered() {
        let mut now = start() + 2 * SECOND;
        let mut lanes = Lanes::new(start(), SECOND, 7);
        for _ in 0..5 {
            lanes.take(Method::AddTeam);
            now += 10 * SECOND;
            lanes.release(Method::AddTeam, Some(now - 10 * SECOND), now, Went::Well);
            assert!(lanes.is_free(Method::AddTeam, now), "the interval was over before the answer came");
        }
    }

    #[test]
    fn after_a_call_that_was_held_up_on_its_way_the_interval_is_still_kept_there() {
        let mut now = start() + 2 * SECOND;
        let mut lanes = Lanes::new(start(), SECOND, 7);
        let usual = SECOND / 10;
        for took in [usual, usual + SECOND / 2, usual, usual + 3 * SECOND] {
            lanes.take(Method::AddTeam);
            let answered = now + took;
            lanes.release(Method::AddTeam, Some(now), answered, Went::Well);
            // It was there just before its answer left, and the next one may be as fast as any.
            let arrived = answered - usual;
            assert!(!lanes.is_free(Method::AddTeam, arrived + SECOND), "{took:?}");
            now = answered + 2 * SECOND;
            assert!(lanes.is_free(Method::AddTeam, now));
        }
    }

    #[test]
    fn a_way_that_became_longer_costs_little_after_a_while() {
        let mut now = start() + 2 * SECOND;
        let mut lanes = Lanes::new(start(), SECOND, 7);
        for took in std::iter::once(SECOND / 10).chain([SECOND / 2; 30]) {
            lanes.take(Method::AddTeam);
            lanes.release(Method::AddTeam, Some(now), now + took, Went::Well);
            now += 3 * SECOND;
        }
        let sent = now - 3 * SECOND;
        assert!(lanes.is_free(Method::AddTeam, sent + SECOND + GUARD + SECOND / 50));
    }

    #[test]
    fn failures_back_off_to_15_minutes_and_one_answer_wakes_the_others() {
        let mut now = start() + 2 * SECOND;
        let mut lanes = Lanes::new(start(), SECOND, 7);
        for _ in 0..20 {
            lanes.take(Method::QueryJob);
            lanes.release(Method::QueryJob, None, now, Went::Badly);
            assert!(!lanes.is_free(Method::QueryJob, now + SECOND - GUARD));
            now += LONGEST_BACKOFF;
            assert!(lanes.is_free(Method::QueryJob, now));
        }
        assert!(lanes.is_down());
        lanes.take(Method::QueryJob);
        lanes.release(Method::QueryJob, None, now, Went::Badly);
        assert!(!lanes.is_free(Method::QueryJob, now + 60 * SECOND));
        lanes.take(Method::AddTeam);
        lanes.release(Method::AddTeam, Some(now), now, Went::Well);
        assert!(lanes.is_free(Method::QueryJob, now));
    }

    #[test]
    fn too_fast_widens_the_interval_for_a_while() {
        let now = start() + 2 * SECOND;
        let mut lanes = Lanes::new(start(), SECOND, 7);
        lanes.take(Method::AddTeam);
        lanes.release(Method::AddTeam, Some(now), now, Went::TooFast);
        assert!(!lanes.is_free(Method::AddTeam, now + SECOND + GUARD));
        assert!(lanes.is_free(Method::AddTeam, now + 2 * SECOND + GUARD));
        assert!(!lanes.is_down());
    }
}
