//! The keys of the view. One tree, so that one batch is atomic; the first byte says what a row is about.
//!
//! ```text
//! A                              how far the ledger is applied
//! T                              counters over the whole view
//! R                              sequence of the last roster change
//! Z                              sequence of the last restoration from a backup
//! N                              the platforms of the last opening
//! C platform                     counters of one platform
//! s seq                          → the punch: everything that is said of it
//! e seq seq                      punch, first fact → facts of the punch that no longer fit in its row
//! l worker                       → the worker's last verified punch
//! u seq                          punches without a judgement
//! h seq                          held punches
//! x digest                       → sequence of a stranger, quarantined record or damage report
//! H seq                          the first sequence of a run → the run
//! U platform subject             → where a registration stands with the platform
//! F platform state subject       subjects in every state but queued and confirmed
//! O platform seq                 → outbox
//! W worker                       → the worker on the roster
//! i blinded worker               workers by identity-card number
//! b blinded worker               workers by the low 24 bits of their badge
//! a serial                       → adopted terminal
//! g seq                          → gap
//! d seq                          → where the head stands that closed the day up to this fact
//! ```
//!
//! Rows `s e x` of a punch or record that is in a run ([`super::history`]) are there; an `s` that is here all the same
//! is newer.
//!
//! Numbers are big-endian and times have their sign bit flipped, so that bytes sort like values. A subject that is a
//! punch is keyed by its sequence and sorts after all registrations.

use sha2::{Digest, Sha256};

use crate::punch::*;
use crate::store::keyring::Keyring;

pub type Key = Vec<u8>;

pub const APPLIED: &[u8] = b"A";
pub const TOTALS: &[u8] = b"T";
pub const ROSTER_VERSION: &[u8] = b"R";
pub const RESTORATION: &[u8] = b"Z";
pub const REMOVED_THROUGH: &[u8] = b"X";
pub const PLATFORMS: &[u8] = b"N";

/// Texts up to this long stand in keys as they are; longer ones as their digest.
const MAX_TEXT: usize = 64;
/// No UTF-8 text begins with it.
const DIGEST_MARK: u8 = 0xFF;

/// A key under construction.
struct Builder(Key);

impl Builder {
    fn new(prefix: u8) -> Builder {
        Builder(vec![prefix])
    }

    fn bytes(mut self, bytes: &[u8]) -> Builder {
        self.0.extend_from_slice(bytes);
        self
    }

    /// No encoded text is the beginning of another.
    fn text(mut self, text: &str) -> Builder {
        if text.len() <= MAX_TEXT && !text.contains('\0') {
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(0);
        } else {
            self.0.push(DIGEST_MARK);
            self.0.extend_from_slice(&Sha256::digest(text.as_bytes()));
        }
        self
    }

    fn seq(self, seq: Seq) -> Builder {
        self.bytes(&seq.0.to_be_bytes())
    }
}

/// The sequence at the end of a key.
pub fn trailing_seq(key: &[u8]) -> Option<Seq> {
    key.last_chunk().map(|bytes| Seq(u64::from_be_bytes(*bytes)))
}

/// The first key after every key that begins with `prefix`.
pub fn after(prefix: &[u8]) -> Key {
    let mut key = prefix.to_vec();
    while key.pop_if(|byte| *byte == u8::MAX).is_some() {}
    if let Some(last) = key.last_mut() {
        *last += 1;
    }
    key
}

pub fn platform(name: &PlatformName) -> Key {
    Builder(platforms()).text(name.as_str()).0
}

pub fn platforms() -> Key {
    Builder::new(b'C').0
}

pub fn records() -> Key {
    Builder::new(b'x').0
}

/// The digest in the key of a punch or another record.
pub fn digest(key: &[u8]) -> Option<&[u8; 16]> {
    key.get(1..)?.try_into().ok()
}

/// Length of the key of a punch.
pub const ROW_BYTES: usize = 9;

pub fn row(seq: Seq) -> Key {
    Builder::new(b's').seq(seq).0
}

pub fn rows() -> Key {
    Builder::new(b's').0
}

pub fn presence(worker: &WorkerId) -> Key {
    Builder::new(b'l').text(worker.as_str()).0
}

pub fn presences() -> Key {
    Builder::new(b'l').0
}

pub fn unjudged(seq: Seq) -> Key {
    Builder(unjudgeds()).seq(seq).0
}

