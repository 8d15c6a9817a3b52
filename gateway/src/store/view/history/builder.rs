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
    ids: Vec<[u8; 20]>,
    moments: Vec<UnixMs>,
    times: Vec<[u8; 12]>,
    workers: Vec<[u8; 20]>,
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
            spans: Vec::new(),
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
            moments: Vec::new(),
            times: Vec::new(),
            workers: Vec::new(),
        }
    }

    /// Adds a punch; they come in order of sequence.
    pub fn push(&mut self, archived: Archived) {
        let row = &archived.entry.row;
        let distance = self.distance(row.seq);
        self.ids.push(joined(&row.id.0, distance));
        self.times.push(joined(&time_key(row.time), distance));
        if let Some(worker) = row.judgement.as_ref().and_then(|judgement| judgement.worker.as_ref()) {
            self.workers.push(joined(&worker_key(worker, row.time), distance));
        }
        self.moments.push(row.time);
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
        self.ids.push(joined(digest, self.distance(seq)));
        self.head.records += 1;
    }

    fn distance(&self, seq: Seq) -> [u8; 4] {
        distance(&self.head, seq).unwrap_or(u32::MAX).to_be_bytes()
    }

    fn end_block(&mut self) {
        let Some(first) = self.block.first() else { return };
        let first = distance(&self.head, first.seq()).unwrap_or(u32::MAX);
        self.head.blocks.push((first, self.sections.len() as u32));
        self.sections.extend(with_checksum(&rows::encode(&self.block)));
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
        self.head.spans = spans(self.moments);
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

/// What is asked for, and the distance behind it.
fn joined<const N: usize>(asked: &[u8], distance: [u8; 4]) -> [u8; N] {
    let mut key = [0; N];
    key[..N - 4].copy_from_slice(asked);
    key[N - 4..].copy_from_slice(&distance);
    key
}

/// How many spans are told apart, at most.
const MOST_SPANS: usize = 16;
/// Times nearer than this are in one span.
const APART_MS: i64 = 3_600_000;

/// The spans of these times: they are apart where the longest gaps are.
fn spans(mut times: Vec<UnixMs>) -> Vec<(UnixMs, UnixMs)> {
    times.sort_unstable();
    let gap = |at: usize| times[at].0.saturating_sub(times[at - 1].0);
    let mut breaks: Vec<usize> = (1..times.len()).filter(|at| gap(*at) > APART_MS).collect();
    breaks.sort_unstable_by_key(|at| std::cmp::Reverse(gap(*at)));
    breaks.truncate(MOST_SPANS - 1);
    breaks.extend([0, times.len()]);
    breaks.sort_unstable();
    breaks.dedup();
    breaks.windows(2).map(|ends| (times[ends[0]], times[ends[1] - 1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_has_a_span_of_its_own() {
        let hours = |times: &[i64]| spans(times.iter().map(|hour| UnixMs(hour * APART_MS)).collect());
        let span = |first: i64, last: i64| (UnixMs(first * APART_MS), UnixMs(last * APART_MS));
        assert_eq!(hours(&[]), []);
        assert_eq!(hours(&[7]), [span(7, 7)]);
        assert_eq!(hours(&[100, 102, 101, 100]), [span(100, 102)]);
        assert_eq!(hours(&[100, 9000, 101, 1, 102, 9001]), [span(1, 1), span(100, 102), span(9000, 9001)]);
        let many: Vec<i64> = (0..50).map(|n| n * n).collect();
        let found = hours(&many);
        assert_eq!((found.len(), found[0], found[15]), (16, span(0, 34 * 34), span(49 * 49, 49 * 49)));
    }
}
