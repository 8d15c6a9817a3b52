//! What is no longer live or recent: the rows of older punches, in files of our own beside sled. The oldest punches of
//! the ledger are here up to one place, cut by sequence into runs; a punch that is here may have newer rows in sled,
//! and then those count.
//!
//! Derived from the ledger like everything in the view: lost or damaged, it is made again together with sled.

pub mod archivist;
mod builder;
pub mod run;
mod search;
mod sorted;
pub mod walk;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::query::Answer;
use super::rows::RunEntry;
use crate::punch::*;
use crate::store::ledger::segment::sync_dir;
use run::{Archived, Run};

/// The runs of one moment, oldest first.
#[derive(Debug, Default)]
pub struct Runs(Vec<Listed>);

/// A run, and the first and last punch time in it: side by side they are looked through without touching the runs, of
/// which there are thousands after some years.
#[derive(Clone, Debug)]
pub struct Listed {
    pub run: Arc<Run>,
    times: (UnixMs, UnixMs),
}

impl Listed {
    fn new(run: Arc<Run>) -> Listed {
        let spans = run.head.spans.iter();
        let times = spans.copied().reduce(|(from, to), (first, last)| (from.min(first), to.max(last)));
        // Without punches it overlaps with nothing.
        Listed { run, times: times.unwrap_or((UnixMs(i64::MAX), UnixMs(i64::MIN))) }
    }

    /// Whether punch times in `from..=to` can be in the run.
    pub fn overlaps(&self, from: UnixMs, to: UnixMs) -> bool {
        let (first, last) = self.times;
        first <= to && last >= from && self.run.overlaps(from, to)
    }
}

impl Runs {
    /// Every punch up to this one is in a run.
    pub fn through(&self) -> Seq {
        self.0.last().map_or(Seq(0), |listed| listed.run.head.last)
    }

    /// Punches and other records in all runs.
    pub fn entries(&self) -> u64 {
        self.0.iter().map(|listed| u64::from(listed.run.head.punches) + u64::from(listed.run.head.records)).sum()
    }

    /// The run whose stretch of the ledger holds `seq`.
    pub fn run_of(&self, seq: Seq) -> Option<&Arc<Run>> {
        self.from(seq).first().map(|listed| &listed.run)
    }

    pub fn newest_first(&self) -> impl Iterator<Item = &Run> {
        self.0.iter().rev().map(|listed| &*listed.run)
    }

    /// Runs with anything at or after `seq`, oldest first.
    pub fn from(&self, seq: Seq) -> &[Listed] {
        &self.0[self.0.partition_point(|listed| listed.run.head.last < seq)..]
    }

    /// Runs that may have punch times in `from..=to`, newest first.
    fn overlapping(&self, from: UnixMs, to: UnixMs) -> impl Iterator<Item = &Run> {
        self.0.iter().rev().filter(move |listed| listed.overlaps(from, to)).map(|listed| &*listed.run)
    }

    /// The place of the punch or record with this digest.
    pub fn find(&self, digest: &[u8; 16]) -> Answer<Option<Seq>> {
        for run in self.newest_first().filter(|run| run.may_contain(digest)) {
            if let Some(seq) = run.reader()?.find(digest)? {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }

    pub fn row(&self, seq: Seq) -> Answer<Option<Archived>> {
        match self.run_of(seq) {
            Some(run) => run.reader()?.row(seq),
            None => Ok(None),
        }
    }

    /// The rows around one punch, oldest first.
    pub fn rows_near(&self, seq: Seq) -> Answer<Vec<Archived>> {
        match self.run_of(seq) {
            Some(run) => {
                let reader = run.reader()?;
                reader.read_block(reader.block_from(seq))
            }
            None => Ok(Vec::new()),
        }
    }

    /// The rows of the latest punches, at least so many when there are.
    pub fn latest(&self, count: usize) -> Answer<Vec<Archived>> {
        let mut latest = Vec::new();
        for run in self.newest_first() {
            let mut reader = run.reader()?;
            for index in (0..run.head.blocks.len()).rev() {
                if latest.len() >= count {
                    return Ok(latest);
                }
                latest.extend_from_slice(reader.block(index)?);
            }
        }
        Ok(latest)
    }

    /// With a run more, or with a newer generation of one.
    fn with(&self, run: Arc<Run>) -> Runs {
        let mut runs = self.0.clone();
        match runs.iter_mut().find(|old| old.run.head.first == run.head.first) {
            Some(old) => *old = Listed::new(run),
            None => runs.push(Listed::new(run)),
        }
        Runs(runs)
    }
}

/// The directory of the runs, and those that count now.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
    current: Mutex<Arc<Runs>>,
}

impl History {
    /// Opens the runs that sled names, and removes every other file.
    pub fn open(dir: &Path, named: &[RunEntry]) -> Answer<History> {
        let paths: Vec<PathBuf> = named.iter().map(|entry| path(dir, entry.first, entry.generation)).collect();
        let kept: HashSet<&PathBuf> = paths.iter().collect();
        for file in fs::read_dir(dir)? {
            let file = file?.path();
            if !kept.contains(&file) {
                fs::remove_file(&file)?;
            }
        }
        let open = |path: &PathBuf| Run::open(path).map(|run| Listed::new(Arc::new(run)));
        let runs: Vec<Listed> = paths.iter().map(open).collect::<Answer<_>>()?;
        Ok(History { dir: dir.to_owned(), current: Mutex::new(Arc::new(Runs(runs))) })
    }

    pub fn runs(&self) -> Arc<Runs> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a run durably. It counts only when it is [published](History::publish).
    fn write(&self, first: Seq, generation: u32, bytes: &[u8]) -> Answer<Run> {
        let path = path(&self.dir, first, generation);
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_dir(&self.dir)?;
        Run::open(&path)
    }

    /// From now on this run counts.
    fn publish(&self, run: Arc<Run>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = current.0.iter().find(|old| old.run.head.first == run.head.first) {
            old.run.retire();
        }
        *current = Arc::new(current.with(run));
    }
}

fn path(dir: &Path, first: Seq, generation: u32) -> PathBuf {
    dir.join(format!("{:020}-{generation}.run", first.0))
}
