//! Who is registered with the platform: employers, teams, workers, their entries and exits.
//!
//! Knows the roster and how each registration stands, and says what is next in the order that platforms demand: employer,
//! team, worker, entry. Sends nothing and stores nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Instant;

use jiff::civil::Date;

use super::Retry;
use crate::config::Employer;
use crate::punch::{JobId, Subject, TeamKey, Worker, WorkerId};
use crate::upload::profiles::{Move, MoveKind, TeamPlace};

/// The corpType of the general contractor, who is registered with the project itself.
const GENERAL_CONTRACTOR: &str = "009";

/// How a registration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// To be sent.
    Open,
    InJob(JobId),
    /// Waits for a repair of the roster, or for `until`.
    Held {
        reason: String,
        until: Option<Instant>,
    },
    /// `external`: the team's number at the platform, for teams and workers.
    Confirmed {
        external: Option<String>,
    },
    Refused {
        reason: String,
    },
}

#[derive(Clone, Debug)]
pub struct Registration {
    pub standing: Standing,
    pub retry: Retry,
    /// The reason for waiting that the ledger knows already.
    pub told: Option<String>,
}

/// Whether a worker's punches can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Under this team number.
    Ready(String),
    /// Being registered.
    Pending,
    /// Not before somebody repairs something.
    Blocked(String),
}

#[derive(Debug)]
pub struct Registry {
    employers: BTreeMap<String, Employer>,
    workers: BTreeMap<WorkerId, Worker>,
    /// Workers who are to be registered: those on site, and those with open punches.
    wanted: BTreeSet<WorkerId>,
    registrations: BTreeMap<Subject, Registration>,
    /// Those `Open` or `Held`, so that nothing is searched when all is settled.
    unsettled: BTreeSet<Subject>,
}

impl Registry {
    pub fn new(employers: &[Employer], workers: Vec<Worker>) -> Registry {
        Registry {
            employers: employers.iter().map(|employer| (employer.name.clone(), employer.clone())).collect(),
            workers: workers.into_iter().map(|worker| (worker.worker_id.clone(), worker)).collect(),
            wanted: BTreeSet::new(),
            registrations: BTreeMap::new(),
            unsettled: BTreeSet::new(),
        }
    }

    pub fn worker(&self, id: &WorkerId) -> Option<&Worker> {
        self.workers.get(id)
    }

    pub fn get(&self, subject: &Subject) -> Option<&Registration> {
        self.registrations.get(subject)
    }

    pub fn retry_mut(&mut self, subject: &Subject) -> Option<&mut Retry> {
        self.registrations.get_mut(subject).map(|registration| &mut registration.retry)
    }

    /// Remembers what the ledger says of a subject, so that it is not said again.
    pub fn told(&mut self, subject: &Subject, reason: Option<String>) {
        if let Some(registration) = self.registrations.get_mut(subject) {
            registration.told = reason;
        }
    }

    pub fn set(&mut self, subject: &Subject, standing: Standing) {
        match standing {
            Standing::Open | Standing::Held { .. } => self.unsettled.insert(subject.clone()),
            Standing::InJob(_) | Standing::Confirmed { .. } | Standing::Refused { .. } => {
                self.unsettled.remove(subject)
            }
        };
        let fresh = || Registration { standing: Standing::Open, retry: Retry::default(), told: None };
        self.registrations.entry(subject.clone()).or_insert_with(fresh).standing = standing;
    }

    /// How many registrations the platform refused.
    pub fn refused(&self) -> usize {
        let refused = |one: &&Registration| matches!(one.standing, Standing::Refused { .. });
        self.registrations.values().filter(refused).count()
    }

    pub fn unsettled(&self) -> impl Iterator<Item = (&Subject, &Registration)> {
        self.unsettled.iter().filter_map(|subject| Some((subject, self.registrations.get(subject)?)))
    }

    /// How every registration stands.
    pub fn all(&self) -> impl Iterator<Item = (&Subject, &Registration)> {
        self.registrations.iter()
    }

    /// Takes a new or changed roster row.
    pub fn put_worker(&mut self, worker: Worker) {
        self.workers.insert(worker.worker_id.clone(), worker);
    }

    /// The registrations that a changed roster row may have repaired.
    pub fn repaired_by(&self, id: &WorkerId) -> Vec<Subject> {
        let team = self.workers.get(id).map(|worker| Subject::Team(worker.team.clone()));
        let moves = self.registrations.range(entries_of(id)).chain(self.registrations.range(exits_of(id)));
        let moves = moves.map(|(subject, _)| subject.clone());
        let concerned = team.into_iter().chain([Subject::Worker(id.clone())]).chain(moves);
        let is_stuck = |subject: &Subject| {
            matches!(self.standing(subject), Some(Standing::Refused { .. } | Standing::Held { .. }))
        };
        concerned.filter(is_stuck).collect()
    }

