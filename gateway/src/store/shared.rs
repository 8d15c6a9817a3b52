//! What the threads of the store and its handles share: how far the ledger is durable and the view has followed, the
//! facts in between, and whether facts are taken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::dedup::{DedupKey, Found, Pending};
use super::filter::Filter;
use super::keyring::Keyring;
use super::ledger::reader::Locus;
use super::space::Space;
use super::view::engine::ViewError;
use super::view::history::archivist;
use super::view::keys;
use super::view::merged::Sources;
use super::view::rows::WorkerEntry;
use super::{Damage, Forerunner, Recorded, StoreCounters, StoreHealth};
use crate::clock::Clock;
use crate::punch::{Adoption, Seq};

/// Facts that a slow subscriber may be behind before it is told that it missed some.
const EVENTS: usize = 1024;

/// Where the store keeps what.
#[derive(Clone, Debug)]
pub struct Paths {
    pub ledger: PathBuf,
    pub quarantine: PathBuf,
    pub view: PathBuf,
    pub photos: PathBuf,
    pub lock: PathBuf,
    pub owed: PathBuf,
    pub reserve: PathBuf,
}

impl Paths {
    pub fn new(dir: &Path) -> Paths {
        Paths {
            ledger: dir.join("ledger"),
            quarantine: dir.join("quarantine"),
            view: dir.join("view"),
            photos: dir.join("photos"),
            lock: dir.join("lock"),
            owed: dir.join("owed"),
            reserve: dir.join("reserve"),
        }
    }
}

/// See the module.
pub struct Shared {
    pub paths: Paths,
    pub clock: Clock,
    pub keyring: Arc<Keyring>,
    pub space: Space,
    /// This opening is the first one after a restoration from a backup.
    pub forerunner: Option<Forerunner>,
    progress: Mutex<Progress>,
    /// Wakes the follower.
    work: Condvar,
    /// Wakes who waits for the view: the writer and readers.
    view_moved: Condvar,
    /// Wakes the threads that work by the clock. They are not woken by every commit, and with them the cores that an
    /// acknowledgement needs.
    upkeep: Condvar,
    /// Sequence of the last fact that the view shows.
    pub applied: watch::Sender<Seq>,
    pub health: watch::Sender<StoreHealth>,
    pub damage: watch::Sender<Damage>,
    pub events: broadcast::Sender<Arc<Recorded>>,
    pub counters: Counters,
}

struct Progress {
    /// `None` while the view is not open.
    sources: Option<Sources>,
    /// Everything before this place is durable.
    durable: Locus,
    durable_seq: Seq,
    /// What can come twice of the facts that the view does not show.
    pending: Pending,
    /// Of the facts that were too many to be pending one by one.
    older: Option<Older>,
    filter: Known,
    /// How many pending facts there may be before the writer waits for the view.
    allowance: usize,
    /// Whether the view has everything that was in the ledger when it was opened.
    caught_up: bool,
    /// Read from the ledger while the view is being rebuilt.
    adoptions: Vec<Adoption>,
    /// A query found the view unreadable.
    suspect: Option<ViewError>,
    /// The writer has no room.
    wants_room: bool,
    closing: bool,
}

/// What a view that has just been opened does not show of the ledger.
#[derive(Default)]
pub struct Lacking {
    /// It shows everything up to this one.
    pub after: Seq,
    /// What can come twice.
    pub keys: Pending,
    /// The same of facts before those, when there are very many.
    pub older: Option<Older>,
    pub adoptions: Vec<Adoption>,
}

impl Lacking {
    /// Keeps what there is up to `through` by a filter only.
    pub fn keep_by_filter(&mut self, through: Seq) {
        let older = self.older.get_or_insert_with(|| Older { filter: Filter::with_room(0), through });
        older.through = through;
        self.keys.drain_records().for_each(|digest| older.filter.insert(&digest));
    }
}

