//! What the rows of the view hold. Everything here can be made again from the ledger; a change of shape needs a new
//! [`VERSION`], and an older view is then rebuilt.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::punch::*;
use crate::store::dedup::content_digest;
use crate::store::keyring::Keyring;
use crate::store::ledger::reader::Locus;
use crate::store::{Outgoing, Presence, PunchRow, UploadRow};

/// Of all row shapes together.
pub const VERSION: u16 = 4;

/// sled keeps large values badly: none is longer than this.
pub const MAX_VALUE: usize = 4096;

/// How far the ledger is applied. In the same batch as what it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub version: u16,
    /// The last fact that is applied whole.
    pub seq: Seq,
    /// Where that fact stands, and its frame's checksum, to notice a view that belongs to another ledger.
    pub last: Option<(Locus, u32)>,
    /// Where the next frame stands.
    pub next: Locus,
    /// How many subjects of the next fact, an upload step, are applied already.
    pub partial: u32,
}

impl Applied {
    /// Nothing of the ledger.
    pub fn nothing() -> Applied {
        Applied { version: VERSION, seq: Seq(0), last: None, next: Locus { segment: 0, offset: 0 }, partial: 0 }
    }

    pub fn is_nothing(&self) -> bool {
        self.seq == Seq(0) && self.partial == 0
    }
}

/// Everything the view says of one punch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PunchEntry {
    /// Where the punch stands in the ledger.
    pub at: Locus,
    pub row: PunchRow,
    pub judged: Vec<Noted>,
    pub uploads: Vec<PunchUpload>,
}

/// Where a punch stands with one platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PunchUpload {
    pub platform: PlatformName,
    pub row: UploadRow,
    pub steps: Vec<Noted>,
}

impl PunchEntry {
    pub fn upload(&self, platform: &PlatformName) -> Option<&PunchUpload> {
        self.uploads.iter().find(|upload| upload.platform == *platform)
    }

    pub fn upload_mut(&mut self, platform: &PlatformName) -> Option<&mut PunchUpload> {
        self.uploads.iter_mut().find(|upload| upload.platform == *platform)
    }

    pub fn is_verified(&self, worker: &WorkerId) -> bool {
        let judgement = self.row.judgement.as_ref();
        judgement.is_some_and(|j| j.verdict == Verdict::Verified && j.worker.as_ref() == Some(worker))
    }

    /// When the last platform answered, or when it was rejected; `None` while anybody waits for it.
    pub fn settled_at(&self) -> Option<UnixMs> {
        let judgement = self.row.judgement.as_ref()?;
        let is_open = matches!(judgement.verdict, Verdict::Held(_));
        if is_open || self.uploads.iter().any(|upload| !upload.row.state.is_settled()) {
            return None;
        }
        self.uploads.iter().map(|upload| upload.row.changed_at).chain([judgement.at]).max()
    }

    /// What decides which of two punches was later.
    pub fn place_in_time(&self) -> (UnixMs, Seq) {
        (self.row.time, self.row.seq)
    }

    /// More than the row's bytes are.
    pub fn most_bytes(&self) -> usize {
        let noted = |facts: &[Noted]| facts.len() * MOST_NOTED_BYTES;
        let uploads = self.uploads.iter().map(|upload| {
            let UploadRow { job, serial, external, reason, .. } = &upload.row;
            let method = job.as_ref().map_or(0, |(_, method)| method.len());
            let texts = [serial, external, reason].map(|text| text.as_ref().map_or(0, String::len));
            let platform = upload.platform.as_str().len();
            FIXED_UPLOAD_BYTES + platform + method + texts.iter().sum::<usize>() + noted(&upload.steps)
        });
        let judgement = self.row.judgement.as_ref();
        let worker = judgement.and_then(|judgement| judgement.worker.as_ref());
        let duplicate_of = judgement.and_then(|judgement| judgement.duplicate_of);
        FIXED_PUNCH_BYTES
            + self.row.terminal.as_str().len()
            + self.row.record.as_ref().map_or(0, String::len)
            + self.row.photo.map_or(0, |photo| photo.0.len())
            + worker.map_or(0, |worker| worker.as_str().len())
            + duplicate_of.map_or(0, |punch| punch.0.len())
            + noted(&self.judged)
            + uploads.sum::<usize>()
    }

    /// Makes the row short enough. Texts that make it too long are cut; the ledger has them whole.
    pub fn shorten(&mut self) {
        if self.most_bytes() <= MAX_VALUE {
            return;
        }
        for row in self.uploads.iter_mut().map(|upload| &mut upload.row) {
            for text in [&mut row.serial, &mut row.external, &mut row.reason].into_iter().flatten() {
                *text = cut(text, SHORTEST_TEXT);
            }
        }
    }
}

/// Of a row what has no length of its own, with numbers as long as they get in a thousand years of punches.
const FIXED_PUNCH_BYTES: usize = 120;
const FIXED_UPLOAD_BYTES: usize = 40;
const MOST_NOTED_BYTES: usize = 16;

/// A worker's last verified punch, with what decides between punches of the same time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastSeen {
    pub seq: Seq,
    pub presence: Presence,
}

/// A worker as on the roster, or where the fact stands when it is too long for a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerEntry {
    pub seq: Seq,
    /// The blinded digest of the contents, to notice a change that changes nothing.
    pub content: [u8; 16],
    pub at: Locus,
    /// The [`Worker`], sealed.
    pub sealed: Option<Vec<u8>>,
}

