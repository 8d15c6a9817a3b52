//! Who is registered with the platform: employers, teams, workers, their entries and exits.
//!
//! Knows the roster and how each registration stands, what is next ([`due`]), and what the platform was told of coming and
//! going ([`stays`]). Sends nothing and stores nothing.
//!
//! A worker's punches go under the team's number under which the platform has the worker ([`Registry::number_of`]),
//! whatever team the roster has meanwhile; that number changes only when the platform has moved the worker.

mod due;
mod stays;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::civil::Date;

use super::Retry;
use crate::config::Employer;
use crate::punch::{JobId, Subject, TeamKey, Worker, WorkerId};
use crate::upload::profiles::TeamPlace;

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
    Confirmed,
    Refused {
        reason: String,
    },
}

impl Standing {
    pub fn is_refused(&self) -> bool {
        matches!(self, Standing::Refused { .. })
    }
}

#[derive(Clone, Debug)]
pub struct Registration {
    pub standing: Standing,
    /// The team's number at the platform, for teams and workers that it has; kept while a worker's registration is changed.
    pub number: Option<String>,
    pub retry: Retry,
    /// The reason for waiting that the ledger knows already.
    pub told: Option<String>,
    /// The ledger has a step of it.
    pub is_recorded: bool,
    /// The last day on which the platform was asked for an entry or exit that it cannot be told.
    asked_on: Option<Date>,
}

impl Registration {
    fn open() -> Registration {
        let retry = Retry::default();
        Registration { standing: Standing::Open, number: None, retry, told: None, is_recorded: false, asked_on: None }
    }
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
    /// How many the platform refused.
    refused: usize,
    /// The roster or what the platform has of it has changed since [`Registry::take_change`].
    changed: bool,
}

impl Registry {
    pub fn new(employers: &[Employer], workers: Vec<Worker>) -> Registry {
        Registry {
            employers: employers.iter().map(|employer| (employer.name.clone(), employer.clone())).collect(),
            workers: workers.into_iter().map(|worker| (worker.worker_id.clone(), worker)).collect(),
            wanted: BTreeSet::new(),
            registrations: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            refused: 0,
            changed: true,
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
            registration.is_recorded = true;
        }
    }

    pub fn set(&mut self, subject: &Subject, standing: Standing) {
        if self.standing(subject) == Some(&standing) {
            return;
        }
        match standing {
            Standing::Open | Standing::Held { .. } => self.unsettled.insert(subject.clone()),
            Standing::InJob(_) | Standing::Confirmed | Standing::Refused { .. } => self.unsettled.remove(subject),
        };
        self.changed |= !matches!(standing, Standing::InJob(_));
        let registration = self.registrations.entry(subject.clone()).or_insert_with(Registration::open);
        self.refused += usize::from(standing.is_refused());
        self.refused -= usize::from(registration.standing.is_refused());
        registration.standing = standing;
    }

    /// The platform has it. `number`: the team's, for teams and workers.
    pub fn confirm(&mut self, subject: &Subject, number: Option<String>) {
        self.set(subject, Standing::Confirmed);
        if let Some(registration) = self.registrations.get_mut(subject) {
            registration.number = number.or_else(|| registration.number.take());
            registration.is_recorded = true;
        }
    }

    /// The platform has the worker under another number than was known here.
    pub fn correct_number(&mut self, worker: &Subject, number: String) {
        if let Some(registration) = self.registrations.get_mut(worker) {
            registration.number = Some(number);
        }
    }

    /// It is nobody's any more.
    pub fn forget(&mut self, subject: &Subject) -> Option<Registration> {
        self.unsettled.remove(subject);
        let forgotten = self.registrations.remove(subject);
        self.refused -= usize::from(forgotten.as_ref().is_some_and(|one| one.standing.is_refused()));
        forgotten
    }

    /// Whether something has changed since the last time.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// How many registrations the platform refused.
    pub fn refused(&self) -> usize {
        self.refused
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
        self.changed = true;
        self.workers.insert(worker.worker_id.clone(), worker);
    }

    /// The registrations that a changed roster row may have repaired.
    pub fn repaired_by(&self, id: &WorkerId) -> Vec<Subject> {
        let team = self.workers.get(id).map(|worker| Subject::Team(worker.team.clone()));
        let moves = self.moves_of(id).into_iter().map(|(subject, _)| subject.clone());
        let concerned = team.into_iter().chain([Subject::Worker(id.clone())]).chain(moves);
        let is_stuck = |subject: &Subject| {
            matches!(self.standing(subject), Some(Standing::Refused { .. } | Standing::Held { .. }))
        };
        concerned.filter(|subject| is_stuck(subject) && self.is_current(subject)).collect()
    }

    /// Those that are not settled, and that the roster speaks of no longer.
    pub fn outdated(&self) -> Vec<Subject> {
        let is_open = |one: &Registration| !matches!(one.standing, Standing::InJob(_) | Standing::Confirmed);
        let open = self.registrations.iter().filter(|(_, one)| one.number.is_none() && is_open(one));
        open.filter(|(subject, _)| !self.is_current(subject)).map(|(subject, _)| subject.clone()).collect()
    }

