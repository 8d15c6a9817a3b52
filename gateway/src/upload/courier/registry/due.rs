//! What is to be registered next, in the order that platforms demand: employer, team, worker, entry.

use std::time::Instant;

use jiff::civil::Date;

use super::{Registration, Registry, Standing};
use crate::config::Employer;
use crate::punch::{Subject, TeamKey, Worker, WorkerId};
use crate::upload::profiles::{Move, MoveKind, TeamPlace};

impl Registry {
    /// The next employer to register.
    pub fn next_employer(&self, now: Instant) -> Option<&Employer> {
        self.due(now).find_map(|(subject, _)| match subject {
            Subject::Employer(name) if !self.is_registered_employer(name) => self.employer(name),
            _ => None,
        })
    }

    /// The next team to register.
    pub fn next_team(&self, now: Instant) -> Option<(&Employer, &TeamKey)> {
        self.due(now).find_map(|(subject, _)| match subject {
            Subject::Team(team) if self.is_registered_employer(&team.employer) => {
                Some((self.employer(&team.employer)?, team))
            }
            _ => None,
        })
    }

    /// The next workers to register, all of one team.
    pub fn next_workers(&self, now: Instant, limit: usize) -> Option<(TeamPlace, Vec<Worker>)> {
        let due = self.due_workers(now).filter(|(_, registration)| registration.number.is_none());
        let due = due.filter_map(|(worker, registration)| {
            Some((self.place_of(worker)?, registration.retry.cap, worker.clone()))
        });
        one_batch(due, limit)
    }

    /// The next worker who is registered in another team than the roster's. `is_still`: nothing of the worker is on its way,
    /// so nothing arrives under the number that ends.
    pub fn next_update(&self, now: Instant, is_still: impl Fn(&WorkerId) -> bool) -> Option<(TeamPlace, Worker)> {
        let due = self.due_workers(now).filter(|(_, registration)| registration.number.is_some());
        let mut still = due.filter(|(worker, _)| is_still(&worker.worker_id) && !self.has_move_in_job(worker));
        still.find_map(|(worker, _)| Some((self.place_of(worker)?, worker.clone())))
    }

    fn due_workers(&self, now: Instant) -> impl Iterator<Item = (&Worker, &Registration)> {
        self.due(now).filter_map(|(subject, registration)| match subject {
            Subject::Worker(id) => Some((self.worker(id)?, registration)),
            _ => None,
        })
    }

    /// The next entries and exits to report, all of one team.
    pub fn next_moves(&self, now: Instant, today: Date, limit: usize) -> Option<(TeamPlace, Vec<Move>)> {
        let due = self.due(now).filter_map(|(subject, registration)| {
            let (id, date, kind) = match subject {
                Subject::Entry(id, date) => (id, *date, MoveKind::Entry),
                Subject::Exit(id, date) => (id, *date, MoveKind::Exit),
                Subject::Employer(_) | Subject::Team(_) | Subject::Worker(_) | Subject::Punch(_) => return None,
            };
            let worker = self.worker(id)?.clone();
            let is_moving = matches!(self.standing(&Subject::Worker(id.clone())), Some(Standing::InJob(_)));
            // What becomes of one move decides whether another may follow.
            if date > today || is_moving || self.has_move_in_job(&worker) {
                return None;
            }
            Some((self.registered_place_of(&worker)?, registration.retry.cap, Move { worker, date, kind }))
        });
        one_batch(due, limit)
    }

    fn has_move_in_job(&self, worker: &Worker) -> bool {
        let moves = self.moves_of(&worker.worker_id);
        moves.into_iter().any(|(_, one)| matches!(one.standing, Standing::InJob(_)))
    }

    /// Registrations that may be sent now, as far as their own state goes.
    fn due(&self, now: Instant) -> impl Iterator<Item = (&Subject, &Registration)> {
        self.unsettled().filter(move |(_, registration)| {
            registration.retry.not_before.is_none_or(|at| at <= now)
                && match &registration.standing {
                    Standing::Open => true,
                    Standing::Held { until, .. } => until.is_some_and(|until| until <= now),
                    Standing::InJob(_) | Standing::Confirmed | Standing::Refused { .. } => false,
                }
        })
    }

    /// When a registration that waits is due.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let times = self.unsettled().flat_map(|(_, registration)| {
            let until = match &registration.standing {
                Standing::Held { until, .. } => *until,
                Standing::Open | Standing::InJob(_) | Standing::Confirmed | Standing::Refused { .. } => None,
            };
            [registration.retry.not_before, until]
        });
        times.flatten().filter(|at| *at > now).min()
    }
}

/// The first item, and those that may travel with it: same team, same cap, no more than the cap.
fn one_batch<T>(due: impl Iterator<Item = (TeamPlace, usize, T)>, limit: usize) -> Option<(TeamPlace, Vec<T>)> {
    let mut due = due.peekable();
    let (place, cap) = due.peek().map(|(place, cap, _)| (place.clone(), *cap))?;
    let fellows = due.filter(|(other, other_cap, _)| other.number == place.number && *other_cap == cap);
    let batch = fellows.take(limit.min(cap)).map(|(_, _, item)| item).collect();
    Some((place, batch))
}
