//! Durable truth and working view. The only place that names sled.
//!
//! `append` makes facts durable: one group commit to the hash-chained ledger, one `fdatasync`, then every answer of the
//! group. A follower brings sled (outboxes, dedup keys, roster, indexes) behind the ledger; losing sled loses nothing.
//! Knows nothing about terminals or platforms.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::punch::*;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub dir: PathBuf,
    /// Platforms that get an outbox, each with the first day whose punches it wants.
    pub platforms: Vec<(PlatformName, Option<UnixMs>)>,
}

/// A handle on the open store; clones share it.
#[derive(Clone)]
pub struct Store {}

/// A fact with its place in the ledger, as the view has applied it.
#[derive(Debug)]
pub struct Recorded {
    pub seq: Seq,
    pub fact: Fact,
}

/// What became of one appended fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place; for a punch that was already there, the place of the first.
    pub seq: Seq,
    /// False when the same punch (stranger, quarantined record) was already in the ledger.
    pub new: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} is in use by another process", path = path.display())]
    Locked { path: PathBuf },
}

/// Nothing was stored, and nothing may be acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full or failing; the store tries to reopen by itself.
    #[error("the store does not take facts: {0}")]
    Unavailable(String),
    #[error("the store is closed")]
    Closed,
}

/// Whether the store takes facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    Open,
    /// A write or sync failed; nothing is acknowledged until it reopens.
    Failing {
        since: UnixMs,
        cause: String,
    },
    /// Free space is below the low-water mark; nothing is acknowledged until there is space.
    Full {
        since: UnixMs,
        free_bytes: u64,
    },
}

/// Where a record stands in the hash chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub seq: Seq,
    pub segment: u32,
    pub offset: u64,
    /// Hash of this frame and of the one before it.
    pub hash: [u8; 32],
    pub previous_hash: [u8; 32],
}

/// One punch as the view keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PunchRow {
    pub id: PunchId,
    pub seq: Seq,
    pub terminal: TerminalId,
    pub record: Option<String>,
    pub time: UnixMs,
    pub received_at: UnixMs,
    /// As in the punch; the judgement's direction counts when there is one.
    pub direction: Direction,
    pub method: Method,
    pub photo: Option<PhotoHash>,
    /// The latest judgement.
    pub judgement: Option<Judgement>,
}

/// A verified punch that a platform has not answered for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    pub seq: Seq,
    pub punch: PunchId,
    pub worker: WorkerId,
    pub terminal: TerminalId,
    pub time: UnixMs,
    pub direction: Direction,
    pub method: Method,
    pub photo: Option<PhotoHash>,
}

/// Where one subject stands with one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRow {
    pub state: UploadState,
    /// How many requests have carried it.
    pub attempts: u32,
    /// The last job that carried it, and that job's method.
    pub job: Option<(JobId, String)>,
    /// The serial code to poll, while `Accepted`.
    pub serial: Option<String>,
    /// The id that the platform gave, once `Confirmed`.
    pub external: Option<String>,
    pub reason: Option<String>,
    pub changed_at: UnixMs,
}

/// How much waits for one platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Verified punches without a receipt.
    pub open: u64,
    /// The oldest one's punch time.
    pub oldest: Option<UnixMs>,
    /// Punches with a receipt since the outbox exists.
    pub confirmed: u64,
    pub refused: u64,
}

/// A worker's last verified punch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    pub worker: WorkerId,
    pub punch: PunchId,
    pub terminal: TerminalId,
    pub time: UnixMs,
    pub direction: Direction,
}

/// Which punches a listing wants; all given conditions hold at once.
#[derive(Clone, Debug, Default)]
pub struct PunchFilter {
    /// Punch times from (inclusive) and to (exclusive).
    pub from: Option<UnixMs>,
    pub to: Option<UnixMs>,
    pub terminal: Option<TerminalId>,
    pub worker: Option<WorkerId>,
    /// `verified`, `held` or `rejected`.
    pub verdict_kind: Option<String>,
}

/// A page of a listing, oldest first, and the cursor of the next page.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// Everything the ledger says about one punch.
#[derive(Clone, Debug)]
pub struct Story {
    pub row: PunchRow,
    pub punch: Punch,
    pub place: Place,
    pub judgements: Vec<(Seq, Judgement)>,
    pub uploads: Vec<(Seq, UploadStep)>,
}

impl Store {
    /// Opens or creates the store and starts its writer and follower threads. Blocks; cleans up after a crash: cuts a
    /// torn tail, steps over damage (recorded as gaps), rebuilds the view when it does not open.
    pub fn open(_options: StoreOptions, _clock: crate::clock::Clock) -> Result<Store, OpenError> {
        todo!()
    }

    /// Makes facts durable, all of them or none. When it returns, the ledger is synced and a crash loses nothing of it.
    /// A punch whose id is known is not written again. Waits while the writer is busy.
    pub async fn append(&self, _facts: Vec<Fact>) -> Result<Vec<Appended>, AppendError> {
        todo!()
    }

    /// Waits until the view contains everything up to `seq`.
    pub async fn applied(&self, _seq: Seq) {
        todo!()
    }

