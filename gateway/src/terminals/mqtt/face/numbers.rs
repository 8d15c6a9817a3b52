//! A terminal's record numbers: holes in them are asked for again, and what does not come is a gap.
//!
//! The first number seen after the start is taken as the beginning; nothing is known about those before it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::punch::UnixMs;

/// A hole gets this long to close by itself, and again after the terminal was asked.
const PATIENCE: Duration = Duration::from_secs(600);
/// Margin on both sides of the span that is asked for.
const MARGIN_MS: i64 = 5 * 60 * 1000;
/// Holes followed at once; a terminal with more loses the oldest to a gap early.
const MAX_HOLES: usize = 32;
/// How often a terminal is asked for one hole before it is given up.
const MAX_REQUESTS: u8 = 3;

struct Hole {
    last: u64,
    since: Instant,
    /// Times of the records before and after it, by the terminal's clock.
    between: (UnixMs, UnixMs),
    requests: u8,
    asking: bool,
    answered: bool,
}

/// What to do about a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the terminal for the records of this span.
    Ask { from: UnixMs, to: UnixMs },
    /// Records `first..=last` are missing for good.
    GiveUp { first: u64, last: u64, reason: &'static str },
}

/// The record numbers of one terminal.
#[derive(Default)]
pub struct Numbers {
    highest: Option<(u64, UnixMs)>,
    holes: BTreeMap<u64, Hole>,
    given_up: VecDeque<Action>,
}

impl Numbers {
    /// A record with this number, taken at `time` by the terminal's clock, is stored.
    pub fn handle_record(&mut self, now: Instant, number: u64, time: UnixMs) {
        let Some((highest, last_time)) = self.highest else {
            self.highest = Some((number, time));
            return;
        };
        if number > highest {
            if number > highest + 1 {
                self.open(now, highest + 1, number - 1, (last_time, time));
            }
            self.highest = Some((number, time));
        } else if !self.fill(number) && number < highest && time > last_time {
            self.restart(number, time);
        }
    }

    fn open(&mut self, now: Instant, first: u64, last: u64, between: (UnixMs, UnixMs)) {
        if self.holes.len() >= MAX_HOLES
            && let Some((first, hole)) = self.holes.pop_first()
        {
            self.give_up(first, &hole, "too many holes at once");
        }
        let hole = Hole { last, since: now, between, requests: 0, asking: false, answered: false };
        self.holes.insert(first, hole);
    }

    /// Takes the number out of the hole it lies in.
    fn fill(&mut self, number: u64) -> bool {
        let Some((&first, hole)) = self.holes.range(..=number).next_back() else { return false };
        if hole.last < number {
            return false;
        }
        let Some(hole) = self.holes.remove(&first) else { return false };
        let (since, between, requests) = (hole.since, hole.between, hole.requests);
        let part = |last| Hole { last, since, between, requests, asking: hole.asking, answered: hole.answered };
        if first < number {
            self.holes.insert(first, part(number - 1));
        }
        if number < hole.last {
            self.holes.insert(number + 1, part(hole.last));
        }
        true
    }

    /// A lower number with a later time: the terminal counts from the beginning again.
    fn restart(&mut self, number: u64, time: UnixMs) {
        while let Some((first, hole)) = self.holes.pop_first() {
            self.give_up(first, &hole, "the terminal counts from the beginning again");
        }
        self.highest = Some((number, time));
    }

    fn give_up(&mut self, first: u64, hole: &Hole, reason: &'static str) {
        self.given_up.push_back(Action::GiveUp { first, last: hole.last, reason });
    }

    /// What to do now; one request at a time. `online`: whether the terminal could be asked.
    pub fn poll_action(&mut self, now: Instant, online: bool) -> Option<Action> {
        if let Some(action) = self.given_up.pop_front() {
            return Some(action);
        }
        let asking = self.holes.values().any(|hole| hole.asking);
        let due = |hole: &Hole| now >= hole.since + PATIENCE;
        let spent = self
            .holes
            .iter()
            .find(|(_, hole)| due(hole) && !hole.asking && (hole.answered || hole.requests >= MAX_REQUESTS));
        if let Some((&first, _)) = spent {
            let hole = self.holes.remove(&first)?;
            let reason = if hole.answered { "not pushed again on request" } else { "requests not answered" };
            return Some(Action::GiveUp { first, last: hole.last, reason });
        }
        if asking || !online {
            return None;
        }
        let hole = self.holes.values_mut().find(|hole| due(hole))?;
        hole.asking = true;
        hole.requests += 1;
        let (before, after) = hole.between;
        Some(Action::Ask { from: before.plus_ms(-MARGIN_MS), to: after.plus_ms(MARGIN_MS) })
    }

