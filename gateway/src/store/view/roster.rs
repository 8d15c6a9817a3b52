//! Questions about the roster.

use super::live::Live;
use super::merged::Merged;
use super::query::{Answer, View, decode};
use super::rows::WorkerEntry;
use super::{apply, keys};
use crate::punch::*;

impl View {
    pub fn worker(&self, id: &WorkerId) -> Option<Worker> {
        self.settled(|Merged { live, .. }| self.roster_row(live, id))
    }

    /// All workers, by id.
    pub fn workers(&self) -> Vec<Worker> {
        self.settled(|Merged { live, .. }| {
            let mut workers = Vec::new();
            for entry in live.prefix(keys::workers()) {
                workers.extend(self.whole_worker(decode(&entry?.1)?)?);
            }
            workers.sort_by(|a, b| a.worker_id.cmp(&b.worker_id));
            Ok(workers)
        })
    }

    /// The worker with this identity-card number; one who has not left before one who has, and `None` when it is
    /// several people's.
    pub fn worker_by_id_number(&self, id_number: &str) -> Option<Worker> {
        self.settled(|Merged { live, .. }| {
            let mut workers = Vec::new();
            for entry in live.prefix(keys::of_id_number(&self.shared.keyring, id_number)) {
                let worker = self.roster_row(live, &decode(&entry?.1)?)?;
                workers.extend(worker.filter(|worker| worker.id_number == id_number));
            }
            Ok(the_one(workers))
        })
    }

    /// The worker with this badge; `Low24` badges match on their 24 bits. A badge that was handed on belongs to the
    /// one who has not left; a whole number counts more than 24 bits; `None` when it is still several people's.
    pub fn worker_by_badge(&self, badge: Badge) -> Option<Worker> {
        self.settled(|Merged { live, .. }| {
            let is_full = |worker: &Worker| worker.badge == Some(BadgeOnRoster::Full(badge));
            let is_low = |worker: &Worker| matches!(worker.badge, Some(BadgeOnRoster::Low24(_)));
            let mut workers = self.with_badge(live, badge.0)?;
            workers.retain(|worker| is_full(worker) || is_low(worker));
            prefer(&mut workers, |worker| worker.left_on.is_none());
            prefer(&mut workers, is_full);
            Ok(only(workers))
        })
    }

    /// The worker whose badge has these low 24 bits; `None` when several have. A badge that was handed on belongs to
    /// the one who has not left.
    pub fn worker_by_badge24(&self, low24: u32) -> Option<Worker> {
        self.settled(|Merged { live, .. }| Ok(the_one(self.with_badge(live, low24)?)))
    }

    fn with_badge(&self, live: &Live, low24: u32) -> Answer<Vec<Worker>> {
        let mut workers = Vec::new();
        let has_it = |worker: &Worker| worker.badge.is_some_and(|badge| apply::low24(badge) == low24 & 0xFF_FFFF);
        for entry in live.prefix(keys::of_badge(&self.shared.keyring, low24)) {
            workers.extend(self.roster_row(live, &decode(&entry?.1)?)?.filter(has_it));
        }
        Ok(workers)
    }

    fn roster_row(&self, live: &Live, id: &WorkerId) -> Answer<Option<Worker>> {
        match live.get::<WorkerEntry>(&keys::worker(id))? {
            Some(entry) => self.whole_worker(entry),
            None => Ok(None),
        }
    }

    fn whole_worker(&self, entry: WorkerEntry) -> Answer<Option<Worker>> {
        let within = entry.worker(&self.shared.keyring);
        if within.is_some() {
            return Ok(within);
        }
        match self.fact(entry.at)? {
            Some((_, Fact::Worker(worker))) => Ok(Some(worker)),
            Some(_) | None => Ok(None),
        }
    }

    /// The ledger sequence of the last roster change; 0 when there was none.
    pub fn roster_version(&self) -> Seq {
        self.settled(|Merged { live, .. }| Ok(live.get(keys::ROSTER_VERSION)?.unwrap_or_default()))
    }
}

/// The one who is meant when several roster rows share a number: who has not left; nobody when that is not one.
fn the_one(mut workers: Vec<Worker>) -> Option<Worker> {
    prefer(&mut workers, |worker| worker.left_on.is_none());
    only(workers)
}

/// Keeps those who are better, if there are any.
fn prefer(workers: &mut Vec<Worker>, better: impl Fn(&Worker) -> bool) {
    if workers.iter().any(&better) {
        workers.retain(better);
    }
}

fn only(mut workers: Vec<Worker>) -> Option<Worker> {
    let last = workers.pop();
    last.filter(|_| workers.is_empty())
}