    /// Whether the roster, as it is now, asks for this registration.
    fn is_current(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Employer(name) => self.workers.values().any(|worker| worker.team.employer == *name),
            Subject::Team(team) => self.workers.values().any(|worker| worker.team == *team),
            Subject::Worker(_) | Subject::Punch(_) => true,
            Subject::Entry(id, date) => {
                self.workers.get(id).and_then(|worker| self.entry_wanted(worker)) == Some(*date)
            }
            Subject::Exit(id, date) => self.workers.get(id).and_then(|worker| worker.left_on) == Some(*date),
        }
    }

    /// Workers on site today are registered even before their first punch, and what changed for those who were wanted
    /// before is looked at again.
    pub fn want_present(&mut self, today: Date) {
        let present = self.workers.values().filter(|worker| worker.left_on.is_none_or(|left| left >= today));
        let present: BTreeSet<WorkerId> = present.map(|worker| worker.worker_id.clone()).collect();
        self.wanted.extend(present);
        for id in self.wanted.clone() {
            self.open_chain(&id);
        }
    }

    /// The worker is to be registered, with employer, team and entry.
    pub fn want(&mut self, id: &WorkerId) {
        if self.wanted.insert(id.clone()) {
            self.open_chain(id);
        }
    }

    fn open_chain(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let mut chain = vec![Subject::Team(worker.team.clone()), Subject::Worker(id.clone())];
        if !self.is_registered_employer(&worker.team.employer) {
            chain.push(Subject::Employer(worker.team.employer.clone()));
        }
        if let Some(date) = self.entry_wanted(worker) {
            chain.push(Subject::Entry(id.clone(), date));
        }
        let is_misplaced = self.is_misplaced(worker);
        for subject in chain {
            if !self.registrations.contains_key(&subject) {
                self.set(&subject, Standing::Open);
            }
        }
        if is_misplaced && self.is_confirmed(&Subject::Worker(id.clone())) {
            self.set(&Subject::Worker(id.clone()), Standing::Open);
        }
    }

    /// Whether the platform has the worker in another team than the roster's.
    fn is_misplaced(&self, worker: &Worker) -> bool {
        let (there, here) = (self.number_of(&worker.worker_id), self.team_number(&worker.team));
        there.is_some() && here.is_some() && there != here
    }

    /// Workers who were to change teams, and whom the platform has in the roster's team all the same.
    pub fn at_home_again(&self) -> Vec<Subject> {
        let stuck = self.registrations.iter().filter(|(_, one)| {
            one.number.is_some() && !matches!(one.standing, Standing::InJob(_) | Standing::Confirmed)
        });
        let at_home = stuck.filter(|(subject, one)| match subject {
            Subject::Worker(id) => {
                self.workers.get(id).is_some_and(|worker| self.team_number(&worker.team) == one.number.as_deref())
            }
            Subject::Employer(_) | Subject::Team(_) | Subject::Entry(..) | Subject::Exit(..) | Subject::Punch(_) => {
                false
            }
        });
        at_home.map(|(subject, _)| subject.clone()).collect()
    }

    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// Whether the worker's punches can be sent, and under which team number.
    pub fn readiness(&self, id: &WorkerId) -> Readiness {
        let Some(worker) = self.workers.get(id) else {
            return Readiness::Blocked("the worker is not on the roster".to_owned());
        };
        let Some(number) = self.number_of(id) else { return self.chain_readiness(worker) };
        if matches!(self.standing(&Subject::Worker(id.clone())), Some(Standing::InJob(_))) {
            // On the way from one team to another: nobody knows which one a punch would meet.
            return Readiness::Pending;
        }
        match self.entry_needed(worker) {
            Some(entry) => not_ready("entry", self.standing(&entry)),
            None => Readiness::Ready(number.to_owned()),
        }
    }

    /// The number of the team in which the platform has the worker.
    pub fn number_of(&self, id: &WorkerId) -> Option<&str> {
        self.registrations.get(&Subject::Worker(id.clone()))?.number.as_deref()
    }

    /// What the worker's registration waits for.
    fn chain_readiness(&self, worker: &Worker) -> Readiness {
        let employer = Subject::Employer(worker.team.employer.clone());
        if !self.is_registered_employer(&worker.team.employer) {
            return not_ready("employer", self.standing(&employer));
        }
        match self.standing(&Subject::Team(worker.team.clone())) {
            Some(Standing::Confirmed) => {}
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
        general || self.is_confirmed(&Subject::Employer(name.to_owned()))
    }

    pub fn team_number(&self, team: &TeamKey) -> Option<&str> {
        self.registrations.get(&Subject::Team(team.clone()))?.number.as_deref()
    }

    /// Where the worker belongs by the roster; `None` while the team is not registered.
    pub fn place_of(&self, worker: &Worker) -> Option<TeamPlace> {
        self.place(&worker.team, self.team_number(&worker.team)?)
    }

    /// Where the platform has the worker.
    fn registered_place_of(&self, worker: &Worker) -> Option<TeamPlace> {
        let number = self.number_of(&worker.worker_id)?;
        let team = self.registrations.iter().find_map(|(subject, one)| match subject {
            Subject::Team(team) if one.number.as_deref() == Some(number) => Some(team),
            _ => None,
        });
        self.place(team.unwrap_or(&worker.team), number)
    }

    fn place(&self, team: &TeamKey, number: &str) -> Option<TeamPlace> {
        let employer = self.employers.get(&team.employer)?.clone();
        Some(TeamPlace { employer, team: team.clone(), number: number.to_owned() })
    }

    /// The team's leader, when the roster names one.
    pub fn leader_of(&self, team: &TeamKey) -> Option<&Worker> {
        self.workers.values().find(|worker| worker.leader && worker.team == *team)
    }

    pub fn is_confirmed(&self, subject: &Subject) -> bool {
        self.standing(subject) == Some(&Standing::Confirmed)
    }
}

fn not_ready(what: &str, standing: Option<&Standing>) -> Readiness {
    match standing {
        Some(Standing::Refused { reason }) => Readiness::Blocked(format!("{what} refused: {reason}")),
        Some(Standing::Held { reason, .. }) => Readiness::Blocked(format!("{what} waits: {reason}")),
        Some(Standing::Open | Standing::InJob(_) | Standing::Confirmed) | None => Readiness::Pending,
    }
}
