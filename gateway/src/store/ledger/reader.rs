//! Reads the ledger: in order from any place, or one frame by its place. Steps over damage and says so; never stops at
//! the first bad frame, never writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::frame::{self, Decoded, Hash, Header, Kind};
use super::segment::{self, FIRST_FRAME, Opened, SegmentHead};

/// Where a frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Locus {
    pub segment: u32,
    pub offset: u64,
}

/// A good frame with the place it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFrame {
    pub at: Locus,
    pub header: Header,
    pub payload: Vec<u8>,
    pub crc: u32,
}

impl PlacedFrame {
    /// The frame's hash in the chain.
    pub fn hash(&self) -> Hash {
        self.header.hash(&frame::digest(&self.payload))
    }

    /// Where the next frame stands.
    pub fn end(&self) -> Locus {
        Locus { offset: self.at.offset + (frame::OVERHEAD + self.payload.len()) as u64, ..self.at }
    }
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    pub at: Locus,
    pub length: u64,
}

/// What a [`Walk`] meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A segment begins; its head is `None` when it is damaged.
    Begin {
        number: u32,
        head: Option<SegmentHead>,
    },
    Fact(PlacedFrame),
    /// A fact that was never acknowledged: its sync failed, and the next segment takes its sequence again.
    Abandoned(PlacedFrame),
    /// The end frame of a closed segment.
    End(PlacedFrame),
    Damage(Damage),
}

/// A walk over the ledger from a place to a limit that may move on.
pub struct Walk {
    dir: PathBuf,
    segment: Option<SegmentReader>,
    next_number: u32,
    next_offset: u64,
    limit: Option<Locus>,
    /// First sequence of the segment after the current one, when that one was begun after a failure.
    ceiling: Option<u64>,
}

impl Walk {
    /// Begins at `from`, which must be the beginning of a segment's frames or of a frame. Without a limit everything
    /// is read that is there.
    pub fn new(dir: &Path, from: Locus, limit: Option<Locus>) -> Walk {
        Walk {
            dir: dir.to_owned(),
            segment: None,
            next_number: from.segment,
            next_offset: from.offset.max(FIRST_FRAME),
            limit,
            ceiling: None,
        }
    }

    /// The whole ledger.
    pub fn all(dir: &Path) -> Walk {
        Walk::new(dir, Locus { segment: 0, offset: 0 }, None)
    }

    /// Everything before this place may be read now.
    pub fn set_limit(&mut self, limit: Locus) {
        self.limit = Some(limit);
    }

    /// The next thing before the limit.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        loop {
            let Some(reader) = &mut self.segment else {
                match self.begin()? {
                    Some(item) => return Ok(Some(item)),
                    None => return Ok(None),
                }
            };
            let number = reader.number;
            let last = self.limit.is_some_and(|limit| limit.segment <= number);
            let end = if last { self.limit.map(|limit| limit.offset) } else { None };
            match reader.next(end)? {
                Some(Found::Damage(damage)) => return Ok(Some(Item::Damage(damage))),
                Some(Found::Frame(frame)) => return self.sort(frame).map(Some),
                None if last => return Ok(None),
                None => {
                    self.segment = None;
                    self.ceiling = None;
                    self.next_number = number + 1;
                    self.next_offset = FIRST_FRAME;
                }
            }
        }
    }

    fn begin(&mut self) -> io::Result<Option<Item>> {
        let within = |number: &u32| self.limit.is_none_or(|limit| *number <= limit.segment);
        let numbers = segment::list(&self.dir)?;
        let Some(number) = numbers.into_iter().filter(within).find(|number| *number >= self.next_number) else {
            return Ok(None);
        };
        let offset = if number == self.next_number { self.next_offset } else { FIRST_FRAME };
        let reader = SegmentReader::open(&self.dir, number, offset)?;
        let head = SegmentHead::read(&reader.window.file)?;
        self.segment = Some(reader);
        Ok(Some(Item::Begin { number, head }))
    }

    fn sort(&mut self, frame: PlacedFrame) -> io::Result<Item> {
        if frame.header.kind == Kind::End {
            return Ok(Item::End(frame));
        }
        let superseded = self.ceiling(frame.at.segment)?.is_some_and(|ceiling| frame.header.seq >= ceiling);
        Ok(if superseded { Item::Abandoned(frame) } else { Item::Fact(frame) })
    }

    fn ceiling(&mut self, number: u32) -> io::Result<Option<u64>> {
        let is_current = self.limit.is_some_and(|limit| limit.segment <= number);
        if self.ceiling.is_none() && !is_current {
            let ceiling = match File::open(segment::path(&self.dir, number + 1)) {
                Ok(file) => SegmentHead::read(&file)?.filter(|head| head.opened == Opened::Failure),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            self.ceiling = Some(ceiling.map_or(u64::MAX, |head| head.first_seq));
        }
        Ok(self.ceiling)
    }
}

