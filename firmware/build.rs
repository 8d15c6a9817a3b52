//! Tells the linker where a board has its memory. Does nothing for a build without a board.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let boards = [("CARGO_FEATURE_L475", &L475), ("CARGO_FEATURE_NRF52840", &NRF52840)];
    let chosen = boards.into_iter().find(|(feature, _)| std::env::var_os(feature).is_some());
    let Some((_, board)) = chosen else { return };
    let places = [("CARGO_FEATURE_SLOT1", board.slots[0]), ("CARGO_FEATURE_SLOT2", board.slots[1])];
    let place = places.into_iter().find(|(feature, _)| std::env::var_os(feature).is_some());
    let (origin, length) = place.map_or((board.flash, FACTORY), |(_, slot)| (slot + board.page, SLOT - board.page));
    let Board { ram, ram_length, .. } = board;
    let memory = format!(
        "MEMORY {{ FLASH : ORIGIN = {origin:#x}, LENGTH = {length:#x}  RAM : ORIGIN = {ram:#x}, LENGTH = {ram_length:#x} }}\n"
    );
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo gives a directory"));
    std::fs::write(out.join("memory.x"), memory).expect("cargo's directory takes files");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bin=reader=-Tlink.x");
    println!("cargo:rustc-link-arg-bin=reader=--nmagic");
}

/// Bytes for the factory's image, and for each slot; a slot begins with a page that is no program.
const FACTORY: u32 = 0x1_0000;
const SLOT: u32 = 0x1_0000;

struct Board {
    flash: u32,
    slots: [u32; 2],
    page: u32,
    ram: u32,
    ram_length: u32,
}

/// STM32L475VG: programs in the first bank, the journal and settings in the second; SRAM1 (RM0351, 2.2).
const L475: Board = Board {
    flash: 0x0800_0000,
    slots: [0x0801_0000, 0x0802_0000],
    page: 0x800,
    ram: 0x2000_0000,
    ram_length: 0x1_8000,
};
/// nRF52840: programs in the lower half, the journal and settings in the upper (product specification 1.7, 4.2).
const NRF52840: Board =
    Board { flash: 0, slots: [0x1_0000, 0x2_0000], page: 0x1000, ram: 0x2000_0000, ram_length: 0x4_0000 };
