//! The terminal's own record store: numbers that never repeat, records until they are acknowledged and a while longer.

use std::collections::VecDeque;

use gateway::punch::UnixMs;
use serde::{Deserialize, Serialize};

use super::Face;

/// As many as a small real terminal holds.
const CAPACITY: usize = 100_000;

/// A record in the terminal's store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Made {
    /// The terminal's own number.
    pub number: u64,
    pub face: Face,
    /// By the terminal's clock.
    pub time: UnixMs,
    /// At least once.
    pub pushed: bool,
    pub acknowledged: bool,
}

/// What survives when the terminal is switched off; of the records only those that nobody has acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The last number given.
    pub last: u64,
    pub waiting: Vec<Made>,
}

/// All records, oldest first.
#[derive(Clone, Debug)]
pub struct Store {
    last: u64,
    records: VecDeque<Made>,
    /// Beyond this the oldest acknowledged ones are overwritten.
    pub capacity: usize,
    revision: u64,
}

impl Default for Store {
    fn default() -> Self {
        Store { last: 0, records: VecDeque::new(), capacity: CAPACITY, revision: 0 }
    }
}

impl Store {
    /// Goes on from what was kept.
    pub fn restore(&mut self, kept: Kept) {
        (self.last, self.records) = (kept.last, kept.waiting.into());
    }

    pub fn kept(&self) -> Kept {
        Kept { last: self.last, waiting: self.waiting().cloned().collect() }
    }

    /// Changes with every change of what is kept.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A new record's number.
    pub fn add(&mut self, face: Face, time: UnixMs, acknowledged: bool) -> u64 {
        self.last += 1;
        self.revision += 1;
        self.records.push_back(Made { number: self.last, face, time, pushed: false, acknowledged });
        while self.records.len() > self.capacity && self.records.front().is_some_and(|made| made.acknowledged) {
            self.records.pop_front();
        }
        self.last
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Made> {
        self.records.iter()
    }

    /// Records that nobody has acknowledged.
    pub fn waiting(&self) -> impl Iterator<Item = &Made> {
        self.records.iter().filter(|made| !made.acknowledged)
    }

    /// The record as it was before, and from now on it counts as pushed.
    pub fn push(&mut self, number: u64) -> Option<Made> {
        let made = self.get_mut(number)?;
        let before = made.clone();
        made.pushed = true;
        Some(before)
    }

    pub fn acknowledge(&mut self, number: u64, acknowledged: bool) {
        if let Some(made) = self.get_mut(number) {
            made.acknowledged = acknowledged;
            self.revision += 1;
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Made> {
        let place = self.records.binary_search_by_key(&number, |made| made.number).ok()?;
        self.records.get_mut(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_acknowledged_records_are_overwritten_and_numbers_go_on() {
        let mut store = Store { capacity: 3, ..Store::default() };
        for _ in 0..4 {
            store.add(Face::of("W1"), UnixMs(0), false);
        }
        assert_eq!(store.waiting().count(), 4, "the terminal holds on to what nobody has");
        (1..=3).for_each(|number| store.acknowledge(number, true));
        store.add(Face::of("W1"), UnixMs(0), false);
        assert_eq!(store.iter().map(|made| made.number).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(store.push(1).map(|made| made.number), None);

        let mut again = Store::default();
        again.restore(store.kept());
        assert_eq!(again.iter().map(|made| made.number).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(again.add(Face::of("W2"), UnixMs(1), false), 6);
    }

    #[test]
    fn a_record_is_pushed_for_the_first_time_once() {
        let mut store = Store::default();
        let number = store.add(Face::of("W1"), UnixMs(0), false);
        assert_eq!(store.push(number).map(|made| made.pushed), Some(false));
        assert_eq!(store.push(number).map(|made| made.pushed), Some(true));
    }
}
