//! Writes that are not in the view yet, over reads of the view: what the rules of one chunk see of each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::ViewError;
use super::history::run::Archived;
use super::keys::{self, Key};
use super::live::{cost, punch_cost};
use super::merged::Merged;
use super::rows::{self, Noted, PunchEntry, RunEntry};
use crate::punch::*;

/// Rows to be written, and keys to be removed, but for those of punches.
pub type Writes = BTreeMap<Key, Option<Vec<u8>>>;
/// Punches whose rows are to be written or removed.
pub type Punches = BTreeMap<Seq, Option<Arc<PunchEntry>>>;

/// One chunk in the making.
pub struct Staging {
    base: Merged,
    writes: Writes,
    punches: Punches,
    ids: BTreeMap<PunchId, Seq>,
    /// Rows of a run that were read last: what is sent together often lies together.
    archived: Vec<Archived>,
    bytes: usize,
}

impl Staging {
    pub fn new(base: Merged) -> Staging {
        Staging {
            base,
            writes: Writes::new(),
            punches: Punches::new(),
            ids: BTreeMap::new(),
            archived: Vec::new(),
            bytes: 0,
        }
    }

    pub fn base(&self) -> &Merged {
        &self.base
    }

    /// How much would be written now, at most.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.punches.is_empty()
    }

    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, ViewError> {
        match self.writes.get(key) {
            Some(Some(bytes)) => rows::decode(bytes).map(Some).ok_or(ViewError::Row),
            Some(None) => Ok(None),
            None => self.base.live.get(key),
        }
    }

    pub fn contains(&self, key: &[u8]) -> Result<bool, ViewError> {
        match self.writes.get(key) {
            Some(write) => Ok(write.is_some()),
            None => Ok(self.base.live.bytes_of(key)?.is_some()),
        }
    }

    pub fn put<T: Serialize>(&mut self, key: Key, row: &T) {
        self.put_bytes(key, rows::encode(row));
    }

    pub fn put_bytes(&mut self, key: Key, bytes: Vec<u8>) {
        self.bytes += cost(&key, Some(&bytes));
        self.writes.insert(key, Some(bytes));
    }

    pub fn delete(&mut self, key: Key) {
        self.bytes += cost(&key, None);
        self.writes.insert(key, None);
    }

    pub fn seq_of(&self, id: PunchId) -> Result<Option<Seq>, ViewError> {
        // A chunk may have the punch and facts that are told of it.
        match self.ids.get(&id) {
            Some(seq) => Ok(Some(*seq)),
            None => self.base.seq_of(id),
        }
    }

    /// The row of a punch, when it is live.
    fn newer(&self, seq: Seq) -> Result<Option<Arc<PunchEntry>>, ViewError> {
        match self.punches.get(&seq) {
            Some(write) => Ok(write.clone()),
            None => self.base.live.punch(seq),
        }
    }

    /// Takes the row of a punch, which has to be [put](Staging::put_punch) again.
    pub fn take_punch(&mut self, seq: Seq) -> Result<Option<PunchEntry>, ViewError> {
        let punch = match self.punches.get_mut(&seq).and_then(Option::take) {
            Some(staged) => Some(staged),
            None => self.newer(seq)?,
        };
        match punch {
            Some(punch) => Ok(Some(Arc::unwrap_or_clone(punch))),
            None => self.archived(seq),
        }
    }

    /// The row of a punch that is not live.
    fn archived(&mut self, seq: Seq) -> Result<Option<PunchEntry>, ViewError> {
        let place = |rows: &[Archived]| rows.binary_search_by_key(&seq, Archived::seq);
        if place(&self.archived).is_err() {
            self.archived = self.base.runs.rows_near(seq)?;
        }
        Ok(place(&self.archived).ok().map(|index| self.archived[index].entry.clone()))
    }

    /// Writes the row of a punch. It counts as a change of its run when it is the first since that was made.
    pub fn put_punch(&mut self, mut entry: PunchEntry) -> Result<(), ViewError> {
        let seq = entry.row.seq;
        if !self.punches.contains_key(&seq) && !self.base.live.has(seq) {
            self.count_change(seq)?;
        }
        entry.shorten();
        self.bytes += punch_cost(Some(&entry));
        self.ids.insert(entry.row.id, seq);
        self.punches.insert(seq, Some(Arc::new(entry)));
        Ok(())
    }

    /// Removes the row of a punch, which a run has too.
    pub fn remove_punch(&mut self, seq: Seq) {
        self.bytes += punch_cost(None);
        self.punches.insert(seq, None);
    }

    /// Notes a fact that is told of a punch in a row of that punch.
    pub fn note(&mut self, punch: Seq, noted: &mut Vec<Noted>, fact: Noted) {
        if let Some(full) = rows::note(noted, fact) {
            self.put_notes(punch, &full);
        }
    }

    /// Keeps facts of a punch in a row of their own.
    pub fn put_notes(&mut self, punch: Seq, noted: &[Noted]) {
        if let Some(first) = noted.first() {
            self.put(keys::note(punch, first.seq), &noted);
        }
    }

    fn count_change(&mut self, punch: Seq) -> Result<(), ViewError> {
        let Some(first) = self.base.runs.run_of(punch).map(|run| run.head.first) else { return Ok(()) };
        let key = keys::run(first);
        if let Some(mut run) = self.get::<RunEntry>(&key)? {
            run.changes += 1;
            self.put(key, &run);
        }
        Ok(())
    }

    /// The worker's last verified punch by punch time.
    pub fn last_verified(&self, worker: &WorkerId) -> Result<Option<Arc<PunchEntry>>, ViewError> {
        let live = self.base.live.by_worker(worker, UnixMs(i64::MIN), UnixMs(i64::MAX));
        let staged = self.punches.keys().copied();
        let mut last = self.base.runs.last_verified(worker, UnixMs(i64::MAX), |seq| self.newer(seq))?;
        for seq in live.into_iter().chain(staged) {
            let punch = self.newer(seq)?.filter(|punch| punch.is_verified(worker));
            last = last.into_iter().chain(punch).max_by_key(|punch| punch.place_in_time());
        }
        Ok(last)
    }

    pub fn into_parts(self) -> (Writes, Punches) {
        (self.writes, self.punches)
    }
}
