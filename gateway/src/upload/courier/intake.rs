//! What the courier is told while it runs: rows of the outbox, changes of the roster, orders to try again.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::jobs::{Doubt, Job, Phase, Then};
use super::registry::{Readiness, Standing};
use super::restoring::{is_on_the_way, method_of};
use super::window::{Item, Read};
use super::{Courier, NO_JOB, Now, Retry};
use crate::punch::{JobId, PunchId, Step, Subject, UploadState, Worker, WorkerId};
use crate::store::{Outgoing, UploadRow};
use crate::upload::profiles::Method;

impl Courier {
    /// Rows that were read as [`Courier::poll_read`] asked, in the order of the outbox.
    pub fn handle_rows(&mut self, now: Now, read: &Read, rows: Vec<(Outgoing, UploadRow)>) {
        let mut parked: BTreeMap<String, Vec<Subject>> = BTreeMap::new();
        let mut on_the_way = Vec::new();
        let last = rows.last().map(|(out, _)| out.seq);
        for (out, row) in rows {
            let wanted = match read {
                Read::Outbox { sweep, .. } => self.window.wants(&out, *sweep),
                Read::Punches(_) => !row.state.is_settled() && self.window.wants_announced(&out),
            };
            if wanted && is_on_the_way(row.state) {
                let (subject, may_be_there) = (Subject::Punch(out.punch), row.state == UploadState::Accepted);
                self.take_in(now, out, may_be_there);
                on_the_way.push((subject, row));
            } else if wanted {
                self.admit(now, out, row, &mut parked);
            }
        }
        match read {
            Read::Outbox { sweep, .. } => self.window.page_read(*sweep, last),
            Read::Punches(punches) => self.window.announced_read(punches),
        }
        self.restore_jobs(now, on_the_way);
        // No rows at all may be the end of the outbox, for which the exits of leavers wait.
        self.dirty = true;
        for (reason, subjects) in parked {
            self.push(now, NO_JOB, Method::AddAttendance, subjects, Step::Waiting { reason });
        }
    }

    fn admit(&mut self, now: Now, out: Outgoing, row: UploadRow, parked: &mut BTreeMap<String, Vec<Subject>>) {
        self.registry.want(&out.worker);
        let Readiness::Blocked(reason) = self.registry.readiness(&out.worker) else {
            return self.take_in(now, out, true);
        };
        self.window.park(&out.worker, out.seq);
        let known = row.state == UploadState::Waiting && row.reason.as_ref() == Some(&reason);
        if !known {
            parked.entry(reason).or_default().push(Subject::Punch(out.punch));
        }
    }

    /// `may_be_there`: unless the platform is asked for it anyway.
    pub(super) fn take_in(&mut self, now: Now, out: Outgoing, may_be_there: bool) {
        let is_unsure = may_be_there && self.forerunner.is_some_and(|forerunner| forerunner.may_have_sent(&out));
        self.window.insert(Item { out, job: None, retry: Retry::default(), since: now.instant, is_unsure });
    }

    /// A punch was verified.
    pub fn handle_verified(&mut self, punch: PunchId) {
        self.window.announce(punch);
    }

    /// Facts may have been missed: the roster, when it may have changed, and the registrations as they are now. The outbox
    /// is read again.
    pub fn handle_missed(&mut self, now: Now, workers: Vec<Worker>, registrations: &[(Subject, UploadRow)]) {
        self.window.read_again();
        for worker in workers {
            if self.registry.worker(&worker.worker_id) != Some(&worker) {
                self.handle_worker(now, worker);
            }
        }
        let queued = |subject: &Subject| {
            registrations.iter().any(|(other, row)| other == subject && row.state == UploadState::Queued)
        };
        let refused = self.registry.all().filter(|(_, one)| one.standing.is_refused());
        let reopened: Vec<Subject> = refused.map(|(subject, _)| subject.clone()).filter(queued).collect();
        for subject in reopened {
            self.open_again(&subject);
        }
        self.dirty = true;
    }

