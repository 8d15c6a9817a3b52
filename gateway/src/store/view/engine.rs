//! sled, with the discipline that makes it keep its word after a power cut (measured; see the commit).
//!
//! 1. A database is created beside its place, made durable and renamed; a leftover is deleted.
//! 2. Before each opening `snap.*.generating` is deleted: a snapshot that a stop interrupted would make it fail.
//! 3. Durable means `flush`, then `sync_data` on our own handle of its file; after an error the handle is given up.
//! 4. At most [`CHUNK`] bytes are written between two syncs, and no value is longer than [`super::rows::MAX_VALUE`].
//! 5. sled gives no space back and keeps memory for every page that ever was: when its file is far larger than its rows,
//!    they are copied into a fresh database beside it, which then takes its place.
//! 6. One `Db` with one owner thread; opened in a thread of its own whose panic is caught; the lock is retried.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::punch::Seq;
use crate::store::ledger::segment::{sync_dir, sync_name};

/// Most bytes of rows between two syncs.
pub const CHUNK: usize = 128 << 10;

/// Not a hard limit: after a rush sled holds several times as much. With 16 MiB a rush leaves 15 MB more behind and is no
/// faster; with 1 MiB sled writes a fifth more.
const CACHE_BYTES: u64 = 4 << 20;
/// Only for sled's own garbage collection; durability does not rest on it.
const FLUSH_EVERY_MS: u64 = 500;
/// A dropped handle may release its lock late.
const LOCK_TRIES: u32 = 30;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// How many views that were moved aside are kept.
const KEPT_ASIDE: usize = 2;

/// Of the two parts of a view, sled's; the other is [`history_dir`]. A fresh copy has a number behind it, and the highest
/// number counts.
const SLED: &str = "sled";
/// While it is being made.
const UNFINISHED: &str = "new";

/// Where the runs of a view are.
pub fn history_dir(view: &Path) -> PathBuf {
    view.join("history")
}

/// Why the view cannot be used as it is. Nothing is lost by it: the ledger has everything.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("the view's files: {0}")]
    Io(#[from] io::Error),
    #[error("sled panicked: {0}")]
    Panicked(String),
    #[error("a row of the view is unreadable")]
    Row,
    #[error("the history is damaged: {0}")]
    History(String),
    #[error("the view does not agree with the ledger: {0}")]
    Disagrees(String),
    #[error("the view knows facts up to {applied}, which the ledger does not have")]
    Ahead { applied: Seq },
    #[error("the view is not open")]
    NotOpen,
    #[error("the view is being built again and may come to have the same; nobody can tell yet")]
    NotYet,
}

impl ViewError {
    /// What a caught panic said.
    pub fn panicked(payload: &(dyn std::any::Any + Send)) -> ViewError {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        ViewError::Panicked(text.unwrap_or("without a word").to_owned())
    }

    /// Whether the disk, not the view's contents, is the cause: then the same files are opened again later.
    pub fn is_disk(&self) -> bool {
        match self {
            ViewError::Io(_) | ViewError::Sled(sled::Error::Io(_)) => true,
            ViewError::Sled(_)
            | ViewError::Panicked(_)
            | ViewError::Row
            | ViewError::History(_)
            | ViewError::Disagrees(_)
            | ViewError::Ahead { .. }
            | ViewError::NotOpen
            | ViewError::NotYet => false,
        }
    }
}

/// The open database, in the hands of its owner thread.
pub struct Engine {
    db: sled::Db,
    /// Our own handle of sled's file, for the sync that sled does not do.
    data: File,
    path: PathBuf,
    unsynced: usize,
    /// Length of its file when it was made as a copy of another.
    fresh_bytes: u64,
}

impl Engine {
    /// Opens the view in `dir`, or creates an empty one.
    pub fn open(dir: &Path) -> Result<Engine, ViewError> {
        create_if_missing(dir)?;
        let Some(sled) = keep_newest(dir)?.filter(|_| history_dir(dir).exists()) else {
            return Err(ViewError::Disagrees("a part of it is missing".to_owned()));
        };
        remove_unfinished_snapshots(&sled)?;
        Engine::at(sled)
    }

    fn at(path: PathBuf) -> Result<Engine, ViewError> {
        let db = open_guarded(&path)?;
        let data = File::open(path.join("db"))?;
        Ok(Engine { db, data, path, unsynced: 0, fresh_bytes: 0 })
    }

    /// The tree, to read from.
    pub fn tree(&self) -> &sled::Tree {
        &self.db
    }

    /// Applies one batch: visible at once, durable at the next [`Engine::sync`].
    pub fn commit(&mut self, batch: sled::Batch, bytes: usize) -> Result<(), ViewError> {
        if self.unsynced > 0 && self.unsynced + bytes > CHUNK {
            self.sync()?;
        }
        self.db.apply_batch(batch)?;
        self.unsynced += bytes;
        Ok(())
    }

