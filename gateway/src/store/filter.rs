//! Says of a record for certain that the view does not know it, without asking sled: while sled applies a batch its
//! readers wait, and an acknowledgement must not. May say "perhaps" of a record that is not there; then sled is asked.
//!
//! Bloom filters of 12 bits per record with 6 probes (about one needless question in 300), each twice as large as the
//! one before it. The digests that come in are parts of SHA-256, so their bytes are the hashes.

/// Knows a growing set of digests.
#[derive(Debug)]
pub struct Filter {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    bloom: Bloom,
    room: usize,
}

/// Knows a set of digests whose size was known beforehand.
#[derive(Debug, PartialEq, Eq)]
pub struct Bloom {
    bits: Vec<u64>,
}

const BITS_PER_RECORD: usize = 12;
const PROBES: u64 = 6;
const LEAST_ROOM: usize = 1 << 14;

impl Filter {
    /// An empty filter with room for so many before it grows.
    pub fn with_room(room: usize) -> Filter {
        Filter { layers: vec![Layer::new(room)] }
    }

    pub fn insert(&mut self, digest: &[u8; 16]) {
        if self.may_contain(digest) {
            return;
        }
        match self.layers.last_mut() {
            Some(layer) if layer.room > 0 => layer.insert(digest),
            Some(_) | None => {
                let room = self.layers.last().map_or(LEAST_ROOM, |layer| layer.bloom.room() * 2);
                let mut layer = Layer::new(room);
                layer.insert(digest);
                self.layers.push(layer);
            }
        }
    }

    /// `false` is certain.
    pub fn may_contain(&self, digest: &[u8; 16]) -> bool {
        self.layers.iter().any(|layer| layer.bloom.may_contain(digest))
    }
}

impl Layer {
    fn new(room: usize) -> Layer {
        let room = room.max(LEAST_ROOM);
        Layer { bloom: Bloom::with_room(room), room }
    }

    fn insert(&mut self, digest: &[u8; 16]) {
        self.bloom.insert(digest);
        self.room -= 1;
    }
}

impl Bloom {
    pub fn with_room(room: usize) -> Bloom {
        Bloom { bits: vec![0; (room * BITS_PER_RECORD).div_ceil(64).max(1)] }
    }

    /// How many it is made for.
    fn room(&self) -> usize {
        self.bits.len() * 64 / BITS_PER_RECORD
    }

    pub fn insert(&mut self, digest: &[u8; 16]) {
        for (word, bit) in self.places(digest) {
            self.bits[word] |= bit;
        }
    }

    /// `false` is certain.
    pub fn may_contain(&self, digest: &[u8; 16]) -> bool {
        self.places(digest).all(|(word, bit)| self.bits[word] & bit != 0)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.bits.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// `None` when these are not the bytes of a filter.
    pub fn from_bytes(bytes: &[u8]) -> Option<Bloom> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let bits: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        (!bits.is_empty()).then_some(Bloom { bits })
    }

    /// Where the digest's bits are: double hashing over its two halves.
    fn places(&self, digest: &[u8; 16]) -> impl Iterator<Item = (usize, u64)> + use<> {
        let number = u128::from_le_bytes(*digest);
        let (first, second) = (number as u64, (number >> 64) as u64 | 1);
        let size = self.bits.len() as u64 * 64;
        (0..PROBES).map(move |probe| {
            let bit = first.wrapping_add(probe.wrapping_mul(second)) % size;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::punch::PunchId;

    fn digest(n: u32) -> [u8; 16] {
        PunchId::derive("AX-1001", &n.to_string(), "", "").0
    }

    #[test]
    fn what_is_in_it_is_never_denied_and_little_else_is_suspected() {
        let mut filter = Filter::with_room(0);
        for n in 0..100_000 {
            filter.insert(&digest(n));
        }
        assert!((0..100_000).all(|n| filter.may_contain(&digest(n))));
        let suspected = (100_000..200_000).filter(|n| filter.may_contain(&digest(*n))).count();
        assert!(suspected < 2_000, "{suspected} of 100 000");
        let bytes: usize = filter.layers.iter().map(|layer| layer.bloom.to_bytes().len()).sum();
        assert!(bytes < 400_000, "{bytes} bytes");
    }
}