    /// A new or changed row of the roster. What was refused or waits because of the old one is tried again.
    pub fn handle_worker(&mut self, now: Now, worker: Worker) {
        let id = worker.worker_id.clone();
        self.bad_photos.retain(|photo| Some(*photo) != worker.photo);
        self.registry.put_worker(worker);
        for subject in self.registry.repaired_by(&id) {
            let was_refused = self.open_again(&subject);
            if was_refused {
                let reason = "the roster row changed".to_owned();
                self.push(now, NO_JOB, method_of(&subject), vec![subject], Step::Requeued { reason });
            }
        }
        self.dirty = true;
    }

    /// Somebody ordered another try of these subjects; the ledger has them as queued already.
    pub fn handle_requeued(&mut self, now: Now, subjects: &[Subject]) {
        self.stopped = None;
        self.lanes.forgive(now.instant);
        for subject in subjects {
            match subject {
                Subject::Punch(punch) => self.requeue_punch(*punch),
                registration => {
                    self.open_again(registration);
                }
            }
        }
        self.dirty = true;
    }

    fn requeue_punch(&mut self, punch: PunchId) {
        let Some(item) = self.window.get_mut(punch) else {
            self.refused_punches = self.refused_punches.saturating_sub(1);
            self.window.announce(punch);
            return;
        };
        item.retry = Retry::default();
        let Some(id) = item.job else { return };
        if self.leave_unknown(id, &Subject::Punch(punch))
            && let Some(item) = self.window.get_mut(punch)
        {
            item.job = None;
        }
    }

    /// A registration that is refused, waits or is unknown is open again. True when it was refused.
    fn open_again(&mut self, subject: &Subject) -> bool {
        let Some(registration) = self.registry.get(subject) else { return false };
        let standing = registration.standing.clone();
        match &standing {
            Standing::InJob(id) => {
                if !self.leave_unknown(*id, subject) {
                    return false;
                }
            }
            Standing::Open | Standing::Held { .. } | Standing::Confirmed | Standing::Refused { .. } => {}
        }
        self.registry.set(subject, Standing::Open);
        if let Some(retry) = self.registry.retry_mut(subject) {
            *retry = Retry::default();
        }
        standing.is_refused()
    }

    /// Takes a subject out of a job whose outcome is unknown; false when the job is still under way.
    fn leave_unknown(&mut self, id: JobId, subject: &Subject) -> bool {
        let unknown = self.jobs.get(id).is_none_or(|job| matches!(job.phase, Phase::Unknown(_)));
        if unknown {
            self.leave(id, std::slice::from_ref(subject));
        }
        unknown
    }

    /// Looks at what time and answers have changed: overdue jobs, the day, who can be sent.
    pub(super) fn review(&mut self, now: Now) {
        for id in self.jobs.overdue(now.instant) {
            let reason = "the platform did not finish in time".to_owned();
            self.lose(now, id, now.instant, Then::Resend, reason);
        }
        let today = self.date_of(now.wall);
        let is_new_day = self.today.replace(today) != Some(today);
        if self.registry.take_change() || is_new_day {
            self.review_roster(now, today);
            self.dirty = true;
        }
        if std::mem::take(&mut self.dirty) {
            self.review_registrations(now);
            self.review_punches(now);
        }
        self.doubt_unsure(now);
    }

    /// Punches that a forerunner of the data may have sent become jobs of unknown outcome, one for each team's day.
    fn doubt_unsure(&mut self, now: Now) {
        if self.forerunner.is_none() {
            return;
        }
        let mut days: BTreeMap<(String, Date), Vec<PunchId>> = BTreeMap::new();
        for (worker, queue) in self.window.queues() {
            let Readiness::Ready(number) = self.registry.readiness(worker) else { continue };
            for item in queue.iter().filter(|item| item.is_unsure && item.job.is_none()) {
                let day = (number.clone(), self.date_of(item.out.time));
                days.entry(day).or_default().push(item.out.punch);
            }
        }
        for ((number, _), punches) in days {
            let id = self.new_job();
            for punch in &punches {
                if let Some(item) = self.window.get_mut(*punch) {
                    item.job = Some(id);
                    item.is_unsure = false;
                }
            }
            let phase = Phase::Unknown(Doubt::new(now.instant, Then::Resend));
            let (method, size) = (Method::AddAttendance, punches.len());
            let subjects = punches.into_iter().map(Subject::Punch).collect();
            self.jobs.insert(id, Job { method, subjects, size, team_number: Some(number), phase });
        }
    }

