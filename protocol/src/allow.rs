//! The allow-list: which badges are registered, in a form that fits a reader and tells no badge number.
//!
//! ```text
//! list   header 128 | body: fingerprints, 4 bytes each, little endian, rising; filled up to whole pieces with FF
//!
//! header 0    4   "AXL1"
//!        4    4   fingerprints, little endian
//!        8    4   bytes of the body as filled up, little endian
//!        12  32   SHA-256 of the body; its first 8 bytes are the list's digest
//!        44  84   00
//! ```
//!
//! A fingerprint is HMAC-SHA256 with the reader's key over what is compared, cut to 32 bits, so each reader's list is its
//! own. A badge that is not registered is taken for one that is with a probability of 2 · n / 2^32 for n fingerprints:
//! with 4 096 one in a million such badges ([`false_accepts`]).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::image::{PIECE, Piece};
use crate::message::{Badge, Digest};
use crate::seal::{Key, padded};

const MARK: [u8; 4] = *b"AXL1";
const HASH_AT: usize = 12;
const USED: usize = 44;
/// What the body is filled up with; no fingerprint.
pub const FILLING: u32 = u32::MAX;

/// What can be compared of a badge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// All 32 bits, on the roster and at the reader.
    Full(u32),
    /// The low 24 bits of a badge that is whole on the roster, for readers that see no more.
    LowOfFull(u32),
    /// The low 24 bits of a badge of which the roster knows no more, for all readers.
    Low(u32),
}

impl Mark {
    /// What a badge at the reader may match.
    pub fn of(badge: Badge) -> [Mark; 2] {
        match badge {
            Badge::Full(bits) => [Mark::Full(bits), Mark::Low(bits & 0x00FF_FFFF)],
            Badge::Low24(low) => [Mark::LowOfFull(low), Mark::Low(low)],
        }
    }

    /// Its fingerprint for the reader with this key; one without a key has a list that anybody can make.
    pub fn fingerprint(self, key: Option<Key>) -> u32 {
        let (kind, number) = match self {
            Mark::Full(number) => (0, number),
            Mark::LowOfFull(number) => (1, number),
            Mark::Low(number) => (2, number),
        };
        let mac = Hmac::<Sha256>::new(&padded(key.unwrap_or(Key([0; 16]))));
        let full =
            mac.chain_update(MARK).chain_update([kind]).chain_update(number.to_le_bytes()).finalize().into_bytes();
        let first = full.iter().take(4).rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        if first == FILLING { 0 } else { first }
    }
}

/// How likely a badge that is not registered is taken for one that is, with this many fingerprints.
pub fn false_accepts(fingerprints: u32) -> f64 {
    2.0 * f64::from(fingerprints) / 4_294_967_296.0
}

/// What stands in front of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Fingerprints in the body.
    pub fingerprints: u32,
    /// Bytes of the body; whole pieces.
    pub length: u32,
    /// SHA-256 of the body.
    pub hash: [u8; 32],
}

impl Header {
    /// As it goes over the line.
    pub fn piece(&self) -> Piece {
        let mut bytes = [0; PIECE];
        bytes[..4].copy_from_slice(&MARK);
        bytes[4..8].copy_from_slice(&self.fingerprints.to_le_bytes());
        bytes[8..HASH_AT].copy_from_slice(&self.length.to_le_bytes());
        bytes[HASH_AT..USED].copy_from_slice(&self.hash);
        Piece(bytes)
    }

    /// The header in a piece; `None` when it is none.
    pub fn parse(piece: &Piece) -> Option<Header> {
        let word = |at: usize| Some(u32::from_le_bytes(*piece.0.get(at..at + 4)?.as_array()?));
        let hash = *piece.0.get(HASH_AT..USED)?.as_array()?;
        let header = Header { fingerprints: word(4)?, length: word(8)?, hash };
        let Header { fingerprints, length, .. } = header;
        let is_sound = length > 0 && (length as usize).is_multiple_of(PIECE) && fingerprints <= length / 4;
        (is_sound && header.piece() == *piece).then_some(header)
    }

    /// The list's name.
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        digest.0.iter_mut().zip(self.hash).for_each(|(to, from)| *to = from);
        digest
    }

    /// Pieces of the body.
    pub fn pieces(&self) -> u16 {
        (self.length / PIECE as u32) as u16
    }
}
