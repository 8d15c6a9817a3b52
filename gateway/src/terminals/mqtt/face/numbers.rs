//! A terminal's record numbers: holes in them are asked for again, and what does not come is a gap.
//!
//! What was stored before the start is told by a [`Past`]; records that come before that wait for it. The first number of
//! a terminal without a past is taken as the beginning; nothing is known about those before it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::punch::UnixMs;

/// A hole gets this long to close by itself, and again after the terminal was asked.
const PATIENCE: Duration = Duration::from_secs(600);
/// Margin on both sides of the span that is asked for.
const MARGIN_MS: i64 = 5 * 60 * 1000;
/// Holes followed at once; a terminal with more loses the oldest to a gap early.
const MAX_HOLES: usize = 32;
/// Records that may come before the past is known; with more, the first of them is the beginning.
const MAX_EARLY: usize = 10_000;
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

/// What the store has of a terminal's records from before the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Numbers and times of the last ones, in the order in which they were stored.
    pub records: Vec<(u64, UnixMs)>,
    /// Records made before this may have been stored before those.
    pub since: Option<UnixMs>,
    /// Missing records that are told of already.
    pub gaps: Vec<RangeInclusive<u64>>,
}

/// How a gap says which records of a terminal are missing.
pub fn gap_text(serial: &str, first: u64, last: u64) -> String {
    format!("terminal {serial} records {first} to {last}")
}

/// The records that such a text names; more may follow behind a colon.
pub fn named_in(text: &str, serial: &str) -> Option<RangeInclusive<u64>> {
    let numbers = text.strip_prefix("terminal ")?.strip_prefix(serial)?.strip_prefix(" records ")?;
    let numbers = numbers.split_once(':').map_or(numbers, |(numbers, _)| numbers);
    let (first, last) = numbers.split_once(" to ")?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// The record numbers of one terminal.
#[derive(Default)]
pub struct Numbers {
    /// Records that came before the past is known; `None` once it is.
    early: Option<Vec<(u64, UnixMs)>>,
    /// A hole behind a record made before this may be none: see [`Past::since`].
    unsure_before: Option<UnixMs>,
    highest: Option<(u64, UnixMs)>,
    holes: BTreeMap<u64, Hole>,
    given_up: VecDeque<Action>,
}

impl Numbers {
    /// Of a terminal whose past will be told.
    pub fn expecting_a_past() -> Numbers {
        Numbers { early: Some(Vec::new()), ..Numbers::default() }
    }

    /// What the store has. The holes in it that are no gaps yet get their time from the beginning.
    pub fn recall(&mut self, now: Instant, past: &Past) {
        let Some(early) = self.early.take() else { return };
        self.unsure_before = past.since;
        for &(number, time) in &past.records {
            self.see(now, number, time);
        }
        // What was given up then was told then.
        self.given_up.clear();
        let is_told = |first, last| past.gaps.iter().any(|gap| gap.contains(&first) && gap.contains(&last));
        self.holes.retain(|first, hole| !is_told(*first, hole.last));
        for (number, time) in early {
            self.handle_record(now, number, time);
        }
    }

    /// A record with this number, taken at `time` by the terminal's clock, is stored.
    pub fn handle_record(&mut self, now: Instant, number: u64, time: UnixMs) {
        match &mut self.early {
            Some(early) if early.len() < MAX_EARLY => return early.push((number, time)),
            Some(_) => self.recall(now, &Past::default()),
            None => {}
        }
        let before = self.highest;
        self.see(now, number, time);
        if self.highest != before {
            self.unsure_before = None;
        }
    }

    fn see(&mut self, now: Instant, number: u64, time: UnixMs) {
        let Some((highest, last_time)) = self.highest else {
            self.highest = Some((number, time));
            return;
        };
        if number > highest {
            let is_sure = self.unsure_before.is_none_or(|before| last_time >= before);
            if number > highest + 1 && is_sure {
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
#[path = "numbers_tests.rs"]
mod tests;
