//! One fact as bytes of the ledger. Pure: encodes, decodes and finds frames again after damage.
//!
//! ```text
//! offset size
//!      0    4  magic             C5 'A' 'X' 'F'
//!      4    1  format            1, or 2 when it has a place in its write
//!      5    1  kind              1 fact, 2 end of a closed segment
//!      6    2  place in write    1 for the first frame of those that one sync made durable; 0 in format 1
//!      8    4  length            of the sealed payload
//!     12    4  segment           number of the segment file it was written to
//!     16    8  sequence          of the fact; for an end, of the last fact before it
//!     24    4  following         how many frames of the same append still follow
//!     28   32  previous hash     of the fact's frame before this one
//!     60    n  sealed payload    its first byte says how it is sealed
//!   60+n    4  CRC-32C           over all bytes before it
//! ```
//!
//! Numbers are little-endian. A frame's hash is SHA-256 over its first 60 bytes and the SHA-256 of its payload: whoever
//! holds the digest of a payload can go on proving the chain without the payload.

use sha2::{Digest, Sha256};

/// The first bytes of every frame; what a reader looks for after damage.
pub const MAGIC: [u8; 4] = [0xC5, b'A', b'X', b'F'];
/// The layouts drawn above, without and with a place in the write.
const FORMATS: [u8; 2] = [1, 2];
/// Bytes before the payload.
pub const HEADER_LEN: usize = 60;
/// Bytes of a frame beside its payload.
pub const OVERHEAD: usize = HEADER_LEN + CRC_LEN;
/// Longest payload; a larger length is damage.
pub const MAX_PAYLOAD: usize = 32 << 20;

const CRC_LEN: usize = 4;

/// A hash of the chain.
pub type Hash = [u8; 32];

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Fact,
    /// The last frame of a closed segment; carries nothing, its previous hash is the segment's head.
    End,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Fact => 1,
            Kind::End => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Fact, Kind::End].into_iter().find(|kind| kind.byte() == byte)
    }
}

/// Everything in a frame before its payload, except what is constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub length: u32,
    pub segment: u32,
    pub seq: u64,
    pub following: u32,
    /// From 1, among the frames that were written together; 0 when it is not known.
    pub in_write: u16,
    pub previous: Hash,
}

impl Header {
    /// The first bytes of the frame.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = FORMATS[usize::from(self.in_write != 0)];
        bytes[5] = self.kind.byte();
        bytes[6..8].copy_from_slice(&self.in_write.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seq.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.following.to_le_bytes());
        bytes[28..60].copy_from_slice(&self.previous);
        bytes
    }

    fn decode(bytes: &[u8; HEADER_LEN]) -> Option<Header> {
        let in_write = u16::from_le_bytes([bytes[6], bytes[7]]);
        if bytes[0..4] != MAGIC || bytes[4] != FORMATS[usize::from(in_write != 0)] {
            return None;
        }
        let header = Header {
            kind: Kind::from_byte(bytes[5])?,
            length: u32_at(bytes, 8),
            segment: u32_at(bytes, 12),
            seq: u64::from(u32_at(bytes, 16)) | u64::from(u32_at(bytes, 20)) << 32,
            following: u32_at(bytes, 24),
            in_write,
            previous: array_at(bytes, 28),
        };
        (header.length as usize <= MAX_PAYLOAD).then_some(header)
    }

    /// The sequence of the first frame that was written together with this one, when that is known.
    pub fn write_began(&self) -> Option<u64> {
        self.seq.checked_sub(u64::from(self.in_write.checked_sub(1)?))
    }

    /// The frame's hash, given the digest of its payload.
    pub fn hash(&self, payload_digest: &Hash) -> Hash {
        let mut hash = Sha256::new();
        hash.update(self.encode());
        hash.update(payload_digest);
        hash.finalize().into()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// The digest of a payload, as the frame's hash takes it.
pub fn digest(payload: &[u8]) -> Hash {
    Sha256::digest(payload).into()
}

/// Appends a whole frame to `out`. `header.length` must be the payload's.
pub fn encode(header: &Header, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert_eq!(header.length as usize, payload.len());
    let start = out.len();
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// A good frame, borrowed from the bytes it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub header: Header,
    pub payload: &'a [u8],
    pub crc: u32,
}

impl Frame<'_> {
    /// Bytes that the frame takes.
    pub fn size(&self) -> usize {
        OVERHEAD + self.payload.len()
    }

    /// The frame's hash in the chain.
    pub fn hash(&self) -> Hash {
        self.header.hash(&digest(self.payload))
    }
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    Frame(Frame<'a>),
    /// It may be a frame, but this many bytes are needed to tell.
    Needs(usize),
    /// No frame begins here.
    Bad,
}

/// Reads the frame at the beginning of `bytes`.
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
        return Decoded::Needs(OVERHEAD);
    };
    let Some(header) = Header::decode(head) else { return Decoded::Bad };
    let size = OVERHEAD + header.length as usize;
    if bytes.len() < size {
        return Decoded::Needs(size);
    }
    let crc = u32_at(bytes, size - CRC_LEN);
    if crc32c::crc32c(&bytes[..size - CRC_LEN]) != crc {
        return Decoded::Bad;
    }
    Decoded::Frame(Frame { header, payload: &bytes[HEADER_LEN..size - CRC_LEN], crc })
}

