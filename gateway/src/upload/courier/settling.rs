//! What an ending means for each subject of a job: a receipt, another try, or a question to the platform.

use std::time::{Duration, Instant};

use super::jobs::{Job, Phase, Then};
use super::registry::Standing;
use super::{Courier, DEPENDS_FIRST, DEPENDS_LONGEST, ITEM_FIRST, ITEM_LONGEST, NO_JOB, Now, Retry};
use crate::punch::{JobId, PhotoHash, Step, Subject};
use crate::upload::profiles::{Ending, ItemError, Method};

impl Courier {
    /// A job ended. `later`: by its serial code, so the platform has finished with it.
    pub(super) fn settle(&mut self, now: Now, id: JobId, ending: Ending, later: bool) {
        let Some(job) = self.jobs.get(id) else { return };
        let (method, subjects, single) = (job.method, job.subjects.clone(), job.subjects.len() == 1);
        self.mind_the_team(id, matches!(ending, Ending::Done { .. }));
        match ending {
            Ending::Done { external: None } | Ending::Exists { .. } if method == Method::AddTeam => {
                let text = "the team is there; its number is asked for".to_owned();
                let failed = "the platform says that the team is there, and does not list it".to_owned();
                self.lose(now, id, now.instant, Then::Split { text: failed }, text);
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
                self.hold(now, id, method, subjects, text);
            }
            Ending::Unclear { text } => {
                let wait = if later { Duration::ZERO } else { self.settings.platform.reconcile_after };
                self.lose(now, id, now.instant + wait, Then::Split { text: text.clone() }, text);
            }
        }
    }

    /// Single items were wrong: they have their receipt, and the rest is sent again.
    fn settle_items(&mut self, now: Now, id: JobId, subjects: &[Subject], items: Vec<ItemError>, later: bool) {
        for item in items {
            let Some(subject) = subjects.get(item.index) else { continue };
            let subject = vec![subject.clone()];
            if item.exists {
                self.confirm(now, id, subject, None, Some(item.text));
            } else {
                self.refuse(now, id, subject, item.text);
            }
        }
        let text = "another item of the request was refused".to_owned();
        self.send_rest_again(now, id, Then::Resend, text, later);
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
            Then::Split { .. } if size > 1 => {
                for subject in &subjects {
                    if let Some(retry) = self.retry_mut(subject) {
                        retry.cap = (size / 2).max(1);
                    }
                }
                self.requeue(now, id, method, subjects, text);
            }
            Then::Split { text: failure } => {
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
        self.leave(id, &subjects);
        let external = external.or_else(|| self.known_number(subjects.first()?));
        for subject in &subjects {
            match subject {
                Subject::Punch(punch) => {
                    let item = self.window.remove(*punch);
                    let left = item.and_then(|item| self.registry.worker(&item.out.worker)?.left_on);
                    self.dirty |= left.is_some();
                }
                registration => {
                    self.registry.set(registration, Standing::Confirmed { external: external.clone() });
                    self.dirty = true;
                }
            }
        }
        self.push(now, id, method, subjects, Step::Confirmed { external, note });
    }

    /// The number under which a worker is registered: the team's.
    fn known_number(&self, subject: &Subject) -> Option<String> {
        match subject {
            Subject::Worker(id) => self.registry.team_number(&self.registry.worker(id)?.team),
            Subject::Employer(_) | Subject::Team(_) | Subject::Entry(..) | Subject::Exit(..) | Subject::Punch(_) => {
                None
            }
        }
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

    /// Something that they depend on is not known to the platform yet: looked at again after a while.
    fn hold(&mut self, now: Now, id: JobId, method: Method, subjects: Vec<Subject>, reason: String) {
        for subject in &subjects {
            let Some(retry) = self.retry_mut(subject) else { continue };
            retry.holds += 1;
            let until = now.instant + doubled(DEPENDS_FIRST, retry.holds, DEPENDS_LONGEST);
            retry.not_before = Some(until);
            self.open(subject);
            if !matches!(subject, Subject::Punch(_)) {
                self.registry.set(subject, Standing::Held { reason: reason.clone(), until: Some(until) });
                self.registry.told(subject, Some(reason.clone()));
            }
        }
        self.push(now, id, method, subjects, Step::Waiting { reason });
    }

    /// Workers whose photo cannot be used wait for a better one; the others of the request go again.
    pub(super) fn hold_pictures(&mut self, now: Now, id: JobId, photos: &[PhotoHash]) {
        let Some(job) = self.jobs.remove(id) else { return };
        for subject in job.subjects {
            self.open(&subject);
            let Subject::Worker(worker) = &subject else { continue };
            let photo = self.registry.worker(worker).and_then(|worker| worker.photo);
            if photo.is_some_and(|photo| photos.contains(&photo)) {
                let reason = "photo (headImage) is not a picture that can be used".to_owned();
                self.hold_for_repair(now, &subject, reason);
            }
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
        let method = match subject {
            Subject::Employer(_) => Method::AddEmployer,
            Subject::Team(_) => Method::AddTeam,
            Subject::Worker(_) => Method::AddWorkers,
            Subject::Entry(..) | Subject::Exit(..) => Method::AddMoves,
            Subject::Punch(_) => Method::AddAttendance,
        };
        self.push(now, NO_JOB, method, vec![subject.clone()], Step::Waiting { reason });
    }

    /// Nobody knows whether the platform has what the job still carries.
    pub(super) fn lose(&mut self, now: Now, id: JobId, ask_at: Instant, then: Then, reason: String) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.subjects.is_empty() {
            self.jobs.remove(id);
            return;
        }
        job.phase = Phase::Unknown { ask_at, then };
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
            self.team_pages.remove(&id);
        }
    }

    /// After a failure a team's batches go one at a time, until one succeeds.
    fn mind_the_team(&mut self, id: JobId, done: bool) {
        let Some(Job { team_number: Some(number), .. }) = self.jobs.get(id) else { return };
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
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1).min(16))).min(longest)
}
