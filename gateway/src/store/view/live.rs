//! The rows that are live or recent: in sled, and before that, for a short while, here. What the follower has applied
//! is seen at once and written to sled in batches of about 100 KiB, so that a punch that is judged and sent and
//! answered for soon after it came is one row of one batch. A crash loses what was not written yet; the ledger has it.
//!
//! The indexes of these punches, by id, time and worker, are in memory only and made from their rows at the opening.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter::Peekable;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sha2::{Digest, Sha256};
use sled::IVec;

use super::engine::{CHUNK, Engine, ViewError};
use super::keys::{self, Key};
use super::query::{Answer, decode};
use super::rows::PunchEntry;
use super::staging::Staging;
use crate::punch::*;

/// What has been applied is written to sled when it is this much; the rest up to [`CHUNK`] is room for one more chunk.
const FULL: usize = CHUNK * 3 / 4;

/// See the module.
pub struct Live {
    tree: sled::Tree,
    unwritten: RwLock<Unwritten>,
}

#[derive(Default)]
struct Unwritten {
    writes: Writes,
    bytes: usize,
    recent: Recent,
}

/// Rows to be written, and keys to be removed.
pub type Writes = BTreeMap<Key, Option<IVec>>;

impl Live {
    /// Takes up what is in sled.
    pub fn load(tree: sled::Tree) -> Answer<Live> {
        let mut recent = Recent::default();
        for entry in tree.scan_prefix(keys::rows()) {
            let entry: PunchEntry = decode(&entry?.1)?;
            recent.change(&Change::put(None, &entry));
        }
        Ok(Live { tree, unwritten: RwLock::new(Unwritten { recent, ..Unwritten::default() }) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Unwritten> {
        self.unwritten.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Unwritten> {
        self.unwritten.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn bytes_of(&self, key: &[u8]) -> Answer<Option<IVec>> {
        // What is written to sled stays here until it is readable there.
        if let Some(write) = self.read().writes.get(key) {
            return Ok(write.clone());
        }
        Ok(self.tree.get(key)?)
    }

    pub fn get<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Answer<Option<T>> {
        self.bytes_of(key)?.map(|bytes| decode(&bytes)).transpose()
    }

    /// Rows from `from` on and before `to`, in order of their keys.
    pub fn range(&self, from: Key, to: &[u8]) -> impl Iterator<Item = Answer<(IVec, IVec)>> + use<> {
        let (writes, stored) = self.between(from, to);
        Merge { writes: writes.into_iter().peekable(), stored: stored.peekable(), comes_first: |a, b| a < b }
    }

    /// The same backwards.
    pub fn range_back(&self, from: Key, to: &[u8]) -> impl Iterator<Item = Answer<(IVec, IVec)>> + use<> {
        let (writes, stored) = self.between(from, to);
        let writes = writes.into_iter().rev().peekable();
        Merge { writes, stored: stored.rev().peekable(), comes_first: |a, b| a > b }
    }

    fn between(&self, from: Key, to: &[u8]) -> (Vec<(Key, Option<IVec>)>, sled::Iter) {
        if *from >= *to {
            return (Vec::new(), self.tree.range(from.clone()..from));
        }
        let writes = self.read().writes.range(from.clone()..to.to_vec()).map(|(k, v)| (k.clone(), v.clone())).collect();
        (writes, self.tree.range(&from[..]..to))
    }

    /// Rows whose keys begin with `prefix`.
    pub fn prefix(&self, prefix: Key) -> impl Iterator<Item = Answer<(IVec, IVec)>> + use<> {
        let end = keys::after(&prefix);
        self.range(prefix, &end)
    }

    pub fn seq_of(&self, id: PunchId) -> Option<Seq> {
        self.read().recent.ids.get(&id.0).copied()
    }

    /// Punches with times in `from..=to`, in order of sequence; `None` when there are more than `most`.
    pub fn by_time(&self, from: UnixMs, to: UnixMs, most: usize) -> Option<Vec<Seq>> {
        if from > to {
            return Some(Vec::new());
        }
        let unwritten = self.read();
        let times = unwritten.recent.times.range((from, Seq(0))..=(to, Seq(u64::MAX)));
        let mut seqs: Vec<Seq> = times.take(most + 1).map(|(_, seq)| *seq).collect();
        seqs.sort_unstable();
        (seqs.len() <= most).then_some(seqs)
    }

    /// Punches of a worker with times in `from..=to`, in order of time; may name some of other workers.
    pub fn by_worker(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> Vec<Seq> {
        if from > to {
            return Vec::new();
        }
        let hash = worker_hash(worker);
        let unwritten = self.read();
        let found = unwritten.recent.workers.range((hash, from, Seq(0))..=(hash, to, Seq(u64::MAX)));
        found.map(|(_, _, seq)| *seq).collect()
    }

    /// Tells every punch id.
    pub fn ids(&self) -> Vec<[u8; 16]> {
        self.read().recent.ids.keys().copied().collect()
    }

    /// Shows a chunk to the readers; how many bytes had to be written to sled for it.
    pub fn commit(&self, engine: &mut Engine, staging: Staging) -> Answer<u64> {
        let (writes, changes, bytes) = staging.into_parts();
        let mut written = 0;
        if self.read().bytes + bytes > CHUNK {
            written += self.write_out(engine)?;
        }
        let mut unwritten = self.write();
        for (key, value) in writes {
            if let Some(before) = unwritten.writes.remove(&key) {
                unwritten.bytes -= cost(&key, before.as_deref());
            }
            // What sled never had need not be removed from it.
            if value.is_some() || self.tree.contains_key(&key)? {
                unwritten.bytes += cost(&key, value.as_deref());
                unwritten.writes.insert(key, value.map(IVec::from));
            }
        }
        changes.iter().for_each(|change| unwritten.recent.change(change));
        let is_full = unwritten.bytes >= FULL;
        drop(unwritten);
        if is_full {
            written += self.write_out(engine)?;
        }
        Ok(written)
    }

    /// Writes to sled what is not written yet, as one batch; how many bytes that were.
    pub fn write_out(&self, engine: &mut Engine) -> Answer<u64> {
        let mut batch = sled::Batch::default();
        let unwritten = self.read();
        let bytes = unwritten.bytes;
        if unwritten.writes.is_empty() {
            return Ok(0);
        }
        for (key, value) in &unwritten.writes {
            match value {
                Some(value) => batch.insert(&key[..], value),
                None => batch.remove(&key[..]),
            }
        }
        drop(unwritten);
        engine.commit(batch, bytes)?;
        let mut unwritten = self.write();
        unwritten.writes.clear();
        unwritten.bytes = 0;
        Ok(bytes as u64)
    }
}

/// What sled keeps for a key beside its bytes, roughly.
const KEY_COST: usize = 16;

/// What a write takes.
pub fn cost(key: &[u8], value: Option<&[u8]>) -> usize {
    KEY_COST + key.len() + value.map_or(0, <[u8]>::len)
}

/// Rows of two layers in one order; for a key in both, the write counts.
struct Merge<W: Iterator, S: Iterator> {
    writes: Peekable<W>,
    stored: Peekable<S>,
    comes_first: fn(&[u8], &[u8]) -> bool,
}

impl<W, S> Iterator for Merge<W, S>
where
    W: Iterator<Item = (Key, Option<IVec>)>,
    S: Iterator<Item = sled::Result<(IVec, IVec)>>,
{
    type Item = Answer<(IVec, IVec)>;

    fn next(&mut self) -> Option<Answer<(IVec, IVec)>> {
        loop {
            let Some((key, _)) = self.writes.peek() else {
                return self.stored.next().map(|stored| stored.map_err(ViewError::from));
            };
            match self.stored.peek() {
                Some(Ok((stored, _))) if (self.comes_first)(stored, key) => {
                    return self.stored.next().map(|stored| stored.map_err(ViewError::from));
                }
                Some(Ok((stored, _))) if **stored == **key => drop(self.stored.next()),
                Some(Err(_)) => return self.stored.next().map(|stored| stored.map_err(ViewError::from)),
                Some(Ok(_)) | None => {}
            }
            if let Some((key, Some(value))) = self.writes.next() {
                return Some(Ok((IVec::from(key), value)));
            }
        }
    }
}

/// The indexes of the punches whose rows are live.
#[derive(Default)]
struct Recent {
    ids: HashMap<[u8; 16], Seq>,
    times: BTreeSet<(UnixMs, Seq)>,
    workers: BTreeSet<(WorkerHash, UnixMs, Seq)>,
}

type WorkerHash = [u8; 8];

/// The beginning of the worker id's SHA-256.
pub fn worker_hash(worker: &WorkerId) -> WorkerHash {
    let digest = Sha256::digest(worker.as_str());
    let mut hash = WorkerHash::default();
    hash.copy_from_slice(&digest[..8]);
    hash
}

/// What becomes of a punch in the indexes: whether it is live, and of which worker.
pub struct Change {
    id: PunchId,
    time: UnixMs,
    seq: Seq,
    before: Option<Option<WorkerHash>>,
    after: Option<Option<WorkerHash>>,
}

impl Change {
    /// The row of a punch is written.
    pub fn put(before: Option<&PunchEntry>, after: &PunchEntry) -> Change {
        let PunchEntry { row, .. } = after;
        Change { id: row.id, time: row.time, seq: row.seq, before: before.map(hash_of), after: Some(hash_of(after)) }
    }

    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The row of a punch is removed.
    pub fn removed(entry: &PunchEntry) -> Change {
        Change { before: Some(hash_of(entry)), after: None, ..Change::put(None, entry) }
    }
}

fn hash_of(entry: &PunchEntry) -> Option<WorkerHash> {
    entry.row.judgement.as_ref().and_then(|judgement| judgement.worker.as_ref()).map(worker_hash)
}

impl Recent {
    fn change(&mut self, change: &Change) {
        let Change { id, time, seq, before, after } = change;
        if let Some(Some(worker)) = before {
            self.workers.remove(&(*worker, *time, *seq));
        }
        match after {
            Some(worker) => {
                self.ids.insert(id.0, *seq);
                self.times.insert((*time, *seq));
                self.workers.extend(worker.map(|worker| (worker, *time, *seq)));
            }
            None => {
                self.ids.remove(&id.0);
                self.times.remove(&(*time, *seq));
            }
        }
    }
}
