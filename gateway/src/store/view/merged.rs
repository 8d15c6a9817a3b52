//! What the live rows and the history say together. A punch is one row; for what both know the live one counts, for
//! the history has a punch as it was when its run was made.

use std::sync::Arc;

use super::history::run::{Archived, Reader, Run};
use super::history::{History, Runs};
use super::keys;
use super::live::Live;
use super::query::{Answer, decode};
use super::rows::{Noted, PunchEntry};
use crate::punch::*;

/// An open view, to read from.
#[derive(Clone)]
pub struct Sources {
    pub live: Arc<Live>,
    pub history: Arc<History>,
}

impl Sources {
    pub fn merged(&self) -> Merged {
        Merged { live: self.live.clone(), runs: self.history.runs() }
    }

    /// Whether no run has come since. Rows are removed only after the run that holds them counts.
    pub fn is_current(&self, merged: &Merged) -> bool {
        Arc::ptr_eq(&merged.runs, &self.history.runs())
    }
}

/// The live rows, and the runs of one moment.
#[derive(Clone)]
pub struct Merged {
    pub live: Arc<Live>,
    pub runs: Arc<Runs>,
}

impl Merged {
    pub fn seq_of(&self, id: PunchId) -> Answer<Option<Seq>> {
        match self.live.seq_of(id) {
            Some(seq) => Ok(Some(seq)),
            None => self.runs.find(&id.0),
        }
    }

    /// The row of a punch, when it is live.
    pub fn newer(&self, seq: Seq) -> Answer<Option<Arc<PunchEntry>>> {
        self.live.punch(seq)
    }

    pub fn entry(&self, seq: Seq) -> Answer<Option<Arc<PunchEntry>>> {
        self.entries().get(seq)
    }

    pub fn entry_of(&self, id: PunchId) -> Answer<Option<Arc<PunchEntry>>> {
        match self.seq_of(id)? {
            Some(seq) => self.entry(seq),
            None => Ok(None),
        }
    }

    /// For many rows, best in order of sequence.
    pub fn entries(&self) -> Entries<'_> {
        Entries { view: self, open: None }
    }

    /// The sequences of the live punches from `from` on, in order.
    pub fn live_seqs(&self, from: Seq) -> LiveSeqs {
        LiveSeqs { live: self.live.clone(), next: from, some: Vec::new().into_iter() }
    }

    /// Everything that is known of a punch; `before` is what a run says of it.
    pub fn archived(&self, seq: Seq, before: Option<Archived>) -> Answer<Option<Archived>> {
        let (old_entry, mut earlier) = match before {
            Some(Archived { entry, earlier }) => (Some(entry), earlier),
            None => (None, Vec::new()),
        };
        let newer = self.newer(seq)?.map(Arc::unwrap_or_clone);
        let Some(entry) = newer.or(old_entry) else { return Ok(None) };
        earlier.extend(self.noted(seq)?);
        Ok(Some(Archived { entry, earlier }))
    }

    /// Facts told of a punch, in order.
    pub fn facts_of(&self, entry: &PunchEntry) -> Answer<Vec<Noted>> {
        let seq = entry.row.seq;
        let mut facts = entry.judged.clone();
        facts.extend(entry.uploads.iter().flat_map(|upload| &upload.steps));
        facts.extend(self.noted(seq)?);
        let archived = self.runs.row(seq)?;
        facts.extend(archived.iter().flat_map(|archived| &archived.earlier));
        facts.sort_unstable_by_key(|fact| fact.seq);
        facts.dedup();
        Ok(facts)
    }

    /// Live facts told of a punch outside of its row.
    fn noted(&self, seq: Seq) -> Answer<Vec<Noted>> {
        let mut noted = Vec::new();
        for row in self.live.prefix(keys::notes(seq)) {
            noted.extend(decode::<Vec<Noted>>(&row?.1)?);
        }
        Ok(noted)
    }
}

/// Rows of punches, with the run that was read last.
pub struct Entries<'v> {
    view: &'v Merged,
    open: Option<(&'v Arc<Run>, Reader<'v>)>,
}

impl<'v> Entries<'v> {
    pub fn get(&mut self, seq: Seq) -> Answer<Option<Arc<PunchEntry>>> {
        if let Some(entry) = self.view.newer(seq)? {
            return Ok(Some(entry));
        }
        let Some(run) = self.view.runs.run_of(seq) else { return Ok(None) };
        let reader = match self.open.take_if(|(open, _)| Arc::ptr_eq(open, run)) {
            Some((_, reader)) => reader,
            None => run.reader()?,
        };
        let (_, reader) = self.open.insert((run, reader));
        Ok(reader.row(seq)?.map(|archived| Arc::new(archived.entry)))
    }
}

/// Sequences of live punches in order, some at a time.
pub struct LiveSeqs {
    live: Arc<Live>,
    next: Seq,
    some: std::vec::IntoIter<Seq>,
}

/// How many are taken at a time.
const SOME: usize = 256;

impl Iterator for LiveSeqs {
    type Item = Seq;

    fn next(&mut self) -> Option<Seq> {
        if self.some.as_slice().is_empty() {
            self.some = self.live.seqs(self.next, SOME).into_iter();
        }
        let seq = self.some.next()?;
        self.next = Seq(seq.0.saturating_add(1));
        Some(seq)
    }
}