    /// Workers on site today are registered even before their first punch.
    pub fn want_present(&mut self, today: Date) {
        let present = self.workers.values().filter(|worker| worker.left_on.is_none_or(|left| left >= today));
        let present: Vec<WorkerId> = present.map(|worker| worker.worker_id.clone()).collect();
        for id in present {
            self.want(&id);
        }
    }

    /// The worker is to be registered, with employer, team and entry.
    pub fn want(&mut self, id: &WorkerId) {
        self.wanted.insert(id.clone());
        let Some(worker) = self.workers.get(id) else { return };
        let mut chain = vec![Subject::Team(worker.team.clone()), Subject::Worker(id.clone())];
        if !self.is_registered_employer(&worker.team.employer) {
            chain.push(Subject::Employer(worker.team.employer.clone()));
        }
        let entered_on = worker.entered_on;
        if let Some(date) = entered_on.filter(|_| self.entry_that_stands(id).is_none()) {
            chain.push(Subject::Entry(id.clone(), date));
        }
        for subject in chain {
            if !self.registrations.contains_key(&subject) {
                self.set(&subject, Standing::Open);
            }
        }
    }

    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// The date of the confirmed entry that no confirmed exit has ended.
    pub fn entry_that_stands(&self, id: &WorkerId) -> Option<Date> {
        let confirmed = |one: &Registration| matches!(one.standing, Standing::Confirmed { .. });
        let last = |range| {
            let dates = self.registrations.range(range).filter(|(_, one)| confirmed(one));
            dates.filter_map(|(subject, _)| date_of(subject)).next_back()
        };
        let entry = last(entries_of(id))?;
        last(exits_of(id)).is_none_or(|exit| exit < entry).then_some(entry)
    }

    /// Whether the worker's punches can be sent, and under which team number.
    pub fn readiness(&self, id: &WorkerId) -> Readiness {
        let Some(worker) = self.workers.get(id) else {
            return Readiness::Blocked("the worker is not on the roster".to_owned());
        };
        let number = match self.standing(&Subject::Worker(id.clone())) {
            Some(Standing::Confirmed { external }) => external.clone(),
            _ => return self.chain_readiness(worker),
        };
        let Some(number) = number.or_else(|| self.team_number(&worker.team)) else {
            return Readiness::Blocked(format!("no number is known of team {}", worker.team.name));
        };
        let Some(date) = worker.entered_on.filter(|_| self.entry_that_stands(id).is_none()) else {
            return Readiness::Ready(number);
        };
        match self.standing(&Subject::Entry(id.clone(), date)) {
            // Confirmed, and ended by an exit: the punches lie before it.
            Some(Standing::Confirmed { .. }) => Readiness::Ready(number),
            other => not_ready("entry", other),
        }
    }

    /// What the worker's registration waits for.
    fn chain_readiness(&self, worker: &Worker) -> Readiness {
        let employer = Subject::Employer(worker.team.employer.clone());
        if !self.is_registered_employer(&worker.team.employer) {
            return not_ready("employer", self.standing(&employer));
        }
        match self.standing(&Subject::Team(worker.team.clone())) {
            Some(Standing::Confirmed { .. }) => {}
            other => return not_ready("team", other),
        }
        not_ready("worker", self.standing(&Subject::Worker(worker.worker_id.clone())))
    }

    fn standing(&self, subject: &Subject) -> Option<&Standing> {
        self.registrations.get(subject).map(|registration| &registration.standing)
    }

    pub fn employer(&self, name: &str) -> Option<&Employer> {
        self.employers.get(name)
    }

    /// Confirmed, or the general contractor.
    fn is_registered_employer(&self, name: &str) -> bool {
        let general = self.employers.get(name).is_some_and(|employer| employer.corp_type == GENERAL_CONTRACTOR);
        general || matches!(self.standing(&Subject::Employer(name.to_owned())), Some(Standing::Confirmed { .. }))
    }

    pub fn team_number(&self, team: &TeamKey) -> Option<String> {
        match self.standing(&Subject::Team(team.clone())) {
            Some(Standing::Confirmed { external }) => external.clone(),
            _ => None,
        }
    }

    /// Where a worker's team stands; `None` while the team is not registered.
    pub fn place_of(&self, worker: &Worker) -> Option<TeamPlace> {
        let employer = self.employers.get(&worker.team.employer)?.clone();
        Some(TeamPlace { employer, team: worker.team.clone(), number: self.team_number(&worker.team)? })
    }

    /// The team's leader, when the roster names one.
    pub fn leader_of(&self, team: &TeamKey) -> Option<&Worker> {
        self.workers.values().find(|worker| worker.leader && worker.team == *team)
    }

