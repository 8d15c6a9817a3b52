//! What makes two facts the same fact: a terminal that did not hear the acknowledgement sends its record again.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::punch::*;

/// Facts with the same key are one fact; the first one counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DedupKey {
    Punch(PunchId),
    /// A stranger, a quarantined record, or a report of damage in the store.
    Record([u8; 16]),
    /// A worker with this content; the same content again changes nothing.
    Worker(WorkerId, [u8; 16]),
}

impl DedupKey {
    /// The key of a fact, for those that can come twice.
    pub fn of(fact: &Fact) -> Option<DedupKey> {
        match fact {
            Fact::Punch(punch) => Some(DedupKey::Punch(punch.id)),
            Fact::Worker(worker) => Some(DedupKey::Worker(worker.worker_id.clone(), content_digest(worker))),
            Fact::Stranger(stranger) => {
                let record = stranger.record.as_deref().unwrap_or_default();
                Some(record_key("stranger", &[stranger.serial.as_bytes(), record.as_bytes(), &stranger.raw]))
            }
            Fact::Quarantine(kept) => {
                let record = kept.record.as_deref().unwrap_or_default();
                Some(record_key("quarantine", &[kept.serial.as_bytes(), record.as_bytes(), &kept.raw]))
            }
            Fact::Gap(gap) if gap.kind == GapKind::StoreDamage => Some(record_key("damage", &[gap.detail.as_bytes()])),
            Fact::Gap(_)
            | Fact::Judgement(_)
            | Fact::Upload(_)
            | Fact::Adoption(_)
            | Fact::Epoch(_)
            | Fact::DayHead(_)
            | Fact::Restoration(_)
            | Fact::Removal(_) => None,
        }
    }
}

impl DedupKey {
    /// What the [`Filter`](super::filter::Filter) knows it by; workers are too few for it.
    pub fn digest(&self) -> Option<&[u8; 16]> {
        match self {
            DedupKey::Punch(PunchId(digest)) | DedupKey::Record(digest) => Some(digest),
            DedupKey::Worker(..) => None,
        }
    }
}

fn record_key(kind: &str, parts: &[&[u8]]) -> DedupKey {
    let mut hash = Sha256::new();
    for part in [kind.as_bytes()].iter().chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    DedupKey::Record(first_half(&hash.finalize()))
}

/// A worker's content in 16 bytes.
pub fn content_digest(worker: &Worker) -> [u8; 16] {
    let bytes = postcard::to_allocvec(worker).expect("a worker has no unsized part and a Vec takes everything");
    first_half(&Sha256::digest(bytes))
}

fn first_half(digest: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

/// Facts that the view does not know yet, by what makes them the same.
#[derive(Debug, Default)]
pub struct Pending {
    /// Punches and other records by their digest.
    records: HashMap<[u8; 16], Seq>,
    /// The newest content of each worker.
    workers: HashMap<WorkerId, ([u8; 16], Seq)>,
}

/// What [`Pending::find`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The same fact is there.
    Same(Seq),
    /// A newer content of the same worker is there: the fact is new, whatever older layers say.
    Changed,
    Absent,
}

impl Pending {
    pub fn find(&self, key: &DedupKey) -> Found {
        match key {
            DedupKey::Worker(id, content) => match self.workers.get(id) {
                Some((newest, seq)) if newest == content => Found::Same(*seq),
                Some(_) => Found::Changed,
                None => Found::Absent,
            },
            DedupKey::Punch(PunchId(digest)) | DedupKey::Record(digest) => match self.records.get(digest) {
                Some(seq) => Found::Same(*seq),
                None => Found::Absent,
            },
        }
    }

    pub fn insert(&mut self, key: DedupKey, seq: Seq) {
        match key {
            DedupKey::Worker(id, content) => {
                self.workers.insert(id, (content, seq));
            }
            DedupKey::Punch(PunchId(digest)) | DedupKey::Record(digest) => {
                self.records.entry(digest).or_insert(seq);
            }
        }
    }

    /// Forgets a fact that the view knows by now.
    pub fn remove(&mut self, key: &DedupKey, seq: Seq) {
        match key {
            DedupKey::Worker(id, _) => {
                if self.workers.get(id).is_some_and(|(_, newest)| *newest == seq) {
                    self.workers.remove(id);
                }
            }
            DedupKey::Punch(PunchId(digest)) | DedupKey::Record(digest) => {
                self.records.remove(digest);
            }
        }
        if self.records.is_empty() && self.records.capacity() > KEPT_CAPACITY {
            self.records = HashMap::new();
        }
    }

    /// Forgets everything up to and with `seq`.
    pub fn forget_through(&mut self, seq: Seq) {
        self.records.retain(|_, at| *at > seq);
        self.workers.retain(|_, (_, at)| *at > seq);
    }

    /// Gives back the digests of all records and forgets them.
    pub fn drain_records(&mut self) -> impl Iterator<Item = [u8; 16]> + '_ {
        self.records.drain().map(|(digest, _)| digest)
    }

    pub fn len(&self) -> usize {
        self.records.len() + self.workers.len()
    }

    /// Takes over everything of a group that has become durable.
    pub fn merge(&mut self, group: Pending) {
        for (key, seq) in group.records {
            self.records.entry(key).or_insert(seq);
        }
        self.workers.extend(group.workers);
    }
}

/// After a rebuild the room for many keys is given back.
const KEPT_CAPACITY: usize = 4096;
