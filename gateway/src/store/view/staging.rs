//! Writes that are not in the view yet, over reads of the view: what the rules of one chunk see of each other.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::ViewError;
use super::keys::{self, Key, SubjectKey};
use super::merged::Merged;
use super::rows::{self, Noted, PunchEntry, RunEntry, UploadEntry, VerdictKind};
use crate::punch::*;

/// One batch in the making.
pub struct Staging {
    base: Merged,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
    bytes: usize,
}

/// What sled keeps for a key beside its bytes, roughly.
const KEY_COST: usize = 16;

impl Staging {
    pub fn new(base: Merged) -> Staging {
        Staging { base, writes: BTreeMap::new(), bytes: 0 }
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
        let row = match self.writes.get(key) {
            Some(Some(bytes)) => rows::decode(bytes),
            Some(None) => return Ok(None),
            None => match self.base.tree.get(key)? {
                Some(bytes) => rows::decode(&bytes),
                None => return Ok(None),
            },
        };
        row.map(Some).ok_or(ViewError::Row)
    }

    pub fn contains(&self, key: &[u8]) -> Result<bool, ViewError> {
        match self.writes.get(key) {
            Some(write) => Ok(write.is_some()),
            None => Ok(self.base.tree.contains_key(key)?),
        }
    }

    pub fn put<T: Serialize>(&mut self, key: Key, row: &T) {
        self.put_bytes(key, rows::encode(row));
    }

    pub fn put_bytes(&mut self, key: Key, bytes: Vec<u8>) {
        self.bytes += KEY_COST + key.len() + bytes.len();
        self.writes.insert(key, Some(bytes));
    }

    pub fn delete(&mut self, key: Key) {
        self.bytes += KEY_COST + key.len();
        self.writes.insert(key, None);
    }

    pub fn seq_of(&self, id: PunchId) -> Result<Option<Seq>, ViewError> {
        match self.get(&keys::punch(id))? {
            Some(seq) => Ok(Some(seq)),
            None => self.base.runs.find(&id.0),
        }
    }

    pub fn entry(&self, seq: Seq) -> Result<Option<PunchEntry>, ViewError> {
        match self.get(&keys::row(seq))? {
            Some(entry) => Ok(Some(entry)),
            None => Ok(self.base.runs.row(seq)?.map(|archived| archived.entry)),
        }
    }

    pub fn upload(&self, platform: &PlatformName, subject: &SubjectKey) -> Result<Option<UploadEntry>, ViewError> {
        match self.writes.get(&keys::upload(platform, subject)) {
            Some(Some(bytes)) if !bytes.is_empty() => rows::decode(bytes).map(Some).ok_or(ViewError::Row),
            Some(_) => Ok(None),
            None => self.base.upload(platform, subject),
        }
    }

    /// Forgets an upload, also what a run says of it.
    pub fn delete_upload(&mut self, platform: &PlatformName, subject: &SubjectKey) -> Result<(), ViewError> {
        let key = keys::upload(platform, subject);
        match self.base.archived_upload(platform, subject)? {
            Some(_) => self.put_bytes(key, Vec::new()),
            None => self.delete(key),
        }
        Ok(())
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

    /// Counts a change of a punch that is in a run.
    pub fn count_change(&mut self, punch: Seq) -> Result<(), ViewError> {
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
        let verified = [VerdictKind::Verified.byte()];
        let here = match self.last_with(&keys::of_worker(worker), &verified)?.as_deref().and_then(keys::trailing_seq) {
            Some(seq) => self.entry(seq)?,
            None => None,
        };
        let newer = |seq| self.get(&keys::row(seq));
        let archived = self.base.runs.last_verified(worker, UnixMs(i64::MAX), newer)?;
        Ok(here.into_iter().chain(archived).max_by_key(|entry| (entry.row.time, entry.row.seq)))
    }

    /// The last key in sled that begins with `prefix` and has the value `wanted`.
    fn last_with(&self, prefix: &[u8], wanted: &[u8]) -> Result<Option<Key>, ViewError> {
        let end = keys::after(prefix);
        let staged = self.writes.range(prefix.to_vec()..end.clone()).rev();
        let staged = staged.filter(|(_, value)| value.as_deref() == Some(wanted)).map(|(key, _)| key.clone()).next();
        let floor = staged.as_ref().map_or(Bound::Included(prefix), |key| Bound::Excluded(&key[..]));
        for entry in self.base.tree.range::<&[u8], _>((floor, Bound::Excluded(&end[..]))).rev() {
            let (key, value) = entry?;
            if value == wanted && !self.writes.contains_key(&key[..]) {
                return Ok(Some(key.to_vec()));
            }
        }
        Ok(staged)
    }

    /// The writes as one batch of the engine.
    pub fn into_batch(self) -> (sled::Batch, usize) {
        let mut batch = sled::Batch::default();
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        (batch, self.bytes)
    }
}
