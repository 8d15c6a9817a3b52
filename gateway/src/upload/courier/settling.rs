//! What an ending means for each subject of a job: a receipt, another try, or a question to the platform.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::jobs::{Doubt, Job, Phase, Then};
use super::registry::Standing;
use super::restoring::method_of;
use super::{Courier, DEPENDS_FIRST, DEPENDS_LONGEST, ITEM_FIRST, ITEM_LONGEST, NO_JOB, Now, Retry};
use crate::punch::{JobId, PhotoHash, Step, Subject};
use crate::upload::profiles::{Ending, ItemError, Method};

impl Courier {
    /// A job ended. `later`: by its serial code, so the platform has finished with it.
    pub(super) fn settle(&mut self, now: Now, id: JobId, ending: Ending, later: bool) {
        let Some(job) = self.jobs.get(id) else { return };
        let (method, subjects, single) = (job.method, job.subjects.clone(), job.subjects.len() == 1);
        self.mind_the_team(id, matches!(ending, Ending::Done { .. }));
        match alone(ending, single) {
            ending @ (Ending::Done { .. } | Ending::Exists { .. }) if self.hides_the_number(id, &ending) => {
                self.ask_for_number(now, id, method);
            }
            Ending::Done { external } => self.confirm(now, id, subjects, external, None),
            Ending::Exists { text } if single => self.confirm(now, id, subjects, None, Some(text)),
            Ending::Items(items) if items.iter().any(|item| item.index < subjects.len()) => {
                self.settle_items(now, id, &subjects, items, later);
            }
            Ending::Items(items) => {
                let text = items.into_iter().map(|item| item.text).collect::<Vec<_>>().join(";");
                self.fail(now, id, text, later);
            }
            Ending::Failed { text, names_field: true } if single => self.refuse(now, id, subjects, text),
            Ending::Failed { text, .. } | Ending::Exists { text } => self.fail(now, id, text, later),
            Ending::Depends { text } => {
                self.jobs.remove(id);
                self.hold(now, id, method, subjects, text, (DEPENDS_FIRST, DEPENDS_LONGEST));
            }
            Ending::Unclear { text } => {
                let wait = if later { Duration::ZERO } else { self.settings.platform.reconcile_after };
                self.lose(now, id, now.instant + wait, Then::Split { text: text.clone() }, text);
            }
        }
    }

    /// Whether a job is done, and the number that the platform has given or uses is still to be found out.
    fn hides_the_number(&self, id: JobId, ending: &Ending) -> bool {
        let Some(job) = self.jobs.get(id) else { return false };
        let is_single = job.subjects.len() == 1;
        let exists = matches!(ending, Ending::Exists { .. });
        match job.method {
            Method::AddTeam => exists || matches!(ending, Ending::Done { external: None }),
            // Whoever is there already may be in another team.
            Method::AddWorkers if exists => is_single,
            Method::AddWorkers => job.team_number.is_none(),
            // What a platform makes of another team in an update is not written anywhere.
            Method::UpdateWorker => true,
            Method::AddEmployer
            | Method::AddMoves
            | Method::AddAttendance
            | Method::QueryJob
            | Method::QueryEmployers
            | Method::QueryTeams
            | Method::QueryWorkers
            | Method::QueryMoves
            | Method::QueryAttendance => false,
        }
    }

    fn ask_for_number(&mut self, now: Now, id: JobId, method: Method) {
        let failed = "the platform says that it is there, and does not list it".to_owned();
        // Without its number a team is of no use.
        let is_team = method == Method::AddTeam;
        let then = if is_team { Then::Split { text: failed } } else { Then::Trust { text: failed } };
        self.lose(now, id, now.instant, then, "it is there; the team's number is asked for".to_owned());
    }

