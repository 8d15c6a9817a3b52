//! Moves what is no longer recent from the live rows into runs, a little at a time, between the follower's chunks.
//!
//! The order is what makes a stop at any moment harmless: the run becomes durable, sled names it, readers see it, and
//! only then its rows are removed, each only if it still says what the run says. A run that sled does not name is
//! removed at the next opening; clearing goes on there.
//!
//! A punch of a run that changes is live again. When there are many of those, the run with most of them is made again, as
//! a newer generation. So that this is rare, punches without a judgement or a receipt stay live for longer than others;
//! but not without end, for a platform may be away for months.

use std::sync::Arc;

use super::builder::{Builder, MAX_STRETCH};
use super::run::{Archived, BLOCK_ROWS, Run};
use crate::punch::*;
use crate::store::Totals;
use crate::store::view::engine::{Engine, ViewError};
use crate::store::view::keys;
use crate::store::view::live::Live;
use crate::store::view::merged::{Merged, Sources};
use crate::store::view::query::{Answer, decode};
use crate::store::view::rows::{self, Platforms, RunEntry};
use crate::store::view::staging::Staging;

/// Blocks of rows that one turn collects or clears.
const BLOCKS_PER_TURN: usize = 8;
/// Records that one turn clears.
const RECORDS_PER_TURN: usize = 512;
/// The runs are looked through for much changed ones after one turn without work for so many entries of a run.
const LOOK_PER: usize = 16;
/// So many times the punches live that should be, and a run is made of those that are still waited for too.
const PATIENT: u64 = 2;
/// With so many times the punches live that should be, archiving comes before everything else.
const CROWD: u64 = 3;
/// A run is made again at rest when this part of its punches is live again.
const CHANGED_PART: usize = 4;

/// See the module.
pub struct Archivist {
    /// Punches and other records that stay live.
    window: u64,
    /// Punches and other records in one run.
    run_length: usize,
    state: State,
    rested: usize,
}

enum State {
    Resting,
    Collecting(Box<Collecting>),
    Clearing { run: Arc<Run>, block: usize },
}

struct Collecting {
    builder: Builder,
    first: Seq,
    generation: u32,
    seqs: std::vec::IntoIter<Seq>,
    /// The generation before.
    base: Option<Arc<Run>>,
}

impl Archivist {
    pub fn new(window: usize, run_length: usize) -> Archivist {
        Archivist { window: window as u64, run_length: run_length.max(1), state: State::Resting, rested: 0 }
    }

    /// Whether many more punches are live than should be: of a platform that is new, or one that answers after months.
    pub fn is_crowded(&self, live: &Live) -> bool {
        live.count() as u64 > CROWD * (self.window + self.run_length as u64)
    }

    /// Whether there is work begun.
    pub fn is_busy(&self) -> bool {
        match self.state {
            State::Resting => false,
            State::Collecting(_) | State::Clearing { .. } => true,
        }
    }

    /// Goes on where a stop interrupted.
    pub fn resume(&mut self, view: &Merged) -> Answer<()> {
        for entry in named(&view.live)?.iter().filter(|entry| !entry.cleared) {
            if let Some(run) = view.runs.run_of(entry.first) {
                self.state = State::Clearing { run: run.clone(), block: 0 };
            }
        }
        Ok(())
    }

    /// Does a bounded piece of work, if there is any; how many bytes were written.
    pub fn turn(&mut self, engine: &mut Engine, sources: &Sources) -> Answer<u64> {
        let view = sources.merged();
        match std::mem::replace(&mut self.state, State::Resting) {
            State::Resting => {
                self.rest_or_begin(&view)?;
                Ok(0)
            }
            State::Collecting(mut collecting) => {
                if collecting.collect(&view)? {
                    self.state = State::Collecting(collecting);
                    return Ok(0);
                }
                let (run, written) = store(*collecting, engine, sources)?;
                self.state = State::Clearing { run, block: 0 };
                Ok(written)
            }
            State::Clearing { run, block } => {
                let mut staging = Staging::new(view);
                if block < run.head.blocks.len() {
                    clear_rows(&mut staging, &run, block)?;
                    self.state = State::Clearing { run, block: block + BLOCKS_PER_TURN };
                } else if clear_records(&mut staging, &run)? {
                    self.state = State::Clearing { run, block };
                } else {
                    mark_cleared(&mut staging, &run)?;
                    // Before the next turn may be long: with nothing more to follow, the follower rests.
                    self.rest_or_begin(&sources.merged())?;
                }
                sources.live.commit(engine, staging)
            }
        }
    }

