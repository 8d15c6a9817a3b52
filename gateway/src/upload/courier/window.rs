//! The part of the outbox that is in memory.
//!
//! The outbox may hold months; this holds the next few thousand punches of it, per worker and in order. It is filled
//! page by page from the oldest. Punches that cannot be sent (their worker is refused, say) are parked: not kept, but the
//! place where to read again is. Workers with a new punch behind the pages already read are lifted: theirs are fetched
//! from the rest of the outbox, oldest first, so that a back-fill does not hold up today's attendance.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::Retry;
use crate::punch::{JobId, PunchId, Seq, WorkerId};
use crate::store::Outgoing;

/// Pages are read while fewer punches than this can be sent.
pub const LOW: usize = 1_000;
/// No more than this are kept, whatever they wait for.
const FULL: usize = 6_000;
/// Rows per page.
const PAGE: usize = 500;
/// A lifted worker gets at most this many at once.
const LIFT: usize = 200;
/// Least time between two searches for lifted workers.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Announced punches beyond this are found by reading the outbox again.
const ANNOUNCED: usize = 2_000;

/// A punch on its way.
#[derive(Clone, Debug)]
pub struct Item {
    pub out: Outgoing,
    pub job: Option<JobId>,
    pub retry: Retry,
    /// When it could first have been sent.
    pub since: Instant,
    /// The platform may have it from the data's forerunner, and is asked before it is sent.
    pub is_unsure: bool,
}

/// What the window wants to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A page of the outbox. `sweep`: in search of lifted workers' punches.
    Outbox { after: Seq, limit: usize, sweep: bool },
    /// These punches.
    Punches(Vec<PunchId>),
}

#[derive(Debug, Default)]
pub struct Window {
    queues: BTreeMap<WorkerId, Vec<Item>>,
    homes: HashMap<PunchId, WorkerId>,
    /// Everything open up to here is in memory or parked.
    cursor: Seq,
    at_end: bool,
    announced: BTreeSet<PunchId>,
    parked: BTreeMap<WorkerId, Seq>,
    lifted: BTreeSet<WorkerId>,
    /// Lifted workers who got their share in this sweep and come again in the next.
    lifted_next: BTreeSet<WorkerId>,
    sweep: Option<Seq>,
    swept_at: Option<Instant>,
}

impl Window {
    pub fn queues(&self) -> impl Iterator<Item = (&WorkerId, &[Item])> {
        self.queues.iter().map(|(worker, queue)| (worker, queue.as_slice()))
    }

    pub fn len(&self) -> usize {
        self.homes.len()
    }

    pub fn get(&self, punch: PunchId) -> Option<&Item> {
        let queue = self.queues.get(self.homes.get(&punch)?)?;
        queue.iter().find(|item| item.out.punch == punch)
    }

    pub fn get_mut(&mut self, punch: PunchId) -> Option<&mut Item> {
        let queue = self.queues.get_mut(self.homes.get(&punch)?)?;
        queue.iter_mut().find(|item| item.out.punch == punch)
    }

    /// Takes a punch in, in its worker's order of time.
    pub fn insert(&mut self, item: Item) {
        if self.homes.contains_key(&item.out.punch) {
            return;
        }
        self.homes.insert(item.out.punch, item.out.worker.clone());
        let queue = self.queues.entry(item.out.worker.clone()).or_default();
        let place = queue.partition_point(|other| (other.out.time, other.out.seq) <= (item.out.time, item.out.seq));
        queue.insert(place, item);
    }

    /// The punch has its receipt.
    pub fn remove(&mut self, punch: PunchId) -> Option<Item> {
        let worker = self.homes.remove(&punch)?;
        let queue = self.queues.get_mut(&worker)?;
        let place = queue.iter().position(|item| item.out.punch == punch)?;
        let item = queue.remove(place);
        if queue.is_empty() {
            self.queues.remove(&worker);
        }
        Some(item)
    }

    /// Whether the worker has punches without a receipt, as far as is known: yes while the outbox is not read through.
    pub fn may_have(&self, worker: &WorkerId) -> bool {
        !self.at_end
            || !self.announced.is_empty()
            || self.queues.contains_key(worker)
            || self.parked.contains_key(worker)
    }

    /// Whether one of the worker's punches is on its way.
    pub fn has_in_job(&self, worker: &WorkerId) -> bool {
        self.queues.get(worker).is_some_and(|queue| queue.iter().any(|item| item.job.is_some()))
    }

    /// A punch was verified or put back to the outbox.
    pub fn announce(&mut self, punch: PunchId) {
        if self.announced.len() >= ANNOUNCED {
            self.announced.clear();
            self.read_again();
            return;
        }
        self.announced.insert(punch);
    }

