//! Facts: what happened at the gate and what was later said about it.
//!
//! A fact is written once to the ledger and never edited; a correction, a verdict or a receipt is a further fact that
//! points to an earlier one. This module holds plain data and knows nothing about terminals, platforms or storage.
//! Enum variants and struct fields here are stored with postcard, which has no names on disk: variants are only ever
//! added at the end, and a struct whose fields must change gets a new variant of [`Fact`] beside the old one.

mod upload;

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use upload::*;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// Milliseconds from `earlier` to `self`; negative when `self` is before it.
    pub fn since(self, earlier: UnixMs) -> i64 {
        self.0 - earlier.0
    }

    /// This moment `ms` milliseconds later.
    pub fn plus_ms(self, ms: i64) -> UnixMs {
        UnixMs(self.0.saturating_add(ms))
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.to_owned())
            }
        }
    };
}

text_id! {
    /// A terminal's id in the configuration or given at approval, for example `north-in`; not its serial number.
    TerminalId
}
text_id! {
    /// A worker's id on this site's roster, for example `W0001`.
    WorkerId
}
text_id! {
    /// The name of a `[[platform]]` section.
    PlatformName
}

/// A fact's position in the ledger, from 1, without holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a punch: the first 16 bytes of a SHA-256 over what the terminal says of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PunchId(pub [u8; 16]);

impl PunchId {
    /// Derives the id from terminal serial, the terminal's own record number (or `boot:sequence`), the terminal's time
    /// text and the person key, so that re-reading, redelivery, replay and a second gateway agree on it.
    pub fn derive(serial: &str, record: &str, time_text: &str, person_key: &str) -> PunchId {
        let mut hash = Sha256::new();
        for part in [serial, record, time_text, person_key] {
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        PunchId(id)
    }
}

impl fmt::Display for PunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PunchId({self})")
    }
}

impl FromStr for PunchId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id)?;
        Ok(PunchId(id))
    }
}

/// SHA-256 of a photo's bytes; its name in the photo store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PhotoHash(pub [u8; 32]);

impl PhotoHash {
    pub fn of(jpeg: &[u8]) -> PhotoHash {
        PhotoHash(Sha256::digest(jpeg).into())
    }
}

impl fmt::Display for PhotoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A card number as its canonical low 32 bits; shown as 8 upper-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Badge(pub u32);

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.0)
    }
}

/// Which way the worker went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    In,
    Out,
    Unknown,
}

impl Direction {
    /// `in`, `out` or `unknown`, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Unknown => "unknown",
        }
    }
}

/// Where a punch's direction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectionSource {
    /// The terminal is configured `in` or `out`.
    Configured,
    /// The terminal said so.
    Terminal,
    /// The terminal is configured `alternate`: verification infers it from the worker's previous punch.
    Alternate,
}

/// How the worker was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    Face,
    Card,
    IdCard,
    Fingerprint,
    Palm,
    Password,
    Qr,
    Remote,
    Other,
}

impl Method {
    /// The method's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Face => "face",
            Method::Card => "card",
            Method::IdCard => "id-card",
            Method::Fingerprint => "fingerprint",
            Method::Palm => "palm",
            Method::Password => "password",
            Method::Qr => "qr",
            Method::Remote => "remote",
            Method::Other => "other",
        }
    }
}

/// What a terminal presented to name the worker, as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential {
    /// `customId`: the worker id that the roster download gave, or an ID number on terminals loaded by others.
    CustomId(String),
    /// An identity-card number.
    IdNumber(String),
    /// A card number of 32 bits (Wiegand 34, EM cards: the low 32 bits).
    Badge(Badge),
    /// A Wiegand-26 card: only the low 24 bits are known.
    Badge24(u32),
    /// The terminal's own row number for a person enrolled on its screen; matches nobody by itself.
    TerminalPerson(String),
    /// A line of text that is no card number.
    Text(String),
}

/// What the terminal itself decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminalSays {
    /// The terminal recognised and admitted the person.
    Allowed,
    /// The terminal recognised and refused the person, with its own code.
    Refused(String),
    /// The terminal does not know the person.
    NotEnrolled,
    /// The terminal has no opinion (a plain badge reader).
    Nothing,
}

