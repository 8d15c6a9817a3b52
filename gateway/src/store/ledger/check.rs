//! Proves the ledger, or says what is wrong with it: names every fact that was damaged, changed, removed, added or moved,
//! and every day head that does not hold. Reads only; needs no running gateway and no key. Whoever can write the whole
//! directory can forge a chain, but not the heads of its days; what they can do is cut off the end, back to a head that
//! somebody has seen.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use jiff::civil::Date;
use tokio_util::sync::CancellationToken;

use super::GENESIS;
use super::day::{self, Leaves};
use super::frame::Hash;
use super::reader::{Damage, Item, Locus, PlacedFrame, Walk};
use super::seal::read_open;
use super::segment::{self, SegmentHead};
use crate::punch::{DayHead, Fact};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub wrong: Wrong,
    /// The first and the last fact concerned; none (`first > last`) when bytes are wrong but no fact is missing.
    pub first: u64,
    pub last: u64,
    /// Where it was noticed.
    pub at: Locus,
    /// The unreadable bytes, if there are any.
    pub bytes: Option<Damage>,
}

/// What is wrong with facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Their bytes are unreadable.
    Damaged,
    /// As good as never there: the write that they belong to was going on when the gateway stopped, and nobody was told
    /// that it was stored.
    Interrupted,
    /// They are not there.
    Removed,
    /// Whole, but not what the following fact's hash says.
    Changed,
    /// There a second time, or written for another place.
    Added,
    /// Not in their order.
    Moved,
    /// The head of a segment file is unreadable or belongs elsewhere; its facts may be sound.
    SegmentHead,
    /// A day head that its public key did not sign.
    HeadForged,
    /// A day head over other facts than those that are here.
    HeadBroken,
}

impl Finding {
    /// How many facts are missing, when any are.
    pub fn count(&self) -> Option<u64> {
        match self.wrong {
            Wrong::Damaged | Wrong::Interrupted | Wrong::Removed => Some((self.last + 1).saturating_sub(self.first)),
            Wrong::Changed
            | Wrong::Added
            | Wrong::Moved
            | Wrong::SegmentHead
            | Wrong::HeadForged
            | Wrong::HeadBroken => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Locus { segment, offset } = self.bytes.map_or(self.at, |damage| damage.at);
        write!(f, "segment {segment}, offset {offset}: ")?;
        let wrong = match self.wrong {
            Wrong::SegmentHead => return write!(f, "the head of the segment is damaged"),
            Wrong::Damaged => "damaged",
            Wrong::Interrupted => {
                "not whole: this was being written when the gateway stopped, and was not acknowledged"
            }
            Wrong::Removed => "removed",
            Wrong::Changed => "changed",
            Wrong::Added => "added",
            Wrong::Moved => "moved",
            Wrong::HeadForged => "is a day head that was not signed with its key",
            Wrong::HeadBroken => "is the head of a day that had other facts than these",
        };
        match (self.first, self.last) {
            (first, last) if first > last => write!(f, "bytes that are no fact; no fact is missing"),
            (first, last) if first == last => write!(f, "fact {first} {wrong}"),
            (first, last) => write!(f, "facts {first} to {last} {wrong}"),
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub segments: u32,
    /// Good facts read.
    pub facts: u64,
    pub last_seq: u64,
    /// Hash of the last fact: the same in two copies of the same ledger.
    pub head: Hash,
    pub findings: Vec<Finding>,
    pub days: SignedDays,
    /// Bytes after the last fact of a segment that is not closed: the write that a stop interrupted, or damage to facts
    /// at the very end, or a gateway that is writing now.
    pub open_end: Option<Damage>,
    /// Facts that were never acknowledged because their sync failed.
    pub abandoned: u64,
}

/// The days whose signed heads hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedDays {
    pub count: u32,
    /// The last one, and the last fact that it covers.
    pub last: Option<(Date, u64)>,
    /// The public keys that signed; more than one when the keyring was lost, or somebody else's ledger was put here.
    pub keys: Vec<Hash>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.wrong == Wrong::Interrupted)
    }
}

impl fmt::Display for SignedDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((day, seq)) = self.last else { return write!(f, "no day is signed yet") };
        write!(f, "{} days are signed, the last is {day} up to fact {seq}", self.count)?;
        self.keys.iter().try_for_each(|key| write!(f, "\nsigned with {}", hex::encode(key)))
    }
}

