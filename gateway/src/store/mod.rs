//! Durable truth and working view. The only place that names sled.
//!
//! `append` makes facts durable: one group commit to the hash-chained ledger, one `fdatasync`, then every answer of the
//! group. A follower brings sled (outboxes, dedup keys, roster, indexes) behind the ledger; losing sled loses nothing.
//! Knows nothing about terminals or platforms.
//!
//! ```text
//! data/lock            held by the process that has the store open
//! data/ledger/         the truth: segment files ([`ledger`])
//! data/quarantine/     copies of damaged bytes
//! data/view/           what the ledger comes to ([`view`]); view.bad-<date>/ is one that could not be used
//!   sled/              what is live or recent
//!   history/           what is older ([`view::history`])
//! data/photos/ab/      photos by content hash ([`photos`])
//! data/keyring-a, -b   the keys that seal what is personal, themselves sealed ([`keyring`])
//! data/owed/           reports of damage that the ledger does not have yet ([`owed`])
//! data/reserve         space to say that the disk is full
//! ```
//!
//! Threads: `store-writer` appends, `store-follower` applies, `store-check` reads the closed segments once after each
//! start and reports damage. They end when the store is closed or its last handle is dropped.

mod appending;
pub mod backup;
pub mod days;
mod dedup;
pub mod erase;
mod filter;
mod follower;
mod group;
pub mod keyring;
pub mod ledger;
mod opening;
mod owed;
mod photos;
mod position;
mod retention;
mod shared;
mod space;
#[cfg(test)]
mod tests;
pub mod view;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::clock::Clock;
use crate::punch::*;
use dedup::DedupKey;
use group::Request;
use keyring::master::MasterFile;
use opening::Handles;

pub use ledger::check::{Report, verify};
pub use ledger::export::{ExportError, Format, export};
pub use retention::Retention;
pub use space::Room;
pub use view::query::View;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub dir: PathBuf,
    /// Where the key is that everything personal is sealed with; made at the first start.
    pub key: MasterFile,
    /// Platforms that get an outbox, each with the first day whose punches it wants.
    pub platforms: Vec<(PlatformName, Option<UnixMs>)>,
    pub retention: Retention,
    /// Punches that stay at hand for being recent; what is older lies in files of half as many.
    pub recent_punches: usize,
}

impl StoreOptions {
    /// See [`StoreOptions::recent_punches`].
    pub const RECENT_PUNCHES: usize = 8192;

    /// With the key in the data directory.
    pub fn new(dir: PathBuf, platforms: Vec<(PlatformName, Option<UnixMs>)>) -> StoreOptions {
        let key = MasterFile::choose(None, None, &dir);
        let retention = Retention::default();
        StoreOptions { dir, key, platforms, retention, recent_punches: StoreOptions::RECENT_PUNCHES }
    }
}

