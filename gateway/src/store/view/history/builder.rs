//! Builds a run in memory: some hundred bytes for each punch.

use super::run::{Archived, BLOCK_ROWS, Head, MAGIC, distance, time_key, with_checksum, worker_key};
use super::sorted::Sorted;
use crate::punch::*;
use crate::store::filter::Bloom;
use crate::store::view::rows;

/// See the module.
pub struct Builder {
    head: Head,
    block: Vec<Archived>,
    sections: Vec<u8>,
    ids: Vec<Vec<u8>>,
    times: Vec<Vec<u8>>,
    workers: Vec<Vec<u8>>,
}

/// The farthest that a punch can be from the first sequence of its run.
pub const MAX_STRETCH: u64 = u32::MAX as u64;

impl Builder {
    /// For a stretch of no more than [`MAX_STRETCH`].
    pub fn new(generation: u32, first: Seq, last: Seq) -> Builder {
        let head = Head {
            generation,
            first,
            last,
            punches: 0,
            records: 0,
            earliest: UnixMs(i64::MAX),
            latest: UnixMs(i64::MIN),
            platforms: Vec::new(),
            blocks: Vec::new(),
            rows_end: 0,
            ids: Sorted::default(),
            times: Sorted::default(),
            workers: Sorted::default(),
        };
        Builder {
            head,
            block: Vec::new(),
            sections: Vec::new(),
            ids: Vec::new(),
            times: Vec::new(),
            workers: Vec::new(),
        }
    }

    /// Adds a punch; they come in order of sequence.
    pub fn push(&mut self, archived: Archived) {
        let row = &archived.entry.row;
        let distance = self.distance(row.seq);
        self.ids.push([&row.id.0[..], &distance].concat());
        self.times.push([&time_key(row.time)[..], &distance].concat());
        if let Some(worker) = row.judgement.as_ref().and_then(|judgement| judgement.worker.as_ref()) {
            self.workers.push([&worker_key(worker, row.time)[..], &distance].concat());
        }
        self.head.earliest = self.head.earliest.min(row.time);
        self.head.latest = self.head.latest.max(row.time);
        self.head.punches += 1;
        for upload in &archived.entry.uploads {
            if !self.head.platforms.contains(&upload.platform) {
                self.head.platforms.push(upload.platform.clone());
            }
        }
        self.block.push(archived);
        if self.block.len() >= BLOCK_ROWS {
            self.end_block();
        }
    }

    /// Adds a record that is known by its digest only.
    pub fn push_record(&mut self, digest: &[u8; 16], seq: Seq) {
        self.ids.push([&digest[..], &self.distance(seq)].concat());
        self.head.records += 1;
    }

    fn distance(&self, seq: Seq) -> [u8; 4] {
        distance(&self.head, seq).unwrap_or(u32::MAX).to_be_bytes()
    }

    fn end_block(&mut self) {
        let Some(first) = self.block.first() else { return };
        let first = distance(&self.head, first.seq()).unwrap_or(u32::MAX);
        self.head.blocks.push((first, self.sections.len() as u32));
        self.sections.extend(with_checksum(rows::encode(&self.block)));
        self.block.clear();
    }

    /// The bytes of the file.
    pub fn finish(mut self) -> Vec<u8> {
        self.end_block();
        self.head.rows_end = self.sections.len() as u32;
        let mut filter = Bloom::with_room(self.ids.len());
        for digest in self.ids.iter().filter_map(|key| key.first_chunk()) {
            filter.insert(digest);
        }
        self.head.ids = Sorted::write(self.ids, &mut self.sections);
        self.head.times = Sorted::write(self.times, &mut self.sections);
        self.head.workers = Sorted::write(self.workers, &mut self.sections);
        let (head, filter) = (rows::encode(&self.head), filter.to_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &filter);
        let mut bytes = MAGIC.to_vec();
        for number in [head.len() as u32, filter.len() as u32, crc] {
            bytes.extend(number.to_le_bytes());
        }
        [bytes, head, filter, self.sections].concat()
    }
}
