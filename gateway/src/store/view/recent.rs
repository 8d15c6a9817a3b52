//! The indexes of the punches whose rows are live, in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use super::rows::PunchEntry;
use crate::punch::*;
use crate::store::PunchRow;

/// See the module.
#[derive(Default)]
pub struct Recent {
    punches: BTreeMap<Seq, Known>,
    ids: HashMap<[u8; 16], Seq>,
    times: BTreeSet<(UnixMs, Seq)>,
    workers: BTreeSet<(WorkerHash, UnixMs, Seq)>,
}

/// Under what a punch stands in the indexes.
struct Known {
    id: [u8; 16],
    time: UnixMs,
    worker: Option<WorkerHash>,
}

pub type WorkerHash = [u8; 8];

/// The beginning of the worker id's SHA-256.
pub fn worker_hash(worker: &WorkerId) -> WorkerHash {
    let digest = Sha256::digest(worker.as_str());
    let mut hash = WorkerHash::default();
    hash.copy_from_slice(&digest[..8]);
    hash
}

impl Recent {
    pub fn put(&mut self, entry: &PunchEntry) {
        let PunchRow { seq, id: PunchId(id), time, judgement, .. } = &entry.row;
        let worker = judgement.as_ref().and_then(|judgement| judgement.worker.as_ref()).map(worker_hash);
        match self.punches.insert(*seq, Known { id: *id, time: *time, worker }) {
            Some(before) if before.worker == worker => return,
            Some(before) => self.forget_worker(before.worker, *time, *seq),
            None => {
                self.ids.insert(*id, *seq);
                self.times.insert((*time, *seq));
            }
        }
        self.workers.extend(worker.map(|worker| (worker, *time, *seq)));
    }

    pub fn remove(&mut self, seq: Seq) {
        let Some(Known { id, time, worker }) = self.punches.remove(&seq) else { return };
        self.ids.remove(&id);
        self.times.remove(&(time, seq));
        self.forget_worker(worker, time, seq);
    }

    fn forget_worker(&mut self, worker: Option<WorkerHash>, time: UnixMs, seq: Seq) {
        if let Some(worker) = worker {
            self.workers.remove(&(worker, time, seq));
        }
    }

    pub fn has(&self, seq: Seq) -> bool {
        self.punches.contains_key(&seq)
    }

    pub fn count(&self) -> usize {
        self.punches.len()
    }

    pub fn seq_of(&self, id: PunchId) -> Option<Seq> {
        self.ids.get(&id.0).copied()
    }

    pub fn ids(&self) -> impl Iterator<Item = [u8; 16]> + '_ {
        self.ids.keys().copied()
    }

    /// From `from` on, in order.
    pub fn seqs(&self, from: Seq) -> impl DoubleEndedIterator<Item = Seq> + '_ {
        self.punches.range(from..).map(|(seq, _)| *seq)
    }

    /// With times in `from..=to`, in order of time.
    pub fn by_time(&self, from: UnixMs, to: UnixMs) -> impl Iterator<Item = Seq> + '_ {
        let found = (from <= to).then(|| self.times.range((from, Seq(0))..=(to, Seq(u64::MAX))));
        found.into_iter().flatten().map(|(_, seq)| *seq)
    }

    /// Of a worker, and perhaps of some others, with times in `from..=to`, in order of time.
    pub fn by_worker(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> impl Iterator<Item = Seq> + '_ {
        let hash = worker_hash(worker);
        let range = (hash, from, Seq(0))..=(hash, to, Seq(u64::MAX));
        let found = (from <= to).then(|| self.workers.range(range));
        found.into_iter().flatten().map(|(_, _, seq)| *seq)
    }
}
