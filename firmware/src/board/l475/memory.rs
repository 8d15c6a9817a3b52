//! The reader's flash: journal and settings in the second bank of the chip, the slots for programs in the first; or both
//! in a file of the emulator's host. Which one is found out at the start.
//!
//! The program is in the first bank and goes on while the second one programs or erases (RM0351, 3.3.8). While a slot is
//! written it stands still: 22 ms for a page, 82 µs for a word.

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
/// The word in its bank.
const ECC_ADDRESS: u32 = (1 << 19) - 1;

/// Where the first bank begins.
const BANK_1: usize = 0x0800_0000;
const BANK: usize = 512 * 1024;
const PAGE: usize = 2048;

/// A stretch of the chip's flash, and its copy in the emulator's file.
#[derive(Clone, Copy)]
pub struct Region {
    /// From the beginning of the first bank.
    begin: usize,
    len: usize,
    #[cfg(feature = "emulator")]
    in_file: usize,
}

/// Journal and settings: the second bank.
pub const RECORDS: Region = Region {
    begin: BANK,
    len: BANK,
    #[cfg(feature = "emulator")]
    in_file: 0,
};
/// Pages of a slot.
pub const SLOT_PAGES: usize = 32;
/// The two slots: the second and third 64 KiB of the first bank.
pub const SLOTS: Region = Region {
    begin: 64 * 1024,
    len: 2 * SLOT_PAGES * PAGE,
    #[cfg(feature = "emulator")]
    in_file: BANK,
};

/// The vectors of the image in a slot, behind its first page.
pub const fn vectors(slot: u8) -> usize {
    BANK_1 + SLOTS.begin + (slot as usize - 1) * SLOT_PAGES * PAGE + PAGE
}

/// Set by the interrupt that a word with two wrong bits raises when it is read.
static UNREADABLE: AtomicBool = AtomicBool::new(false);

/// Whether the interrupt was about a word of the reader's flash: then the reading fails and the reader goes on.
pub fn handle_ecc_fault() -> bool {
    let state = FLASH.at(ECCR).read();
    let at = (state & ECC_ADDRESS) as usize;
    let in_slots = (SLOTS.begin..SLOTS.begin + SLOTS.len).contains(&at);
    if state & ECC_TWO_BITS == 0 || (state & ECC_BANK_2 == 0 && !in_slots) {
        return false;
    }
    FLASH.at(ECCR).write(state | ECC_TWO_BITS);
    UNREADABLE.store(true, Ordering::Relaxed);
    true
}

/// A region, on the chip or in the emulator's file.
pub struct Memory {
    region: Region,
    #[cfg(feature = "emulator")]
    file: Option<File>,
}

impl Memory {
    /// This region of the chip.
    pub const fn of_chip(region: Region) -> Memory {
        Memory {
            region,
            #[cfg(feature = "emulator")]
            file: None,
        }
    }

    /// This region in a file on the emulator's host.
    #[cfg(feature = "emulator")]
    pub const fn of_file(region: Region, file: File) -> Memory {
        Memory { region, file: Some(file) }
    }
}

impl Flash for Memory {
    const PAGE: usize = PAGE;

    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<(), FlashError> {
        if at + into.len() > self.region.len {
            return Err(FlashError);
        }
        #[cfg(feature = "emulator")]
        if let Some(file) = &mut self.file {
            return file.read(self.region.in_file + at, into).ok_or(FlashError);
        }
        read_chip(self.region.begin + at, into)
    }

    fn program(&mut self, at: usize, word: &[u8; WORD]) -> Result<(), FlashError> {
        if at + WORD > self.region.len || !at.is_multiple_of(WORD) {
            return Err(FlashError);
        }
        #[cfg(feature = "emulator")]
        if let Some(file) = &mut self.file {
            let at = self.region.in_file + at;
            let mut before = [0; WORD];
            file.read(at, &mut before).ok_or(FlashError)?;
            if before != [0xFF; WORD] {
                return Err(FlashError);
            }
            return file.write(at, word).ok_or(FlashError);
        }
        program_chip(self.region.begin + at, word)
    }

    fn erase(&mut self, page: usize) -> Result<(), FlashError> {
        if page >= self.region.len / PAGE {
            return Err(FlashError);
        }
        #[cfg(feature = "emulator")]
        if let Some(file) = &mut self.file {
            let part = [0xFF; 256];
            let parts = (self.region.in_file + page * PAGE..).step_by(part.len()).take(PAGE / part.len());
            return parts.map(|at| file.write(at, &part)).collect::<Option<()>>().ok_or(FlashError);
        }
        erase_chip(self.region.begin / PAGE + page)
    }
}

#[allow(unsafe_code, reason = "these regions are memory that only this module writes")]
fn read_chip(at: usize, into: &mut [u8]) -> Result<(), FlashError> {
    UNREADABLE.store(false, Ordering::Relaxed);
    for (offset, byte) in into.iter_mut().enumerate() {
        // SAFETY: the caller has checked that this is inside a region of the chip's flash, which is always readable.
        *byte = unsafe { core::ptr::read_volatile((BANK_1 + at + offset) as *const u8) };
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
        // SAFETY: inside a region of the chip's flash, aligned to four, unlocked for programming; no reference to it exists.
        unsafe { core::ptr::write_volatile((BANK_1 + at + 4 * index) as *mut u32, half) };
    }
    finish()
}

/// A page counted from the beginning of the first bank.
fn erase_chip(page: usize) -> Result<(), FlashError> {
    let pages = BANK / PAGE;
    let bank = if page < pages { 0 } else { BANK_2 };
    unlock(ERASE | bank | ((page % pages) as u32) << 3);
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
