//! The rows that are live or recent: in sled, and before that, for a short while, here. What the follower has applied
//! is seen at once and written to sled in batches of about 100 KiB, so that a punch that is judged and sent and
//! answered for soon after it came is one row of one batch. A crash loses what was not written yet; the ledger has it.
//!
//! The indexes of these punches, by id, time and worker, are in memory only and made from their rows at the opening.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sled::IVec;

use super::engine::{CHUNK, Engine, ViewError};
use super::keys::{self, Key};
use super::query::{Answer, decode};
use super::recent::Recent;
use super::rows::{self, PunchEntry};
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
    /// Rows to be written, and keys to be removed, but for those of punches.
    writes: BTreeMap<Key, Option<IVec>>,
    /// Punches whose rows are to be written or removed.
    punches: BTreeMap<Seq, Option<Arc<PunchEntry>>>,
    bytes: usize,
    recent: Recent,
}

impl Live {
    /// Takes up what is in sled.
    pub fn load(tree: sled::Tree) -> Answer<Live> {
        let mut recent = Recent::default();
        for row in tree.scan_prefix(keys::rows()) {
            recent.put(&decode(&row?.1)?);
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

    /// The row of a punch.
    pub fn punch(&self, seq: Seq) -> Answer<Option<Arc<PunchEntry>>> {
        if let Some(write) = self.read().punches.get(&seq) {
            return Ok(write.clone());
        }
        match self.tree.get(keys::row(seq))? {
            Some(bytes) => decode(&bytes).map(Arc::new).map(Some),
            None => Ok(None),
        }
    }

    /// Whether there is a row of this punch.
    pub fn has(&self, seq: Seq) -> bool {
        self.read().recent.has(seq)
    }

    /// How many punches there are.
    pub fn count(&self) -> usize {
        self.read().recent.count()
    }

    pub fn seq_of(&self, id: PunchId) -> Option<Seq> {
        self.read().recent.seq_of(id)
    }

    /// Punches from `from` on, in order, as many as `most`.
    pub fn seqs(&self, from: Seq, most: usize) -> Vec<Seq> {
        self.read().recent.seqs(from).take(most).collect()
    }

    /// The latest punches, latest first.
    pub fn latest(&self, most: usize) -> Vec<Seq> {
        self.read().recent.seqs(Seq(0)).rev().take(most).collect()
    }

    /// Punches with times in `from..=to`, in order of sequence; `None` when there are more than `most`.
    pub fn by_time(&self, from: UnixMs, to: UnixMs, most: usize) -> Option<Vec<Seq>> {
        let mut seqs: Vec<Seq> = self.read().recent.by_time(from, to).take(most + 1).collect();
        seqs.sort_unstable();
        (seqs.len() <= most).then_some(seqs)
    }

    /// Punches of a worker with times in `from..=to`, in order of time; may name some of other workers.
    pub fn by_worker(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> Vec<Seq> {
        self.read().recent.by_worker(worker, from, to).collect()
    }

    /// The ids of all punches.
    pub fn ids(&self) -> Vec<[u8; 16]> {
        self.read().recent.ids().collect()
    }

    /// Shows a chunk to the readers; how many bytes had to be written to sled for it.
    pub fn commit(&self, engine: &mut Engine, staging: Staging) -> Answer<u64> {
        let mut written = 0;
        if self.read().bytes + staging.bytes() > CHUNK {
            written += self.write_out(engine)?;
        }
        let (writes, punches) = staging.into_parts();
        let mut unwritten = self.write();
        for (key, value) in writes {
            unwritten.write(&self.tree, key, value)?;
        }
        for (seq, punch) in punches {
            unwritten.write_punch(&self.tree, seq, punch)?;
        }
        let is_full = unwritten.bytes >= FULL;
        drop(unwritten);
        if is_full {
            written += self.write_out(engine)?;
        }
        Ok(written)
    }

    /// Writes to sled what is not written yet, as one batch; how many bytes that were.
    pub fn write_out(&self, engine: &mut Engine) -> Answer<u64> {
        let unwritten = self.read();
        let rows = unwritten.writes.iter().map(|(key, value)| (key.clone(), value.clone()));
        let punches = unwritten.punches.iter().map(|(seq, punch)| {
            let bytes = punch.as_ref().map(|punch| IVec::from(rows::encode(&**punch)));
            (keys::row(*seq), bytes)
        });
        let mut batch = sled::Batch::default();
        let mut bytes = 0;
        for (key, value) in rows.chain(punches) {
            bytes += cost(&key, value.as_deref());
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        drop(unwritten);
        if bytes == 0 {
            return Ok(0);
        }
        engine.commit(batch, bytes)?;
        // Until now the readers found it here.
        let mut unwritten = self.write();
        unwritten.writes.clear();
        unwritten.punches.clear();
        unwritten.bytes = 0;
        Ok(bytes as u64)
    }
}

impl Unwritten {
    fn write(&mut self, tree: &sled::Tree, key: Key, value: Option<Vec<u8>>) -> Answer<()> {
        if let Some(before) = self.writes.remove(&key) {
            self.bytes -= cost(&key, before.as_deref());
        }
        // What sled never had need not be removed from it.
        if value.is_some() || tree.contains_key(&key)? {
            self.bytes += cost(&key, value.as_deref());
            self.writes.insert(key, value.map(IVec::from));
        }
        Ok(())
    }

    fn write_punch(&mut self, tree: &sled::Tree, seq: Seq, punch: Option<Arc<PunchEntry>>) -> Answer<()> {
        if let Some(before) = self.punches.remove(&seq) {
            self.bytes -= punch_cost(before.as_deref());
        }
        match &punch {
            Some(punch) => self.recent.put(punch),
            None => self.recent.remove(seq),
        }
        if punch.is_some() || tree.contains_key(keys::row(seq))? {
            self.bytes += punch_cost(punch.as_deref());
            self.punches.insert(seq, punch);
        }
        Ok(())
    }
}

/// What sled keeps for a key beside its bytes, roughly.
const KEY_COST: usize = 16;

/// What a write takes.
pub fn cost(key: &[u8], value: Option<&[u8]>) -> usize {
    KEY_COST + key.len() + value.map_or(0, <[u8]>::len)
}

/// What the write of a punch takes, at most.
pub fn punch_cost(punch: Option<&PunchEntry>) -> usize {
    KEY_COST + keys::ROW_BYTES + punch.map_or(0, PunchEntry::most_bytes)
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