/// Reads one frame by its place; `None` when there is no good frame.
pub fn read_frame(dir: &Path, at: Locus) -> io::Result<Option<PlacedFrame>> {
    let mut reader = match SegmentReader::open(dir, at.segment, at.offset) {
        Ok(reader) => reader,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    reader.window.block = 2048;
    reader.frame_here(u64::MAX)
}

/// What a [`SegmentReader`] finds.
pub enum Found {
    Frame(PlacedFrame),
    Damage(Damage),
}

/// Reads one segment file.
pub struct SegmentReader {
    number: u32,
    offset: u64,
    window: Window,
}

impl SegmentReader {
    pub fn open(dir: &Path, number: u32, offset: u64) -> io::Result<SegmentReader> {
        let file = File::open(segment::path(dir, number))?;
        Ok(SegmentReader { number, offset, window: Window::new(file) })
    }

    /// The next frame or damage before `end` (by default, the end of the file); zeros up to there are nothing.
    pub fn next(&mut self, end: Option<u64>) -> io::Result<Option<Found>> {
        let end = match end {
            Some(end) => end,
            None => self.window.file.metadata()?.len(),
        };
        if self.offset >= end {
            return Ok(None);
        }
        self.window.settled = end;
        if let Some(frame) = self.frame_here(end)? {
            self.offset = frame.end().offset;
            return Ok(Some(Found::Frame(frame)));
        }
        let start = self.offset;
        self.offset = self.find_frame(start + 1, end)?;
        let stop = if self.offset < end { self.offset } else { self.window.last_nonzero(start, end)? };
        let length = stop - start;
        let damage = Damage { at: Locus { segment: self.number, offset: start }, length };
        Ok((length > 0).then_some(Found::Damage(damage)))
    }

    fn frame_here(&mut self, end: u64) -> io::Result<Option<PlacedFrame>> {
        let at = Locus { segment: self.number, offset: self.offset };
        let mut wanted = frame::OVERHEAD;
        loop {
            let available = usize::try_from(end - self.offset).unwrap_or(usize::MAX).min(wanted);
            let bytes = self.window.at(self.offset, available)?;
            match frame::decode(bytes) {
                Decoded::Frame(found) => {
                    let payload = found.payload.to_vec();
                    return Ok(Some(PlacedFrame { at, header: found.header, payload, crc: found.crc }));
                }
                Decoded::Needs(more) if bytes.len() == wanted && more > wanted => wanted = more,
                Decoded::Needs(_) | Decoded::Bad => return Ok(None),
            }
        }
    }

    /// The offset of the next good frame from `from` on; `end` when there is none.
    fn find_frame(&mut self, from: u64, end: u64) -> io::Result<u64> {
        const STEP: usize = 4096;
        let mut at = from;
        while at < end {
            let length = (end - at).min(STEP as u64) as usize;
            let bytes = self.window.at(at, length + frame::MAGIC.len() - 1)?;
            if bytes.is_empty() {
                break;
            }
            let candidate = if is_zero(bytes) { None } else { frame::find_magic(bytes, 0) };
            let Some(found) = candidate else {
                at += length as u64;
                continue;
            };
            self.offset = at + found as u64;
            if self.offset < end && self.frame_here(end)?.is_some() {
                return Ok(self.offset);
            }
            at = self.offset + 1;
        }
        Ok(end)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 8192] = [0; 8192];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// A moving part of a file in memory.
struct Window {
    file: File,
    start: u64,
    bytes: Vec<u8>,
    /// How much is read at once.
    block: usize,
    /// Bytes from here on may still change and are not kept.
    settled: u64,
}

impl Window {
    fn new(file: File) -> Window {
        Window { file, start: 0, bytes: Vec::new(), block: 128 << 10, settled: u64::MAX }
    }

    /// Up to `length` bytes at `offset`; fewer at the end of the file.
    fn at(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let held = self.start..self.start + self.bytes.len() as u64;
        if offset < held.start || offset + length as u64 > held.end {
            self.load(offset, length.max(self.block))?;
        }
        let from = (offset - self.start) as usize;
        let to = (from + length).min(self.bytes.len());
        Ok(&self.bytes[from.min(to)..to])
    }

    fn load(&mut self, offset: u64, length: usize) -> io::Result<()> {
        let rest = self.file.metadata()?.len().min(self.settled).saturating_sub(offset);
        let length = length.min(usize::try_from(rest).unwrap_or(usize::MAX));
        self.start = offset;
        self.bytes.clear();
        self.bytes.resize(length, 0);
        if self.file.read_exact_at(&mut self.bytes, offset).is_err() {
            self.load_page_by_page(offset);
        }
        Ok(())
    }

    /// What the disk does not give becomes bytes that are no frame, so that the rest can be read.
    fn load_page_by_page(&mut self, offset: u64) {
        const PAGE: usize = 4096;
        for (index, page) in self.bytes.chunks_mut(PAGE).enumerate() {
            if self.file.read_exact_at(page, offset + (index * PAGE) as u64).is_err() {
                page.fill(0xFF);
            }
        }
    }

    /// The offset after the last byte in `start..end` that is not zero; `start` when all are.
    fn last_nonzero(&mut self, start: u64, end: u64) -> io::Result<u64> {
        const STEP: u64 = 8192;
        let mut last = start;
        let mut at = start;
        while at < end {
            let length = (end - at).min(STEP);
            let bytes = self.at(at, length as usize)?;
            if !is_zero(bytes) {
                let index = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                last = at + index as u64 + 1;
            }
            at += length;
        }
        Ok(last)
    }
}
