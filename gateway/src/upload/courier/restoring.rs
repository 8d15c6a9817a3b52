//! A courier from what the ledger says of the last one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::jobs::{Awaited, Doubt, Job, Jobs, Phase, Then};
use super::lanes::Lanes;
use super::registry::{Registry, Standing};
use super::window::Window;
use super::{Courier, NO_JOB, Now, Settings};
use crate::punch::{JobId, Step, Subject, UploadState, Worker};
use crate::store::{Forerunner, Outgoing, UploadRow};
use crate::upload::profiles::{Method, Profile};

/// What was carried by one request: job, state, serial code, method.
type Group = (JobId, UploadState, Option<String>, Method);

/// What the ledger says at the start.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub workers: Vec<Worker>,
    pub registrations: Vec<(Subject, UploadRow)>,
    /// Punches that are `Sending`, `Accepted` or `Unknown`.
    pub in_flight: Vec<(Outgoing, UploadRow)>,
    pub last_job: u64,
    /// Punches that the platform refused.
    pub refused_punches: u64,
    /// The box that the data comes from, if it was another.
    pub forerunner: Option<Forerunner>,
}

impl Courier {
    /// Goes on where the ledger says that the last one was.
    pub fn new(now: Now, settings: Settings, profile: Arc<Profile>, restored: Restored) -> Courier {
        let platform = &settings.platform;
        let mut courier = Courier {
            registry: Registry::new(&settings.employers, restored.workers),
            window: Window::default(),
            jobs: Jobs::default(),
            lanes: Lanes::new(now.instant, platform.min_interval, settings.seed),
            calls: BTreeMap::new(),
            next_call: 1,
            next_job: restored.last_job + 1,
            steps: VecDeque::new(),
            questions: BTreeMap::new(),
            scan: None,
            bad_photos: Vec::new(),
            cautious: BTreeSet::new(),
            first_poll: platform.poll_interval,
            turn: 0,
            stopped: None,
            last_error: None,
            refused_punches: restored.refused_punches,
            last_refusal: None,
            forerunner: restored.forerunner,
            today: None,
            dirty: true,
            profile,
            settings,
        };
        let mut on_the_way = Vec::new();
        for (subject, row) in restored.registrations {
            courier.restore_registration(&subject, &row);
            if is_on_the_way(row.state) {
                on_the_way.push((subject, row));
            }
        }
        for (out, row) in restored.in_flight {
            let subject = Subject::Punch(out.punch);
            // An unknown one is asked for anyway; one that the platform has taken may have failed and been sent again.
            courier.take_in(now, out, row.state == UploadState::Accepted);
            if is_on_the_way(row.state) {
                on_the_way.push((subject, row));
            }
        }
        courier.restore_jobs(now, on_the_way);
        courier
    }

    fn restore_registration(&mut self, subject: &Subject, row: &UploadRow) {
        let reason = || row.reason.clone().unwrap_or_default();
        match row.state {
            UploadState::Withdrawn => return,
            UploadState::Confirmed => match (subject, self.restored_number(subject, row)) {
                // Registered, and nobody knows where: registering again brings it to light.
                (Subject::Team(_) | Subject::Worker(_), None) => self.registry.set(subject, Standing::Open),
                (_, number) => self.registry.confirm(subject, number),
            },
            UploadState::Refused => self.registry.set(subject, Standing::Refused { reason: reason() }),
            UploadState::Queued
            | UploadState::Waiting
            | UploadState::Sending
            | UploadState::Accepted
            | UploadState::Unknown => self.registry.set(subject, Standing::Open),
        }
        if let Some(number) = &row.external {
            self.registry.correct_number(subject, number.clone());
        }
        let waits_for = (row.state == UploadState::Waiting).then(reason);
        self.registry.told(subject, waits_for);
    }

    fn restored_number(&self, subject: &Subject, row: &UploadRow) -> Option<String> {
        let team = match subject {
            Subject::Worker(id) => self.registry.worker(id).map(|worker| &worker.team),
            Subject::Employer(_) | Subject::Team(_) | Subject::Entry(..) | Subject::Exit(..) | Subject::Punch(_) => {
                None
            }
        };
        let by_team = || self.registry.team_number(team?).map(str::to_owned);
        row.external.clone().or_else(by_team)
    }