    fn rest_or_begin(&mut self, view: &Merged) -> Answer<()> {
        if let Some(begun) = self.begin(view)? {
            self.state = State::Collecting(Box::new(begun));
        }
        Ok(())
    }

    /// What is to be archived now.
    fn begin(&mut self, view: &Merged) -> Answer<Option<Collecting>> {
        let totals: Totals = view.live.get(keys::TOTALS)?.unwrap_or_default();
        let entries = totals.punches + totals.quarantined + totals.strangers;
        let live = entries.saturating_sub(view.runs.entries());
        let full = self.window + self.run_length as u64;
        if live >= full && (live >= PATIENT * full || self.next_is_settled(view)?) {
            return self.next_run(view);
        }
        self.rested += 1;
        // However long the history is, no more of it than this is in memory.
        let is_much = (view.live.count() as u64).saturating_sub(live) > self.window;
        if !is_much && self.rested * LOOK_PER < self.run_length {
            return Ok(None);
        }
        self.rested = 0;
        let enough = if is_much { 1 } else { self.run_length.div_ceil(CHANGED_PART) };
        let most = named(&view.live)?.into_iter().max_by_key(|entry| entry.changes);
        let changed = most.filter(|entry| entry.changes as usize >= enough);
        match changed.and_then(|entry| view.runs.run_of(entry.first)) {
            Some(run) => again(run).map(Some),
            None => Ok(None),
        }
    }

