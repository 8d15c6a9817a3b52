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
pub struct Runs(Vec<Arc<Run>>);

impl Runs {
    /// Every punch up to this one is in a run.
    pub fn through(&self) -> Seq {
        self.0.last().map_or(Seq(0), |run| run.head.last)
    }

    /// Punches and other records in all runs.
    pub fn entries(&self) -> u64 {
        self.0.iter().map(|run| u64::from(run.head.punches) + u64::from(run.head.records)).sum()
    }

    /// The run whose stretch of the ledger holds `seq`.
    pub fn run_of(&self, seq: Seq) -> Option<&Arc<Run>> {
        let index = self.0.partition_point(|run| run.head.last < seq);
        self.0.get(index)
    }

    pub fn newest_first(&self) -> impl Iterator<Item = &Run> {
        self.0.iter().rev().map(|run| &**run)
    }

    /// Runs with anything at or after `seq`, oldest first.
    pub fn from(&self, seq: Seq) -> &[Arc<Run>] {
        &self.0[self.0.partition_point(|run| run.head.last < seq)..]
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
        match runs.iter_mut().find(|old| old.head.first == run.head.first) {
            Some(old) => *old = run,
            None => runs.push(run),
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
        let runs: Vec<Arc<Run>> = paths.iter().map(|path| Run::open(path).map(Arc::new)).collect::<Answer<_>>()?;
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
        if let Some(old) = current.0.iter().find(|old| old.head.first == run.head.first) {
            old.retire();
        }
        *current = Arc::new(current.with(run));
    }
}

fn path(dir: &Path, first: Seq, generation: u32) -> PathBuf {
    dir.join(format!("{:020}-{generation}.run", first.0))
}
