//! An update file for our own readers: one signed image for each of the two slots, one behind the other, as
//! [`protocol::image`] has them.
//!
//! Whether a signature is right is for the reader to say: only it knows whom to believe.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use protocol::image::{Header, PIECE, Piece};
use sha2::{Digest, Sha256};

/// More than both slots of any board.
pub const MAX_FILE: usize = 256 * 1024;

/// Why these bytes are no update file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("it does not begin with an image, or something else follows one")]
    NotAnImage,
    #[error("it ends in the middle of an image")]
    Cut,
    #[error("an image is not the one that was signed: the file is damaged")]
    Damaged,
    #[error("its images are for different boards or of different versions, or two are for the same slot")]
    Mixed,
}

/// One image of the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    pub header: Header,
    /// The header with its signature.
    pub head: Piece,
    pub body: Vec<Piece>,
}

/// Images of one board and version, for different slots; at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct UpdateFile {
    images: Vec<Image>,
}

impl UpdateFile {
    /// Takes a file apart.
    pub fn parse(bytes: &[u8]) -> Result<UpdateFile, FileError> {
        let mut images = Vec::new();
        let (pieces, rest) = bytes.as_chunks::<PIECE>();
        if !rest.is_empty() {
            return Err(FileError::Cut);
        }
        let mut pieces = pieces.iter().map(|bytes| Piece(*bytes));
        while let Some(head) = pieces.next() {
            let (header, _) = Header::parse(&head).ok_or(FileError::NotAnImage)?;
            let body: Vec<Piece> = pieces.by_ref().take(usize::from(header.pieces())).collect();
            if body.len() < usize::from(header.pieces()) {
                return Err(FileError::Cut);
            }
            if hash(&body) != header.hash {
                return Err(FileError::Damaged);
            }
            images.push(Image { header, head, body });
        }
        let first = images.first().ok_or(FileError::NotAnImage)?.header;
        let is_mixed = |(index, image): (usize, &Image)| {
            let Header { board, version, slot, .. } = image.header;
            let is_double = images.iter().take(index).any(|earlier: &Image| earlier.header.slot == slot);
            is_double || (board, version) != (first.board, first.version)
        };
        if images.iter().enumerate().any(is_mixed) { Err(FileError::Mixed) } else { Ok(UpdateFile { images }) }
    }

    /// Signs programs for the slots that they were linked for.
    pub fn sign(key: &SigningKey, board: u8, version: u32, programs: &[(u8, Vec<u8>)]) -> UpdateFile {
        let image = |(slot, program): &(u8, Vec<u8>)| {
            let filled = program.len().next_multiple_of(PIECE);
            let bytes: Vec<u8> = program.iter().copied().chain(std::iter::repeat(0xFF)).take(filled).collect();
            let body: Vec<Piece> = bytes.as_chunks::<PIECE>().0.iter().map(|bytes| Piece(*bytes)).collect();
            let header = Header { board, slot: *slot, version, length: filled as u32, hash: hash(&body) };
            let head = header.piece(&key.sign(&header.signed()).to_bytes());
            Image { header, head, body }
        };
        UpdateFile { images: programs.iter().map(image).collect() }
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let pieces = self.images.iter().flat_map(|image| std::iter::once(&image.head).chain(&image.body));
        pieces.flat_map(|piece| piece.0).collect()
    }

    /// Of all its images.
    pub fn version(&self) -> u32 {
        self.images.first().map_or(0, |image| image.header.version)
    }

    /// The image for this slot of this board.
    pub fn image(&self, board: u8, slot: u8) -> Option<&Image> {
        self.images.iter().find(|image| (image.header.board, image.header.slot) == (board, slot))
    }
}

impl fmt::Debug for UpdateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpdateFile(version {})", self.version())
    }
}

fn hash(body: &[Piece]) -> [u8; 32] {
    let mut hash = Sha256::new();
    body.iter().for_each(|piece| hash.update(piece.0));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> UpdateFile {
        let key = SigningKey::from_bytes(&[1; 32]);
        UpdateFile::sign(&key, 1, 7, &[(1, vec![0xA5; 300]), (2, vec![0x5A; 128])])
    }

    #[test]
    fn a_file_comes_back_as_it_was_signed() {
        let file = file();
        let parsed = UpdateFile::parse(&file.bytes()).unwrap();
        assert_eq!(parsed, file);
        assert_eq!((parsed.version(), parsed.image(1, 1).unwrap().body.len()), (7, 3));
        assert!(parsed.image(2, 1).is_none());
    }

    #[test]
    fn a_damaged_a_cut_and_a_mixed_file_are_none() {
        let bytes = file().bytes();
        assert_eq!(UpdateFile::parse(&[]), Err(FileError::NotAnImage));
        assert_eq!(UpdateFile::parse(b"ELF"), Err(FileError::Cut));
        assert_eq!(UpdateFile::parse(&[7; PIECE]), Err(FileError::NotAnImage));
        assert_eq!(UpdateFile::parse(&bytes[..2 * PIECE]), Err(FileError::Cut));
        let mut flipped = bytes.clone();
        flipped[PIECE + 3] ^= 1;
        assert_eq!(UpdateFile::parse(&flipped), Err(FileError::Damaged));
        assert_eq!(UpdateFile::parse(&[bytes.clone(), bytes].concat()), Err(FileError::Mixed));
    }
}
