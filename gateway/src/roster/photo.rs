//! A row's photo: the picture itself as Base64 JPEG, or the hash of one that the gateway has.

use super::RowProblem;
use super::row::Row;
use crate::photo;
use crate::punch::{PhotoHash, WorkerId};

/// Pictures up to this many bytes are taken.
pub const LARGEST: usize = 1024 * 1024;
/// Spreadsheets cut a cell after this many characters (Excel specifications and limits: characters in a cell).
const SPREADSHEET_CELL: usize = 32_767;

/// What stands in the column.
pub enum Photo {
    Named(PhotoHash),
    Brought(PhotoHash, Vec<u8>),
}

impl Photo {
    pub fn hash(&self) -> PhotoHash {
        match self {
            Photo::Named(hash) | Photo::Brought(hash, _) => *hash,
        }
    }
}

/// A photo that a row gives by its hash only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPhoto {
    /// Line in the file; none when it is no file.
    pub line: Option<u64>,
    pub worker: WorkerId,
    pub hash: PhotoHash,
}

impl NamedPhoto {
    /// What to say when the gateway does not have it.
    pub fn unknown(&self) -> RowProblem {
        RowProblem {
            line: self.line,
            worker_id: Some(self.worker.0.clone()),
            column: Some("photo".to_owned()),
            value: Some(self.hash.to_string()),
            reason: "is no photo that the gateway has: put the picture itself here, a JPEG as Base64".to_owned(),
        }
    }
}

impl Row<'_> {
    /// Sixty-four hex digits are a hash, everything else has to be a picture.
    pub fn photo(&mut self) -> Option<Photo> {
        let text = self.cell("photo")?;
        let mut hash = [0; 32];
        if hex::decode_to_slice(text, &mut hash).is_ok() {
            return Some(Photo::Named(PhotoHash(hash)));
        }
        // Base64 can be read after the cut too, as half a picture.
        if text.len() == SPREADSHEET_CELL {
            let reason = "was cut off by the spreadsheet, whose cells hold 32767 characters: use a smaller picture \
                          (24 KB), or write the file without a spreadsheet";
            self.cell_problem("photo", reason);
            return None;
        }
        match photo::decode(text) {
            Ok(jpeg) if jpeg.len() <= LARGEST => Some(Photo::Brought(PhotoHash::of(&jpeg), jpeg)),
            Ok(jpeg) => {
                let (has, most) = (jpeg.len().div_ceil(1024), LARGEST / 1024);
                self.cell_problem(
                    "photo",
                    format!("is a picture of {has} KiB; the largest that is taken has {most} KiB"),
                );
                None
            }
            Err(fault) => {
                let wanted = "put a JPEG as Base64 here, or the hash of a photo that the gateway has (64 hex digits)";
                self.cell_problem("photo", format!("{fault}: {wanted}"));
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "photo_tests.rs"]
mod tests;