/// A handle on the open store; clones share it.
#[derive(Clone)]
pub struct Store {
    handles: Arc<Handles>,
}

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
    #[error(transparent)]
    Keyring(#[from] keyring::file::KeyringError),
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

/// Damage found in the ledger since the start. The bytes are copied aside and the gaps recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    pub places: usize,
    /// The latest: where and what.
    pub latest: String,
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

impl UploadRow {
    /// Of a subject that no step speaks of yet.
    pub fn queued(at: UnixMs) -> UploadRow {
        UploadRow {
            state: UploadState::Queued,
            attempts: 0,
            job: None,
            serial: None,
            external: None,
            reason: None,
            changed_at: at,
        }
    }
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

/// The box whose backup this data was made from: what it uploaded after the backup is not in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forerunner {
    /// The fact of the restoration, and its time.
    pub seq: Seq,
    pub at: UnixMs,
}

impl Forerunner {
    /// Whether it may have uploaded this: the backup had it, or a terminal sent it again after the restoration.
    pub fn may_have_sent(&self, out: &Outgoing) -> bool {
        out.seq < self.seq || out.time < self.at
    }
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

impl<T> Default for Page<T> {
    /// Nothing, and nothing after it.
    fn default() -> Self {
        Page { items: Vec::new(), next: None }
    }
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
    pub fn open(options: StoreOptions, clock: Clock) -> Result<Store, OpenError> {
        let (window, run_length) = (options.recent_punches, options.recent_punches / 2);
        Store::open_tuned(options, clock, Tuning { window, run_length, ..Tuning::default() })
    }

    fn open_tuned(options: StoreOptions, clock: Clock, tuning: Tuning) -> Result<Store, OpenError> {
        Ok(Store { handles: Arc::new(opening::open(options, clock, tuning)?) })
    }

    /// Makes facts durable, all of them or none. When it returns, the ledger is synced and a crash loses nothing of it.
    /// A punch whose id is known is not written again. Waits while the writer is busy.
    ///
    /// A caller that goes away while it waits leaves the facts to be stored or not.
    pub async fn append(&self, facts: Vec<Fact>) -> Result<Vec<Appended>, AppendError> {
        let (request, answer) = Request::new(&facts, &self.handles.shared.keyring)?;
        drop(facts);
        self.handles.requests.send(request).await.map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// Waits until the view contains everything up to `seq`, or the store is closed.
    pub async fn applied(&self, seq: Seq) {
        let mut applied = self.handles.shared.applied.subscribe();
        tokio::select! {
            _ = applied.wait_for(|applied| *applied >= seq) => {}
            () = self.handles.ended.cancelled() => {}
        }
    }

    /// Facts as the view applies them, in order. A slow receiver is told how many it missed and reads the view again.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Recorded>> {
        self.handles.shared.events.subscribe()
    }

    /// Whether the view shows all of the ledger, but for what is on its way there. While it is being built again it does
    /// not, and an answer from it may lack anything.
    pub fn is_whole(&self) -> bool {
        self.handles.shared.is_caught_up()
    }

    /// Whether facts are taken now; changes are also sent to `watch_health`.
    pub fn health(&self) -> StoreHealth {
        self.handles.shared.health.borrow().clone()
    }

    pub fn watch_health(&self) -> tokio::sync::watch::Receiver<StoreHealth> {
        self.handles.shared.health.subscribe()
    }

    /// Damage found in the ledger; closed segments are read once after each start.
    pub fn watch_damage(&self) -> tokio::sync::watch::Receiver<Damage> {
        self.handles.shared.damage.subscribe()
    }

    /// The Ed25519 key with which the days of this ledger are signed.
    pub fn public_key(&self) -> [u8; 32] {
        self.handles.shared.keyring.public_key()
    }

    /// Counters since the start: (facts, group commits, bytes written to the ledger).
    pub fn counters(&self) -> StoreCounters {
        self.handles.shared.counters.read()
    }

    /// How much room the disk or the budget leaves.
    pub fn room(&self) -> std::io::Result<Room> {
        self.handles.shared.space.room()
    }

    /// Makes a fact durable with its photo, the photo first. A fact that is known brings none: the photo of that time may
    /// have been removed since, and would come back for ever.
    pub async fn append_with_photo(&self, mut fact: Fact, jpeg: Bytes) -> Result<Appended, AppendError> {
        let shared = self.handles.shared.clone();
        let key = DedupKey::of(&fact);
        let known = blocking(move || key.map_or(Ok(None), |key| shared.find(&key))).await;
        if let Some(seq) = known.map_err(|error| AppendError::Unavailable(error.to_string()))? {
            return Ok(Appended { seq, new: false });
        }
        let hash = self.put_photo(jpeg).await?;
        match &mut fact {
            Fact::Punch(punch) => punch.photo = Some(hash),
            Fact::Stranger(stranger) => stranger.photo = Some(hash),
            _ => {}
        }
        let appended = self.append(vec![fact]).await?;
        appended.first().copied().ok_or(AppendError::Closed)
    }

    /// Stores a photo durably under its content hash. The same photo twice costs nothing.
    pub async fn put_photo(&self, jpeg: Bytes) -> Result<PhotoHash, AppendError> {
        if self.handles.stop.is_cancelled() {
            return Err(AppendError::Closed);
        }
        match self.health() {
            StoreHealth::Open => {}
            StoreHealth::Failing { cause, .. } => return Err(AppendError::Unavailable(cause)),
            StoreHealth::Full { free_bytes, .. } => {
                return Err(AppendError::Unavailable(format!("the disk is full ({free_bytes} bytes free)")));
            }
        }
        let shared = self.handles.shared.clone();
        let stored = blocking(move || {
            let (hash, bytes) = photos::put(&shared.paths.photos, &shared.keyring, &jpeg)?;
            shared.space.photo_came(bytes);
            Ok::<_, std::io::Error>(hash)
        });
        stored.await.map_err(|error| AppendError::Unavailable(format!("the photo cannot be stored: {error}")))
    }

    pub async fn photo(&self, hash: PhotoHash) -> Result<Option<Bytes>, std::io::Error> {
        let dir = self.handles.shared.paths.photos.clone();
        let keyring = self.handles.shared.keyring.clone();
        let bytes = blocking(move || photos::get(&dir, &keyring, hash)).await?;
        Ok(bytes.map(Bytes::from))
    }

    /// The read side. Its methods block for as long as a few page reads take: call it from the blocking pool
    /// (`tokio::task::spawn_blocking`) or through [`Store::read`].
    pub fn view(&self) -> View {
        View::new(self.handles.shared.clone())
    }

    /// Runs `query` on the blocking pool. While the view is built again only a few wait there, the others here.
    pub async fn read<T: Send + 'static>(&self, query: impl FnOnce(&View) -> T + Send + 'static) -> T {
        let view = self.view();
        let _turn = self.handles.readers.acquire().await.expect("the semaphore is never closed");
        blocking(move || query(&view)).await
    }

    /// Flushes and stops the threads. Appends in flight are answered first.
    pub async fn close(self) {
        let handles = self.handles.clone();
        blocking(move || handles.close()).await;
    }
}

/// Keeps every other process out of a data directory while the file is held.
pub fn lock(dir: &std::path::Path) -> Result<std::fs::File, OpenError> {
    opening::take_lock(&shared::Paths::new(dir).lock)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Sizes that tests choose differently.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    /// Size of a segment file.
    segment_bytes: u64,
    /// Space kept back to say that the disk is full.
    reserve_bytes: u64,
    /// The low-water mark is 5 % of the disk, but no more than this.
    low_water_max: u64,
    /// A view that lacks no more facts than this catches up while the store opens; otherwise behind running intake.
    catch_up_at_open: u64,
    /// Facts in the ledger that the view may lack before appends wait for it; each costs about 50 bytes of memory.
    pending_room: usize,
    /// Facts that the view may lack with a key in memory each; of those before them a filter is kept.
    exact_keys: usize,
    /// Punches and other records that stay in sled for being recent.
    window: usize,
    /// Punches and other records in one run of the history.
    run_length: usize,
    /// How much larger sled's file may be than its rows before it is made anew.
    slack_bytes: u64,
    /// What is applied but not written to sled is written after this much rest.
    write_after: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            segment_bytes: 8 << 20,
            reserve_bytes: 8 << 20,
            low_water_max: 512 << 20,
            catch_up_at_open: 50_000,
            pending_room: 65_536,
            exact_keys: 65_536,
            window: StoreOptions::RECENT_PUNCHES,
            run_length: StoreOptions::RECENT_PUNCHES / 2,
            slack_bytes: 32 << 20,
            write_after: Duration::from_secs(30),
        }
    }
}

/// Work done since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreCounters {
    pub facts: u64,
    pub punches: u64,
    pub commits: u64,
    pub ledger_bytes: u64,
    pub view_bytes: u64,
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
