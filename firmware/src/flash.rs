//! Flash as chips have it: programmed in words, once between two erases; erased in pages.
//!
//! Knows nothing about punches. [`crate::ring`] keeps a journal in one of these.

/// Bytes that are programmed at once. STM32L4: 64 bits with 8 bits ECC (RM0351, 3.3.7).
pub const WORD: usize = 8;

/// It did not work: the word refuses, its ECC cannot be right, or the controller reports an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashError;

/// A stretch of flash that belongs to one owner. Offsets are in bytes from its beginning. What a method has said `Ok`
/// to outlives a power cut; what it was doing when the power went may be half done, and may read differently at each
/// start.
pub trait Flash {
    /// Bytes of a page: a multiple of 32, at least 128.
    const PAGE: usize;

    /// Reads from `at`; fails when a word in there has more wrong bits than its ECC can repair.
    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<(), FlashError>;

    /// Programs the word at `at`, a multiple of 8, which was not programmed since its page was erased.
    fn program(&mut self, at: usize, word: &[u8; WORD]) -> Result<(), FlashError>;

    /// Makes every byte of this page 0xFF. Takes long (STM32L475: 22 ms typically, 25 ms at most).
    fn erase(&mut self, page: usize) -> Result<(), FlashError>;
}

impl<F: Flash> Flash for &mut F {
    const PAGE: usize = F::PAGE;

    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<(), FlashError> {
        (**self).read(at, into)
    }

    fn program(&mut self, at: usize, word: &[u8; WORD]) -> Result<(), FlashError> {
        (**self).program(at, word)
    }

    fn erase(&mut self, page: usize) -> Result<(), FlashError> {
        (**self).erase(page)
    }
}
