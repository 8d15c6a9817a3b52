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
mod calls;
mod intake;
mod jobs;
mod lanes;
mod listing;
mod registry;
mod restoring;
mod scanning;
mod settling;
mod window;

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod stories;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::civil::Date;
use jiff::tz::Offset;

use self::asking::Question;
use self::jobs::Jobs;
use self::lanes::Lanes;
use self::registry::Registry;
pub use self::restoring::Restored;
use self::scanning::Scan;
pub use self::window::Read;
use self::window::Window;
use super::profiles::{Answer, Method, Profile, Request};
use crate::config::{Employer, MissingWorkerFields, Platform};
use crate::punch::{JobId, PhotoHash, Step, Subject, UnixMs, UploadStep};
use crate::store::Forerunner;

/// After an error of key or address the courier tries one request after this long.
const PROBE_AFTER: Duration = Duration::from_secs(5 * 60);
/// Attendance requests that may await their result at one time.
const OUTSTANDING: usize = 100;
/// Back-off of what depends on something that the platform does not know yet.
const DEPENDS_FIRST: Duration = Duration::from_secs(15);
const DEPENDS_LONGEST: Duration = Duration::from_secs(600);
/// Back-off of a single item that was refused without a reason that names a field, or whose picture cannot be read.
const ITEM_FIRST: Duration = Duration::from_secs(2);
const ITEM_LONGEST: Duration = Duration::from_secs(600);
/// Back-off of a question that was answered by nothing that could be used.
const ASK_FIRST: Duration = Duration::from_secs(5);
const ASK_LONGEST: Duration = Duration::from_secs(600);
/// Useless answers to a question after which people are told.
const IN_VAIN: u32 = 3;
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
    /// Not sent, because pictures that it carries cannot be read now. Its `sending` was not stored.
    UnreadPictures { photos: Vec<PhotoHash>, text: String },
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
    /// Uploads whose outcome the platform does not tell, though it was asked several times.
    pub unclear: usize,
    /// What it said instead.
    pub last_unclear: Option<String>,
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
    /// The method's [`Question`].
    Ask,
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
    /// The question that each query is busy with.
    questions: BTreeMap<Method, Question>,
    scan: Option<Scan>,
    /// Photos that turned out to be no pictures.
    bad_photos: Vec<PhotoHash>,
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
    /// The box that the data comes from, if it was another.
    forerunner: Option<Forerunner>,
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
        let is_short = self.window.may_read_on() && self.is_short();
        self.window.poll_read(now.instant, is_short)
    }

    /// Whether so few punches of the window could be sent that more should be read.
    fn is_short(&self) -> bool {
        let ready = self.window.queues().filter(|(worker, _)| self.is_ready(worker));
        ready.flat_map(|(_, queue)| queue).take(window::LOW).count() < window::LOW
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

    /// When to call [`Courier::poll_transmit`] again, if nothing happens before. `now` is no later than it was at the last
    /// call of [`Courier::poll_read`] and [`Courier::poll_transmit`]: what is due up to `now` is taken as done.
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
        let unclear = self.jobs.unclear(IN_VAIN);
        Report {
            stopped: self.stopped.as_ref().map(|stopped| stopped.text.clone()),
            down: self.last_error.clone().filter(|_| self.lanes.is_down()),
            refused: self.registry.refused() as u64 + self.refused_punches,
            last_refusal: self.last_refusal.clone(),
            unclear: unclear.map_or(0, |(subjects, _)| subjects),
            last_unclear: unclear.map(|(_, said)| said.to_owned()),
        }
    }

    /// Whether a registration may go without the fields that the roster lacks.
    pub fn sends_incomplete_workers(&self) -> bool {
        self.settings.platform.missing_worker_fields == MissingWorkerFields::Send
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
