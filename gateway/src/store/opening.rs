//! Puts the store together: takes the lock, finds the ledger's end, opens the view, starts the threads.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::appending::Appender;
use super::follower::Follower;
use super::group::Request;
use super::ledger::check::{Finding, Wrong};
use super::ledger::recover;
use super::ledger::segment::sync_name;
use super::ledger::{Ledger, check};
use super::retention::Keeper;
use super::shared::{Paths, Shared};
use super::space::{Limits, Space};
use super::writer::Writer;
use super::{Forerunner, OpenError, StoreOptions, Tuning, backup, keyring, owed, photos};
use crate::clock::Clock;
use crate::punch::{Fact, Gap, GapKind, Restoration, Seq};

/// Appends that may wait for the writer before further callers wait to hand theirs in.
const WAITING_APPENDS: usize = 1024;
/// The lock of a process that has just ended may be released late.
const LOCK_TRIES: u32 = 30;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Queries on the blocking pool at once; more of them only wait for each other.
const READERS: usize = 32;

/// What all handles of a store share.
pub struct Handles {
    pub shared: Arc<Shared>,
    pub requests: mpsc::Sender<Request>,
    /// The order to stop.
    pub stop: CancellationToken,
    /// The threads have ended.
    pub ended: CancellationToken,
    /// Queries that may be on the blocking pool at once.
    pub readers: Semaphore,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Each thread holds it too: it is free when the last of them has ended.
    lock: Mutex<Option<Arc<File>>>,
}

impl Handles {
    /// Stops the threads and waits for them. The directory can be opened again afterwards.
    pub fn close(&self) {
        self.stop.cancel();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.ended.cancel();
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Opens a store.
pub fn open(options: StoreOptions, clock: Clock, tuning: Tuning) -> Result<Handles, OpenError> {
    let StoreOptions { dir, key, platforms, retention, recent_punches: _ } = options;
    let paths = Paths::new(&dir);
    let here = |source| OpenError::Io { path: dir.clone(), source };
    fs::create_dir_all(&dir).map_err(here)?;
    let lock = take_lock(&paths.lock)?;
    let marker = dir.join(backup::RESTORED);
    let stamp = stamp(&clock);
    let opened = keyring::file::open(&dir, &key, &stamp)?;
    photos::prepare(&paths.photos).map_err(|source| OpenError::Io { path: paths.photos.clone(), source })?;
    let tail = recover::recover(&paths.ledger, &paths.quarantine)
        .map_err(|source| OpenError::Io { path: paths.ledger.clone(), source })?;
    if let Some(torn) = tail.torn {
        tracing::warn!(segment = torn.at.segment, offset = torn.at.offset, bytes = torn.length, "a torn tail was cut");
    }

    let forerunner = marker.exists().then(|| Forerunner { seq: Seq(tail.last_seq + 1), at: clock.now() });
    let limits = Limits { budget: retention.budget, low_most: tuning.low_water_max, reserve: tuning.reserve_bytes };
    let space = Space::new(&dir, &paths, limits);
    let (end, last) = (tail.end, Seq(tail.last_seq));
    let shared = Shared::new(paths.clone(), clock.clone(), opened.keyring, space, forerunner, end, last);
    let shared = Arc::new(shared);
    let mut follower = Follower::new(shared.clone(), platforms, tail, tuning);
    follower.open();
    let lost_keys = opened.lost.map(|detail| damage(&clock, None, detail));
    let ledger = Ledger::new(&paths.ledger, &tail, tuning.segment_bytes);
    let (requests, waiting) = mpsc::channel(WAITING_APPENDS);
    let stop = CancellationToken::new();
    let writer = Writer::new(shared.clone(), ledger, waiting, stop.clone(), tuning);
    let last_segment = tail.last_segment;
    let appender = Appender::new(&requests, shared.clone());
    let keeper = Keeper::new(shared.clone(), appender.clone(), retention);
    let reports = Reports {
        appender: appender.clone(),
        stop: stop.clone(),
        shared: shared.clone(),
        marker,
        last_segment,
        showed: follower.showed(),
    };
    let lock = Arc::new(lock);
    let threads = vec![
        start("store-writer", &lock, move || writer.run()).map_err(here)?,
        start("store-follower", &lock, move || follower.run()).map_err(here)?,
        start("store-keeper", &lock, move || keeper.run()).map_err(here)?,
        start("store-check", &lock, move || reports.run(&paths, lost_keys)).map_err(here)?,
    ];
    let ended = CancellationToken::new();
    let readers = Semaphore::new(READERS);
    Ok(Handles { shared, requests, stop, ended, readers, threads: Mutex::new(threads), lock: Mutex::new(Some(lock)) })
}

fn start(name: &str, lock: &Arc<File>, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let lock = lock.clone();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        work();
        drop(lock);
    })
}