pub fn unjudgeds() -> Key {
    Builder::new(b'u').0
}

pub fn held(seq: Seq) -> Key {
    Builder::new(b'h').seq(seq).0
}

pub fn note(punch: Seq, first: Seq) -> Key {
    Builder(notes(punch)).seq(first).0
}

pub fn notes(punch: Seq) -> Key {
    Builder::new(b'e').seq(punch).0
}

pub fn run(first: Seq) -> Key {
    Builder::new(b'H').seq(first).0
}

pub fn runs() -> Key {
    Builder::new(b'H').0
}

pub fn record(digest: [u8; 16]) -> Key {
    Builder::new(b'x').bytes(&digest).0
}

/// The part of a key that names a subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubjectKey(pub Key);

impl SubjectKey {
    pub fn punch(seq: Seq) -> SubjectKey {
        SubjectKey(Builder::new(b'p').seq(seq).0)
    }

    /// The sequence of a punch; `None` for a registration.
    pub fn as_punch(&self) -> Option<Seq> {
        let (mark, seq) = self.0.split_first()?;
        (*mark == b'p').then(|| trailing_seq(seq)).flatten().filter(|_| seq.len() == 8)
    }

    /// `None` for a punch, which is keyed by its sequence.
    pub fn registration(subject: &Subject) -> Option<SubjectKey> {
        Some(SubjectKey(match subject {
            Subject::Employer(name) => Builder::new(b'a').text(name).0,
            Subject::Team(team) => Builder::new(b'b').text(&team.employer).text(&team.name).0,
            Subject::Worker(worker) => Builder::new(b'c').text(worker.as_str()).0,
            Subject::Entry(worker, day) => Builder::new(b'd').text(worker.as_str()).text(&day.to_string()).0,
            Subject::Exit(worker, day) => Builder::new(b'e').text(worker.as_str()).text(&day.to_string()).0,
            Subject::Punch(_) => return None,
        }))
    }
}

pub fn upload(platform: &PlatformName, subject: &SubjectKey) -> Key {
    Builder(uploads(platform)).bytes(&subject.0).0
}

pub fn uploads(platform: &PlatformName) -> Key {
    Builder::new(b'U').text(platform.as_str()).0
}

pub fn in_state(platform: &PlatformName, state: UploadState, subject: &SubjectKey) -> Key {
    Builder(all_in_state(platform, state)).bytes(&subject.0).0
}

pub fn all_in_state(platform: &PlatformName, state: UploadState) -> Key {
    Builder::new(b'F').text(platform.as_str()).text(state.as_str()).0
}

pub fn outgoing(platform: &PlatformName, seq: Seq) -> Key {
    Builder(outbox(platform)).seq(seq).0
}

pub fn outbox(platform: &PlatformName) -> Key {
    Builder::new(b'O').text(platform.as_str()).0
}

pub fn worker(id: &WorkerId) -> Key {
    Builder::new(b'W').text(id.as_str()).0
}

pub fn workers() -> Key {
    Builder::new(b'W').0
}

pub fn by_id_number(keyring: &Keyring, id_number: &str, worker: &WorkerId) -> Key {
    Builder(of_id_number(keyring, id_number)).text(worker.as_str()).0
}

pub fn of_id_number(keyring: &Keyring, id_number: &str) -> Key {
    Builder::new(b'i').bytes(&keyring.blind("id-number", id_number.as_bytes())).0
}

pub fn by_badge(keyring: &Keyring, low24: u32, worker: &WorkerId) -> Key {
    Builder(of_badge(keyring, low24)).text(worker.as_str()).0
}

pub fn of_badge(keyring: &Keyring, low24: u32) -> Key {
    Builder::new(b'b').bytes(&keyring.blind("badge", &(low24 & 0xFF_FFFF).to_be_bytes())).0
}

pub fn adoption(serial: &str) -> Key {
    Builder::new(b'a').text(serial).0
}

pub fn adoptions() -> Key {
    Builder::new(b'a').0
}

pub fn gap(seq: Seq) -> Key {
    Builder::new(b'g').seq(seq).0
}

pub fn gaps() -> Key {
    Builder::new(b'g').0
}

pub fn day_head(last: Seq) -> Key {
    Builder::new(b'd').seq(last).0
}

pub fn day_heads() -> Key {
    Builder::new(b'd').0
}
