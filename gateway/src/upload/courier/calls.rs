//! Requests that leave, and what comes of them: orders, serial codes, polls.

use super::jobs::{Awaited, Job, Phase, Then};
use super::lanes::Went;
use super::registry::Standing;
use super::{
    Call, CallId, Courier, LONGEST_FIRST_POLL, Now, Order, Outcome, POLL_REFUSALS, PROBE_AFTER, Purpose, Stopped,
};
use crate::punch::{JobId, Step, Subject, UploadStep, WorkerId};
use crate::upload::profiles::{Answer, Ending, Method, Move, MoveKind, Request};

impl Courier {
    /// Work for one free lane.
    pub(super) fn order(&mut self, now: Now, method: Method) -> Option<Order> {
        match method {
            Method::QueryJob => self.order_poll(now),
            Method::AddEmployer => {
                let employer = self.registry.next_employer(now.instant)?.clone();
                let subjects = vec![Subject::Employer(employer.name.clone())];
                Some(self.submit(now, Request::AddEmployer { employer }, subjects, None))
            }
            Method::AddTeam => {
                let (employer, team) = self.registry.next_team(now.instant)?;
                let (employer, team) = (employer.clone(), team.clone());
                let leader = self.registry.leader_of(&team).cloned().map(Box::new);
                let subjects = vec![Subject::Team(team.clone())];
                Some(self.submit(now, Request::AddTeam { employer, team, leader }, subjects, None))
            }
            Method::AddWorkers => {
                let limit = self.profile.caps().workers;
                let (place, workers) = self.registry.next_workers(now.instant, limit)?;
                let subjects = workers.iter().map(|worker| Subject::Worker(worker.worker_id.clone())).collect();
                let number = Some(place.number.clone());
                Some(self.submit(now, Request::AddWorkers { place, workers }, subjects, number))
            }
            Method::UpdateWorker => self.order_update(now),
            Method::AddMoves => self.order_moves(now),
            Method::AddAttendance => self.order_attendance(now),
            Method::QueryEmployers | Method::QueryTeams | Method::QueryWorkers | Method::QueryMoves => {
                self.order_question(now, method)
            }
            Method::QueryAttendance => self.order_scan(now),
        }
    }

    fn order_poll(&mut self, now: Now) -> Option<Order> {
        let (job, awaited) = self.jobs.next_poll(now.instant)?;
        let request = Request::QueryJob { serial: awaited.serial.clone() };
        Some(self.call(request, Purpose::Poll(job), None))
    }

    fn order_update(&mut self, now: Now) -> Option<Order> {
        let is_still = |worker: &WorkerId| !self.window.has_in_job(worker);
        let (place, worker) = self.registry.next_update(now.instant, is_still)?;
        let (subjects, number) = (vec![Subject::Worker(worker.worker_id.clone())], Some(place.number.clone()));
        Some(self.submit(now, Request::UpdateWorker { place, worker: Box::new(worker) }, subjects, number))
    }

    fn order_moves(&mut self, now: Now) -> Option<Order> {
        let limit = self.profile.caps().moves;
        let (place, moves) = self.registry.next_moves(now.instant, self.date_of(now.wall), limit)?;
        let subject = |one: &Move| match one.kind {
            MoveKind::Entry => Subject::Entry(one.worker.worker_id.clone(), one.date),
            MoveKind::Exit => Subject::Exit(one.worker.worker_id.clone(), one.date),
        };
        let subjects = moves.iter().map(subject).collect();
        let number = Some(place.number.clone());
        Some(self.submit(now, Request::AddMoves { place, moves }, subjects, number))
    }

    /// A request that carries subjects: a new job.
    pub(super) fn submit(
        &mut self,
        now: Now,
        request: Request,
        subjects: Vec<Subject>,
        team_number: Option<String>,
    ) -> Order {
        let id = JobId(self.next_job);
        self.next_job += 1;
        for subject in &subjects {
            self.put_in_job(subject, id);
        }
        let method = request.method();
        let sending = self.step(now, id, method, subjects.clone(), Step::Sending { request_hash: [0; 32] });
        let size = subjects.len();
        self.jobs.insert(id, Job { method, subjects, size, team_number, phase: Phase::Calling });
        self.call(request, Purpose::Submit(id), Some(sending))
    }

    pub(super) fn call(&mut self, request: Request, purpose: Purpose, sending: Option<UploadStep>) -> Order {
        let call = CallId(self.next_call);
        self.next_call += 1;
        let method = request.method();
        self.lanes.take(method);
        self.calls.insert(call, Call { method, purpose });
        Order { call, request, sending }
    }

    pub(super) fn put_in_job(&mut self, subject: &Subject, id: JobId) {
        match subject {
            Subject::Punch(punch) => {
                if let Some(item) = self.window.get_mut(*punch) {
                    item.job = Some(id);
                }
            }
            registration => {
                self.registry.set(registration, Standing::InJob(id));
                self.registry.told(registration, None);
            }
        }
    }

    /// What came of an order. Every order gets exactly one outcome.
    pub fn handle_outcome(&mut self, now: Now, call: CallId, outcome: Outcome) {
        let Some(Call { method, purpose }) = self.calls.remove(&call) else { return };
        self.note(now, method, &outcome);
        match purpose {
            Purpose::Submit(job) => self.handle_submitted(now, job, outcome),
            Purpose::Poll(job) => self.handle_polled(now, job, outcome),
            Purpose::Ask => self.handle_asked(now, method, outcome),
            Purpose::Scan => self.handle_scanned(now, outcome),
        }
    }