    /// Reads the outbox from its beginning, because something may have been missed.
    pub fn read_again(&mut self) {
        self.cursor = Seq(0);
        self.at_end = false;
    }

    /// Whether there is more of the outbox to read, and room for it.
    pub fn may_read_on(&self) -> bool {
        !self.at_end && self.len() < FULL
    }

    /// What to read now. `is_short`: fewer than [`LOW`] of the punches here could be sent; asked for only while the window
    /// [may read on](Window::may_read_on).
    pub fn poll_read(&mut self, now: Instant, is_short: bool) -> Option<Read> {
        if !self.announced.is_empty() {
            return Some(Read::Punches(self.announced.iter().copied().take(PAGE).collect()));
        }
        if self.may_read_on() && is_short {
            return Some(Read::Outbox { after: self.cursor, limit: PAGE, sweep: false });
        }
        if self.at_end || self.lifted.is_empty() || self.len() >= FULL {
            self.sweep = None;
            return None;
        }
        if self.sweep.is_none() {
            if self.swept_at.is_some_and(|at| now < at + SWEEP_EVERY) {
                return None;
            }
            self.sweep = Some(self.cursor);
            self.swept_at = Some(now);
        }
        Some(Read::Outbox { after: self.sweep?, limit: PAGE, sweep: true })
    }

    /// When a search for lifted workers is due again.
    pub fn next_sweep(&self) -> Option<Instant> {
        if self.at_end || self.lifted.is_empty() || self.len() >= FULL {
            return None;
        }
        Some(self.swept_at? + SWEEP_EVERY)
    }

    /// A page was read; its rows have been offered with [`Window::wants`] before.
    /// `last` is the place of its last row; a page without rows is the end.
    pub fn page_read(&mut self, sweep: bool, last: Option<Seq>) {
        if sweep {
            self.sweep = last;
            if self.sweep.is_none() {
                self.lifted = std::mem::take(&mut self.lifted_next);
            }
            return;
        }
        self.cursor = last.map_or(self.cursor, |last| last.max(self.cursor));
        self.at_end = last.is_none();
        if self.at_end {
            self.lifted.clear();
            self.lifted_next.clear();
        }
    }

    /// Whether a row of a page is to be taken in now.
    pub fn wants(&mut self, row: &Outgoing, sweep: bool) -> bool {
        if self.homes.contains_key(&row.punch) {
            return false;
        }
        if !sweep {
            return true;
        }
        if !self.lifted.contains(&row.worker) {
            return false;
        }
        let has_share = self.queues.get(&row.worker).is_some_and(|queue| queue.len() >= LIFT);
        if has_share || self.len() >= FULL {
            // None of the worker's later punches may overtake this one.
            self.lifted.remove(&row.worker);
            self.lifted_next.insert(row.worker.clone());
            return false;
        }
        true
    }

    /// Whether an announced punch is to be taken in now; if not, it is found again later.
    pub fn wants_announced(&mut self, row: &Outgoing) -> bool {
        if self.homes.contains_key(&row.punch) {
            return false;
        }
        let reached = self.at_end || row.seq <= self.cursor;
        if reached && self.len() < FULL {
            return true;
        }
        if reached {
            self.step_back(row.seq);
        }
        self.lifted.insert(row.worker.clone());
        false
    }

    pub fn announced_read(&mut self, punches: &[PunchId]) {
        for punch in punches {
            self.announced.remove(punch);
        }
    }

    /// The punch cannot be sent before its worker's registration is repaired.
    pub fn park(&mut self, worker: &WorkerId, seq: Seq) {
        let from = self.parked.entry(worker.clone()).or_insert(seq);
        *from = seq.min(*from);
    }

    /// Takes a worker's punches that are in no job out of memory, and parks them.
    pub fn park_all(&mut self, worker: &WorkerId) -> Vec<PunchId> {
        let Some(queue) = self.queues.get_mut(worker) else { return Vec::new() };
        let parked: Vec<(PunchId, Seq)> =
            queue.extract_if(.., |item| item.job.is_none()).map(|item| (item.out.punch, item.out.seq)).collect();
        if queue.is_empty() {
            self.queues.remove(worker);
        }
        for (punch, seq) in &parked {
            self.homes.remove(punch);
            self.park(worker, *seq);
        }
        parked.into_iter().map(|(punch, _)| punch).collect()
    }

    /// The worker's punches can be sent again: they are read again.
    pub fn unpark(&mut self, worker: &WorkerId) {
        if let Some(from) = self.parked.remove(worker) {
            self.step_back(from);
        }
    }

    pub fn parked(&self) -> impl Iterator<Item = &WorkerId> {
        self.parked.keys()
    }

    fn step_back(&mut self, seq: Seq) {
        self.cursor = self.cursor.min(Seq(seq.0.saturating_sub(1)));
        self.at_end = false;
        self.sweep = None;
    }
}
