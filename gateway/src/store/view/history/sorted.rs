//! An index of a run: keys of one width in order, in blocks with a checksum each. The first key of every block is kept
//! in memory, so that a question costs one read of a block.
//!
//! ```text
//! block = CRC-32C of the keys (4) | up to 256 keys
//! key   = what is asked for | 4 bytes: the punch, as its distance from the run's first sequence
//! ```

use std::fs::File;

use serde::{Deserialize, Serialize};

use super::run::{CRC, read_checked, with_checksum};
use crate::store::view::query::Answer;

/// Keys in one block.
const BLOCK: usize = 256;
/// Of the distance at the end of a key.
const DISTANCE: usize = 4;

/// Where an index stands in its file, and what is kept of it in memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sorted {
    width: usize,
    at: u64,
    keys: usize,
    /// The first key of each block, one behind the other.
    fences: Vec<u8>,
}

impl Sorted {
    /// Appends the index of these keys to `section`.
    pub fn write<const N: usize>(mut keys: Vec<[u8; N]>, section: &mut Vec<u8>) -> Sorted {
        keys.sort_unstable();
        let mut sorted = Sorted { width: N, at: section.len() as u64, keys: keys.len(), fences: Vec::new() };
        for block in keys.chunks(BLOCK) {
            sorted.fences.extend_from_slice(&block[0]);
            section.extend(with_checksum(block.as_flattened()));
        }
        sorted
    }

    /// The distances at the end of the keys that begin with something in `from..=to`, in order of the keys. `base` is
    /// where the sections of the file begin.
    pub fn find(&self, file: &File, base: u64, from: &[u8], to: &[u8]) -> Answer<Vec<u32>> {
        let mut found = Vec::new();
        for index in self.block_with(from)..self.blocks() {
            if self.fence(index).is_some_and(|fence| begin(fence, to) > to) {
                break;
            }
            let block = self.block(file, base, index)?;
            let wanted = block
                .chunks_exact(self.width)
                .skip_while(|key| begin(key, from) < from)
                .take_while(|key| begin(key, to) <= to);
            found.extend(wanted.filter_map(distance));
        }
        Ok(found)
    }

    /// Tells every key with the distance at its end, in order.
    pub fn each(&self, file: &File, base: u64, mut tell: impl FnMut(&[u8], u32)) -> Answer<()> {
        for index in 0..self.blocks() {
            for key in self.block(file, base, index)?.chunks_exact(self.width) {
                distance(key).into_iter().for_each(|distance| tell(key, distance));
            }
        }
        Ok(())
    }

    fn blocks(&self) -> usize {
        self.keys.div_ceil(BLOCK)
    }

    fn fence(&self, index: usize) -> Option<&[u8]> {
        self.fences.get(index * self.width..(index + 1) * self.width)
    }

    /// The first block that may hold a key that begins with `from` or more.
    fn block_with(&self, from: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.blocks());
        while low < high {
            let middle = (low + high) / 2;
            if self.fence(middle).is_some_and(|fence| begin(fence, from) < from) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1)
    }

    fn block(&self, file: &File, base: u64, index: usize) -> Answer<Vec<u8>> {
        let before = index * BLOCK;
        let keys = self.keys.saturating_sub(before).min(BLOCK);
        let at = base + self.at + (index * CRC + before * self.width) as u64;
        read_checked(file, at, keys * self.width)
    }
}

/// As much of a key as there is to compare.
fn begin<'k>(key: &'k [u8], with: &[u8]) -> &'k [u8] {
    &key[..key.len().min(with.len())]
}

fn distance(key: &[u8]) -> Option<u32> {
    key.last_chunk::<DISTANCE>().map(|bytes| u32::from_be_bytes(*bytes))
}