/// Where a frame may begin in `bytes`, at `from` or later. The last three bytes may hold the beginning of a magic.
pub fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(MAGIC.len()).position(|window| window == MAGIC).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Header, Vec<u8>) {
        let payload = b"\x00payload".to_vec();
        let header = Header {
            kind: Kind::Fact,
            length: payload.len() as u32,
            segment: 7,
            seq: 0x0102_0304_0506,
            following: 2,
            in_write: 0,
            previous: [0xAB; 32],
        };
        (header, payload)
    }

    #[test]
    fn a_frame_has_these_bytes() {
        let (header, payload) = sample();
        let mut bytes = Vec::new();
        encode(&header, &payload, &mut bytes);
        let golden = concat!(
            "c5415846",
            "01",
            "01",
            "0000",
            "08000000",
            "07000000",
            "0605040302010000",
            "02000000",
            "abababababababababababababababababababababababababababababababab",
            "007061796c6f6164",
            "83b98752",
        );
        assert_eq!(hex::encode(&bytes), golden, "bytes on disk do not change: add a format instead");
    }

    #[test]
    fn a_frame_with_its_place_in_a_write_has_these_bytes() {
        let (header, payload) = sample();
        let mut bytes = Vec::new();
        encode(&Header { in_write: 0x0201, ..header }, &payload, &mut bytes);
        assert_eq!(hex::encode(&bytes[..8]), "c541584602010102", "bytes on disk do not change: add a format instead");
        let Decoded::Frame(frame) = decode(&bytes) else { panic!("not decoded") };
        assert_eq!(frame.header, Header { in_write: 0x0201, ..header });
    }

    #[test]
    fn a_frame_comes_back_from_its_bytes() {
        let (header, payload) = sample();
        let mut bytes = Vec::new();
        encode(&header, &payload, &mut bytes);
        bytes.extend_from_slice(b"next");
        let Decoded::Frame(frame) = decode(&bytes) else { panic!("not decoded") };
        assert_eq!((frame.header, frame.payload, frame.size()), (header, &payload[..], bytes.len() - 4));
        assert_eq!(frame.hash(), header.hash(&digest(&payload)));
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_every_cut_asks_for_more() {
        let (header, payload) = sample();
        let mut bytes = Vec::new();
        encode(&header, &payload, &mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&flipped), Decoded::Frame(_)), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..cut]), Decoded::Needs(n) if n > cut), "cut {cut}");
        }
    }
}