impl WorkerEntry {
    pub fn new(keyring: &Keyring, seq: Seq, at: Locus, worker: &Worker) -> WorkerEntry {
        let content = WorkerEntry::blinded(keyring, &content_digest(worker));
        WorkerEntry { seq, content, at, sealed: Some(keyring.seal(&encode(worker))) }
    }

    /// What stands in [`WorkerEntry::content`] for contents with this digest.
    pub fn blinded(keyring: &Keyring, content: &[u8; 16]) -> [u8; 16] {
        keyring.blind("worker", content)
    }

    /// The worker, when the row holds it.
    pub fn worker(&self, keyring: &Keyring) -> Option<Worker> {
        decode(&keyring.open(self.sealed.as_ref()?).ok()?)
    }
}

/// A fact that is told of a punch, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    pub seq: Seq,
    pub at: Locus,
}

/// Facts that a row notes before they are put into a row of their own.
const MAX_NOTED: usize = 32;

/// Adds to the facts of a row; gives back those that fill it, for a row of their own.
pub fn note(noted: &mut Vec<Noted>, fact: Noted) -> Option<Vec<Noted>> {
    let full = (noted.len() >= MAX_NOTED).then(|| std::mem::take(noted));
    noted.push(fact);
    full
}

/// A run of the history that counts, and what sled has of its punches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEntry {
    pub first: Seq,
    pub generation: u32,
    /// What stands in the run is no longer in sled too.
    pub cleared: bool,
    /// Changes to its punches since it was made.
    pub changes: u32,
}

/// Counters of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformEntry {
    pub name: PlatformName,
    pub open: u64,
    pub confirmed: u64,
    pub refused: u64,
    pub last_job: u64,
    /// The outbox is being filled with older punches: this one is done.
    pub filled_through: Option<Seq>,
}

impl PlatformEntry {
    pub fn new(name: &PlatformName) -> PlatformEntry {
        PlatformEntry { name: name.clone(), open: 0, confirmed: 0, refused: 0, last_job: 0, filled_through: None }
    }
}

/// A registration with its row; the key does not give the subject back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadEntry {
    pub subject: Subject,
    pub row: UploadRow,
}

/// A verified punch that waits for a receipt.
pub type OutgoingEntry = Outgoing;

/// The platforms of the last opening with their first day.
pub type Platforms = Vec<(PlatformName, Option<UnixMs>)>;

/// A row's bytes.
pub fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    postcard::to_allocvec(row).expect("rows have no unsized part and a Vec takes everything")
}

/// A row from its bytes; `None` when they are damaged.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

/// Texts from outside stand in rows up to this many bytes; the ledger has them whole.
const MAX_TEXT: usize = 512;
/// And up to this many when they are many.
const SHORTEST_TEXT: usize = 64;

/// A text short enough for a row.
pub fn short(text: &str) -> String {
    cut(text, MAX_TEXT)
}

fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::samples::{judgement, punch};

    /// The longest that can come: of many platforms, judged many times.
    fn entry(platforms: usize, facts: usize, text: &str) -> PunchEntry {
        let far = Noted { seq: Seq(1 << 34), at: Locus { segment: u32::MAX, offset: 1 << 34 } };
        let punch = punch(7);
        let upload = |n| PunchUpload {
            platform: PlatformName(format!("platform-{n}")),
            row: UploadRow {
                state: UploadState::Accepted,
                attempts: u32::MAX,
                job: Some((JobId(1 << 40), "WorkerAttendance.Add".to_owned())),
                serial: Some(short(text)),
                external: Some(short(text)),
                reason: Some(short(text)),
                changed_at: UnixMs(1 << 45),
            },
            steps: vec![far; facts],
        };
        let verdict = Verdict::Rejected(RejectedReason::Duplicate);
        let judgement = Judgement { duplicate_of: Some(punch.id), ..judgement(punch.id, verdict, "W0001") };
        PunchEntry {
            at: far.at,
            row: PunchRow {
                id: punch.id,
                seq: far.seq,
                terminal: punch.terminal,
                record: punch.record,
                time: UnixMs(1 << 45),
                received_at: UnixMs(1 << 45),
                direction: punch.direction,
                method: punch.method,
                photo: Some(PhotoHash([0xFF; 32])),
                judgement: Some(judgement),
            },
            judged: vec![far; facts],
            uploads: (0..platforms).map(upload).collect(),
        }
    }

    #[test]
    fn a_punch_takes_no_more_than_it_says_and_fits_when_it_is_shortened() {
        let long = "字".repeat(1000);
        for platforms in 0..4 {
            for facts in [0, 1, MAX_NOTED] {
                for text in ["", "说明", &long] {
                    let mut entry = entry(platforms, facts, text);
                    assert!(encode(&entry).len() <= entry.most_bytes(), "{platforms} {facts}");
                    assert!(entry.most_bytes() <= encode(&entry).len() + 200 + 30 * platforms);
                    entry.shorten();
                    assert!(encode(&entry).len() <= MAX_VALUE, "{platforms} {facts}");
                    assert_eq!(decode::<PunchEntry>(&encode(&entry)).as_ref(), Some(&entry));
                }
            }
        }
    }
}
