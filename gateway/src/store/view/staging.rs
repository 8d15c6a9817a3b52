//! Writes that are not in the view yet, over reads of the view: what the rules of one chunk see of each other.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::ViewError;
use super::keys::{self, Key};
use super::live::{Change, cost};
use super::merged::Merged;
use super::rows::{self, Noted, PunchEntry, RunEntry};
use crate::punch::*;

/// One chunk in the making.
pub struct Staging {
    base: Merged,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
    /// Punches whose rows are written.
    ids: HashMap<PunchId, Seq>,
    /// What the writes mean for the indexes in memory.
    changes: Vec<Change>,
    bytes: usize,
}

impl Staging {
    pub fn new(base: Merged) -> Staging {
        Staging { base, writes: BTreeMap::new(), ids: HashMap::new(), changes: Vec::new(), bytes: 0 }
    }

    pub fn base(&self) -> &Merged {
        &self.base
    }

    /// How much would be written now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
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

    pub fn entry(&self, seq: Seq) -> Result<Option<PunchEntry>, ViewError> {
        match self.get(&keys::row(seq))? {
            Some(entry) => Ok(Some(entry)),
            None => Ok(self.base.runs.row(seq)?.map(|archived| archived.entry)),
        }
    }

    /// Writes the row of a punch. It counts as a change of its run when it is the first since that was made.
    pub fn put_entry(&mut self, entry: &PunchEntry) -> Result<(), ViewError> {
        let key = keys::row(entry.row.seq);
        let before: Option<PunchEntry> = self.get(&key)?;
        if before.is_none() {
            self.count_change(entry.row.seq)?;
        }
        self.ids.insert(entry.row.id, entry.row.seq);
        self.changes.push(Change::put(before.as_ref(), entry));
        self.put_bytes(key, entry.encode());
        Ok(())
    }

    /// Removes the row of a punch, which a run has too.
    pub fn remove_entry(&mut self, entry: &PunchEntry) {
        self.changes.push(Change::removed(entry));
        self.delete(keys::row(entry.row.seq));
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
    pub fn last_verified(&self, worker: &WorkerId) -> Result<Option<PunchEntry>, ViewError> {
        let staged = self.changes.iter().map(Change::seq);
        let live = self.base.live.by_worker(worker, UnixMs(i64::MIN), UnixMs(i64::MAX));
        let mut last: Option<PunchEntry> = None;
        for seq in live.into_iter().chain(staged).rev() {
            let entry: Option<PunchEntry> = self.get(&keys::row(seq))?;
            if let Some(entry) = entry.filter(|entry| entry.is_verified(worker))
                && last.as_ref().is_none_or(|last| last.place_in_time() < entry.place_in_time())
            {
                last = Some(entry);
            }
        }
        let newer = |seq| self.get(&keys::row(seq));
        let archived = self.base.runs.last_verified(worker, UnixMs(i64::MAX), newer)?;
        Ok(last.into_iter().chain(archived).max_by_key(PunchEntry::place_in_time))
    }

    /// Writes, changes of the indexes, and how much it is.
    pub fn into_parts(self) -> (BTreeMap<Key, Option<Vec<u8>>>, Vec<Change>, usize) {
        (self.writes, self.changes, self.bytes)
    }
}
