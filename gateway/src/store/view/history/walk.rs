//! Walks over the punches of the runs in order of sequence, together with those that sled names.

use std::iter::Peekable;
use std::ops::Range;

use super::run::{Archived, Reader, Run};
use super::{Listed, Runs};
use crate::punch::*;
use crate::store::view::query::Answer;

/// Which punches of the runs are walked over.
#[derive(Clone, Default)]
pub struct Wanted {
    /// Punch times from and to, both included.
    pub times: Option<(UnixMs, UnixMs)>,
    /// Of this worker when the run was made; some of others may come too.
    pub worker: Option<WorkerId>,
    /// Meant for this platform when the run was made.
    pub platform: Option<PlatformName>,
}

impl Wanted {
    /// Whether the run may have such punches, by its head.
    fn may_be_in(&self, listed: &Listed) -> bool {
        self.times.is_none_or(|(from, to)| listed.overlaps(from, to))
            && self.platform.as_ref().is_none_or(|platform| listed.run.head.platforms.contains(platform))
    }
}

/// What a walk meets.
pub enum Met {
    /// A punch: as the history has it, when it is there. There may be a newer, live row of it.
    Punch(Seq, Option<Box<Archived>>),
    /// A run had to be read; everything up to here has been met.
    Run(Seq),
}

impl Met {
    fn seq(&self) -> Seq {
        match self {
            Met::Punch(seq, _) | Met::Run(seq) => *seq,
        }
    }
}

/// Walks over the runs and over `live`, which is in order of sequence too, after `after`.
pub fn walk<'w>(
    runs: &'w Runs,
    live: impl Iterator<Item = Seq> + 'w,
    after: Seq,
    wanted: Wanted,
) -> impl Iterator<Item = Answer<Met>> + 'w {
    let runs = runs.from(Seq(after.0.saturating_add(1)));
    // Passed over by their heads alone: of thousands of runs a page wants two or three.
    let own = wanted.clone();
    let archived = runs.iter().filter(move |listed| own.may_be_in(listed)).flat_map(move |listed| RunWalk {
        run: &listed.run,
        after,
        wanted: wanted.clone(),
        state: State::Begin,
    });
    Merge { live: live.peekable(), archived: archived.peekable() }
}

struct Merge<L: Iterator, A: Iterator> {
    live: Peekable<L>,
    archived: Peekable<A>,
}

impl<L: Iterator<Item = Seq>, A: Iterator<Item = Answer<Met>>> Iterator for Merge<L, A> {
    type Item = Answer<Met>;

    fn next(&mut self) -> Option<Answer<Met>> {
        let Some(live) = self.live.peek().copied() else { return self.archived.next() };
        match self.archived.peek() {
            Some(Ok(Met::Punch(seq, _))) if *seq == live => {
                self.live.next();
                self.archived.next()
            }
            Some(Ok(met)) if met.seq() >= live => {
                self.live.next();
                Some(Ok(Met::Punch(live, None)))
            }
            Some(_) => self.archived.next(),
            None => {
                self.live.next();
                Some(Ok(Met::Punch(live, None)))
            }
        }
    }
}

/// The walk over one run.
struct RunWalk<'r> {
    run: &'r Run,
    after: Seq,
    wanted: Wanted,
    state: State<'r>,
}

enum State<'r> {
    Begin,
    /// An index has named the punches.
    Named(Reader<'r>, std::vec::IntoIter<Seq>),
    /// Every punch of the run: blocks to read, and the rows of the one that was read.
    Every(Reader<'r>, Range<usize>, std::vec::IntoIter<Archived>),
}

impl<'r> RunWalk<'r> {
    fn begin(&mut self) -> Answer<Met> {
        let mut reader = self.run.reader()?;
        let (from, to) = self.wanted.times.unwrap_or((UnixMs(i64::MIN), UnixMs(i64::MAX)));
        let named = match &self.wanted.worker {
            Some(worker) => Some(reader.by_worker(worker, from, to)?),
            None if self.wanted.times.is_some() => Some(reader.by_time(from, to)?),
            None => None,
        };
        self.state = match named {
            Some(mut seqs) => {
                seqs.retain(|seq| *seq > self.after);
                State::Named(reader, seqs.into_iter())
            }
            None => {
                let first = reader.block_from(Seq(self.after.0.saturating_add(1)));
                let rows = reader.block(first)?.to_vec();
                State::Every(reader, first + 1..self.run.head.blocks.len(), rows.into_iter())
            }
        };
        Ok(Met::Run(self.after.max(Seq(self.run.head.first.0.saturating_sub(1)))))
    }

    fn step(&mut self) -> Answer<Option<Met>> {
        loop {
            let row = match &mut self.state {
                State::Begin => return self.begin().map(Some),
                State::Named(reader, seqs) => {
                    let Some(seq) = seqs.next() else { return Ok(None) };
                    reader.row(seq)?
                }
                State::Every(reader, blocks, rows) => {
                    if rows.as_slice().is_empty() {
                        let Some(index) = blocks.next() else { return Ok(None) };
                        *rows = reader.block(index)?.to_vec().into_iter();
                    }
                    rows.next()
                }
            };
            let Some(row) = row.filter(|row| row.seq() > self.after) else { continue };
            if self.wanted.platform.as_ref().is_none_or(|platform| row.entry.upload(platform).is_some()) {
                return Ok(Some(Met::Punch(row.seq(), Some(Box::new(row)))));
            }
        }
    }
}

impl Iterator for RunWalk<'_> {
    type Item = Answer<Met>;

    fn next(&mut self) -> Option<Answer<Met>> {
        self.step().transpose()
    }
}
