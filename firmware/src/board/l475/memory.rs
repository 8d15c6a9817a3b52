//! The reader's flash: the second bank of the chip, or a file of the emulator's host. Which one is found out at the start.
//!
//! The program is in the first bank and goes on while the second one programs or erases (RM0351, 3.3.8).

use core::sync::atomic::{AtomicBool, Ordering};

use firmware::flash::{Flash, FlashError, WORD};

use super::registers::FLASH;
#[cfg(feature = "emulator")]
use super::semihosting::File;

const SR: usize = 0x10;
const CR: usize = 0x14;
const ECCR: usize = 0x18;
const KEYR: usize = 0x08;

const BUSY: u32 = 1 << 16;
/// Everything that can go wrong with programming and erasing, and the end of it.
const OUTCOMES: u32 = 0xC3FB;
const FAILED: u32 = OUTCOMES & !1;
const LOCKED: u32 = 1 << 31;
const PROGRAM: u32 = 1 << 0;
const ERASE: u32 = 1 << 1;
const BANK_2: u32 = 1 << 11;
const START: u32 = 1 << 16;
const ECC_TWO_BITS: u32 = 1 << 31;
const ECC_BANK_2: u32 = 1 << 19;

/// Where the second bank begins.
const BEGIN: usize = 0x0808_0000;
/// The second bank's length: the chip's flash and the emulator's file.
pub const LEN: usize = 512 * 1024;
const PAGE: usize = 2048;

/// Set by the interrupt that a word with two wrong bits raises when it is read.
static UNREADABLE: AtomicBool = AtomicBool::new(false);

/// Whether the interrupt was about a word of the reader's flash: then the reading fails and the reader goes on.
pub fn handle_ecc_fault() -> bool {
    let state = FLASH.at(ECCR).read();
    if state & ECC_TWO_BITS == 0 || state & ECC_BANK_2 == 0 {
        return false;
    }
    FLASH.at(ECCR).write(state | ECC_TWO_BITS);
    UNREADABLE.store(true, Ordering::Relaxed);
    true
}

/// The flash of the chip or of the emulator.
pub enum Memory {
    /// The second bank.
    Chip,
    /// A file on the emulator's host.
    #[cfg(feature = "emulator")]
    File(File),
}

impl Flash for Memory {
    const PAGE: usize = PAGE;

    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<(), FlashError> {
        if at + into.len() > LEN {
            return Err(FlashError);
        }
        match self {
            Memory::Chip => read_chip(at, into),
            #[cfg(feature = "emulator")]
            Memory::File(file) => file.read(at, into).ok_or(FlashError),
        }
    }

    fn program(&mut self, at: usize, word: &[u8; WORD]) -> Result<(), FlashError> {
        if at + WORD > LEN || !at.is_multiple_of(WORD) {
            return Err(FlashError);
        }
        match self {
            Memory::Chip => program_chip(at, word),
            #[cfg(feature = "emulator")]
            Memory::File(file) => {
                let mut before = [0; WORD];
                file.read(at, &mut before).ok_or(FlashError)?;
                if before != [0xFF; WORD] {
                    return Err(FlashError);
                }
                file.write(at, word).ok_or(FlashError)
            }
        }
    }

    fn erase(&mut self, page: usize) -> Result<(), FlashError> {
        if page >= LEN / PAGE {
            return Err(FlashError);
        }
        match self {
            Memory::Chip => erase_chip(page),
            #[cfg(feature = "emulator")]
            Memory::File(file) => {
                let part = [0xFF; 256];
                (0..PAGE / part.len())
                    .try_for_each(|index| file.write(page * PAGE + index * part.len(), &part))
                    .ok_or(FlashError)
            }
        }
    }
}

#[allow(unsafe_code, reason = "the second bank is memory that only this module writes")]
fn read_chip(at: usize, into: &mut [u8]) -> Result<(), FlashError> {
    UNREADABLE.store(false, Ordering::Relaxed);
    for (offset, byte) in into.iter_mut().enumerate() {
        // SAFETY: the caller has checked that this is inside the second bank, which is always readable.
        *byte = unsafe { core::ptr::read_volatile((BEGIN + at + offset) as *const u8) };
    }
    // The fault comes with the read, before this.
    if UNREADABLE.load(Ordering::Relaxed) { Err(FlashError) } else { Ok(()) }
}

#[allow(unsafe_code, reason = "programming is writing to the flash's own addresses")]
fn program_chip(at: usize, word: &[u8; WORD]) -> Result<(), FlashError> {
    unlock(PROGRAM);
    let (low, high) = word.split_at(WORD / 2);
    let halves = [low, high].map(|half| half.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)));
    for (index, half) in halves.into_iter().enumerate() {
        // SAFETY: inside the second bank, aligned to four, unlocked for programming; no reference to it exists.
        unsafe { core::ptr::write_volatile((BEGIN + at + 4 * index) as *mut u32, half) };
    }
    finish()
}

fn erase_chip(page: usize) -> Result<(), FlashError> {
    unlock(ERASE | BANK_2 | (page as u32) << 3);
    FLASH.at(CR).change(0, START);
    finish()
}

/// RM0351, 3.3.5 to 3.3.7: the keys, the outcomes of last time cleared, then what is to be done.
fn unlock(order: u32) {
    if FLASH.at(CR).read() & LOCKED != 0 {
        FLASH.at(KEYR).write(0x4567_0123);
        FLASH.at(KEYR).write(0xCDEF_89AB);
    }
    FLASH.at(SR).write(OUTCOMES);
    FLASH.at(CR).write(order);
}

fn finish() -> Result<(), FlashError> {
    let idle = (0..1_000_000).any(|_| FLASH.at(SR).read() & BUSY == 0);
    let outcome = FLASH.at(SR).read();
    FLASH.at(CR).write(LOCKED);
    if idle && outcome & FAILED == 0 { Ok(()) } else { Err(FlashError) }
}