/// Takes the lock of a data directory; it is held until the file is dropped.
pub fn take_lock(path: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(io)?;
    let (_never, pause) = std::sync::mpsc::channel::<()>();
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let _elapsed = pause.recv_timeout(LOCK_PAUSE);
            }
            Err(error) => return Err(io(error.into())),
        }
    }
    Err(OpenError::Locked { path: path.parent().unwrap_or(path).to_owned() })
}

fn damage(clock: &Clock, count: Option<u64>, detail: String) -> Gap {
    Gap { terminal: None, at: clock.now(), count, kind: GapKind::StoreDamage, detail }
}

/// The date in the names of what is set aside.
pub fn stamp(clock: &Clock) -> String {
    let now = jiff::Timestamp::from_millisecond(clock.now().0).unwrap_or_default();
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Reports damage in the ledger as facts.
struct Reports {
    appender: Appender,
    stop: CancellationToken,
    shared: Arc<Shared>,
    /// Says that the directory was restored, until the ledger says so.
    marker: PathBuf,
    /// The segment that was being filled when the gateway stopped last.
    last_segment: u32,
    /// The last fact that the view knew of then.
    showed: Seq,
}

impl Reports {
    fn run(&self, paths: &Paths, lost_keys: Option<Gap>) {
        if self.shared.forerunner.is_some() {
            self.record_restoration();
        }
        if let Some(gap) = lost_keys {
            self.report(gap);
        }
        self.pay(&paths.owed);
        let room = self.shared.durable().1.0 as usize;
        if let Err(error) = self.shared.gather(room, || self.stop.is_cancelled()) {
            tracing::warn!(%error, "every punch is looked up in the view until the next start");
        }
        let checked = check::check_closed(&paths.ledger, self.last_segment, &self.stop, |finding| {
            if let Some(damage) = finding.bytes
                && let Err(error) = recover::copy_aside(&paths.ledger, &paths.quarantine, damage)
            {
                tracing::warn!(%error, "damaged bytes could not be copied aside");
            }
            if finding.wrong == Wrong::Interrupted && !self.was_durable(finding) {
                return tracing::warn!(%finding, "a write was interrupted");
            }
            self.report(damage(&self.shared.clock, finding.count(), finding.to_string()));
        });
        if let Err(error) = checked {
            tracing::error!(%error, "the closed segments could not be checked");
        }
    }

    /// What the view knew of was acknowledged: then it is damage that only looks like an interrupted write. Later starts
    /// cannot tell any more, and need not.
    fn was_durable(&self, finding: &Finding) -> bool {
        finding.at.segment == self.last_segment && finding.first <= self.showed.0
    }

    /// Reports what an earlier opening, or this one, has noted.
    fn pay(&self, dir: &Path) {
        let owed = owed::read(dir).unwrap_or_else(|error| {
            tracing::error!(%error, "reports of damage cannot be read");
            Vec::new()
        });
        for owed in owed {
            if self.report(owed.gap.clone())
                && let Err(error) = owed.settle()
            {
                tracing::warn!(%error, "a report that the ledger has stays noted; it is given again and changes nothing");
            }
        }
    }

    /// The same damage is found at each start and reported once: such facts are the same by their detail. `false` when
    /// the store is closed before the ledger has it.
    fn report(&self, gap: Gap) -> bool {
        tracing::error!(detail = gap.detail, "damage in the ledger");
        self.shared.damage.send_modify(|damage| {
            damage.places += 1;
            damage.latest.clone_from(&gap.detail);
        });
        self.appender.append(&Fact::Gap(gap))
    }

    fn record_restoration(&self) {
        tracing::warn!("the data was restored from a backup: platforms are asked before anything of it is sent");
        let removed = || fs::remove_file(&self.marker).and_then(|()| sync_name(&self.marker));
        if self.appender.append(&Fact::Restoration(Restoration { at: self.shared.clock.now() }))
            && let Err(error) = removed()
        {
            tracing::warn!(%error, "the mark of the restoration stays; it costs a few questions at the next start");
        }
    }
}
