//! What the chip's first bank holds when the power comes: the factory's image, and what was written to the slots.
//!
//! The emulator has no flash controller: its programs are as they were loaded. What the reader writes goes to the
//! flash's file, and becomes a program at the next power-up.

use std::ops::Range;
use std::path::Path;

use super::{FLASH_LEN, SLOTS};

/// Where the slots are in the chip.
const SLOTS_AT: u32 = 0x0801_0000;
const ENTRY: usize = 0x20;
const LOAD: u32 = 1;

/// The image (ELF, 32 bits, little endian) with one more part: the slots, as they are in the flash's file.
pub fn with_slots(image: &Path, flash: &Path) -> Vec<u8> {
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut elf, flash) = (read(image), read(flash));
    let slots: Range<usize> = FLASH_LEN - SLOTS..FLASH_LEN;
    let word = |elf: &[u8], at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().expect("four bytes")) as usize;
    let (table, count) = (word(&elf, 0x1C), usize::from(u16::from_le_bytes([elf[0x2C], elf[0x2D]])));
    let mut entries = elf[table..table + count * ENTRY].to_vec();
    // A new table at the end, behind it the new part.
    let new_table = elf.len().next_multiple_of(4);
    let offset = new_table + (count + 1) * ENTRY;
    let [offset, address, length] = [offset as u32, SLOTS_AT, SLOTS as u32];
    for value in [LOAD, offset, address, address, length, length, 5, 4] {
        entries.extend_from_slice(&value.to_le_bytes());
    }
    elf.resize(new_table, 0);
    elf.extend_from_slice(&entries);
    elf.extend_from_slice(&flash[slots]);
    elf[0x1C..0x20].copy_from_slice(&(new_table as u32).to_le_bytes());
    elf[0x2C..0x2E].copy_from_slice(&(count as u16 + 1).to_le_bytes());

    elf
}
