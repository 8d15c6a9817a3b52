//! How a platform misbehaves: chosen per answer and per job, from a seed.

use std::time::Duration;

use crate::faults::Faults;

/// Probabilities of bad manners. The default is none.
pub struct Misbehaviour {
    faults: Faults,
    /// An answer fails: 500, -5, "Internal Error", lost, late, code 0 and nothing in it; the work is done in half of the
    /// cases where it may be.
    pub answers: f64,
    /// A job ends with "Internal Error", half of the time with its work done.
    pub jobs: f64,
    /// One item of a batch fails with its index and field.
    pub items: f64,
    /// A batch fails without saying which item is wrong.
    pub batches: f64,
    /// How late a late answer is at most.
    pub late: Duration,
}

impl Default for Misbehaviour {
    fn default() -> Self {
        Misbehaviour::from(Faults::new(0))
    }
}

impl From<Faults> for Misbehaviour {
    /// Still behaves; set the probabilities.
    fn from(faults: Faults) -> Self {
        Misbehaviour { faults, answers: 0.0, jobs: 0.0, items: 0.0, batches: 0.0, late: Duration::from_millis(800) }
    }
}

impl Misbehaviour {
    /// A platform that fails a third of its answers, and some of its jobs.
    pub fn third(faults: Faults) -> Misbehaviour {
        Misbehaviour { answers: 1.0 / 3.0, jobs: 0.05, ..Misbehaviour::from(faults) }
    }

    /// What happens to the next answer.
    pub(super) fn plan(&mut self) -> Option<Plan> {
        if !self.faults.happens(self.answers) {
            return None;
        }
        let works = self.faults.happens(0.5);
        let late = Duration::from_millis(self.faults.pick(0..self.late.as_millis().max(1) as u64));
        Some(match self.faults.pick(0..6) {
            0 => Plan::TooFast,
            1 => Plan::Internal { works },
            2 => Plan::Http500 { works },
            3 => Plan::Lose { works },
            4 => Plan::Hollow { works },
            _ => Plan::Late(late),
        })
    }

    /// What happens to the next job.
    pub(super) fn job_fault(&mut self) -> Option<JobFault> {
        let works = self.faults.happens(0.5);
        if self.faults.happens(self.jobs) {
            return Some(JobFault::Internal { works });
        }
        if self.faults.happens(self.items) {
            return Some(JobFault::Item { pick: self.faults.pick(0..1_000) as usize });
        }
        self.faults.happens(self.batches).then_some(JobFault::Batch)
    }
}

/// What happens to one answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    TooFast,
    Internal {
        works: bool,
    },
    Http500 {
        works: bool,
    },
    Lose {
        works: bool,
    },
    /// Code 0: without a serial code, or with a list whose rows are missing.
    Hollow {
        works: bool,
    },
    Late(Duration),
}

impl Plan {
    /// Whether the request is worked on.
    pub(super) fn works(self) -> bool {
        match self {
            Plan::TooFast => false,
            Plan::Internal { works } | Plan::Http500 { works } | Plan::Lose { works } | Plan::Hollow { works } => works,
            Plan::Late(_) => true,
        }
    }
}

/// What happens to one job.
#[derive(Clone, Copy, Debug)]
pub(super) enum JobFault {
    Internal { works: bool },
    Item { pick: usize },
    Batch,
}