/// Checks a whole ledger directory: `ledger/` of the data directory.
pub fn verify(dir: &Path) -> io::Result<Report> {
    let mut checker = Checker::new();
    let mut walk = Walk::all(dir);
    while let Some(item) = walk.next_item()? {
        checker.handle(&item);
    }
    Ok(checker.finish())
}

/// Reading at most this much per pause leaves the disk to the writer.
const SLICE: u64 = 1 << 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Checks the closed segments up to `last` beside a running gateway, without haste.
pub fn check_closed(dir: &Path, last: u32, stop: &CancellationToken, found: impl FnMut(&Finding)) -> io::Result<()> {
    if last == 0 {
        return Ok(());
    }
    let length = std::fs::metadata(segment::path(dir, last))?.len();
    let limit = Locus { segment: last, offset: length };
    let (_never, pause) = mpsc::channel::<()>();
    let mut checker = Checker::new();
    let mut walk = Walk::new(dir, Locus { segment: 0, offset: 0 }, Some(limit));
    let mut read = 0;
    while let Some(item) = walk.next_item()? {
        checker.handle(&item);
        if let Item::Fact(frame) = &item {
            read += frame.payload.len() as u64;
        }
        if read >= SLICE {
            read = 0;
            let _elapsed = pause.recv_timeout(PAUSE);
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }
    checker.finish().findings.iter().for_each(found);
    Ok(())
}

/// Follows a walk and compares each thing with what should come.
struct Checker {
    segments: u32,
    last_segment: u32,
    closed: bool,
    facts: u64,
    abandoned: u64,
    /// The sequence that should come next.
    next: u64,
    /// The hash of the fact before it; `None` when that one could not be read.
    head: Option<Hash>,
    /// Unreadable bytes since the last good frame.
    unread: Option<Damage>,
    /// Findings within what may be the last write of the segment, and the first fact of that write.
    in_last_write: (Vec<usize>, Option<u64>),
    findings: Vec<Finding>,
    /// Facts that no day head has closed yet.
    leaves: Leaves,
    days: SignedDays,
}

impl Checker {
    fn new() -> Checker {
        Checker {
            segments: 0,
            last_segment: 0,
            closed: false,
            facts: 0,
            abandoned: 0,
            next: 1,
            head: Some(GENESIS),
            unread: None,
            in_last_write: (Vec::new(), None),
            findings: Vec::new(),
            leaves: Leaves::from(1),
            days: SignedDays::default(),
        }
    }

    fn handle(&mut self, item: &Item) {
        match item {
            Item::Begin { number, head } => self.begin(*number, head.as_ref()),
            Item::Fact(frame) => self.fact(frame),
            Item::Abandoned(_) => self.abandoned += 1,
            Item::End(frame) => self.end(frame),
            Item::Damage(damage) => {
                self.unread.get_or_insert(*damage);
            }
        }
    }

    fn begin(&mut self, number: u32, head: Option<&SegmentHead>) {
        let at = Locus { segment: number, offset: 0 };
        if !self.closed {
            self.last_write_was_interrupted();
        }
        self.in_last_write = (Vec::new(), None);
        self.segments += 1;
        self.last_segment = number;
        self.closed = false;
        let Some(head) = head.filter(|head| head.number == number && head.first_seq >= self.next) else {
            self.found(Wrong::SegmentHead, (1, 0), at, None);
            return;
        };
        let after_failure = head.opened == segment::Opened::Failure;
        if after_failure && head.first_seq == self.next {
            // What could not be synced was never acknowledged.
            self.unread = None;
        }
        self.arrive(head.first_seq, head.previous, at);
    }

    fn fact(&mut self, frame: &PlacedFrame) {
        let seq = frame.header.seq;
        self.facts += 1;
        if frame.header.segment != frame.at.segment {
            return self.found(Wrong::Added, (seq, seq), frame.at, None);
        }
        if seq < self.next {
            let wrong = if self.take_from_missing(seq) { Wrong::Moved } else { Wrong::Added };
            return self.found(wrong, (seq, seq), frame.at, None);
        }
        let (first, is_damaged) = (self.next, self.unread.is_some());
        self.arrive(seq, frame.header.previous, frame.at);
        self.follow_write(frame.header.write_began(), is_damaged.then_some(first));
        self.next = seq + 1;
        self.head = Some(frame.hash());
        if let Some(Fact::DayHead(head)) = read_open(&frame.payload) {
            self.day_head(&head, frame);
        }
        self.leaves.take(frame);
    }

    fn day_head(&mut self, head: &DayHead, frame: &PlacedFrame) {
        let seq = frame.header.seq;
        if head.first.0 > self.leaves.first() {
            // The head before it is among what is missing, and has been named.
            self.leaves.forget_through(head.first.0 - 1);
        }
        let covered = (head.first.0 == self.leaves.first()).then(|| self.leaves.root(head.last.0)).flatten();
        if !day::is_signed(head) {
            self.found(Wrong::HeadForged, (seq, seq), frame.at, None);
        } else if covered.is_none_or(|(root, all_known)| all_known && root != head.root) {
            self.found(Wrong::HeadBroken, (seq, seq), frame.at, None);
        } else {
            self.days.count += 1;
            self.days.last = Some((head.day, head.last.0));
            if !self.days.keys.contains(&head.public_key) {
                self.days.keys.push(head.public_key);
            }
        }
        self.leaves.forget_through(head.last.0);
    }

    /// A fact of a write that began with `began`; damage just before it begins with fact `damaged`.
    fn follow_write(&mut self, began: Option<u64>, damaged: Option<u64>) {
        if began.is_none() || self.in_last_write.1 != began {
            self.in_last_write = (Vec::new(), began);
        }
        if damaged.is_some_and(|first| began.is_some_and(|began| began <= first)) {
            self.in_last_write.0.push(self.findings.len() - 1);
        }
    }

    /// The segment was not closed by its writer: a hole in its last write is what a power cut leaves of a write.
    fn last_write_was_interrupted(&mut self) {
        for index in std::mem::take(&mut self.in_last_write.0) {
            self.findings[index].wrong = Wrong::Interrupted;
        }
    }

    fn end(&mut self, frame: &PlacedFrame) {
        if frame.header.in_write == 0 {
            self.last_write_was_interrupted();
        }
        if frame.header.segment == frame.at.segment && frame.header.seq + 1 >= self.next {
            self.arrive(frame.header.seq + 1, frame.header.previous, frame.at);
            self.closed = true;
        }
    }

    /// Something says that fact `next` comes now, and the hash of the one before it.
    fn arrive(&mut self, next: u64, previous: Hash, at: Locus) {
        let missing = (self.next, next - 1);
        match self.unread.take() {
            Some(bytes) => self.found(Wrong::Damaged, missing, at, Some(bytes)),
            None if next > self.next => self.found(Wrong::Removed, missing, at, None),
            None if self.head.is_some_and(|head| head != previous) => {
                self.found(Wrong::Changed, (next.saturating_sub(1), next.saturating_sub(1)), at, None);
            }
            None => {}
        }
        self.next = next;
        self.head = Some(previous);
    }

    fn found(&mut self, wrong: Wrong, (first, last): (u64, u64), at: Locus, bytes: Option<Damage>) {
        self.findings.push(Finding { wrong, first, last, at, bytes });
    }

    /// A fact that was missed turns up later; what was missed shrinks or falls into two.
    fn take_from_missing(&mut self, seq: u64) -> bool {
        let missed = |finding: &Finding| finding.count().is_some() && (finding.first..=finding.last).contains(&seq);
        let Some(index) = self.findings.iter().position(missed) else { return false };
        let finding = self.findings.remove(index);
        // The places of the findings change.
        self.in_last_write = (Vec::new(), None);
        if finding.last > seq {
            self.findings.insert(index, Finding { first: seq + 1, ..finding.clone() });
        }
        if finding.first < seq {
            self.findings.insert(index, Finding { last: seq - 1, ..finding });
        }
        true
    }

    fn finish(mut self) -> Report {
        if !self.closed {
            self.last_write_was_interrupted();
        }
        let open_end = self.unread.take().filter(|_| !self.closed);
        Report {
            segments: self.segments,
            facts: self.facts,
            last_seq: self.next - 1,
            head: self.head.unwrap_or(GENESIS),
            findings: self.findings,
            days: self.days,
            open_end,
            abandoned: self.abandoned,
        }
    }
}
