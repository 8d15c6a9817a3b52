//! A courier from what the ledger says of the last one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::jobs::{Awaited, Job, Jobs, Phase, Then};
use super::lanes::Lanes;
use super::registry::{Readiness, Registry, Standing};
use super::window::{Item, Window};
use super::{Courier, NO_JOB, Now, Retry, Settings};
use crate::punch::{JobId, Step, Subject, UploadState, Worker};
use crate::store::{Outgoing, UploadRow};
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
            scan: None,
            team_pages: BTreeMap::new(),
            cautious: BTreeSet::new(),
            first_poll: platform.poll_interval,
            turn: 0,
            stopped: None,
            last_error: None,
            refused_punches: restored.refused_punches,
            last_refusal: None,
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
            courier.window.insert(Item { out, job: None, retry: Retry::default(), since: now.instant });
            if is_on_the_way(row.state) {
                on_the_way.push((subject, row));
            }
        }
        courier.restore_jobs(now, on_the_way);
        courier
    }

    fn restore_registration(&mut self, subject: &Subject, row: &UploadRow) {
        let reason = || row.reason.clone().unwrap_or_default();
        let standing = match row.state {
            UploadState::Confirmed => Standing::Confirmed { external: row.external.clone() },
            UploadState::Refused => Standing::Refused { reason: reason() },
            UploadState::Withdrawn => return,
            UploadState::Queued
            | UploadState::Waiting
            | UploadState::Sending
            | UploadState::Accepted
            | UploadState::Unknown => Standing::Open,
        };
        self.registry.set(subject, standing);
        if row.state == UploadState::Waiting {
            self.registry.told(subject, Some(reason()));
        }
    }

    /// Subjects that one request carried become that job again.
    pub(super) fn restore_jobs(&mut self, now: Now, on_the_way: Vec<(Subject, UploadRow)>) {
        let mut groups: BTreeMap<Group, Vec<(Subject, UploadRow)>> = BTreeMap::new();
        for (subject, row) in on_the_way {
            let id = row.job.as_ref().map_or(NO_JOB, |(id, _)| *id);
            let key = (id, row.state, row.serial.clone(), method_of(&subject));
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
                Phase::Unknown { ask_at, then: Then::Resend }
            }
        }
    }

    fn team_number_of(&self, subjects: &[Subject]) -> Option<String> {
        let Subject::Punch(punch) = subjects.first()? else { return None };
        let worker = &self.window.get(*punch)?.out.worker;
        match self.registry.readiness(worker) {
            Readiness::Ready(number) => Some(number),
            Readiness::Pending | Readiness::Blocked(_) => {
                self.registry.team_number(&self.registry.worker(worker)?.team)
            }
        }
    }

    fn new_job(&mut self) -> JobId {
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