    /// Single items were wrong: they have their receipt, and the rest is sent again.
    fn settle_items(&mut self, now: Now, id: JobId, subjects: &[Subject], items: Vec<ItemError>, later: bool) {
        for item in merged(items) {
            let Some(subject) = subjects.get(item.index).cloned() else { continue };
            match &subject {
                // Alone, so that its answer is about it and its number can be asked for.
                Subject::Worker(_) if item.exists => self.limit(&subject, 1),
                _ if item.exists => self.confirm(now, id, vec![subject], None, Some(item.text)),
                _ => self.refuse(now, id, vec![subject], item.text),
            }
        }
        let text = "another item of the request was refused".to_owned();
        self.send_rest_again(now, id, Then::Resend, text, later);
    }

    fn limit(&mut self, subject: &Subject, cap: usize) {
        if let Some(retry) = self.retry_mut(subject) {
            retry.cap = cap;
        }
    }

    /// The whole request failed, and nothing says which item is to blame.
    fn fail(&mut self, now: Now, id: JobId, text: String, later: bool) {
        self.send_rest_again(now, id, Then::Split { text: text.clone() }, text, later);
    }

    /// Whether platforms reject a batch as a whole or in part is not written anywhere: attendance that a platform has
    /// worked on is looked up before it is sent again.
    fn send_rest_again(&mut self, now: Now, id: JobId, then: Then, text: String, later: bool) {
        let Some(job) = self.jobs.get(id) else { return };
        if later && job.method == Method::AddAttendance {
            return self.lose(now, id, now.instant, then, text);
        }
        let subjects = job.subjects.clone();
        self.release(now, id, subjects, &then, text);
    }

    /// These subjects of a job are known not to be at the platform: they may be sent again.
    pub(super) fn release(&mut self, now: Now, id: JobId, subjects: Vec<Subject>, then: &Then, text: String) {
        let Some(job) = self.jobs.get(id) else { return };
        let (method, size) = (job.method, job.size);
        self.leave(id, &subjects);
        match then {
            Then::Resend => self.requeue(now, id, method, subjects, text),
            Then::Hold { reason } => {
                subjects.iter().for_each(|subject| self.hold_for_repair(now, subject, reason.clone()));
            }
            Then::Split { .. } | Then::Trust { .. } if size > 1 => {
                subjects.iter().for_each(|subject| self.limit(subject, (size / 2).max(1)));
                self.requeue(now, id, method, subjects, text);
            }
            Then::Split { text: failure } | Then::Trust { text: failure } => {
                for subject in subjects {
                    self.try_again_or_refuse(now, id, method, subject, failure);
                }
            }
        }
    }

    /// One item, refused alone, without a reason that names a field.
    fn try_again_or_refuse(&mut self, now: Now, id: JobId, method: Method, subject: Subject, failure: &str) {
        let allowed = self.settings.platform.item_attempts;
        let Some(retry) = self.retry_mut(&subject) else { return };
        retry.tries += 1;
        if retry.tries >= allowed {
            return self.write_refusal(now, id, method, vec![subject], failure.to_owned());
        }
        retry.not_before = Some(now.instant + doubled(ITEM_FIRST, retry.tries, ITEM_LONGEST));
        self.requeue(now, id, method, vec![subject], failure.to_owned());
    }

    /// A receipt: the platform has them.
    pub(super) fn confirm(
        &mut self,
        now: Now,
        id: JobId,
        subjects: Vec<Subject>,
        external: Option<String>,
        note: Option<String>,
    ) {
        let Some(job) = self.jobs.get(id) else { return };
        let method = job.method;
        let external = external.or_else(|| self.number_wanted(id, subjects.first()?));
        self.leave(id, &subjects);
        for subject in &subjects {
            match subject {
                Subject::Punch(punch) => {
                    let item = self.window.remove(*punch);
                    let left = item.and_then(|item| self.registry.worker(&item.out.worker)?.left_on);
                    self.dirty |= left.is_some();
                }
                registration => {
                    self.registry.confirm(registration, external.clone());
                    self.dirty = true;
                }
            }
        }
        self.push(now, id, method, subjects, Step::Confirmed { external, note });
    }