    /// What an outcome says about the platform itself.
    fn note(&mut self, now: Now, method: Method, outcome: &Outcome) {
        let (sent, went, error) = match outcome {
            Outcome::BadPictures(_) | Outcome::UnreadPictures { .. } => {
                self.lanes.release(method, None, now.instant, Went::Well);
                return;
            }
            Outcome::NotSent { text } => (None, Went::Badly, Some(text)),
            Outcome::Lost { text, sent } => (Some(*sent), Went::Badly, Some(text)),
            Outcome::Answered { answer, sent } => match answer {
                Answer::TryLater { text, slow_down: true } => (Some(*sent), Went::TooFast, Some(text)),
                Answer::TryLater { text, slow_down: false } => (Some(*sent), Went::Badly, Some(text)),
                Answer::Garbled { text } | Answer::Ended(Ending::Unclear { text }) => {
                    (Some(*sent), Went::Badly, Some(text))
                }
                Answer::Stop { text } => {
                    self.lanes.release(method, Some(*sent), now.instant, Went::Badly);
                    let probe_at = now.instant + PROBE_AFTER;
                    self.stopped = Some(Stopped { text: text.clone(), since: now.instant, probe_at });
                    return;
                }
                _ => (Some(*sent), Went::Well, None),
            },
        };
        self.lanes.release(method, sent, now.instant, went);
        self.last_error = error.cloned().or_else(|| self.last_error.take());
        if let Some(stopped) = &mut self.stopped {
            match went {
                Went::Well if sent >= Some(stopped.since) => self.stopped = None,
                Went::Well => {}
                Went::Badly | Went::TooFast => stopped.probe_at = now.instant + PROBE_AFTER,
            }
        }
    }

    fn handle_submitted(&mut self, now: Now, id: JobId, outcome: Outcome) {
        let text = match outcome {
            Outcome::Answered { answer: Answer::Accepted { serial }, .. } => return self.accept(now, id, serial),
            Outcome::Answered { answer: Answer::Ended(ending), .. } => return self.settle(now, id, ending, false),
            Outcome::Answered { answer: Answer::TryLater { text, .. } | Answer::Stop { text }, .. } => text,
            Outcome::NotSent { text } => text,
            Outcome::Lost { text, .. } | Outcome::Answered { answer: Answer::Garbled { text }, .. } => {
                let ask_at = now.instant + self.settings.platform.reconcile_after;
                return self.lose(now, id, ask_at, Then::Resend, text);
            }
            Outcome::BadPictures(photos) => return self.hold_pictures(id, photos),
            Outcome::UnreadPictures { photos, text } => return self.hold_unread(now, id, &photos, text),
            Outcome::Answered { answer, .. } => {
                let text = format!("an answer to another question: {answer:?}");
                return self.settle(now, id, Ending::Unclear { text }, false);
            }
        };
        if let Some(job) = self.jobs.remove(id) {
            self.requeue(now, id, job.method, job.subjects, text);
        }
    }

    fn accept(&mut self, now: Now, id: JobId, serial: String) {
        let (first_poll, give_up) = (self.first_poll, self.settings.platform.job_timeout);
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.phase = Phase::Accepted(Awaited {
            serial: serial.clone(),
            poll_at: now.instant + first_poll,
            polls: 0,
            refusals: 0,
            give_up_at: now.instant + give_up,
        });
        let (method, subjects) = (job.method, job.subjects.clone());
        self.push(now, id, method, subjects, Step::Accepted { serial });
    }

    fn handle_polled(&mut self, now: Now, id: JobId, outcome: Outcome) {
        let first_poll = self.first_poll;
        let longest = self.settings.platform.poll_interval.max(LONGEST_FIRST_POLL);
        let Some(Job { phase: Phase::Accepted(awaited), .. }) = self.jobs.get_mut(id) else { return };
        match outcome {
            Outcome::Answered { answer: Answer::JobEnded(ending), .. } => {
                if awaited.polls == 0 {
                    self.first_poll = first_poll.mul_f64(0.98).max(self.settings.platform.poll_interval);
                }
                self.settle(now, id, ending, true);
            }
            Outcome::Answered { answer: Answer::JobPending, .. } => {
                if awaited.polls == 0 {
                    self.first_poll = first_poll.mul_f64(1.1).min(longest);
                }
                awaited.refusals = 0;
                awaited.wait_again(now.instant, first_poll);
            }
            Outcome::Answered { answer: Answer::Ended(Ending::Unclear { .. }), .. } => {
                awaited.wait_again(now.instant, first_poll);
            }
            Outcome::Answered { answer: Answer::Ended(_), .. } if awaited.refusals + 1 >= POLL_REFUSALS => {
                let text = "the platform does not know the serial code".to_owned();
                // The job may run all the same: it gets the time that every lost request gets before anybody asks.
                let ask_at = now.instant + self.settings.platform.reconcile_after;
                self.lose(now, id, ask_at, Then::Resend, text);
            }
            Outcome::Answered { answer: Answer::Ended(_), .. } => {
                awaited.refusals += 1;
                awaited.wait_again(now.instant, first_poll);
            }
            Outcome::Answered { .. }
            | Outcome::NotSent { .. }
            | Outcome::Lost { .. }
            | Outcome::BadPictures(_)
            | Outcome::UnreadPictures { .. } => {
                awaited.poll_at = now.instant + first_poll;
            }
        }
    }
}
