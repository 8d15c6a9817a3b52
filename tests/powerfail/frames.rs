//! The ledger's frames as their layout is documented, read without the gateway's code: which facts are still whole on a
//! damaged disk, and what a store would read that has no checksum.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use super::image::Image;

const MAGIC: [u8; 4] = [0xC5, b'A', b'X', b'F'];
const HEADER: usize = 60;
const CRC: usize = 4;
const FIRST_FRAME: usize = 96;
const MAX_PAYLOAD: usize = 32 << 20;

/// What stands at one place of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub range: Range<usize>,
    pub kind: u8,
    pub segment: u32,
    pub seq: u64,
    pub following: u32,
    /// From 1, among the frames that were written together; 0 when it is not said.
    pub in_write: u16,
    /// Whether the checksum is right.
    pub is_whole: bool,
}

pub const FACT: u8 = 1;
pub const END: u8 = 2;

/// The frame whose head stands at `at`, whole or not.
fn frame_at(bytes: &[u8], at: usize) -> Option<Frame> {
    let head = bytes.get(at..at + HEADER)?;
    let has_place = head[6..8] != [0, 0];
    if head[..4] != MAGIC || head[4] != 1 + u8::from(has_place) || ![FACT, END].contains(&head[5]) {
        return None;
    }
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = number(8) as usize;
    let end = at + HEADER + length + CRC;
    if length > MAX_PAYLOAD || end > bytes.len() {
        return None;
    }
    let crc = crc32c::crc32c(&bytes[at..end - CRC]).to_le_bytes();
    Some(Frame {
        range: at..end,
        kind: head[5],
        segment: number(12),
        seq: u64::from(number(16)) | u64::from(number(20)) << 32,
        following: number(24),
        in_write: u16::from_le_bytes([head[6], head[7]]),
        is_whole: bytes[end - CRC..end] == crc,
    })
}

/// The whole frames of one segment file.
pub fn whole_frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = FIRST_FRAME;
    while let Some(found) = next_magic(bytes, at) {
        match frame_at(bytes, found).filter(|frame| frame.is_whole) {
            Some(frame) => {
                at = frame.range.end;
                frames.push(frame);
            }
            None => at = found + 1,
        }
    }
    frames
}

fn next_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let found = memchr::memmem::find(bytes.get(from..)?, &MAGIC)?;
    Some(from + found)
}

/// Gives torn frames the checksum that makes them look whole; `false` when there is none. This is what a store would
/// read that does not check.
pub fn forge_torn(bytes: &mut [u8]) -> bool {
    let mut forged = false;
    let mut at = FIRST_FRAME;
    while let Some(found) = next_magic(bytes, at) {
        let Some(frame) = frame_at(bytes, found) else {
            at = found + 1;
            continue;
        };
        let Range { start, end } = frame.range;
        if !frame.is_whole {
            let crc = crc32c::crc32c(&bytes[start..end - CRC]);
            bytes[end - CRC..end].copy_from_slice(&crc.to_le_bytes());
            forged = true;
        }
        at = end;
    }
    forged
}

/// The segment files of an image with their numbers and bytes, in order.
pub fn segments(image: &Image) -> Vec<(u32, PathBuf, Vec<u8>)> {
    let files = image.files.iter().filter_map(|(path, content)| {
        let number = path.strip_prefix("ledger").ok()?.to_str()?.strip_suffix(".seg")?.parse().ok()?;
        Some((number, path.clone(), content.all()))
    });
    files.collect()
}

/// Sequences of the facts that can still be read. An append is stored whole or not at all: where the ledger ends without
/// having been closed, the beginning of an append does not count.
pub fn readable_facts(image: &Image) -> BTreeSet<u64> {
    let mut readable = BTreeSet::new();
    let segments = segments(image);
    for (index, (number, _, bytes)) in segments.iter().enumerate() {
        let frames = whole_frames(bytes);
        let is_closed = frames.last().is_some_and(|frame| frame.kind == END && frame.range.end == bytes.len());
        let is_ours = |frame: &&Frame| frame.kind == FACT && frame.segment == *number;
        let mut facts: Vec<&Frame> = frames.iter().filter(is_ours).collect();
        if index + 1 == segments.len() && !is_closed {
            while facts.last().is_some_and(|frame| frame.following > 0) {
                facts.pop();
            }
        }
        readable.extend(facts.iter().map(|frame| frame.seq));
    }
    readable
}

/// The facts of the write that a stop may have interrupted: the last one of a ledger that nobody has closed.
pub fn last_write(image: &Image) -> BTreeSet<u64> {
    let Some((_, _, bytes)) = segments(image).pop() else { return BTreeSet::new() };
    let last = whole_frames(&bytes).pop().filter(|frame| frame.kind == FACT);
    last.map_or_else(BTreeSet::new, |frame| {
        let place = u64::from(frame.in_write.saturating_sub(1));
        (frame.seq - place..=frame.seq).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden frame of the gateway's own test of the layout, with another beginning of a frame around it.
    fn golden() -> Vec<u8> {
        let frame = hex::decode(
            "c5415846010100000800000007000000060504030201000002000000\
             abababababababababababababababababababababababababababababababab\
             007061796c6f616483b98752",
        );
        frame.unwrap()
    }

    #[test]
    fn frames_are_found_between_damage() {
        let mut bytes = vec![0; FIRST_FRAME];
        bytes.extend_from_slice(&MAGIC);
        bytes.extend(golden());
        bytes.extend_from_slice(&[1, 2, 3]);
        bytes.extend(golden());
        let frames = whole_frames(&bytes);
        let places: Vec<usize> = frames.iter().map(|frame| frame.range.start).collect();
        assert_eq!(places, [FIRST_FRAME + 4, FIRST_FRAME + 7 + golden().len()]);
        assert_eq!((frames[0].kind, frames[0].segment, frames[0].seq), (FACT, 7, 0x0102_0304_0506));
        assert_eq!(frames[0].following, 2);
    }

    #[test]
    fn a_torn_frame_is_none_until_it_is_forged() {
        let mut bytes = vec![0; FIRST_FRAME];
        bytes.extend(golden());
        assert!(!forge_torn(&mut bytes), "nothing is torn");
        bytes[FIRST_FRAME + HEADER + 3] ^= 1;
        assert!(whole_frames(&bytes).is_empty());
        assert!(forge_torn(&mut bytes));
        assert_eq!(whole_frames(&bytes).len(), 1);
    }
}