    /// How the request ended; the records, if any, come as ordinary pushes.
    pub fn handle_asked(&mut self, now: Instant, answered: bool) {
        for hole in self.holes.values_mut().filter(|hole| hole.asking) {
            hole.asking = false;
            hole.answered = answered;
            hole.since = now;
        }
    }

    /// The gap could not be stored: it comes again.
    pub fn put_back(&mut self, now: Instant, first: u64, last: u64) {
        let between = self.highest.map_or((UnixMs(0), UnixMs(0)), |(_, time)| (time, time));
        let hole = Hole { last, since: now, between, requests: MAX_REQUESTS, asking: false, answered: true };
        self.holes.insert(first, hole);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.holes.values().filter(|hole| !hole.asking).map(|hole| hole.since + PATIENCE).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn start() -> Instant {
        Clock::manual(UnixMs(0)).instant()
    }

    fn numbers(now: Instant, seen: &[u64]) -> Numbers {
        let mut numbers = Numbers::default();
        for &number in seen {
            numbers.handle_record(now, number, UnixMs(number as i64 * 60_000));
        }
        numbers
    }

    #[test]
    fn a_hole_that_closes_by_itself_is_nobodys_business() {
        let now = start();
        let mut numbers = numbers(now, &[1, 2, 5, 4, 3, 6]);
        assert_eq!(numbers.poll_timeout(), None);
        assert_eq!(numbers.poll_action(now + PATIENCE * 2, true), None);
    }

    #[test]
    fn a_hole_is_asked_for_once_and_then_it_is_a_gap() {
        let now = start();
        let mut numbers = numbers(now, &[1, 2, 6]);
        assert_eq!(numbers.poll_action(now, true), None);
        let late = now + PATIENCE;
        assert_eq!(numbers.poll_action(late, false), None, "an absent terminal is not asked");
        let ask = Action::Ask { from: UnixMs(120_000 - MARGIN_MS), to: UnixMs(360_000 + MARGIN_MS) };
        assert_eq!(numbers.poll_action(late, true), Some(ask));
        assert_eq!(numbers.poll_action(late, true), None, "one request at a time");
        numbers.handle_asked(late, true);
        numbers.handle_record(late, 4, UnixMs(240_000));
        let reason = "not pushed again on request";
        let later = late + PATIENCE;
        assert_eq!(numbers.poll_action(later, true), Some(Action::GiveUp { first: 3, last: 3, reason }));
        assert_eq!(numbers.poll_action(later, true), Some(Action::GiveUp { first: 5, last: 5, reason }));
        assert_eq!(numbers.poll_action(later, true), None);
    }

    #[test]
    fn a_terminal_that_never_answers_is_given_up_after_three_requests() {
        let mut now = start();
        let mut numbers = numbers(now, &[1, 3]);
        for _ in 0..3 {
            now += PATIENCE;
            assert!(matches!(numbers.poll_action(now, true), Some(Action::Ask { .. })));
            numbers.handle_asked(now, false);
        }
        now += PATIENCE;
        let reason = "requests not answered";
        assert_eq!(numbers.poll_action(now, true), Some(Action::GiveUp { first: 2, last: 2, reason }));
    }

    #[test]
    fn a_factory_reset_starts_the_numbers_again() {
        let now = start();
        let mut numbers = numbers(now, &[100, 102]);
        numbers.handle_record(now, 1, UnixMs(200 * 60_000));
        let reason = "the terminal counts from the beginning again";
        assert_eq!(numbers.poll_action(now, true), Some(Action::GiveUp { first: 101, last: 101, reason }));
        numbers.handle_record(now, 2, UnixMs(201 * 60_000));
        assert_eq!(numbers.poll_timeout(), None);
    }

    #[test]
    fn an_old_record_sent_again_changes_nothing() {
        let now = start();
        let mut numbers = numbers(now, &[5, 6, 7, 6, 5, 7, 8]);
        assert_eq!(numbers.poll_timeout(), None);
        assert_eq!(numbers.poll_action(now + PATIENCE, true), None);
    }
}
