//! A flash in memory that keeps its power: for a simulated reader's programs and settings.

use firmware::flash::{Flash, FlashError, WORD};

/// Pages of 2 KiB. A word is programmed once between two erases.
#[derive(Clone, Debug)]
pub struct Chip {
    bytes: Vec<u8>,
}

impl Chip {
    /// Erased.
    pub fn new(pages: usize) -> Chip {
        Chip { bytes: vec![0xFF; pages * Chip::PAGE] }
    }
}

impl Flash for Chip {
    const PAGE: usize = 2048;

    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<(), FlashError> {
        into.copy_from_slice(self.bytes.get(at..at + into.len()).ok_or(FlashError)?);
        Ok(())
    }

    fn program(&mut self, at: usize, word: &[u8; WORD]) -> Result<(), FlashError> {
        let place = self.bytes.get_mut(at..at + WORD).ok_or(FlashError)?;
        if place.iter().any(|byte| *byte != 0xFF) {
            return Err(FlashError);
        }
        place.copy_from_slice(word);
        Ok(())
    }

    fn erase(&mut self, page: usize) -> Result<(), FlashError> {
        let page = self.bytes.get_mut(page * Chip::PAGE..(page + 1) * Chip::PAGE).ok_or(FlashError)?;
        page.fill(0xFF);
        Ok(())
    }
}