/// What can come twice of facts up to one place, by a filter: each costs 12 bits instead of 50 bytes. While the view
/// does not show them, nobody can tell of a fact that may be among them whether it is, and it is not taken.
pub struct Older {
    pub filter: Filter,
    pub through: Seq,
}

/// What is known of the records in the view without asking it.
enum Known {
    /// Nothing.
    Unsure,
    /// Some of them are in the filter.
    Gathering(Filter),
    /// All of them are in the filter.
    All(Filter),
}

impl Known {
    fn insert(&mut self, digest: &[u8; 16]) {
        match self {
            Known::Unsure => {}
            Known::Gathering(filter) | Known::All(filter) => filter.insert(digest),
        }
    }

    fn excludes(&self, digest: &[u8; 16]) -> bool {
        match self {
            Known::Unsure | Known::Gathering(_) => false,
            Known::All(filter) => !filter.may_contain(digest),
        }
    }
}

#[derive(Default)]
pub struct Counters {
    pub facts: AtomicU64,
    pub punches: AtomicU64,
    pub commits: AtomicU64,
    pub ledger_bytes: AtomicU64,
    pub view_bytes: AtomicU64,
}

impl Counters {
    pub fn read(&self) -> StoreCounters {
        StoreCounters {
            facts: self.facts.load(Ordering::Relaxed),
            punches: self.punches.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            ledger_bytes: self.ledger_bytes.load(Ordering::Relaxed),
            view_bytes: self.view_bytes.load(Ordering::Relaxed),
        }
    }
}

/// What the follower is woken for.
pub enum Work {
    /// Everything before this place may be applied.
    Follow(Locus),
    /// Nothing new came in the given time.
    Idle,
    /// A query found the view unreadable.
    Suspect(ViewError),
    Close,
}

