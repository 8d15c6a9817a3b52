//! Decides what to upload to one platform, when again, and what is settled. Does no I/O, keeps no clock, rolls no dice.
//!
//! The owner feeds it the roster, rows of the outbox, answers and the time, and does what it says: read
//! ([`Courier::poll_read`]), store ([`Courier::poll_step`]), send ([`Courier::poll_transmit`]), wake up
//! ([`Courier::poll_timeout`]). Every step that was polled is durable before the next request leaves, and the `Sending`
//! step of a request before its first byte; so a courier built again from the ledger goes on where this one was.
//!
//! What always holds: a punch is sent only when no earlier request that carried it can still have arrived, so nothing is
//! sent twice; a punch leaves only by a receipt; a worker's punches are sent in order of time. What cannot be promised:
//! when a platform takes a batch and later fails it, the workers' next batches may have been taken already; such a team's
//! batches then go one at a time until one succeeds.

mod asking;
mod attendance;
mod intake;
mod jobs;
mod lanes;
mod registry;
mod settling;
mod window;

#[cfg(test)]
mod model;
#[cfg(test)]
mod stories;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::civil::Date;
use jiff::tz::Offset;

use self::asking::Scan;
pub use self::intake::Restored;
use self::jobs::{Awaited, Job, Jobs, Phase, Then};
use self::lanes::{Lanes, Went};
use self::registry::{Registry, Standing};
pub use self::window::Read;
use self::window::Window;
use super::profiles::{Answer, Ending, Method, Move, MoveKind, Profile, Request};
use crate::config::{Employer, MissingWorkerFields, Platform};
use crate::punch::{JobId, PhotoHash, Step, Subject, UnixMs, UploadStep};

/// After an error of key or address the courier tries one request after this long.
const PROBE_AFTER: Duration = Duration::from_secs(5 * 60);
/// Attendance requests that may await their result at one time.
const OUTSTANDING: usize = 100;
/// Back-off of what depends on something that the platform does not know yet.
const DEPENDS_FIRST: Duration = Duration::from_secs(15);
const DEPENDS_LONGEST: Duration = Duration::from_secs(600);
/// Back-off of a single item that was refused without a reason that names a field.
const ITEM_FIRST: Duration = Duration::from_secs(2);
const ITEM_LONGEST: Duration = Duration::from_secs(600);
/// Polls refused in a row after which a serial code is given up.
const POLL_REFUSALS: u32 = 3;
/// The first poll is never put off further than this.
const LONGEST_FIRST_POLL: Duration = Duration::from_secs(30);
/// Days change and clocks are set: at the latest after this long somebody looks.
const TICK: Duration = Duration::from_secs(30);
/// The job number of steps that no request carried.
const NO_JOB: JobId = JobId(0);

/// The time, both ways: wall time for facts and dates, monotonic time for intervals.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub wall: UnixMs,
    pub instant: Instant,
}

/// What the courier is told about its platform and site.
#[derive(Clone, Debug)]
pub struct Settings {
    pub platform: Platform,
    pub employers: Vec<Employer>,
    pub utc_offset: Offset,
    /// Spreads this site's retries from other sites'.
    pub seed: u64,
}

/// One call to the platform, to be answered with [`Courier::handle_outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

/// A request that is to leave.
#[derive(Clone, Debug)]
pub struct Order {
    pub call: CallId,
    pub request: Request,
    /// To be stored, with the hash of the payload, before a byte leaves. Queries carry nothing and have none.
    pub sending: Option<UploadStep>,
}

/// What came of an order.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The platform answered; the first byte left at `sent`.
    Answered { answer: Answer, sent: Instant },
    /// Nothing was written.
    NotSent { text: String },
    /// Written at `sent`, and no answer came.
    Lost { text: String, sent: Instant },
    /// Not sent, because pictures that it must carry cannot be used. Its `sending` was not stored.
    BadPictures(Vec<PhotoHash>),
}

