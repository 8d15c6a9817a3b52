//! A reader's program on its way to the reader: in pieces, behind a header that its maker has signed.
//!
//! ```text
//! image    header 128 | body, filled up to whole pieces with FF
//!
//! header   0    4    "AXI1"
//!          4    1    board
//!          5    1    slot: 1 or 2, which the body was linked for
//!          6    2    00
//!          8    4    version, little endian, from 1: counted up over all images of the board, never given twice
//!          12   4    bytes of the body as filled up, little endian
//!          16  32    SHA-256 of the body
//!          48  64    Ed25519 signature over 0..48
//!          112 16    00
//! ```
//!
//! An update file is an image for slot 1 and one for slot 2, one behind the other: a reader takes the one for the slot
//! that it does not run from. Knows nothing about keys; whether the signature is right is the reader's business.

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeTuple, Serializer};

/// Bytes that go over the line at once.
pub const PIECE: usize = 128;
/// Bytes of the header that the signature covers.
pub const SIGNED: usize = 48;
const MARK: [u8; 4] = *b"AXI1";
const SIGNATURE: usize = 64;

/// A part of an image, or its header. On the wire its bytes, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Piece(pub [u8; PIECE]);

impl Serialize for Piece {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = serializer.serialize_tuple(PIECE)?;
        self.0.iter().try_for_each(|byte| bytes.serialize_element(byte))?;
        bytes.end()
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Piece, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Piece;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("a piece")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Piece, A::Error> {
                let mut piece = Piece([0; PIECE]);
                for (index, byte) in piece.0.iter_mut().enumerate() {
                    *byte = bytes.next_element()?.ok_or_else(|| de::Error::invalid_length(index, &self))?;
                }
                Ok(piece)
            }
        }

        deserializer.deserialize_tuple(PIECE, Bytes)
    }
}

impl core::fmt::Debug for Piece {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Piece(…)")
    }
}

/// What stands in front of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which board it runs on.
    pub board: u8,
    /// Which slot it was linked for.
    pub slot: u8,
    /// Higher than that of every earlier image.
    pub version: u32,
    /// Bytes of the body; whole pieces.
    pub length: u32,
    /// SHA-256 of the body.
    pub hash: [u8; 32],
}

impl Header {
    /// What is to be signed.
    pub fn signed(&self) -> [u8; SIGNED] {
        let mut bytes = [0; SIGNED];
        bytes[..4].copy_from_slice(&MARK);
        (bytes[4], bytes[5]) = (self.board, self.slot);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..].copy_from_slice(&self.hash);
        bytes
    }

    /// The header with its signature.
    pub fn piece(&self, signature: &[u8; SIGNATURE]) -> Piece {
        let mut bytes = [0; PIECE];
        bytes[..SIGNED].copy_from_slice(&self.signed());
        bytes[SIGNED..SIGNED + SIGNATURE].copy_from_slice(signature);
        Piece(bytes)
    }

    /// The header in a piece, and its signature, which nobody has checked yet. `None` when it is none.
    pub fn parse(piece: &Piece) -> Option<(Header, [u8; SIGNATURE])> {
        let bytes = &piece.0;
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..at + 4)?.as_array()?));
        let header = Header {
            board: *bytes.get(4)?,
            slot: *bytes.get(5)?,
            version: word(8)?,
            length: word(12)?,
            hash: *bytes.get(16..SIGNED)?.as_array()?,
        };
        let signature = *bytes.get(SIGNED..SIGNED + SIGNATURE)?.as_array()?;
        let is_sound = header.version > 0 && header.length > 0 && (header.length as usize).is_multiple_of(PIECE);
        (is_sound && header.piece(&signature) == *piece).then_some((header, signature))
    }

    /// Pieces of the body.
    pub fn pieces(&self) -> u16 {
        (self.length / PIECE as u32) as u16
    }
}
