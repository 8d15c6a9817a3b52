//! One file of the history: everything the view says of the punches in one stretch of the ledger, as it was when the
//! file was made. It is never changed; a newer generation of the same stretch takes its place. It holds nothing
//! personal beyond what the rows of sled hold.
//!
//! ```text
//! offset
//!  0  magic "AXRUN" 0 0 1
//!  8  length of the head (4, little-endian)
//! 12  length of the filter (4)
//! 16  CRC-32C of head and filter (4)
//! 20  head: [`Head`]
//!     filter over the digests of the punches and other records ([`Bloom`])
//!     sections, at the places that the head names, counted from here:
//!       rows     blocks of up to 32: CRC-32C (4) | list of [`Archived`], oldest first
//!       ids      digest (16)                                               ⎫
//!       times    punch time (8)                                            ⎬ each an index ([`Sorted`])
//!       workers  beginning of the worker id's SHA-256 (8), punch time (8)  ⎭
//! ```
//!
//! Numbers inside keys are big-endian and times have their sign bit flipped, as in the keys of sled. Head and rows are
//! postcard.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::sorted::Sorted;
use crate::punch::*;
use crate::store::filter::Bloom;
use crate::store::view::engine::ViewError;
use crate::store::view::query::Answer;
use crate::store::view::recent::worker_hash;
use crate::store::view::rows::{self, Noted, PunchEntry};

pub const MAGIC: [u8; 8] = *b"AXRUN\0\0\x01";
const START: usize = 20;
/// Of a checksum.
pub const CRC: usize = 4;
/// Rows in one block.
pub const BLOCK_ROWS: usize = 32;

/// What is kept of a run in memory, beside its filter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    pub generation: u32,
    /// The stretch of the ledger, both ends included. Runs follow each other without a hole.
    pub first: Seq,
    pub last: Seq,
    pub punches: u32,
    /// Strangers, quarantined records and damage reports, of which only the digest is here.
    pub records: u32,
    /// Between which punch times, first and last, there are punches; a terminal whose clock is wrong has its own.
    pub spans: Vec<(UnixMs, UnixMs)>,
    /// Platforms that some of these punches were meant for.
    pub platforms: Vec<PlatformName>,
    /// Of each block of rows: the distance of its first punch from `first`, and where it begins.
    pub blocks: Vec<(u32, u32)>,
    pub rows_end: u32,
    pub ids: Sorted,
    pub times: Sorted,
    pub workers: Sorted,
}

/// Everything the view said of one punch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Archived {
    pub entry: PunchEntry,
    /// Facts that no longer fit in the row.
    pub earlier: Vec<Noted>,
}

impl Archived {
    pub fn seq(&self) -> Seq {
        self.entry.row.seq
    }
}

/// A run that can be read. Its file is opened for each question, so that no handles are kept.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    pub head: Head,
    filter: Bloom,
    /// Where the sections begin.
    base: u64,
    /// The file goes when the last reader has gone.
    retired: AtomicBool,
}

impl Run {
    pub fn open(path: &Path) -> Answer<Run> {
        let file = open(path)?;
        let mut start = [0; START];
        read(&file, &mut start, 0)?;
        let number = |at: usize| start[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let (head, filter, crc) = (number(8) as usize, number(12) as usize, number(16));
        let length = file.metadata()?.len();
        if start[..8] != MAGIC || (START + head + filter) as u64 > length {
            return Err(damaged(path, "its beginning is not that of a run"));
        }
        let mut bytes = vec![0; head + filter];
        read(&file, &mut bytes, START as u64)?;
        if crc32c::crc32c(&bytes) != crc {
            return Err(damaged(path, "the checksum of its head is wrong"));
        }
        let (Some(decoded), Some(bloom)) = (rows::decode(&bytes[..head]), Bloom::from_bytes(&bytes[head..])) else {
            return Err(damaged(path, "its head is of another version"));
        };
        Ok(Run {
            path: path.to_owned(),
            head: decoded,
            filter: bloom,
            base: (START + head + filter) as u64,
            retired: AtomicBool::new(false),
        })
    }

    /// The file is not needed any more once nobody reads it.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub fn may_contain(&self, digest: &[u8; 16]) -> bool {
        self.filter.may_contain(digest)
    }

    pub fn reader(&self) -> Answer<Reader<'_>> {
        Ok(Reader { run: self, file: open(&self.path)?, block: None })
    }

    /// Whether punch times in `from..=to` can be here.
    pub fn overlaps(&self, from: UnixMs, to: UnixMs) -> bool {
        self.head.spans.iter().any(|(first, last)| *first <= to && *last >= from)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Relaxed)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "a run that is not needed any more stays");
        }
    }
}

/// An open run, with the block of rows that was read last.
pub struct Reader<'r> {
    run: &'r Run,
    file: File,
    block: Option<(usize, Vec<Archived>)>,
}