/// Where a punch's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeSource {
    /// The terminal's own calendar clock.
    Terminal,
    /// The reader's uptime, dated by the gateway; true time lies within ± this many milliseconds.
    Uptime { uncertainty_ms: u32 },
    /// The terminal has no clock: the time the gateway read the badge.
    Gateway,
}

/// One credential at one terminal at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Punch {
    pub id: PunchId,
    pub terminal: TerminalId,
    /// The terminal's serial number, as on the wire.
    pub serial: String,
    /// The terminal's own record number as text.
    pub record: Option<String>,
    pub time: UnixMs,
    /// The terminal's time text as it came; empty when it has none.
    pub time_text: String,
    pub time_source: TimeSource,
    pub received_at: UnixMs,
    /// Whether the terminal sent it at once (`Some(false)`: stored by the terminal and sent later).
    pub live: Option<bool>,
    /// How far the terminal's clock was ahead of the gateway's when last measured, in milliseconds.
    pub skew_ms: Option<i64>,
    pub direction: Direction,
    pub direction_source: DirectionSource,
    pub method: Method,
    /// Best first.
    pub credentials: Vec<Credential>,
    pub says: TerminalSays,
    /// Match score from 0 to 100.
    pub similarity: Option<f32>,
    pub photo: Option<PhotoHash>,
    /// The record as received, photos cut out.
    pub raw: Vec<u8>,
}

/// Why a punch waits for somebody; judged again when the roster changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HeldReason {
    UnknownWorker,
    BeforeEntry,
    DirectionUnknown,
    ClockSuspect,
}

/// Why a punch does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RejectedReason {
    Left,
    RefusedByTerminal,
    NotEnrolled,
    LowSimilarity,
    Duplicate,
}

/// What verification said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    Verified,
    Held(HeldReason),
    Rejected(RejectedReason),
}

impl Verdict {
    /// `verified`, `held` or `rejected`.
    pub fn kind(self) -> &'static str {
        match self {
            Verdict::Verified => "verified",
            Verdict::Held(_) => "held",
            Verdict::Rejected(_) => "rejected",
        }
    }

    /// The reason's name in the API, if there is one.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Verdict::Verified => None,
            Verdict::Held(HeldReason::UnknownWorker) => Some("unknown-worker"),
            Verdict::Held(HeldReason::BeforeEntry) => Some("before-entry"),
            Verdict::Held(HeldReason::DirectionUnknown) => Some("direction-unknown"),
            Verdict::Held(HeldReason::ClockSuspect) => Some("clock-suspect"),
            Verdict::Rejected(RejectedReason::Left) => Some("left"),
            Verdict::Rejected(RejectedReason::RefusedByTerminal) => Some("refused-by-terminal"),
            Verdict::Rejected(RejectedReason::NotEnrolled) => Some("not-enrolled"),
            Verdict::Rejected(RejectedReason::LowSimilarity) => Some("low-similarity"),
            Verdict::Rejected(RejectedReason::Duplicate) => Some("duplicate"),
        }
    }
}

/// One verdict on one punch. A later judgement of the same punch replaces an earlier one; both stay in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    pub punch: PunchId,
    pub at: UnixMs,
    pub verdict: Verdict,
    pub rule_version: u16,
    pub worker: Option<WorkerId>,
    /// The direction that counts: as in the punch, or inferred.
    pub direction: Direction,
    pub direction_inferred: bool,
    /// For `duplicate`: the punch that is kept.
    pub duplicate_of: Option<PunchId>,
}

/// A team's identity on the site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TeamKey {
    /// The employer's name as configured.
    pub employer: String,
    pub name: String,
}

/// A worker as on the roster; a row of the roster CSV. Dates are inclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    pub worker_id: WorkerId,
    pub name: String,
    /// 18 characters, check digit right, `X` in upper case.
    pub id_number: String,
    pub team: TeamKey,
    /// National workType code, three or four digits.
    pub trade: String,
    pub badge: Option<BadgeOnRoster>,
    pub phone: Option<String>,
    pub bank_card: Option<String>,
    pub entered_on: Option<Date>,
    pub left_on: Option<Date>,
    pub leader: bool,
    pub gender: Option<String>,
    pub birth: Option<Date>,
    pub nation: Option<String>,
    pub address: Option<String>,
    /// Authority that issued the identity card.
    pub issuer: Option<String>,
    pub valid_from: Option<Date>,
    pub valid_to: Option<Date>,
    pub politics: Option<String>,
    pub education: Option<String>,
    pub photo: Option<PhotoHash>,
}

