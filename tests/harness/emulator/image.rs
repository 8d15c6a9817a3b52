//! Builds the reader's image, and measures it.

use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "thumbv7em-none-eabi";

/// An image for a board, as the linker has made it.
pub struct Image {
    pub path: PathBuf,
}

/// The image for the board, for the emulator too when its features say so: from `ANXIN_READER_IMAGES`, a directory with
/// a file per list of features, else built now. Says what is missing when that cannot be.
pub fn find(features: &str) -> Result<Image, String> {
    if let Some(dir) = std::env::var_os("ANXIN_READER_IMAGES") {
        return Ok(Image { path: Path::new(&dir).join(features) });
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), PathBuf::from);
    // One directory per list of features, so that two tests do not take each other's image away.
    let target_dir = target_dir.join("images").join(features);
    let built = Command::new(cargo)
        .current_dir(top)
        .args(["build", "--package", "firmware", "--bin", "reader", "--profile", "image", "--target", TARGET])
        .args(["--features", features, "--target-dir"])
        .arg(&target_dir)
        .env_remove("RUSTFLAGS")
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if built.status.success() {
        return Ok(Image { path: target_dir.join(TARGET).join("image/reader") });
    }
    let log = String::from_utf8_lossy(&built.stderr).into_owned();
    if log.contains("can't find crate for `core`") {
        return Err(format!("there is no library for {TARGET}: `rustup target add {TARGET}`, or tests/run"));
    }
    panic!("the image cannot be built:\n{log}")
}

/// Bytes of an image on its chip.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Program, constants, and what variables begin with.
    pub flash: u32,
    /// Variables that are always there; the stack comes on top.
    pub ram: u32,
}

impl Image {
    /// From its section table (ELF, 32 bits, little endian).
    pub fn size(&self) -> Size {
        let file = std::fs::read(&self.path).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
        let sections = usize::from(u16::from_le_bytes([file[0x30], file[0x31]]));
        let table = word(0x20) as usize;
        let mut size = Size { flash: 0, ram: 0 };
        for section in (0..sections).map(|index| table + 40 * index) {
            let [kind, flags, address, length] = [4, 8, 12, 20].map(|field| word(section + field));
            let (is_loaded, in_ram, takes_no_file) = (flags & 2 != 0, address >= 0x2000_0000, kind == 8);
            if is_loaded && in_ram {
                size.ram += length;
            }
            if is_loaded && !takes_no_file {
                size.flash += length;
            }
        }
        size
    }
}
