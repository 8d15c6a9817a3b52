//! What an import would take from workers who are on the roster already.

use std::collections::{HashMap, HashSet};

use super::RowProblem;
use super::badge::{low_24_bits, may_be_the_same};
use crate::mask;
use crate::punch::{BadgeOnRoster, Worker, WorkerId};

/// Every identity number or badge in `new` that another worker of `existing` holds. A worker who is in both is replaced,
/// so two workers may exchange their badges in one import.
pub fn conflicts(new: &[Worker], existing: &[Worker]) -> Vec<RowProblem> {
    let replaced: HashSet<&WorkerId> = new.iter().map(|worker| &worker.worker_id).collect();
    let staying = existing.iter().filter(|worker| !replaced.contains(&worker.worker_id));
    let mut id_numbers: HashMap<&str, &Worker> = HashMap::new();
    let mut badges: HashMap<u32, Vec<(BadgeOnRoster, &Worker)>> = HashMap::new();
    for worker in staying {
        id_numbers.insert(&worker.id_number, worker);
        if let Some(badge) = worker.badge {
            badges.entry(low_24_bits(badge)).or_default().push((badge, worker));
        }
    }
    let mut problems = Vec::new();
    for worker in new {
        if let Some(holder) = id_numbers.get(worker.id_number.as_str()) {
            let reason = format!("belongs to {}; keep that worker_id for this person", named(holder));
            problems.push(problem(worker, "id_number", mask::id_number(&worker.id_number), reason));
        }
        let Some(badge) = worker.badge else { continue };
        let alike = badges.get(&low_24_bits(badge)).into_iter().flatten();
        if let Some((_, holder)) = alike.into_iter().find(|(held, _)| may_be_the_same(*held, badge)) {
            let reason = format!("is held by {}; take it from that worker first", named(holder));
            problems.push(problem(worker, "badge", mask::badge(&badge.to_string()), reason));
        }
    }
    problems
}

fn named(worker: &Worker) -> String {
    format!("{} ({})", worker.worker_id, mask::name(&worker.name))
}

fn problem(worker: &Worker, column: &str, value: String, reason: String) -> RowProblem {
    RowProblem {
        line: None,
        worker_id: Some(worker.worker_id.0.clone()),
        column: Some(column.to_owned()),
        value: Some(value),
        reason,
    }
}