    /// Whether nobody waits for any of the punches of the next run: neither the judge nor a platform.
    fn next_is_settled(&self, view: &Merged) -> Answer<bool> {
        let mut next = view.live_seqs(Seq(view.runs.through().0 + 1));
        let Some(last) = next.nth(self.run_length - 1) else { return Ok(true) };
        let platforms: Platforms = view.live.get(keys::PLATFORMS)?.unwrap_or_default();
        let open = platforms.iter().map(|(platform, _)| keys::outbox(platform)).chain([keys::unjudgeds()]);
        for open in open {
            if let Some(row) = view.live.prefix(open).next()
                && keys::trailing_seq(&row?.0).is_some_and(|oldest| oldest <= last)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The oldest punches and records that are in no run.
    fn next_run(&self, view: &Merged) -> Answer<Option<Collecting>> {
        let first = Seq(view.runs.through().0 + 1);
        let mut records = records(&view.live, first, Seq(u64::MAX))?;
        let mut punches: Vec<Seq> = view.live_seqs(first).take(self.run_length).collect();
        let mut all: Vec<Seq> = punches.iter().copied().chain(records.iter().map(|(seq, _)| *seq)).collect();
        all.sort_unstable();
        let Some(last) = all.get(self.run_length - 1) else { return Ok(None) };
        let last = (*last).min(Seq(first.0.saturating_add(MAX_STRETCH)));
        punches.retain(|seq| *seq <= last);
        records.retain(|(seq, _)| *seq <= last);
        let mut builder = Builder::new(0, first, last);
        records.iter().for_each(|(seq, digest)| builder.push_record(digest, *seq));
        Ok(Some(Collecting { builder, first, generation: 0, seqs: punches.into_iter(), base: None }))
    }
}

/// A newer generation of a run.
fn again(run: &Arc<Run>) -> Answer<Collecting> {
    let head = &run.head;
    let reader = run.reader()?;
    let seqs = reader.by_time(UnixMs(i64::MIN), UnixMs(i64::MAX))?;
    let mut builder = Builder::new(head.generation + 1, head.first, head.last);
    reader.digests(|digest, seq| {
        if seqs.binary_search(&seq).is_err() {
            builder.push_record(digest, seq);
        }
    })?;
    let generation = head.generation + 1;
    Ok(Collecting { builder, first: head.first, generation, seqs: seqs.into_iter(), base: Some(run.clone()) })
}

impl Collecting {
    /// Takes some more punches; `false` when there were none.
    fn collect(&mut self, view: &Merged) -> Answer<bool> {
        let mut reader = match &self.base {
            Some(base) => Some(base.reader()?),
            None => None,
        };
        let mut taken = 0;
        for seq in self.seqs.by_ref().take(BLOCKS_PER_TURN * BLOCK_ROWS) {
            let before = match &mut reader {
                Some(reader) => reader.row(seq)?,
                None => None,
            };
            if let Some(archived) = view.archived(seq, before)? {
                self.builder.push(archived);
            }
            taken += 1;
        }
        Ok(taken > 0)
    }
}

/// Makes the run durable, names it in sled, and shows it.
fn store(collecting: Collecting, engine: &mut Engine, sources: &Sources) -> Answer<(Arc<Run>, u64)> {
    let Collecting { builder, first, generation, .. } = collecting;
    let bytes = builder.finish();
    let run = Arc::new(sources.history.write(first, generation, &bytes)?);
    let mut staging = Staging::new(sources.merged());
    staging.put(keys::run(first), &RunEntry { first, generation, cleared: false, changes: 0 });
    let mut written = sources.live.commit(engine, staging)?;
    written += sources.live.write_out(engine)?;
    engine.sync()?;
    sources.history.publish(run.clone());
    tracing::debug!(%first, last = %run.head.last, generation, bytes = bytes.len(), "punches were archived");
    Ok((run, bytes.len() as u64 + written))
}

/// Removes live rows that the run has too.
fn clear_rows(staging: &mut Staging, run: &Run, from: usize) -> Answer<()> {
    let mut reader = run.reader()?;
    for block in from..run.head.blocks.len().min(from + BLOCKS_PER_TURN) {
        for archived in reader.block(block)? {
            clear_punch(staging, archived)?;
        }
    }
    Ok(())
}

fn clear_punch(staging: &mut Staging, archived: &Archived) -> Answer<()> {
    let live = staging.base().live.clone();
    let seq = archived.seq();
    // One that has changed since stays.
    if live.punch(seq)?.is_some_and(|punch| *punch == archived.entry) {
        staging.remove_punch(seq);
    }
    for row in live.prefix(keys::notes(seq)) {
        let (key, bytes) = row?;
        let noted: Vec<rows::Noted> = decode(&bytes)?;
        if noted.iter().all(|fact| archived.earlier.contains(fact)) {
            staging.delete(key.to_vec());
        }
    }
    Ok(())
}

/// Removes some live records that the run has too; `false` when there are no more.
fn clear_records(staging: &mut Staging, run: &Run) -> Answer<bool> {
    let records = records(&staging.base().live, run.head.first, run.head.last)?;
    for (_, digest) in records.iter().take(RECORDS_PER_TURN) {
        staging.delete(keys::record(*digest));
    }
    Ok(!records.is_empty())
}

fn mark_cleared(staging: &mut Staging, run: &Run) -> Answer<()> {
    let key = keys::run(run.head.first);
    if let Some(entry) = staging.get::<RunEntry>(&key)? {
        staging.put(key, &RunEntry { cleared: true, ..entry });
    }
    Ok(())
}

/// Strangers, quarantined records and damage reports of a stretch of the ledger that are live, oldest first.
fn records(live: &Live, first: Seq, last: Seq) -> Answer<Vec<(Seq, [u8; 16])>> {
    let mut records = Vec::new();
    for row in live.prefix(keys::records()) {
        let (key, bytes) = row?;
        let seq: Seq = decode(&bytes)?;
        if (first..=last).contains(&seq) {
            records.push((seq, *keys::digest(&key).ok_or(ViewError::Row)?));
        }
    }
    records.sort_unstable();
    Ok(records)
}

/// The runs that count, oldest first.
pub fn named(live: &Live) -> Answer<Vec<RunEntry>> {
    live.prefix(keys::runs()).map(|row| decode(&row?.1)).collect()
}

/// Tells the digest of every live or archived punch and record, until told to stop.
pub fn digests(sources: &Sources, mut tell: impl FnMut(&[u8; 16]) -> bool) -> Answer<()> {
    if !sources.live.ids().iter().all(&mut tell) {
        return Ok(());
    }
    for row in sources.live.prefix(keys::records()) {
        if let Some(digest) = keys::digest(&row?.0)
            && !tell(digest)
        {
            return Ok(());
        }
    }
    // After the live ones: what has been archived meanwhile is in one of these.
    for run in sources.history.runs().newest_first() {
        let mut go_on = true;
        run.reader()?.digests(|digest, _| go_on &= tell(digest))?;
        if !go_on {
            return Ok(());
        }
    }
    Ok(())
}