    /// The next employer to register.
    pub fn next_employer(&self, now: Instant) -> Option<&Employer> {
        self.due(now).find_map(|(subject, _)| match subject {
            Subject::Employer(name) if !self.is_registered_employer(name) => self.employers.get(name),
            _ => None,
        })
    }

    /// The next team to register.
    pub fn next_team(&self, now: Instant) -> Option<(&Employer, &TeamKey)> {
        self.due(now).find_map(|(subject, _)| match subject {
            Subject::Team(team) if self.is_registered_employer(&team.employer) => {
                Some((self.employers.get(&team.employer)?, team))
            }
            _ => None,
        })
    }

    /// The next workers to register, all of one team.
    pub fn next_workers(&self, now: Instant, limit: usize) -> Option<(TeamPlace, Vec<Worker>)> {
        let due = self.due(now).filter_map(|(subject, registration)| match subject {
            Subject::Worker(id) => {
                let worker = self.workers.get(id)?;
                Some((self.place_of(worker)?, registration.retry.cap, worker.clone()))
            }
            _ => None,
        });
        one_batch(due, limit)
    }

    /// The next entries and exits to report, all of one team.
    pub fn next_moves(&self, now: Instant, today: Date, limit: usize) -> Option<(TeamPlace, Vec<Move>)> {
        let due = self.due(now).filter_map(|(subject, registration)| {
            let (id, date, kind) = match subject {
                Subject::Entry(id, date) => (id, *date, MoveKind::Entry),
                Subject::Exit(id, date) => (id, *date, MoveKind::Exit),
                Subject::Employer(_) | Subject::Team(_) | Subject::Worker(_) | Subject::Punch(_) => return None,
            };
            if date > today || !self.is_confirmed(&Subject::Worker(id.clone())) {
                return None;
            }
            let worker = self.workers.get(id)?.clone();
            Some((self.place_of(&worker)?, registration.retry.cap, Move { worker, date, kind }))
        });
        one_batch(due, limit)
    }

    pub fn is_confirmed(&self, subject: &Subject) -> bool {
        matches!(self.standing(subject), Some(Standing::Confirmed { .. }))
    }

    /// Registrations that may be sent now, as far as their own state goes.
    fn due(&self, now: Instant) -> impl Iterator<Item = (&Subject, &Registration)> {
        self.unsettled().filter(move |(_, registration)| {
            registration.retry.not_before.is_none_or(|at| at <= now)
                && match &registration.standing {
                    Standing::Open => true,
                    Standing::Held { until, .. } => until.is_some_and(|until| until <= now),
                    Standing::InJob(_) | Standing::Confirmed { .. } | Standing::Refused { .. } => false,
                }
        })
    }

    /// When a registration that waits is due.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let times = self.unsettled().flat_map(|(_, registration)| {
            let until = match &registration.standing {
                Standing::Held { until, .. } => *until,
                _ => None,
            };
            [registration.retry.not_before, until]
        });
        times.flatten().filter(|at| *at > now).min()
    }
}

fn entries_of(id: &WorkerId) -> RangeInclusive<Subject> {
    Subject::Entry(id.clone(), Date::MIN)..=Subject::Entry(id.clone(), Date::MAX)
}

fn exits_of(id: &WorkerId) -> RangeInclusive<Subject> {
    Subject::Exit(id.clone(), Date::MIN)..=Subject::Exit(id.clone(), Date::MAX)
}

fn date_of(subject: &Subject) -> Option<Date> {
    match subject {
        Subject::Entry(_, date) | Subject::Exit(_, date) => Some(*date),
        Subject::Employer(_) | Subject::Team(_) | Subject::Worker(_) | Subject::Punch(_) => None,
    }
}

fn not_ready(what: &str, standing: Option<&Standing>) -> Readiness {
    match standing {
        Some(Standing::Refused { reason }) => Readiness::Blocked(format!("{what} refused: {reason}")),
        Some(Standing::Held { reason, .. }) => Readiness::Blocked(format!("{what} waits: {reason}")),
        Some(Standing::Open | Standing::InJob(_) | Standing::Confirmed { .. }) | None => Readiness::Pending,
    }
}

/// The first item, and those that may travel with it: same team, same cap, no more than the cap.
fn one_batch<T>(due: impl Iterator<Item = (TeamPlace, usize, T)>, limit: usize) -> Option<(TeamPlace, Vec<T>)> {
    let mut due = due.peekable();
    let (place, cap) = due.peek().map(|(place, cap, _)| (place.clone(), *cap))?;
    let fellows = due.filter(|(other, other_cap, _)| other.team == place.team && *other_cap == cap);
    let batch = fellows.take(limit.min(cap)).map(|(_, _, item)| item).collect();
    Some((place, batch))
}
