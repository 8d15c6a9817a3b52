//! Requests that are on their way: what they carry, and what is awaited.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::punch::{JobId, Subject};
use crate::upload::profiles::Method;

/// A serial code is asked for less and less often, but at least this often.
const LONGEST_POLL: Duration = Duration::from_secs(60);

/// One request with everything it carries, until each of its subjects is settled or sent again.
#[derive(Clone, Debug)]
pub struct Job {
    pub method: Method,
    /// In the order of the request's items.
    pub subjects: Vec<Subject>,
    /// How many there were at first.
    pub size: usize,
    /// The team's number at the platform under which it was sent, when one was and it is known.
    pub team_number: Option<String>,
    pub phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request is on the wire.
    Calling,
    /// The platform works on it.
    Accepted(Awaited),
    /// Nobody knows: the platform is asked.
    Unknown(Doubt),
}

/// A serial code whose result is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    pub serial: String,
    pub poll_at: Instant,
    pub polls: u32,
    /// Polls that were refused in a row.
    pub refusals: u32,
    pub give_up_at: Instant,
}

/// An outcome that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The platform is asked from here on.
    pub ask_at: Instant,
    pub then: Then,
    /// How often it was asked and said nothing that could be used, and what it said last.
    pub in_vain: u32,
    pub said: String,
}

impl Doubt {
    pub fn new(ask_at: Instant, then: Then) -> Doubt {
        Doubt { ask_at, then, in_vain: 0, said: String::new() }
    }
}

/// What to do with items that the platform turns out not to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// The request was lost: send it again.
    Resend,
    /// The request failed for a reason that names no item: send smaller ones, and a single one not for ever.
    Split { text: String },
    /// The platform says that it is there, and is asked where. If that cannot be asked, its word is taken; if it is not
    /// there after all, the request has failed with this text.
    Trust { text: String },
    /// Nothing was sent, because the platform was told something else before: a person has to see to it.
    Hold { reason: String },
}

/// All jobs of one courier, and when to look after them.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: BTreeMap<JobId, Job>,
}

impl Jobs {
    pub fn get(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.get_mut(&id)
    }

    pub fn insert(&mut self, id: JobId, job: Job) {
        self.jobs.insert(id, job);
    }

    pub fn remove(&mut self, id: JobId) -> Option<Job> {
        self.jobs.remove(&id)
    }

    /// Whether the platform has taken the job and works on it.
    pub fn is_accepted(&self, id: JobId) -> bool {
        self.get(id).is_some_and(|job| matches!(job.phase, Phase::Accepted(_)))
    }

    /// Whether any attendance of this team is under way.
    pub fn has_attendance_of(&self, team_number: &str) -> bool {
        let mut attendance = self.jobs.values().filter(|job| job.method == Method::AddAttendance);
        attendance.any(|job| job.team_number.as_deref() == Some(team_number))
    }

    /// How many attendance requests await their result.
    pub fn outstanding(&self) -> usize {
        self.jobs.values().filter(|job| job.method == Method::AddAttendance).count()
    }

    /// The accepted job whose poll is most overdue.
    pub fn next_poll(&self, now: Instant) -> Option<(JobId, &Awaited)> {
        let accepted = self.jobs.iter().filter_map(|(id, job)| match &job.phase {
            Phase::Accepted(awaited) => Some((*id, awaited)),
            Phase::Calling | Phase::Unknown(_) => None,
        });
        accepted.filter(|(_, awaited)| awaited.poll_at <= now).min_by_key(|(_, awaited)| awaited.poll_at)
    }

    /// The doubt about a job, as long as there is one.
    pub fn doubt(&self, id: JobId) -> Option<&Doubt> {
        match &self.get(id)?.phase {
            Phase::Unknown(doubt) => Some(doubt),
            Phase::Calling | Phase::Accepted(_) => None,
        }
    }

    pub fn doubt_mut(&mut self, id: JobId) -> Option<&mut Doubt> {
        match &mut self.get_mut(id)?.phase {
            Phase::Unknown(doubt) => Some(doubt),
            Phase::Calling | Phase::Accepted(_) => None,
        }
    }

    /// Jobs that are to be asked for by this query, the most overdue first.
    pub fn to_ask(&self, query: Method, now: Instant) -> Vec<JobId> {
        let mut due: Vec<(Instant, JobId)> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.method.asked_by() == Some(query))
            .filter_map(|(id, _)| Some((self.doubt(*id)?.ask_at, *id)))
            .filter(|(ask_at, _)| *ask_at <= now)
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// Accepted jobs that the platform did not finish in time.
    pub fn overdue(&self, now: Instant) -> Vec<JobId> {
        let late = self
            .jobs
            .iter()
            .filter(|(_, job)| matches!(&job.phase, Phase::Accepted(awaited) if awaited.give_up_at <= now));
        late.map(|(id, _)| *id).collect()
    }

    /// How many subjects the platform was asked for in vain this often or more, and what it said last.
    pub fn unclear(&self, times: u32) -> Option<(usize, &str)> {
        let unclear = || {
            let doubts = self.jobs.iter().filter_map(|(id, job)| Some((self.doubt(*id)?, job)));
            doubts.filter(|(doubt, _)| doubt.in_vain >= times)
        };
        let (worst, _) = unclear().max_by_key(|(doubt, _)| doubt.in_vain)?;
        Some((unclear().map(|(_, job)| job.subjects.len()).sum(), worst.said.as_str()))
    }

    /// When the next job wants something.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let times = self.jobs.values().filter_map(|job| match &job.phase {
            Phase::Calling => None,
            Phase::Accepted(awaited) => Some(awaited.poll_at),
            Phase::Unknown(doubt) => Some(doubt.ask_at),
        });
        times.filter(|at| *at > now).min()
    }
}

impl Awaited {
    /// Not done yet: the next poll, each wait half longer than the one before.
    pub fn wait_again(&mut self, now: Instant, first: Duration) {
        self.polls += 1;
        let longer = first.max(Duration::from_millis(100)).mul_f64(1.5_f64.powi(self.polls.min(20) as i32));
        self.poll_at = now + longer.min(LONGEST_POLL.max(first));
    }
}
