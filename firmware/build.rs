//! Tells the linker where a board has its memory. Does nothing for a build without a board.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let boards = [("CARGO_FEATURE_L475", L475), ("CARGO_FEATURE_NRF52840", NRF52840)];
    let chosen = boards.into_iter().find(|(feature, _)| std::env::var_os(feature).is_some());
    let Some((_, memory)) = chosen else { return };
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo gives a directory"));
    std::fs::write(out.join("memory.x"), memory).expect("cargo's directory takes files");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bin=reader=-Tlink.x");
    println!("cargo:rustc-link-arg-bin=reader=--nmagic");
}

/// STM32L475VG: the program in the first bank, the journal and settings in the second; SRAM1 (RM0351, 2.2).
const L475: &str = "MEMORY { FLASH : ORIGIN = 0x08000000, LENGTH = 512K  RAM : ORIGIN = 0x20000000, LENGTH = 96K }\n";
/// nRF52840: the program in the lower half, the journal and settings in the upper (product specification 1.7, 4.2).
const NRF52840: &str =
    "MEMORY { FLASH : ORIGIN = 0x00000000, LENGTH = 512K  RAM : ORIGIN = 0x20000000, LENGTH = 256K }\n";