    /// Facts as the view applies them, in order. A slow receiver is told how many it missed and reads the view again.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Recorded>> {
        todo!()
    }

    /// Whether facts are taken now; changes are also sent to `watch_health`.
    pub fn health(&self) -> StoreHealth {
        todo!()
    }

    pub fn watch_health(&self) -> tokio::sync::watch::Receiver<StoreHealth> {
        todo!()
    }

    /// Counters since the start: (facts, group commits, bytes written to the ledger).
    pub fn counters(&self) -> StoreCounters {
        todo!()
    }

    /// Stores a photo durably under its content hash. The same photo twice costs nothing.
    pub async fn put_photo(&self, _jpeg: Bytes) -> Result<PhotoHash, AppendError> {
        todo!()
    }

    pub async fn photo(&self, _hash: PhotoHash) -> Result<Option<Bytes>, std::io::Error> {
        todo!()
    }

    /// The read side. Its methods block for as long as a few page reads take: call it from the blocking pool
    /// (`tokio::task::spawn_blocking`) or through [`Store::read`].
    pub fn view(&self) -> View {
        todo!()
    }

    /// Runs `query` on the blocking pool.
    pub async fn read<T: Send + 'static>(&self, query: impl FnOnce(&View) -> T + Send + 'static) -> T {
        let view = self.view();
        match tokio::task::spawn_blocking(move || query(&view)).await {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Flushes and stops the threads. Appends in flight are answered first.
    pub async fn close(self) {
        todo!()
    }
}

/// Work done since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreCounters {
    pub facts: u64,
    pub commits: u64,
    pub ledger_bytes: u64,
    pub view_bytes: u64,
}

/// The read side of the store: what the follower has applied.
#[derive(Clone)]
pub struct View {}

impl View {
    pub fn punch(&self, _id: PunchId) -> Option<PunchRow> {
        todo!()
    }
    /// A listing in order of ledger sequence.
    pub fn punches(&self, _filter: &PunchFilter, _cursor: Option<&str>, _limit: usize) -> Page<PunchRow> {
        todo!()
    }
    /// The most recent punches, newest first.
    pub fn latest(&self, _limit: usize) -> Vec<PunchRow> {
        todo!()
    }
    pub fn story(&self, _id: PunchId) -> Option<Story> {
        todo!()
    }
    /// Punches without any judgement, oldest first, whole.
    pub fn unjudged(&self, _limit: usize) -> Vec<Punch> {
        todo!()
    }
    /// Held punches after `after`, oldest first, whole.
    pub fn held(&self, _after: Seq, _limit: usize) -> Vec<(Seq, Punch)> {
        todo!()
    }
    /// Verified punches of a worker with punch times in `from..=to`, oldest first.
    pub fn verified_of(&self, _worker: &WorkerId, _from: UnixMs, _to: UnixMs) -> Vec<Presence> {
        todo!()
    }
    /// The worker's latest verified punch before `time`.
    pub fn last_verified_before(&self, _worker: &WorkerId, _time: UnixMs) -> Option<Presence> {
        todo!()
    }
    /// Every worker's last verified punch (by punch time) at or after `since`.
    pub fn presences(&self, _since: UnixMs) -> Vec<Presence> {
        todo!()
    }

    pub fn worker(&self, _id: &WorkerId) -> Option<Worker> {
        todo!()
    }
    /// All workers, by id.
    pub fn workers(&self) -> Vec<Worker> {
        todo!()
    }
    pub fn worker_by_id_number(&self, _id_number: &str) -> Option<Worker> {
        todo!()
    }
    /// The worker with this badge; `Low24` badges match on their 24 bits.
    pub fn worker_by_badge(&self, _badge: Badge) -> Option<Worker> {
        todo!()
    }
    /// The worker whose badge has these low 24 bits; `None` when several have.
    pub fn worker_by_badge24(&self, _low24: u32) -> Option<Worker> {
        todo!()
    }
    /// The ledger sequence of the last roster change; 0 when there was none.
    pub fn roster_version(&self) -> Seq {
        todo!()
    }

    /// Verified punches without a receipt of this platform, in ledger order, after `after`.
    pub fn outbox(&self, _platform: &PlatformName, _after: Seq, _limit: usize) -> Vec<(Outgoing, UploadRow)> {
        todo!()
    }
    pub fn upload(&self, _platform: &PlatformName, _subject: &Subject) -> Option<UploadRow> {
        todo!()
    }
    /// Subjects of this platform that are `Sending`, `Accepted` or `Unknown`: what a restarted courier must settle.
    pub fn uploads_in_flight(&self, _platform: &PlatformName) -> Vec<(Subject, UploadRow)> {
        todo!()
    }
    /// Subjects of this platform other than punches (registrations), with their state.
    pub fn registrations(&self, _platform: &PlatformName) -> Vec<(Subject, UploadRow)> {
        todo!()
    }
    /// For the API: all uploads of a platform, optionally in one state.
    pub fn uploads(
        &self,
        _platform: &PlatformName,
        _state: Option<UploadState>,
        _cursor: Option<&str>,
        _limit: usize,
    ) -> Page<(Subject, UploadRow)> {
        todo!()
    }
    pub fn depth(&self, _platform: &PlatformName) -> Depth {
        todo!()
    }
    /// The highest job number of this platform in the ledger; 0 when there is none.
    pub fn last_job(&self, _platform: &PlatformName) -> JobId {
        todo!()
    }

    pub fn adoptions(&self) -> Vec<Adoption> {
        todo!()
    }
    /// The latest gaps, newest first.
    pub fn gaps(&self, _limit: usize) -> Vec<(Seq, Gap)> {
        todo!()
    }
    /// Punches in the ledger, and how many of them are in which verdict kind (`unjudged` among them).
    pub fn totals(&self) -> Totals {
        todo!()
    }
}

/// Counts over the whole view, kept as counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub punches: u64,
    pub unjudged: u64,
    pub verified: u64,
    pub held: u64,
    pub rejected: u64,
    pub quarantined: u64,
    pub strangers: u64,
    pub gaps: u64,
}