/// How the courier stands, for the board and the alarms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why nothing is sent until somebody repairs it.
    pub stopped: Option<String>,
    /// The last error while the platform does not answer.
    pub down: Option<String>,
    /// Registrations and punches that the platform refused and nobody has sent again.
    pub refused: u64,
    /// The last refusal's words.
    pub last_refusal: Option<String>,
}

/// How often an item may be tried, and when again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// It travels with at most this many.
    pub cap: usize,
    /// Refusals that named no field.
    pub tries: u32,
    /// Times that something it depends on was missing.
    pub holds: u32,
    pub not_before: Option<Instant>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { cap: usize::MAX, tries: 0, holds: 0, not_before: None }
    }
}

struct Call {
    method: Method,
    purpose: Purpose,
}

/// Why a call was made.
enum Purpose {
    Submit(JobId),
    Poll(JobId),
    AskTeam(JobId),
    AskWorker(JobId, Subject),
    Scan,
}

struct Stopped {
    text: String,
    since: Instant,
    probe_at: Instant,
}

/// The courier of one platform.
pub struct Courier {
    settings: Settings,
    profile: Arc<Profile>,
    registry: Registry,
    window: Window,
    jobs: Jobs,
    lanes: Lanes,
    calls: BTreeMap<CallId, Call>,
    next_call: u64,
    next_job: u64,
    steps: VecDeque<UploadStep>,
    scan: Option<Scan>,
    team_pages: BTreeMap<JobId, u32>,
    /// Teams whose last batch failed: their batches go one at a time.
    cautious: BTreeSet<String>,
    /// How long to wait before the first poll; learns how long the platform takes.
    first_poll: Duration,
    /// Counts attendance requests, so that back-fill gets its share.
    turn: u64,
    stopped: Option<Stopped>,
    last_error: Option<String>,
    refused_punches: u64,
    last_refusal: Option<String>,
    today: Option<Date>,
    /// Registrations changed: who can be sent is to be looked at again.
    dirty: bool,
}

impl Courier {
    /// The next step to store, in order.
    pub fn poll_step(&mut self) -> Option<UploadStep> {
        self.steps.pop_front()
    }

    /// What to read from the store. All steps polled before are stored and visible there first.
    pub fn poll_read(&mut self, now: Now) -> Option<Read> {
        let sendable = self.window.queues().filter(|(worker, _)| self.is_ready(worker)).map(|(_, queue)| queue.len());
        let sendable = sendable.sum();
        self.window.poll_read(now.instant, sendable)
    }