    /// Subjects that one request carried become that job again.
    pub(super) fn restore_jobs(&mut self, now: Now, on_the_way: Vec<(Subject, UploadRow)>) {
        let mut groups: BTreeMap<Group, Vec<(Subject, UploadRow)>> = BTreeMap::new();
        for (subject, row) in on_the_way {
            let id = row.job.as_ref().map_or(NO_JOB, |(id, _)| *id);
            let key = (id, row.state, row.serial.clone(), self.method_on_the_way(&subject));
            groups.entry(key).or_default().push((subject, row));
        }
        for ((id, state, serial, method), rows) in groups {
            let taken = id == NO_JOB || self.jobs.get(id).is_some();
            let id = if taken { self.new_job() } else { id };
            let age = rows.iter().map(|(_, row)| now.wall.since(row.changed_at).max(0)).max().unwrap_or(0);
            let age = Duration::from_millis(age as u64);
            let subjects: Vec<Subject> = rows.into_iter().map(|(subject, _)| subject).collect();
            let phase = self.restored_phase(now, state, serial, age);
            for subject in &subjects {
                self.put_in_job(subject, id);
            }
            let team_number = self.team_number_of(&subjects);
            let job = Job { method, size: subjects.len(), subjects: subjects.clone(), team_number, phase };
            self.jobs.insert(id, job);
            if state == UploadState::Sending {
                let reason = "the gateway stopped before the answer came".to_owned();
                self.push(now, id, method, subjects, Step::Unknown { reason });
            }
        }
    }

    fn restored_phase(&self, now: Now, state: UploadState, serial: Option<String>, age: Duration) -> Phase {
        let platform = &self.settings.platform;
        match (state, serial) {
            (UploadState::Accepted, Some(serial)) => Phase::Accepted(Awaited {
                serial,
                poll_at: now.instant,
                polls: 1,
                refusals: 0,
                give_up_at: now.instant + platform.job_timeout.saturating_sub(age),
            }),
            _ => {
                let ask_at = now.instant + platform.reconcile_after.saturating_sub(age);
                Phase::Unknown(Doubt::new(ask_at, Then::Resend))
            }
        }
    }

    /// A worker who has a number already was not registered, but moved.
    fn method_on_the_way(&self, subject: &Subject) -> Method {
        match subject {
            Subject::Worker(id) if self.registry.number_of(id).is_some() => Method::UpdateWorker,
            other => method_of(other),
        }
    }

    /// Under which number a job went: the one that the worker still has, because it does not change while anything of the
    /// worker is on its way. Under which one the worker was registered or moved is not known any more.
    pub(super) fn team_number_of(&self, subjects: &[Subject]) -> Option<String> {
        let workers = subjects.iter().filter_map(|subject| match subject {
            Subject::Punch(punch) => Some(&self.window.get(*punch)?.out.worker),
            Subject::Entry(worker, _) | Subject::Exit(worker, _) => Some(worker),
            Subject::Employer(_) | Subject::Team(_) | Subject::Worker(_) => None,
        });
        workers.into_iter().find_map(|worker| self.registry.number_of(worker)).map(str::to_owned)
    }

    pub(super) fn new_job(&mut self) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        id
    }
}

pub(super) fn is_on_the_way(state: UploadState) -> bool {
    match state {
        UploadState::Sending | UploadState::Accepted | UploadState::Unknown => true,
        UploadState::Queued
        | UploadState::Waiting
        | UploadState::Confirmed
        | UploadState::Refused
        | UploadState::Withdrawn => false,
    }
}

/// The method that carries such a subject.
pub(super) fn method_of(subject: &Subject) -> Method {
    match subject {
        Subject::Employer(_) => Method::AddEmployer,
        Subject::Team(_) => Method::AddTeam,
        Subject::Worker(_) => Method::AddWorkers,
        Subject::Entry(..) | Subject::Exit(..) => Method::AddMoves,
        Subject::Punch(_) => Method::AddAttendance,
    }
}