    /// The team's number under which a worker was sent, as far as is known; else the roster's team's.
    pub(super) fn number_wanted(&self, id: JobId, subject: &Subject) -> Option<String> {
        let Subject::Worker(worker) = subject else { return None };
        let sent_under = self.jobs.get(id)?.team_number.clone();
        let by_roster = || self.registry.team_number(&self.registry.worker(worker)?.team).map(str::to_owned);
        sent_under.or_else(by_roster)
    }

    /// The platform has the worker in another team than was thought; whether it moves the worker is another matter.
    pub(super) fn correct_number(&mut self, now: Now, id: JobId, worker: &Subject, number: String) {
        let Some(method) = self.jobs.get(id).map(|job| job.method) else { return };
        self.registry.correct_number(worker, number.clone());
        let note = Some("found by query".to_owned());
        self.push(now, id, method, vec![worker.clone()], Step::Confirmed { external: Some(number), note });
    }

    /// A receipt: the platform will not have them.
    fn refuse(&mut self, now: Now, id: JobId, subjects: Vec<Subject>, reason: String) {
        let Some(job) = self.jobs.get(id) else { return };
        let method = job.method;
        self.leave(id, &subjects);
        self.write_refusal(now, id, method, subjects, reason);
    }

    fn write_refusal(&mut self, now: Now, id: JobId, method: Method, subjects: Vec<Subject>, reason: String) {
        for subject in &subjects {
            match subject {
                Subject::Punch(punch) => {
                    self.window.remove(*punch);
                    self.refused_punches += 1;
                }
                registration => {
                    self.registry.set(registration, Standing::Refused { reason: reason.clone() });
                }
            }
        }
        self.dirty = true;
        self.last_refusal = Some(reason.clone());
        self.push(now, id, method, subjects, Step::Refused { reason });
    }

    /// Back to the outbox.
    pub(super) fn requeue(&mut self, now: Now, id: JobId, method: Method, subjects: Vec<Subject>, reason: String) {
        for subject in &subjects {
            self.open(subject);
        }
        self.push(now, id, method, subjects, Step::Requeued { reason });
    }

    fn open(&mut self, subject: &Subject) {
        match subject {
            Subject::Punch(punch) => {
                if let Some(item) = self.window.get_mut(*punch) {
                    item.job = None;
                }
            }
            registration => self.registry.set(registration, Standing::Open),
        }
        self.dirty = true;
    }

    /// Something that they depend on is not there yet: looked at again after a while, each time after a longer one.
    fn hold(
        &mut self,
        now: Now,
        id: JobId,
        method: Method,
        subjects: Vec<Subject>,
        reason: String,
        (first, longest): (Duration, Duration),
    ) {
        for subject in &subjects {
            let Some(retry) = self.retry_mut(subject) else { continue };
            retry.holds += 1;
            let until = now.instant + doubled(first, retry.holds, longest);
            retry.not_before = Some(until);
            self.open(subject);
            if !matches!(subject, Subject::Punch(_)) {
                self.registry.set(subject, Standing::Held { reason: reason.clone(), until: Some(until) });
                self.registry.told(subject, Some(reason.clone()));
            }
        }
        self.push(now, id, method, subjects, Step::Waiting { reason });
    }

    /// Photos turned out to be no pictures: their workers wait for better ones, the others of the request go again.
    pub(super) fn hold_pictures(&mut self, id: JobId, photos: Vec<PhotoHash>) {
        let Some(job) = self.jobs.remove(id) else { return };
        self.bad_photos.extend(photos);
        job.subjects.iter().for_each(|subject| self.open(subject));
    }