    /// The next request that may leave now.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Order> {
        self.review(now);
        if let Some(stopped) = &self.stopped {
            let may_probe = stopped.probe_at <= now.instant && self.lanes.is_idle();
            if !may_probe {
                return None;
            }
        }
        for method in Method::ALL {
            if self.lanes.is_free(method, now.instant)
                && let Some(order) = self.order(now, method)
            {
                return Some(order);
            }
        }
        None
    }

    /// When to call [`Courier::poll_transmit`] again, if nothing happens before.
    pub fn poll_timeout(&self, now: Now) -> Instant {
        let tick = now.instant + TICK;
        if let Some(stopped) = self.stopped.as_ref().filter(|stopped| stopped.probe_at > now.instant) {
            return stopped.probe_at.min(tick);
        }
        let times = [
            self.lanes.next_free(now.instant),
            self.jobs.next_due(now.instant),
            self.registry.next_due(now.instant),
            self.window.next_sweep().filter(|at| *at > now.instant),
            self.next_attendance(now),
        ];
        times.into_iter().flatten().fold(tick, Instant::min)
    }

    /// How the courier stands.
    pub fn report(&self) -> Report {
        Report {
            stopped: self.stopped.as_ref().map(|stopped| stopped.text.clone()),
            down: self.last_error.clone().filter(|_| self.lanes.is_down()),
            refused: self.registry.refused() as u64 + self.refused_punches,
            last_refusal: self.last_refusal.clone(),
        }
    }

    /// Whether a registration may go without the fields that the roster lacks.
    pub fn sends_incomplete_workers(&self) -> bool {
        self.settings.platform.missing_worker_fields == MissingWorkerFields::Send
    }

    /// Work for one free lane.
    fn order(&mut self, now: Now, method: Method) -> Option<Order> {
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
                Some(self.submit(now, Request::AddWorkers { place, workers }, subjects, None))
            }
            Method::AddMoves => self.order_moves(now),
            Method::AddAttendance => self.order_attendance(now),
            Method::QueryTeams => self.order_team_query(now),
            Method::QueryWorkers => self.order_worker_query(now),
            Method::QueryAttendance => self.order_scan(now),
        }
    }

    fn order_poll(&mut self, now: Now) -> Option<Order> {
        let (job, awaited) = self.jobs.next_poll(now.instant)?;
        let request = Request::QueryJob { serial: awaited.serial.clone() };
        Some(self.call(request, Purpose::Poll(job), None))
    }

    fn order_moves(&mut self, now: Now) -> Option<Order> {
        let limit = self.profile.caps().moves;
        let (place, moves) = self.registry.next_moves(now.instant, self.date_of(now.wall), limit)?;
        let subject = |one: &Move| match one.kind {
            MoveKind::Entry => Subject::Entry(one.worker.worker_id.clone(), one.date),
            MoveKind::Exit => Subject::Exit(one.worker.worker_id.clone(), one.date),
        };
        let subjects = moves.iter().map(subject).collect();
        Some(self.submit(now, Request::AddMoves { place, moves }, subjects, None))
    }

    /// A request that carries subjects: a new job.
    fn submit(&mut self, now: Now, request: Request, subjects: Vec<Subject>, team_number: Option<String>) -> Order {
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

    fn call(&mut self, request: Request, purpose: Purpose, sending: Option<UploadStep>) -> Order {
        let call = CallId(self.next_call);
        self.next_call += 1;
        let method = request.method();
        self.lanes.take(method);
        self.calls.insert(call, Call { method, purpose });
        Order { call, request, sending }
    }

    fn put_in_job(&mut self, subject: &Subject, id: JobId) {
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
            Purpose::AskTeam(job) => self.handle_teams(now, job, outcome),
            Purpose::AskWorker(job, subject) => self.handle_workers(now, job, &subject, outcome),
            Purpose::Scan => self.handle_scanned(now, outcome),
        }
    }

    /// What an outcome says about the platform itself.
    fn note(&mut self, now: Now, method: Method, outcome: &Outcome) {
        let (sent, went, error) = match outcome {
            Outcome::BadPictures(_) => {
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
            Outcome::BadPictures(photos) => return self.hold_pictures(now, id, &photos),
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
                self.lose(now, id, now.instant, Then::Resend, text);
            }
            Outcome::Answered { answer: Answer::Ended(_), .. } => {
                awaited.refusals += 1;
                awaited.wait_again(now.instant, first_poll);
            }
            Outcome::Answered { .. } | Outcome::NotSent { .. } | Outcome::Lost { .. } | Outcome::BadPictures(_) => {
                awaited.poll_at = now.instant + first_poll;
            }
        }
    }

    fn step(&self, now: Now, job: JobId, method: Method, subjects: Vec<Subject>, step: Step) -> UploadStep {
        UploadStep {
            platform: self.settings.platform.name.clone(),
            job,
            method: self.profile.method_name(method).to_owned(),
            at: now.wall,
            subjects,
            step,
        }
    }

    fn push(&mut self, now: Now, job: JobId, method: Method, subjects: Vec<Subject>, step: Step) {
        if !subjects.is_empty() {
            let step = self.step(now, job, method, subjects, step);
            self.steps.push_back(step);
        }
    }

    /// The site's date.
    fn date_of(&self, at: UnixMs) -> Date {
        super::date_at(at, self.settings.utc_offset)
    }
}