impl Reader<'_> {
    /// The row of one punch.
    pub fn row(&mut self, seq: Seq) -> Answer<Option<Archived>> {
        let block = self.block(self.block_from(seq))?;
        let found = block.binary_search_by_key(&seq, Archived::seq).ok();
        Ok(found.map(|index| block[index].clone()))
    }

    /// All rows of a block, oldest first.
    pub fn block(&mut self, index: usize) -> Answer<&[Archived]> {
        let stale = self.block.take_if(|(read, _)| *read != index);
        drop(stale);
        let (_, rows) = match self.block.take() {
            Some(block) => self.block.insert(block),
            None => {
                let rows = self.read_block(index)?;
                self.block.insert((index, rows))
            }
        };
        Ok(rows)
    }

    pub fn read_block(&self, index: usize) -> Answer<Vec<Archived>> {
        let head = &self.run.head;
        let Some((_, at)) = head.blocks.get(index) else { return Ok(Vec::new()) };
        let end = head.blocks.get(index + 1).map_or(head.rows_end, |(_, at)| *at);
        let length = (end.saturating_sub(*at) as usize).saturating_sub(CRC);
        let bytes = read_checked(&self.file, self.run.base + u64::from(*at), length)?;
        rows::decode(&bytes).ok_or_else(|| damaged(&self.run.path, "a block of rows cannot be read"))
    }

    /// The block in which the first punch at or after `seq` may be.
    pub fn block_from(&self, seq: Seq) -> usize {
        let distance = seq.0.saturating_sub(self.run.head.first.0);
        self.run.head.blocks.partition_point(|(first, _)| u64::from(*first) <= distance).saturating_sub(1)
    }

    /// The place of the punch or record with this digest.
    pub fn find(&self, digest: &[u8; 16]) -> Answer<Option<Seq>> {
        let found = self.run.head.ids.find(&self.file, self.run.base, digest, digest)?;
        Ok(found.first().map(|distance| self.seq(*distance)))
    }

    /// Tells every digest with its place.
    pub fn digests(&self, mut tell: impl FnMut(&[u8; 16], Seq)) -> Answer<()> {
        self.run.head.ids.each(&self.file, self.run.base, |key, distance| {
            if let Some(digest) = key.first_chunk() {
                tell(digest, self.seq(distance));
            }
        })
    }

    /// Punches with times in `from..=to`, in order of sequence.
    pub fn by_time(&self, from: UnixMs, to: UnixMs) -> Answer<Vec<Seq>> {
        let found = self.run.head.times.find(&self.file, self.run.base, &time_key(from), &time_key(to))?;
        Ok(self.in_order(&found))
    }

    /// Punches of a worker with times in `from..=to`, in order of sequence; may name some of other workers.
    pub fn by_worker(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> Answer<Vec<Seq>> {
        let (from, to) = (worker_key(worker, from), worker_key(worker, to));
        let found = self.run.head.workers.find(&self.file, self.run.base, &from, &to)?;
        Ok(self.in_order(&found))
    }

    fn in_order(&self, distances: &[u32]) -> Vec<Seq> {
        let mut seqs: Vec<Seq> = distances.iter().map(|distance| self.seq(*distance)).collect();
        seqs.sort_unstable();
        seqs
    }

    fn seq(&self, distance: u32) -> Seq {
        Seq(self.run.head.first.0 + u64::from(distance))
    }
}

pub fn distance(head: &Head, seq: Seq) -> Option<u32> {
    seq.0.checked_sub(head.first.0).and_then(|distance| u32::try_from(distance).ok())
}

pub fn time_key(time: UnixMs) -> [u8; 8] {
    ((time.0 as u64) ^ (1 << 63)).to_be_bytes()
}

pub fn worker_key(worker: &WorkerId, time: UnixMs) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&worker_hash(worker));
    key[8..].copy_from_slice(&time_key(time));
    key
}

/// Bytes behind their checksum.
pub fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    [&crc32c::crc32c(bytes).to_le_bytes()[..], bytes].concat()
}

/// Reads `length` bytes behind the checksum at `at`.
pub fn read_checked(file: &File, at: u64, length: usize) -> Answer<Vec<u8>> {
    let mut bytes = vec![0; CRC + length];
    read(file, &mut bytes, at)?;
    let content = bytes.split_off(CRC);
    if bytes != crc32c::crc32c(&content).to_le_bytes() {
        return Err(ViewError::History(format!("a checksum at offset {at} is wrong")));
    }
    Ok(content)
}

fn read(file: &File, bytes: &mut [u8], at: u64) -> Answer<()> {
    match file.read_exact_at(bytes, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(ViewError::History("a run ends too early".to_owned()))
        }
        outcome => Ok(outcome?),
    }
}

fn open(path: &Path) -> Answer<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged(path, "it is not there")),
        outcome => Ok(outcome?),
    }
}

fn damaged(path: &Path, what: &str) -> ViewError {
    ViewError::History(format!("{}: {what}", path.display()))
}