impl Shared {
    pub fn new(
        paths: Paths,
        clock: Clock,
        keyring: Keyring,
        space: Space,
        forerunner: Option<Forerunner>,
        durable: Locus,
        durable_seq: Seq,
    ) -> Shared {
        Shared {
            paths,
            clock,
            keyring: Arc::new(keyring),
            space,
            forerunner,
            progress: Mutex::new(Progress {
                sources: None,
                durable,
                durable_seq,
                pending: Pending::default(),
                older: None,
                filter: Known::Unsure,
                allowance: 0,
                caught_up: false,
                adoptions: Vec::new(),
                suspect: None,
                wants_room: false,
                closing: false,
            }),
            work: Condvar::new(),
            view_moved: Condvar::new(),
            upkeep: Condvar::new(),
            applied: watch::channel(Seq(0)).0,
            health: watch::channel(StoreHealth::Open).0,
            damage: watch::channel(Damage::default()).0,
            events: broadcast::channel(EVENTS).0,
            counters: Counters::default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to read from, while the view is open.
    pub fn sources(&self) -> Option<Sources> {
        self.progress().sources.clone()
    }

    /// Shows an opened view, or that there is none. What it lacks comes with it in one step: whoever looks for a fact
    /// finds it in the view or among the pending, before and after. `room` is how many facts may be pending on top of what it lacks.
    pub fn publish(&self, sources: Option<Sources>, lacking: Lacking, is_empty: bool, room: usize) {
        let Lacking { after, mut keys, older, adoptions } = lacking;
        let mut progress = self.progress();
        // The writer went on while the ledger was read.
        let mut since = std::mem::take(&mut progress.pending);
        since.forget_through(after);
        keys.merge(since);
        progress.allowance = keys.len() + room;
        progress.pending = keys;
        progress.older = older;
        progress.adoptions = adoptions;
        progress.filter = if is_empty { Known::All(Filter::with_room(0)) } else { Known::Unsure };
        progress.sources = sources;
        drop(progress);
        self.view_moved.notify_all();
    }

    /// The same rows are elsewhere now.
    pub fn replace(&self, sources: Sources) {
        self.progress().sources = Some(sources);
    }

    /// The view is gone, and what was known of it counts no more.
    pub fn withdraw(&self) {
        let mut progress = self.progress();
        progress.sources = None;
        progress.caught_up = false;
        progress.filter = Known::Unsure;
    }

    /// Everything before `end` is durable now, and `group` is what can come twice of it. The follower hears of it by
    /// [`wake_follower`](Shared::wake_follower).
    pub fn advance(&self, end: Locus, last_seq: Seq, group: Pending) {
        let mut progress = self.progress();
        progress.durable = end;
        progress.durable_seq = last_seq;
        progress.pending.merge(group);
    }

    /// There is something to apply.
    pub fn wake_follower(&self) {
        self.work.notify_all();
    }

    /// Where the durable part of the ledger ends.
    pub fn durable(&self) -> (Locus, Seq) {
        let progress = self.progress();
        (progress.durable, progress.durable_seq)
    }

    /// The sequence under which the same fact is stored already. An error says that nobody can tell now.
    pub fn find(&self, key: &DedupKey) -> Result<Option<Seq>, ViewError> {
        let progress = self.progress();
        match progress.pending.find(key) {
            Found::Same(seq) => return Ok(Some(seq)),
            Found::Changed => return Ok(None),
            Found::Absent => {}
        }
        let digest = key.digest();
        let is_older = match (&progress.older, digest) {
            (Some(older), Some(digest)) => older.filter.may_contain(digest),
            (Some(_) | None, _) => false,
        };
        if !is_older && digest.is_some_and(|digest| progress.filter.excludes(digest)) {
            return Ok(None);
        }
        // The follower takes a fact out of `pending` only after the view shows it, so it is in one of both.
        let sources = progress.sources.clone().ok_or(ViewError::NotOpen)?;
        drop(progress);
        let found = catch_unwind(AssertUnwindSafe(|| find_in(&sources, &self.keyring, key)));
        let found = found.unwrap_or_else(|panic| Err(ViewError::panicked(&*panic)));
        match found {
            Ok(None) if is_older => Err(ViewError::NotYet),
            Ok(found) => Ok(found),
            Err(error) => {
                let text = error.to_string();
                self.suspect(error);
                Err(ViewError::Disagrees(text))
            }
        }
    }

    /// Whether the view certainly has no record with this digest.
    pub fn excludes(&self, digest: &[u8; 16]) -> bool {
        self.progress().filter.excludes(digest)
    }

    /// Waits until the view is near enough; `false` when it is not after `patience`.
    pub fn wait_for_room(&self, patience: Duration) -> bool {
        let progress = self.progress();
        let (progress, _) = self
            .view_moved
            .wait_timeout_while(progress, patience, |progress| {
                progress.pending.len() > progress.allowance && !progress.closing
            })
            .unwrap_or_else(PoisonError::into_inner);
        progress.pending.len() <= progress.allowance
    }

    /// The view shows everything up to `seq` now.
    pub fn applied(&self, seq: Seq, known: &[(DedupKey, Seq)]) {
        let mut progress = self.progress();
        for (key, seq) in known {
            if let Some(digest) = key.digest() {
                progress.filter.insert(digest);
            }
            progress.pending.remove(key, *seq);
        }
        progress.older.take_if(|older| older.through <= seq);
        drop(progress);
        self.view_moved.notify_all();
        self.applied.send_if_modified(|applied| std::mem::replace(applied, seq) != seq);
    }

    /// Gathers what is in the view, beside a running writer and follower.
    pub fn gather(&self, room: usize, stop: impl Fn() -> bool) -> Result<(), ViewError> {
        if !matches!(self.progress().filter, Known::Unsure) {
            return Ok(());
        }
        self.progress().filter = Known::Gathering(Filter::with_room(room));
        let sources = self.sources().ok_or(ViewError::NotOpen)?;
        let mut stopped = false;
        archivist::digests(&sources, |digest| {
            self.progress().filter.insert(digest);
            stopped |= stop();
            !stopped
        })?;
        drop(sources);
        if stopped {
            return Ok(());
        }
        let mut progress = self.progress();
        progress.filter = match std::mem::replace(&mut progress.filter, Known::Unsure) {
            Known::Gathering(filter) => Known::All(filter),
            // The view was given up meanwhile.
            other @ (Known::Unsure | Known::All(_)) => other,
        };
        Ok(())
    }

    /// The view has everything that was in the ledger when it was opened.
    pub fn caught_up(&self) {
        let mut progress = self.progress();
        progress.caught_up = true;
        progress.adoptions = Vec::new();
        drop(progress);
        self.view_moved.notify_all();
    }

    /// Whether the view has everything that was in the ledger when it was opened.
    pub fn is_caught_up(&self) -> bool {
        self.progress().caught_up
    }

    /// Adopted terminals while the view does not know them yet; `None` when it does.
    pub fn adoptions(&self) -> Option<Vec<Adoption>> {
        let progress = self.progress();
        (!progress.caught_up).then(|| progress.adoptions.clone())
    }

    /// Blocks until the view has caught up; `false` when the store is being closed.
    pub fn wait_caught_up(&self) -> bool {
        let progress = self.progress();
        let waited = self.view_moved.wait_while(progress, |progress| !progress.caught_up && !progress.closing);
        !waited.unwrap_or_else(PoisonError::into_inner).closing
    }

    /// Waits for facts after `from`, at most for `patience`.
    pub fn wait_for_work(&self, from: Locus, patience: Duration) -> Work {
        let progress = self.progress();
        let idle =
            |progress: &mut Progress| progress.durable <= from && !progress.closing && progress.suspect.is_none();
        let waited = self.work.wait_timeout_while(progress, patience, idle);
        let (mut progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = progress.suspect.take() {
            Work::Suspect(error)
        } else if progress.durable > from {
            Work::Follow(progress.durable)
        } else if progress.closing {
            Work::Close
        } else {
            Work::Idle
        }
    }

    /// Waits for `patience`; `true` when the store is being closed.
    pub fn pause(&self, patience: Duration) -> bool {
        let waited = self.upkeep.wait_timeout_while(self.progress(), patience, |progress| !progress.closing);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    /// Nothing is taken for want of room: the keeper does not wait for its next look.
    pub fn ask_for_room(&self) {
        self.progress().wants_room = true;
        self.upkeep.notify_all();
    }

    /// Waits for `patience`, or until room is asked for; `true` when the store is being closed.
    pub fn wait_for_room_to_make(&self, patience: Duration) -> bool {
        let idle = |progress: &mut Progress| !progress.closing && !progress.wants_room;
        let waited = self.upkeep.wait_timeout_while(self.progress(), patience, idle);
        let (mut progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        progress.wants_room = false;
        progress.closing
    }

    /// A query could not read the view: the follower looks after it, and until then nothing is settled.
    pub fn suspect(&self, error: ViewError) {
        let mut progress = self.progress();
        progress.suspect.get_or_insert(error);
        progress.caught_up = false;
        drop(progress);
        self.work.notify_all();
    }

    pub fn is_closing(&self) -> bool {
        self.progress().closing
    }

    /// Nothing more will be written.
    pub fn close(&self) {
        self.progress().closing = true;
        for waiting in [&self.work, &self.view_moved, &self.upkeep] {
            waiting.notify_all();
        }
    }
}

fn find_in(sources: &Sources, keyring: &Keyring, key: &DedupKey) -> Result<Option<Seq>, ViewError> {
    let (here, digest) = match key {
        DedupKey::Punch(id) => (sources.live.seq_of(*id), &id.0),
        DedupKey::Record(digest) => (sources.live.get(&keys::record(*digest))?, digest),
        DedupKey::Worker(id, content) => {
            let entry: Option<WorkerEntry> = sources.live.get(&keys::worker(id))?;
            let same = entry.filter(|entry| entry.content == WorkerEntry::blinded(keyring, content));
            return Ok(same.map(|entry| entry.seq));
        }
    };
    match here {
        Some(seq) => Ok(Some(seq)),
        // After the live ones: what is live no more is in one of the runs.
        None => sources.history.runs().find(digest),
    }
}