    /// Makes everything committed durable.
    pub fn sync(&mut self) -> Result<(), ViewError> {
        if self.unsynced > 0 {
            self.db.flush()?;
            self.data.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Whether anything waits for [`Engine::sync`].
    pub fn is_dirty(&self) -> bool {
        self.unsynced > 0
    }

    /// Whether its file is larger than `enough`, and much larger than it was as a fresh copy.
    pub fn is_bloated(&self, enough: u64) -> bool {
        self.data.metadata().is_ok_and(|file| file.len() > enough.max(2 * self.fresh_bytes))
    }

    /// Goes on with a bloated file until it has doubled.
    pub fn bear(&mut self) {
        self.fresh_bytes = self.data.metadata().map_or(u64::MAX / 2, |file| file.len());
    }

    /// Copies what is durable into a fresh database, which is the one that is opened from now on. This one stays, for those
    /// who read from it, until [`Engine::retire`].
    pub fn renewed(&self) -> Result<Engine, ViewError> {
        let (view, number) = (self.path.parent().unwrap_or(Path::new(".")), number_of(&self.path).unwrap_or(0));
        let path = view.join(format!("{SLED}-{}", number + 1));
        let unfinished = path.with_extension(UNFINISHED);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        let mut copy = Engine::at(unfinished.clone())?;
        let (mut batch, mut bytes) = (sled::Batch::default(), 0);
        for row in self.db.iter() {
            let (key, value) = row?;
            if bytes + key.len() + value.len() > CHUNK {
                copy.commit(std::mem::take(&mut batch), bytes)?;
                bytes = 0;
            }
            bytes += key.len() + value.len();
            batch.insert(key, value);
        }
        copy.commit(batch, bytes)?;
        copy.sync()?;
        drop(copy);
        make_durable(&unfinished)?;
        fs::rename(&unfinished, &path)?;
        sync_name(&path)?;
        let mut engine = Engine::at(path)?;
        engine.bear();
        Ok(engine)
    }

    /// Removes a database that has been [renewed](Engine::renewed) and that nobody reads from any more.
    pub fn retire(self) -> io::Result<()> {
        let Engine { db, data, path, .. } = self;
        drop((db, data));
        fs::remove_dir_all(path)
    }
}

/// Which copy of the database this is; `None` when it is none, or not finished.
fn number_of(path: &Path) -> Option<u32> {
    match path.file_name()?.to_str()?.strip_prefix(SLED)? {
        "" => Some(0),
        number => number.strip_prefix('-')?.parse().ok(),
    }
}

/// The newest copy of the database; the others were on their way, and are removed.
fn keep_newest(view: &Path) -> io::Result<Option<PathBuf>> {
    let mut copies = fs::read_dir(view)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    copies.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SLED)));
    let newest = copies.iter().filter(|path| number_of(path).is_some()).max_by_key(|path| number_of(path)).cloned();
    for other in copies.iter().filter(|path| Some(*path) != newest.as_ref()) {
        tracing::info!(path = %other.display(), "a database that another has taken the place of is removed");
        fs::remove_dir_all(other)?;
    }
    Ok(newest)
}

/// Moves a view that cannot be used aside, under a name with the date, and forgets the oldest of those.
pub fn move_aside(dir: &Path, stamp: &str) -> io::Result<PathBuf> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    let mut aside = parent.join(format!("view.bad-{stamp}"));
    let mut n = 1;
    while aside.exists() {
        n += 1;
        aside = parent.join(format!("view.bad-{stamp}-{n}"));
    }
    fs::rename(dir, &aside)?;
    sync_dir(parent)?;
    forget_oldest(parent)?;
    Ok(aside)
}

fn forget_oldest(parent: &Path) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("view.bad-") {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(KEPT_ASIDE);
    for (_, path) in &kept[..surplus] {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

fn create_if_missing(dir: &Path) -> Result<(), ViewError> {
    let new = dir.with_extension(UNFINISHED);
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    if dir.exists() {
        return Ok(());
    }
    let sled = new.join(SLED);
    fs::create_dir_all(history_dir(&new))?;
    let db = open_guarded(&sled)?;
    db.flush()?;
    drop(db);
    // The lock of a dropped handle may linger; it hinders nothing here, and the opening below retries.
    make_durable(&sled)?;
    sync_dir(&history_dir(&new))?;
    sync_dir(&new)?;
    fs::rename(&new, dir)?;
    sync_name(dir)?;
    Ok(())
}

/// All files of a database that has just been closed, and their names.
fn make_durable(sled: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sled)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_dir(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(sled)
}

fn remove_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::info!(file = %name, "a snapshot that was not finished is removed");
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Opens sled in a thread of its own, because on damage it panics instead of returning an error.
fn open_guarded(dir: &Path) -> Result<sled::Db, ViewError> {
    let (never, pause) = mpsc::channel::<()>();
    for _ in 1..LOCK_TRIES {
        match open_once(dir) {
            Err(error) if is_locked(&error) => {
                let _elapsed = pause.recv_timeout(LOCK_PAUSE);
            }
            outcome => return outcome,
        }
    }
    drop(never);
    open_once(dir)
}

fn open_once(dir: &Path) -> Result<sled::Db, ViewError> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(Some(FLUSH_EVERY_MS));
    let opening = std::thread::Builder::new().name("view-open".to_owned()).spawn(move || config.open())?;
    match opening.join() {
        Ok(outcome) => Ok(outcome?),
        Err(panic) => Err(ViewError::panicked(&*panic)),
    }
}

fn is_locked(error: &ViewError) -> bool {
    matches!(error, ViewError::Sled(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock"))
}