    /// What the roster asks for is opened, and what it asks for no longer is closed.
    fn review_roster(&mut self, now: Now, today: Date) {
        self.registry.want_present(today);
        for subject in self.registry.outdated() {
            if self.registry.forget(&subject).is_some_and(|registration| registration.is_recorded) {
                let reason = "the roster says otherwise now".to_owned();
                self.push(now, NO_JOB, method_of(&subject), vec![subject], Step::Withdrawn { reason });
            }
        }
        for subject in self.registry.at_home_again() {
            self.registry.confirm(&subject, None);
            let note = Some("the platform has the worker in the roster's team".to_owned());
            let external = self.registry.get(&subject).and_then(|registration| registration.number.clone());
            self.push(now, NO_JOB, method_of(&subject), vec![subject], Step::Confirmed { external, note });
        }
    }

    fn review_registrations(&mut self, now: Now) {
        let today = self.date_of(now.wall);
        let leavers: Vec<Subject> = self.registry.workers().filter_map(|worker| self.exit_due(worker, today)).collect();
        for subject in leavers {
            self.registry.set(&subject, Standing::Open);
        }
        let waiting = self.registry.unsettled().filter(|(_, one)| match &one.standing {
            Standing::Open => true,
            Standing::Held { until, .. } => until.is_none(),
            Standing::InJob(_) | Standing::Confirmed | Standing::Refused { .. } => false,
        });
        let waiting: Vec<Subject> = waiting.map(|(subject, _)| subject.clone()).collect();
        for subject in waiting {
            match self.what_is_missing(&subject) {
                Some(reason) => self.ask_before_holding(now, subject, reason),
                None => self.registry.set(&subject, Standing::Open),
            }
        }
    }

    /// Why a registration cannot be sent before the roster or the configuration is repaired.
    fn what_is_missing(&self, subject: &Subject) -> Option<String> {
        match subject {
            Subject::Employer(name) | Subject::Team(crate::punch::TeamKey { employer: name, .. }) => {
                let configured = self.registry.employer(name).is_some();
                (!configured).then(|| format!("employer {name} is not configured"))
            }
            Subject::Worker(id) => {
                let Some(worker) = self.registry.worker(id) else {
                    return Some("the worker is not on the roster".to_owned());
                };
                if self.sends_incomplete_workers() {
                    return None;
                }
                let missing = self.profile.missing_fields(worker);
                if !missing.is_empty() {
                    return Some(format!("missing on the roster: {}", missing.join(", ")));
                }
                let is_bad = worker.photo.is_some_and(|photo| self.bad_photos.contains(&photo));
                is_bad.then(|| "photo (headImage) is not a picture that can be used".to_owned())
            }
            Subject::Entry(id, _) | Subject::Exit(id, _) => self.registry.contradiction(id, subject),
            Subject::Punch(_) => None,
        }
    }

    /// The exit of a worker who left, once the day is over and the last punch has its receipt.
    fn exit_due(&self, worker: &Worker, today: Date) -> Option<Subject> {
        let exit = self.registry.exit_wanted(worker, today)?;
        (!self.window.may_have(&worker.worker_id)).then_some(exit)
    }

    /// Punches whose worker cannot be sent leave the memory, those whose worker can be come back.
    fn review_punches(&mut self, now: Now) {
        let mut blocked: BTreeMap<String, Vec<Subject>> = BTreeMap::new();
        let here: Vec<WorkerId> = self.window.queues().map(|(worker, _)| worker.clone()).collect();
        for worker in here {
            if let Readiness::Blocked(reason) = self.registry.readiness(&worker) {
                let punches = self.window.park_all(&worker).into_iter().map(Subject::Punch);
                blocked.entry(reason).or_default().extend(punches);
            }
        }
        for (reason, subjects) in blocked {
            self.push(now, NO_JOB, Method::AddAttendance, subjects, Step::Waiting { reason });
        }
        let parked: Vec<WorkerId> = self.window.parked().cloned().collect();
        for worker in parked {
            if !matches!(self.registry.readiness(&worker), Readiness::Blocked(_)) {
                self.window.unpark(&worker);
            }
        }
    }
}
