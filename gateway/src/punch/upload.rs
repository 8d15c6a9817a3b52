//! Facts about uploads: what a platform was told of, and what it said.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{PlatformName, PunchId, TeamKey, UnixMs, WorkerId};

/// What an upload is about. Registrations come before the punches that need them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// An employer by its configured name.
    Employer(String),
    Team(TeamKey),
    Worker(WorkerId),
    /// A worker's entry on a date.
    Entry(WorkerId, Date),
    /// A worker's exit on a date.
    Exit(WorkerId, Date),
    Punch(PunchId),
}

/// A number that one courier gives to one request; unique per platform over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// One step of one upload job, for all the subjects it carries. Each is durable before the next is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadStep {
    pub platform: PlatformName,
    pub job: JobId,
    /// The platform's method name, for example `WorkerAttendance.Add`.
    pub method: String,
    pub at: UnixMs,
    pub subjects: Vec<Subject>,
    pub step: Step,
}

/// What happened to the subjects of an [`UploadStep`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Cannot be sent yet; the reason names what is missing.
    Waiting { reason: String },
    /// About to be written to the wire. After a crash its outcome is unknown.
    Sending { request_hash: [u8; 32] },
    /// Taken by the platform, which answers later under this serial code.
    Accepted { serial: String },
    /// A receipt: the platform has it. `external` is the id it gave (a team's `teamSysNo`).
    Confirmed { external: Option<String>, note: Option<String> },
    /// A receipt: the platform will not have it.
    Refused { reason: String },
    /// Known not to have been processed: back to the queue.
    Requeued { reason: String },
    /// No answer after the request was written: query before sending again.
    Unknown { reason: String },
    /// A registration that is not to be sent any more, because the roster says otherwise now.
    Withdrawn { reason: String },
}

/// Where a subject stands with a platform; the view's sum of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UploadState {
    Queued,
    Waiting,
    Sending,
    Accepted,
    Confirmed,
    Refused,
    Unknown,
    Withdrawn,
}

impl UploadState {
    /// The state's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            UploadState::Queued => "queued",
            UploadState::Waiting => "waiting",
            UploadState::Sending => "sending",
            UploadState::Accepted => "accepted",
            UploadState::Confirmed => "confirmed",
            UploadState::Refused => "refused",
            UploadState::Unknown => "unknown",
            UploadState::Withdrawn => "withdrawn",
        }
    }

    /// Whether nothing more is to come: the platform has answered for it, or is not to have it.
    pub fn is_settled(self) -> bool {
        match self {
            UploadState::Confirmed | UploadState::Refused | UploadState::Withdrawn => true,
            UploadState::Queued
            | UploadState::Waiting
            | UploadState::Sending
            | UploadState::Accepted
            | UploadState::Unknown => false,
        }
    }
}
