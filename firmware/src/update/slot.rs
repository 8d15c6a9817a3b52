//! A place in flash for something that comes in pieces, and that counts only when it is whole.
//!
//! ```text
//! page 0   header     16 words, programmed before the first piece
//!          marks      8 words each for whole, tried, good; one per page of the body for done
//! page 1.. the body
//! ```
//!
//! A mark is a word of its own. A power cut may tear it, so that it reads set at one start and not at the next and cannot
//! be programmed again: then the next of the eight is taken. What a mark says is true before it is begun, so it does no
//! harm when a torn one reads as set.

use protocol::image::{PIECE, Piece};
use sha2::{Digest, Sha256};

use crate::flash::{Flash, FlashError, WORD};

/// Where the marks of a kind begin, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The body is as the header says.
    Whole = 16,
    /// Began to run, not known to be good.
    Tried = 24,
    /// Runs, and talks to the gateway.
    Good = 32,
}

/// Words per kind of mark.
const COPIES: usize = 8;
/// Marks of pages that are done.
const DONE: usize = 40;
const SET: [u8; WORD] = *b"AX-mark\0";
const ERASED: [u8; WORD] = [0xFF; WORD];
/// Times that a page is erased and written before the flash is given up.
const TRIES: usize = 3;

/// Which pages.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The head page.
    pub first: usize,
    /// With the head page.
    pub pages: usize,
}

impl Slot {
    /// Bytes that the body may have.
    pub const fn room<F: Flash>(self) -> usize {
        (self.pages - 1) * F::PAGE
    }

    /// Pieces of a page.
    pub const fn pieces<F: Flash>() -> u16 {
        (F::PAGE / PIECE) as u16
    }

    /// Whatever stands where the header belongs.
    pub fn header<F: Flash>(self, flash: &mut F) -> Result<Piece, FlashError> {
        let mut bytes = [0; PIECE];
        flash.read(self.first * F::PAGE, &mut bytes)?;
        Ok(Piece(bytes))
    }

    /// Part of the body.
    pub fn read<F: Flash>(self, flash: &mut F, at: usize, into: &mut [u8]) -> Result<(), FlashError> {
        flash.read((self.first + 1) * F::PAGE + at, into)
    }

    /// Whether the mark is set.
    pub fn is<F: Flash>(self, flash: &mut F, mark: Mark) -> bool {
        (0..COPIES).any(|copy| self.word(flash, mark as usize + copy) == Ok(SET))
    }

    /// Sets the mark, whether it is set or not; fails when none of its words takes it.
    pub fn set<F: Flash>(self, flash: &mut F, mark: Mark) -> Result<(), FlashError> {
        let mut words = mark as usize..mark as usize + COPIES;
        words.find(|word| self.program(flash, *word)).map(|_| ()).ok_or(FlashError)
    }

    /// Pages of the body that are done.
    pub fn done<F: Flash>(self, flash: &mut F) -> usize {
        let last = (0..self.pages - 1).rev().find(|page| self.word(flash, DONE + page) == Ok(SET));
        last.map_or(0, |page| page + 1)
    }

    /// Whether the body has this length and hash.
    pub fn holds<F: Flash>(self, flash: &mut F, length: u32, hash: [u8; 32]) -> bool {
        let mut sum = Sum::of(length, hash);
        while sum.is_midway() {
            if sum.add(flash, self).is_err() {
                return false;
            }
        }
        sum.is_right()
    }

    /// Begins anew behind this header.
    pub fn begin<F: Flash>(self, flash: &mut F, header: &Piece) -> Result<(), FlashError> {
        let begun =
            (0..TRIES).any(|_| flash.erase(self.first).is_ok() && write(flash, self.first * F::PAGE, header) == Ok(()));
        if begun { Ok(()) } else { Err(FlashError) }
    }

    /// Nothing in here counts any more.
    pub fn clear<F: Flash>(self, flash: &mut F) -> Result<(), FlashError> {
        flash.erase(self.first)
    }

    /// Writes a piece of the body behind the last one, into a page erased by its first piece. When that fails, its page
    /// is to be begun again.
    pub fn write<F: Flash>(self, flash: &mut F, index: u16, piece: &Piece) -> Result<(), FlashError> {
        let (page, within) = (usize::from(index / Self::pieces::<F>()), index % Self::pieces::<F>());
        if page + 1 >= self.pages {
            return Err(FlashError);
        }
        if within == 0 {
            flash.erase(self.first + 1 + page)?;
        }
        write(flash, (self.first + 1) * F::PAGE + usize::from(index) * PIECE, piece)?;
        if within + 1 == Self::pieces::<F>() {
            // A mark that fails costs the page after a power cut, nothing else.
            self.program(flash, DONE + page);
        }
        Ok(())
    }

    fn word<F: Flash>(self, flash: &mut F, word: usize) -> Result<[u8; WORD], FlashError> {
        let mut bytes = ERASED;
        flash.read(self.first * F::PAGE + word * WORD, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether the word is set now.
    fn program<F: Flash>(self, flash: &mut F, word: usize) -> bool {
        let at = self.first * F::PAGE + word * WORD;
        flash.program(at, &SET).is_ok() && self.word(flash, word) == Ok(SET)
    }
}

/// A body's hash on its way.
pub(crate) struct Sum {
    length: u32,
    wanted: [u8; 32],
    hash: Sha256,
    at: usize,
}

impl Sum {
    /// Before the first piece of a body of this length that should have this hash.
    pub(crate) fn of(length: u32, wanted: [u8; 32]) -> Sum {
        Sum { length, wanted, hash: Sha256::new(), at: 0 }
    }

    pub(crate) fn is_midway(&self) -> bool {
        self.at < self.length as usize
    }

    /// Takes the next piece in.
    pub(crate) fn add<F: Flash>(&mut self, flash: &mut F, slot: Slot) -> Result<(), FlashError> {
        if self.length as usize > slot.room::<F>() {
            return Err(FlashError);
        }
        let mut bytes = [0; PIECE];
        slot.read(flash, self.at, &mut bytes)?;
        self.hash.update(bytes);
        self.at += PIECE;
        Ok(())
    }

    pub(crate) fn is_right(&self) -> bool {
        self.hash.clone().finalize().as_slice() == self.wanted
    }
}

/// Programs a piece and reads it back.
fn write<F: Flash>(flash: &mut F, at: usize, piece: &Piece) -> Result<(), FlashError> {
    let (words, _) = piece.0.as_chunks::<WORD>();
    (at..).step_by(WORD).zip(words).try_for_each(|(at, word)| flash.program(at, word))?;
    let mut written = [0; PIECE];
    flash.read(at, &mut written)?;
    if written == piece.0 { Ok(()) } else { Err(FlashError) }
}
