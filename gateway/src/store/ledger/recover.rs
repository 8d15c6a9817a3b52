//! The ledger's end after a stop of any kind: finds it, cuts a torn tail (after copying it aside) and closes the
//! segment. Damage before the end is left where it is, for [`super::check`] to name.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::GENESIS;
use super::frame::{self, Hash, Kind};
use super::reader::{Damage, Found, Locus, PlacedFrame, SegmentReader, read_frame};
use super::segment::{self, FIRST_FRAME, Segment, SegmentHead};

/// Where the ledger ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Number of the last segment file; 0 when there is none.
    pub last_segment: u32,
    pub last_seq: u64,
    pub head: Hash,
    /// Where the last segment's frames end.
    pub end: Locus,
    /// What was cut off: the write that a crash interrupted.
    pub torn: Option<Damage>,
}

/// Finds the end of the ledger in `dir` and leaves every segment closed.
pub fn recover(dir: &Path, quarantine: &Path) -> io::Result<Tail> {
    fs::create_dir_all(dir)?;
    segment::remove_unfinished(dir)?;
    let numbers = segment::list(dir)?;
    let Some(&last_segment) = numbers.last() else {
        return Ok(Tail {
            last_segment: 0,
            last_seq: 0,
            head: GENESIS,
            end: Locus { segment: 1, offset: FIRST_FRAME },
            torn: None,
        });
    };
    if let Some(end) = end_frame(dir, last_segment)? {
        let (last_seq, head) = (end.header.seq, end.header.previous);
        return Ok(Tail { last_segment, last_seq, head, end: end.end(), torn: None });
    }
    let Complete { end: cut, last, is_whole } = last_complete(dir, last_segment)?;
    let (last_seq, head) = match last {
        Some(found) => found,
        None => before(dir, &numbers)?,
    };
    let torn = cut_tail(dir, quarantine, last_segment, cut)?;
    let segment = Segment::reopen(dir, last_segment, cut, is_whole)?;
    let mut end = Locus { segment: last_segment, offset: cut };
    match segment.close(last_seq, head) {
        Ok(()) => end.offset += frame::OVERHEAD as u64,
        Err(error) => tracing::warn!(%error, segment = last_segment, "the segment stays without an end frame"),
    }
    Ok(Tail { last_segment, last_seq, head, end, torn })
}

/// The end frame of a closed segment.
pub fn end_frame(dir: &Path, number: u32) -> io::Result<Option<PlacedFrame>> {
    let length = fs::metadata(segment::path(dir, number))?.len();
    let Some(offset) = length.checked_sub(frame::OVERHEAD as u64).filter(|offset| *offset >= FIRST_FRAME) else {
        return Ok(None);
    };
    let found = read_frame(dir, Locus { segment: number, offset })?;
    Ok(found.filter(|frame| frame.header.kind == Kind::End && frame.header.segment == number))
}

/// What a segment holds up to its last complete append.
struct Complete {
    end: u64,
    /// Sequence and hash of the last fact.
    last: Option<(u64, Hash)>,
    /// Whether everything before the end can be read.
    is_whole: bool,
}

fn last_complete(dir: &Path, number: u32) -> io::Result<Complete> {
    let mut reader = SegmentReader::open(dir, number, FIRST_FRAME)?;
    let mut complete = Complete { end: FIRST_FRAME, last: None, is_whole: true };
    let mut has_hole = false;
    let mut next = SegmentHead::read(&File::open(segment::path(dir, number))?)?.map(|head| head.first_seq);
    while let Some(found) = reader.next(None)? {
        let Found::Frame(frame) = found else {
            has_hole = true;
            continue;
        };
        let header = &frame.header;
        has_hole |= next != Some(header.seq);
        next = Some(header.seq + 1);
        let is_newer = complete.last.is_none_or(|(seq, _)| header.seq > seq);
        if header.kind == Kind::Fact && header.segment == number && header.following == 0 && is_newer {
            complete =
                Complete { end: frame.end().offset, last: Some((header.seq, frame.hash())), is_whole: !has_hole };
        }
    }
    Ok(complete)
}

/// Sequence and hash of the last fact before the last segment, which holds none.
fn before(dir: &Path, numbers: &[u32]) -> io::Result<(u64, Hash)> {
    for (index, &number) in numbers.iter().enumerate().rev() {
        if index + 1 < numbers.len() {
            if let Some(end) = end_frame(dir, number)? {
                return Ok((end.header.seq, end.header.previous));
            }
            if let Some(last) = last_complete(dir, number)?.last {
                return Ok(last);
            }
        }
        if let Some(head) = SegmentHead::read(&File::open(segment::path(dir, number))?)? {
            return Ok((head.first_seq - 1, head.previous));
        }
    }
    Ok((0, GENESIS))
}

/// Copies what stands after `cut` aside, if it is anything.
fn cut_tail(dir: &Path, quarantine: &Path, number: u32, cut: u64) -> io::Result<Option<Damage>> {
    let mut reader = SegmentReader::open(dir, number, cut)?;
    let mut length = 0;
    while let Some(found) = reader.next(None)? {
        let (at, size) = match found {
            Found::Frame(frame) => (frame.at.offset, frame.end().offset - frame.at.offset),
            Found::Damage(damage) => (damage.at.offset, damage.length),
        };
        length = at + size - cut;
    }
    if length == 0 {
        return Ok(None);
    }
    let torn = Damage { at: Locus { segment: number, offset: cut }, length };
    copy_aside(dir, quarantine, torn)?;
    Ok(Some(torn))
}

/// Copies damaged bytes to the quarantine directory; once is enough.
pub fn copy_aside(dir: &Path, quarantine: &Path, damage: Damage) -> io::Result<()> {
    fs::create_dir_all(quarantine)?;
    let mut bytes = vec![0; usize::try_from(damage.length).unwrap_or(usize::MAX).min(frame::MAX_PAYLOAD)];
    let source = File::open(segment::path(dir, damage.at.segment))?;
    source.read_exact_at(&mut bytes, damage.at.offset)?;
    let crc = crc32c::crc32c(&bytes);
    let name = format!("{:08}-{:010}-{crc:08x}.bin", damage.at.segment, damage.at.offset);
    let path = quarantine.join(name);
    if path.exists() {
        return Ok(());
    }
    let copy = File::create(&path)?;
    copy.write_all_at(&bytes, 0)?;
    copy.sync_all()?;
    segment::sync_dir(quarantine)
}
