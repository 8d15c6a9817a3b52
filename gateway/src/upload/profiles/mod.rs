//! What the courier may ask of a platform, and the families that can answer.
//!
//! A [`Request`] says in the site's words what is to be uploaded or asked; a [`Profile`] turns it into bytes of its
//! family's protocol and the answer back into an [`Answer`]. A profile is pure: it never sends, waits or asks the time.
//! A further family is one module and one row in each table below.

pub mod mohurd;

use std::collections::HashMap;

use jiff::civil::Date;
use jiff::tz::Offset;

use crate::config::{Employer, Platform, ProfileKind};
use crate::punch::{Direction, PhotoHash, TeamKey, UnixMs, Worker};
use crate::store::Outgoing;

/// One platform family with one site's credentials.
#[derive(Debug)]
pub enum Profile {
    Mohurd(mohurd::Mohurd),
}

/// The settings do not make a working profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("the secret has {0} bytes; an AES key has 16, 24 or 32")]
    SecretLength(usize),
}

/// What a family can take in one request.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Workers per registration request.
    pub workers: usize,
    /// Entries or exits per request.
    pub moves: usize,
    /// Attendance items per request.
    pub punches: usize,
}

/// The kinds of request. Each has its own rate and runs beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    QueryJob,
    AddEmployer,
    QueryEmployers,
    AddTeam,
    QueryTeams,
    AddWorkers,
    UpdateWorker,
    QueryWorkers,
    AddMoves,
    QueryMoves,
    AddAttendance,
    QueryAttendance,
}

impl Method {
    /// Every method, in the order in which the courier looks for work.
    pub const ALL: [Method; 12] = [
        Method::QueryJob,
        Method::AddEmployer,
        Method::QueryEmployers,
        Method::AddTeam,
        Method::QueryTeams,
        Method::AddWorkers,
        Method::UpdateWorker,
        Method::QueryWorkers,
        Method::AddMoves,
        Method::QueryMoves,
        Method::AddAttendance,
        Method::QueryAttendance,
    ];

    /// The query that tells what a request of this method has brought about; `None` for the queries themselves.
    pub fn asked_by(self) -> Option<Method> {
        match self {
            Method::AddEmployer => Some(Method::QueryEmployers),
            Method::AddTeam => Some(Method::QueryTeams),
            Method::AddWorkers | Method::UpdateWorker => Some(Method::QueryWorkers),
            Method::AddMoves => Some(Method::QueryMoves),
            Method::AddAttendance => Some(Method::QueryAttendance),
            Method::QueryJob
            | Method::QueryEmployers
            | Method::QueryTeams
            | Method::QueryWorkers
            | Method::QueryMoves
            | Method::QueryAttendance => None,
        }
    }
}

/// A worker going to or from the site for good.
#[derive(Clone, Debug)]
pub struct Move {
    pub worker: Worker,
    pub date: Date,
    pub kind: MoveKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MoveKind {
    Entry,
    Exit,
}

/// A punch with what the platform must know of its worker.
#[derive(Clone, Debug)]
pub struct Attendance {
    pub out: Outgoing,
    pub id_number: String,
}

/// Where a team stands on the platform.
#[derive(Clone, Debug)]
pub struct TeamPlace {
    pub employer: Employer,
    pub team: TeamKey,
    /// The id that the platform gave.
    pub number: String,
}

/// Which workers are asked for.
#[derive(Clone, Debug)]
pub enum Whom {
    /// Those of the team with this number.
    Team(String),
    /// The one with this ID number, in whatever team.
    Worker(String),
}

/// One thing to ask of a platform.
#[derive(Clone, Debug)]
pub enum Request {
    QueryJob {
        serial: String,
    },
    AddEmployer {
        employer: Employer,
    },
    QueryEmployers {
        employer: Employer,
        page: u32,
    },
    AddTeam {
        employer: Employer,
        team: TeamKey,
        leader: Option<Box<Worker>>,
    },
    QueryTeams {
        employer: Employer,
        team: TeamKey,
        page: u32,
    },
    AddWorkers {
        place: TeamPlace,
        workers: Vec<Worker>,
    },
    /// What the platform has of a worker becomes as on the roster: the worker goes to another team.
    UpdateWorker {
        place: TeamPlace,
        worker: Box<Worker>,
    },
    QueryWorkers {
        whom: Whom,
        page: u32,
    },
    AddMoves {
        place: TeamPlace,
        moves: Vec<Move>,
    },
    QueryMoves {
        team_number: String,
        page: u32,
    },
    AddAttendance {
        team_number: String,
        punches: Vec<Attendance>,
        images: bool,
    },
    QueryAttendance {
        team_number: String,
        date: Date,
        page: u32,
    },
}

impl Request {
    pub fn method(&self) -> Method {
        match self {
            Request::QueryJob { .. } => Method::QueryJob,
            Request::AddEmployer { .. } => Method::AddEmployer,
            Request::QueryEmployers { .. } => Method::QueryEmployers,
            Request::AddTeam { .. } => Method::AddTeam,
            Request::QueryTeams { .. } => Method::QueryTeams,
            Request::AddWorkers { .. } => Method::AddWorkers,
            Request::UpdateWorker { .. } => Method::UpdateWorker,
            Request::QueryWorkers { .. } => Method::QueryWorkers,
            Request::AddMoves { .. } => Method::AddMoves,
            Request::QueryMoves { .. } => Method::QueryMoves,
            Request::AddAttendance { .. } => Method::AddAttendance,
            Request::QueryAttendance { .. } => Method::QueryAttendance,
        }
    }