    /// Photos could not be read just now: whatever they belong to is tried again after a while, the others of the request
    /// at once. Nothing is sent without a picture that exists.
    pub(super) fn hold_unread(&mut self, now: Now, id: JobId, photos: &[PhotoHash], text: String) {
        let Some(job) = self.jobs.remove(id) else { return };
        job.subjects.iter().for_each(|subject| self.open(subject));
        let mut unread = job.subjects;
        unread.retain(|subject| self.photo_of(subject).is_some_and(|photo| photos.contains(&photo)));
        self.hold(now, id, job.method, unread, text, (ITEM_FIRST, ITEM_LONGEST));
    }

    fn photo_of(&self, subject: &Subject) -> Option<PhotoHash> {
        match subject {
            Subject::Worker(worker) => self.registry.worker(worker)?.photo,
            Subject::Punch(punch) => self.window.get(*punch)?.out.photo,
            Subject::Employer(_) | Subject::Team(_) | Subject::Entry(..) | Subject::Exit(..) => None,
        }
    }

    /// A registration waits until the roster is repaired.
    pub(super) fn hold_for_repair(&mut self, now: Now, subject: &Subject, reason: String) {
        let known = self.registry.get(subject).is_some_and(|one| one.told.as_ref() == Some(&reason));
        self.registry.set(subject, Standing::Held { reason: reason.clone(), until: None });
        if known {
            return;
        }
        self.registry.told(subject, Some(reason.clone()));
        self.push(now, NO_JOB, method_of(subject), vec![subject.clone()], Step::Waiting { reason });
    }

    /// Nobody knows whether the platform has what the job still carries.
    pub(super) fn lose(&mut self, now: Now, id: JobId, ask_at: Instant, then: Then, reason: String) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.subjects.is_empty() {
            self.jobs.remove(id);
            return;
        }
        job.phase = Phase::Unknown(Doubt::new(ask_at, then));
        let (method, subjects) = (job.method, job.subjects.clone());
        self.mind_the_team(id, false);
        self.push(now, id, method, subjects, Step::Unknown { reason });
    }

    /// Takes subjects out of their job; a job without subjects is over.
    pub(super) fn leave(&mut self, id: JobId, subjects: &[Subject]) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.subjects.retain(|subject| !subjects.contains(subject));
        if job.subjects.is_empty() {
            self.jobs.remove(id);
        }
    }

    /// After a failure a team's batches go one at a time, until one succeeds.
    fn mind_the_team(&mut self, id: JobId, done: bool) {
        let Some(Job { method: Method::AddAttendance, team_number: Some(number), .. }) = self.jobs.get(id) else {
            return;
        };
        if done {
            self.cautious.remove(number);
        } else {
            self.cautious.insert(number.clone());
        }
    }

    fn retry_mut(&mut self, subject: &Subject) -> Option<&mut Retry> {
        match subject {
            Subject::Punch(punch) => self.window.get_mut(*punch).map(|item| &mut item.retry),
            registration => self.registry.retry_mut(registration),
        }
    }
}

/// `first`, doubled with each further time, and never more than `longest`.
pub(super) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1).min(16))).min(longest)
}

/// What is said of one item, however often it is named: it is there already when nothing else is said of it.
fn merged(items: Vec<ItemError>) -> Vec<ItemError> {
    let mut by_index: BTreeMap<usize, ItemError> = BTreeMap::new();
    for item in items {
        let Some(first) = by_index.get_mut(&item.index) else {
            by_index.insert(item.index, item);
            continue;
        };
        first.exists &= item.exists;
        if !first.text.contains(&item.text) {
            first.text = format!("{};{}", first.text, item.text);
        }
    }
    by_index.into_values().collect()
}

/// What is said of the only item is said of the whole request.
fn alone(ending: Ending, single: bool) -> Ending {
    match ending {
        Ending::Items(items)
            if single && !items.is_empty() && items.iter().all(|item| item.index == 0 && item.exists) =>
        {
            let text = merged(items).into_iter().map(|item| item.text).collect();
            Ending::Exists { text }
        }
        other => other,
    }
}
