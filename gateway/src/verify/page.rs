//! Several punches that follow each other: each is judged knowing what the ones before it were judged to be.

use std::collections::HashMap;

use super::rules::{Claim, Matched, claims, judge};
use crate::config::Verify;
use crate::punch::*;
use crate::store::{Presence, View};

/// What judging asks: who is on the roster, and which punches count already.
pub trait Known {
    /// The worker whom a claim names.
    fn holder(&self, claim: &Claim) -> Option<Worker>;
    /// Verified punches of a worker with times in `from..=to`, oldest first.
    fn verified(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> Vec<Presence>;
    /// The worker's last verified punch before `time`.
    fn last_before(&self, worker: &WorkerId, time: UnixMs) -> Option<Presence>;
}

impl Known for View {
    fn holder(&self, claim: &Claim) -> Option<Worker> {
        match claim {
            Claim::WorkerId(id) => self.worker(id),
            Claim::IdNumber(number) => self.worker_by_id_number(number),
            Claim::Badge(badge) => self.worker_by_badge(*badge),
            Claim::Badge24(low) => self.worker_by_badge24(*low),
        }
    }

    fn verified(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> Vec<Presence> {
        self.verified_of(worker, from, to)
    }

    fn last_before(&self, worker: &WorkerId, time: UnixMs) -> Option<Presence> {
        self.last_verified_before(worker, time)
    }
}

/// Judges punches in the given order, which is the ledger's.
pub fn judge_in_order(known: &impl Known, punches: &[Punch], rules: &Verify, now: UnixMs) -> Vec<Judgement> {
    let mut page = Page { known, fresh: HashMap::new() };
    punches.iter().map(|punch| page.judge(punch, rules, now)).collect()
}

/// What is known, and on top of it what this page has verified.
struct Page<'k, K> {
    known: &'k K,
    /// Per worker, oldest first.
    fresh: HashMap<WorkerId, Vec<Presence>>,
}

impl<K: Known> Page<'_, K> {
    fn judge(&mut self, punch: &Punch, rules: &Verify, now: UnixMs) -> Judgement {
        let worker = claims(punch).iter().find_map(|claim| self.holder(claim));
        let matched = worker.map(|worker| self.neighbours(worker, punch.time, rules));
        let judgement = judge(punch, matched.as_ref(), rules, now);
        if let (Verdict::Verified, Some(worker)) = (judgement.verdict, &judgement.worker) {
            self.add(Presence {
                worker: worker.clone(),
                punch: punch.id,
                terminal: punch.terminal.clone(),
                time: punch.time,
                direction: judgement.direction,
            });
        }
        judgement
    }

    fn neighbours(&self, worker: Worker, time: UnixMs, rules: &Verify) -> Matched {
        // A window of nothing means that duplicates are not looked for, not even in the same second.
        let near = match rules.duplicate_window.as_millis() as i64 {
            0 => Vec::new(),
            window => self.verified(&worker.worker_id, time.plus_ms(-window), time.plus_ms(window)),
        };
        let previous = self.last_before(&worker.worker_id, time);
        Matched { worker, near, previous }
    }

    fn add(&mut self, presence: Presence) {
        let list = self.fresh.entry(presence.worker.clone()).or_default();
        let at = list.partition_point(|earlier| earlier.time <= presence.time);
        list.insert(at, presence);
    }

    fn fresh(&self, worker: &WorkerId) -> &[Presence] {
        self.fresh.get(worker).map_or(&[], Vec::as_slice)
    }
}

impl<K: Known> Known for Page<'_, K> {
    fn holder(&self, claim: &Claim) -> Option<Worker> {
        self.known.holder(claim)
    }

    fn verified(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> Vec<Presence> {
        let mut all = self.known.verified(worker, from, to);
        all.extend(self.fresh(worker).iter().filter(|fresh| (from..=to).contains(&fresh.time)).cloned());
        // Stable: at the same time, what was known already comes first.
        all.sort_by_key(|presence| presence.time);
        all
    }

    fn last_before(&self, worker: &WorkerId, time: UnixMs) -> Option<Presence> {
        let known = self.known.last_before(worker, time);
        let fresh = self.fresh(worker).iter().rev().find(|fresh| fresh.time < time).cloned();
        [known, fresh].into_iter().flatten().max_by_key(|presence| presence.time)
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