    /// The photos that the request carries.
    pub fn photos(&self) -> Vec<PhotoHash> {
        match self {
            Request::AddWorkers { workers, .. } => workers.iter().filter_map(|worker| worker.photo).collect(),
            Request::UpdateWorker { worker, .. } => worker.photo.into_iter().collect(),
            Request::AddAttendance { punches, images: true, .. } => {
                punches.iter().filter_map(|punch| punch.out.photo).collect()
            }
            Request::QueryJob { .. }
            | Request::AddEmployer { .. }
            | Request::QueryEmployers { .. }
            | Request::AddTeam { .. }
            | Request::QueryTeams { .. }
            | Request::QueryWorkers { .. }
            | Request::AddMoves { .. }
            | Request::QueryMoves { .. }
            | Request::AddAttendance { .. }
            | Request::QueryAttendance { .. } => Vec::new(),
        }
    }
}

/// Pictures ready to send, as Base64 text within the platform's limit. A picture that is not here is left out.
pub type Pictures = HashMap<PhotoHash, String>;

/// An HTTP POST, ready to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    pub content_type: &'static str,
    pub body: String,
}

/// How one piece of work ended at the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Done. `external` is the id that the platform gave, for a team.
    Done { external: Option<String> },
    /// It was there already, which is as good.
    Exists { text: String },
    /// Single items are wrong; nothing is said of the others.
    Items(Vec<ItemError>),
    /// Refused as a whole. `names_field`: the text says what is wrong with it, so sending it again cannot help.
    Failed { text: String, names_field: bool },
    /// Something it depends on is not known to the platform yet.
    Depends { text: String },
    /// The platform stumbled; whether the work was done is not known.
    Unclear { text: String },
}

/// What is wrong with one item of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemError {
    /// Position in the request, from 0.
    pub index: usize,
    pub text: String,
    /// The item was there already.
    pub exists: bool,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows<T> {
    pub rows: Vec<T>,
    pub page: Page,
}

/// What a page of a list says of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows on the page, of whatever kind.
    pub count: u64,
    /// Those among them that could not be understood: each may be the one that is looked for.
    pub unread: u64,
    /// Rows of the whole list, when the platform says so.
    pub total: Option<u64>,
}

/// An employer as the platform lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmployerRow {
    pub corp_code: String,
}

/// A team as the platform lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamRow {
    pub name: String,
    pub corp_code: Option<String>,
    pub number: String,
}

/// A worker as the platform lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    pub id_number: String,
    pub team_number: Option<String>,
}

/// An entry or exit as the platform lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveRow {
    pub id_number: String,
    pub date: Date,
    pub kind: MoveKind,
}

/// What makes a punch the same punch at the platform: ID number, date text to the second, direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PunchKey {
    pub id_number: String,
    pub date: String,
    pub direction: Direction,
}

/// What the platform said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request's work ended at once.
    Ended(Ending),
    /// Taken; the result comes later under this serial code.
    Accepted {
        serial: String,
    },
    /// Asked for a job: it is not done yet.
    JobPending,
    /// Asked for a job: it ended.
    JobEnded(Ending),
    Employers(Rows<EmployerRow>),
    Teams(Rows<TeamRow>),
    Workers(Rows<WorkerRow>),
    Moves(Rows<MoveRow>),
    Attendance(Rows<PunchKey>),
    /// Asked for a list, the platform said yes and gave none. That is not an empty list.
    NoList {
        text: String,
    },
    /// Not an answer of the platform itself; whether the request was processed is not known.
    Garbled {
        text: String,
    },
    /// Not processed. `slow_down`: too many requests.
    TryLater {
        text: String,
        slow_down: bool,
    },
    /// Key, permission or address refused; nothing was processed and nothing will be until somebody repairs it.
    Stop {
        text: String,
    },
}

impl Profile {
    /// The profile of a `[[platform]]`.
    pub fn of(platform: &Platform, utc_offset: Offset) -> Result<Profile, ProfileError> {
        match platform.profile {
            ProfileKind::Mohurd => Ok(Profile::Mohurd(mohurd::Mohurd::new(platform, utc_offset)?)),
        }
    }

    /// The name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Profile::Mohurd(_) => "mohurd",
        }
    }

    pub fn caps(&self) -> Caps {
        match self {
            Profile::Mohurd(_) => mohurd::CAPS,
        }
    }

    /// The platform's name of a method, for the ledger and for the wire.
    pub fn method_name(&self, method: Method) -> &'static str {
        match self {
            Profile::Mohurd(_) => mohurd::method_name(method),
        }
    }

    /// What the platform requires of a worker and the roster row lacks.
    pub fn missing_fields(&self, worker: &Worker) -> Vec<&'static str> {
        match self {
            Profile::Mohurd(_) => mohurd::missing_fields(worker),
        }
    }

    /// The request's payload. Serialised once: what is signed is what is sent.
    pub fn payload(&self, request: &Request, pictures: &Pictures) -> String {
        match self {
            Profile::Mohurd(mohurd) => mohurd.payload(request, pictures),
        }
    }

    /// Signs a payload for sending at `now`. `nonce` is never used twice.
    pub fn sign(&self, method: Method, payload: &str, now: UnixMs, nonce: &str) -> Wire {
        match self {
            Profile::Mohurd(mohurd) => mohurd.sign(method, payload, now, nonce),
        }
    }

    /// Understands an answer to `request`; never fails, because a platform may say anything.
    pub fn read(&self, request: &Request, status: u16, body: &[u8]) -> Answer {
        match self {
            Profile::Mohurd(mohurd) => mohurd.read(request, status, body),
        }
    }

    /// How the platform knows a punch.
    pub fn punch_key(&self, punch: &Attendance) -> PunchKey {
        match self {
            Profile::Mohurd(mohurd) => mohurd.punch_key(punch),
        }
    }
}
