//! The truth: every fact once, in order, hash-chained, in append-only segment files. Never edits, never deletes.

pub mod check;
pub mod day;
pub mod export;
pub mod frame;
pub mod proof;
pub mod reader;
pub mod recover;
pub mod seal;
pub mod segment;

use std::io;
use std::path::{Path, PathBuf};

use frame::{Hash, Header, Kind};
use reader::Locus;
use seal::Sealed;
use segment::{FIRST_FRAME, Opened, Segment, SegmentHead};

use crate::punch::UnixMs;

/// The previous hash of the first fact.
pub const GENESIS: Hash = [0; 32];

/// The writing end of the ledger.
pub struct Ledger {
    dir: PathBuf,
    /// `None` at the start and after a failure, until [`Ledger::begin`] succeeds.
    segment: Option<Segment>,
    opened: Opened,
    next_number: u32,
    next_seq: u64,
    head: Hash,
    capacity: u64,
}

/// What one commit made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where the next frame will stand: everything before it is durable.
    pub end: Locus,
    pub last_seq: u64,
    pub bytes: u64,
}

impl Ledger {
    /// Goes on where `tail` ends, in a new segment as soon as [`Ledger::begin`] is called.
    pub fn new(dir: &Path, tail: &recover::Tail, capacity: u64) -> Ledger {
        Ledger {
            dir: dir.to_owned(),
            segment: None,
            opened: Opened::Start,
            next_number: tail.last_segment + 1,
            next_seq: tail.last_seq + 1,
            head: tail.head,
            capacity,
        }
    }

    /// Whether there is a segment to write to.
    pub fn is_open(&self) -> bool {
        self.segment.is_some()
    }

    /// The sequence that the next fact will get.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The segment that is being filled.
    pub fn segment_number(&self) -> Option<u32> {
        self.segment.as_ref().map(Segment::number)
    }

    /// Begins a new segment, if there is none.
    pub fn begin(&mut self, now: UnixMs) -> io::Result<()> {
        if self.segment.is_none() {
            self.create(now, 0)?;
        }
        Ok(())
    }

    /// Writes appends and syncs once. On an error nothing of them counts, and a new segment must be begun.
    pub fn commit(&mut self, appends: &[Vec<Sealed>], now: UnixMs) -> io::Result<Committed> {
        let size = appends.iter().flatten().map(|sealed| frame::OVERHEAD + sealed.payload.len()).sum();
        self.make_room(size, now)?;
        let Some(mut segment) = self.segment.take() else {
            return Err(io::Error::other("no segment is open"));
        };
        let (bytes, next_seq, head) = self.encode(segment.number(), appends, size);
        let before = segment.end();
        match segment.write(&bytes).and_then(|()| segment.sync()) {
            Ok(()) => {
                self.next_seq = next_seq;
                self.head = head;
                let end = Locus { segment: segment.number(), offset: segment.end() };
                self.segment = Some(segment);
                Ok(Committed { end, last_seq: next_seq - 1, bytes: bytes.len() as u64 })
            }
            Err(error) => {
                self.opened = Opened::Failure;
                if let Err(error) = segment.abandon(before) {
                    tracing::warn!(%error, "what could not be synced could not be cut off either");
                }
                Err(error)
            }
        }
    }

    fn encode(&self, segment: u32, appends: &[Vec<Sealed>], size: usize) -> (Vec<u8>, u64, Hash) {
        let mut bytes = Vec::with_capacity(size);
        let (mut seq, mut previous) = (self.next_seq, self.head);
        for append in appends {
            for (index, sealed) in append.iter().enumerate() {
                let header = Header {
                    kind: Kind::Fact,
                    length: sealed.payload.len() as u32,
                    segment,
                    seq,
                    following: (append.len() - index - 1) as u32,
                    // A write too long for it is one whose places are not known.
                    in_write: u16::try_from(seq - self.next_seq + 1).unwrap_or(0),
                    previous,
                };
                frame::encode(&header, &sealed.payload, &mut bytes);
                previous = header.hash(&sealed.digest);
                seq += 1;
            }
        }
        (bytes, seq, previous)
    }

    /// Rolls to a new segment when `size` bytes do not fit or a month has begun.
    fn make_room(&mut self, size: usize, now: UnixMs) -> io::Result<()> {
        let Some(segment) = &self.segment else { return self.create(now, size) };
        let new_month = !segment.is_empty() && month(segment.created_at()) != month(now);
        if segment.fits(size) && !new_month {
            return Ok(());
        }
        self.close()?;
        self.opened = Opened::Roll;
        self.create(now, size)
    }

    fn create(&mut self, now: UnixMs, size: usize) -> io::Result<()> {
        let head = SegmentHead {
            number: self.next_number,
            opened: self.opened,
            first_seq: self.next_seq,
            created_at: now,
            previous: self.head,
        };
        let capacity = self.capacity.max(FIRST_FRAME + (size + frame::OVERHEAD) as u64);
        self.segment = Some(Segment::create(&self.dir, &head, capacity)?);
        self.next_number += 1;
        Ok(())
    }

    /// Closes the segment that is being filled; the next commit takes a new one.
    pub fn close(&mut self) -> io::Result<()> {
        let Some(segment) = self.segment.take() else { return Ok(()) };
        segment.close(self.next_seq - 1, self.head)
    }
}

/// Year and month in UTC.
fn month(at: UnixMs) -> (i16, i8) {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let date = jiff::tz::Offset::UTC.to_datetime(at).date();
    (date.year(), date.month())
}