/// A badge as written on the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BadgeOnRoster {
    /// All 32 bits.
    Full(Badge),
    /// `fff,ccccc`: only the low 24 bits are known and compared.
    Low24(u32),
}

impl fmt::Display for BadgeOnRoster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadgeOnRoster::Full(badge) => badge.fmt(f),
            BadgeOnRoster::Low24(low) => write!(f, "{:03},{:05}", low >> 16, low & 0xFFFF),
        }
    }
}

/// Punches known to be lost or missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The terminal that lost them; `None` when it is the gateway's own store.
    pub terminal: Option<TerminalId>,
    pub at: UnixMs,
    /// How many are missing, when known.
    pub count: Option<u64>,
    pub kind: GapKind,
    /// Place and evidence in words: record numbers, boot and sequence, file and offset.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapKind {
    /// A reader's journal was full and it had to drop.
    JournalFull,
    /// A hole in a terminal's record numbers.
    RecordNumbers,
    /// Damage found in the store.
    StoreDamage,
    /// A reader came back with its journal gone.
    JournalLost,
    /// The disk was full and nothing was taken for a while; what the terminals could not keep is missing.
    DiskFull,
}

/// A record that could not be understood, kept and acknowledged so that the queue behind it moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub terminal: Option<TerminalId>,
    pub serial: String,
    pub record: Option<String>,
    pub at: UnixMs,
    /// What is wrong with it.
    pub reason: String,
    /// As received, photos cut out.
    pub raw: Vec<u8>,
}

/// A stranger's picture taken by a terminal: a security event, not a punch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    pub terminal: TerminalId,
    pub serial: String,
    pub record: Option<String>,
    pub time: UnixMs,
    pub time_text: String,
    pub received_at: UnixMs,
    pub photo: Option<PhotoHash>,
    pub raw: Vec<u8>,
}

/// A terminal taken over from the pending list by an approval on the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    pub terminal: TerminalId,
    /// The protocol's name as in the configuration, for example `mqtt-face`.
    pub protocol: String,
    pub serial: String,
    /// `in`, `out`, `terminal` or `alternate`, as in the configuration.
    pub direction: String,
    pub at: UnixMs,
}

/// The settings under which the following facts were made; written at each start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    pub at: UnixMs,
    pub version: String,
    /// SHA-256 of the configuration file as read.
    pub config_hash: [u8; 32],
    pub utc_offset_s: i32,
    pub rule_version: u16,
}

/// A site day that is over, signed: what was recorded cannot be changed any more without being noticed by whoever knows
/// the public key. Covers every fact since the day before was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayHead {
    /// The last day that is over; earlier ones on which the gateway was off are covered too.
    pub day: Date,
    pub at: UnixMs,
    pub first: Seq,
    pub last: Seq,
    /// Root of the Merkle tree (RFC 6962, SHA-256) whose leaves are the hashes of the facts' frames.
    pub root: [u8; 32],
    /// Ed25519.
    pub public_key: [u8; 32],
    /// 64 bytes, over the text that `store::ledger::day` makes of the fields above.
    pub signature: Vec<u8>,
}

/// The data directory was made from a backup: what came after the backup is not here, and what stood in an outbox then
/// may have been uploaded since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    pub at: UnixMs,
}

/// Photos were removed by the site's rule: their punches had been settled for so many days, or room was needed. The punches
/// stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    pub at: UnixMs,
    pub photos: u32,
    /// The last fact that was looked at for it.
    pub through: Seq,
    /// Before their days were over.
    pub for_space: bool,
}

/// Everything that can stand in the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Punch(Punch),
    Judgement(Judgement),
    Upload(UploadStep),
    Worker(Worker),
    Gap(Gap),
    Quarantine(Quarantine),
    Stranger(Stranger),
    Adoption(Adoption),
    Epoch(Epoch),
    DayHead(DayHead),
    Restoration(Restoration),
    Removal(Removal),
}
