//! `reader sign`: the maker's part of an update. Takes the linked programs, signs them, writes one file.
//!
//! The key is the maker's, not the site's: readers believe the public half that was built into them.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use gateway::terminals::firmware::UpdateFile;

use crate::cli::exit::{Exit, Failure, of_io};

/// A board that programs are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Board {
    L475,
    Nrf52840,
}

impl Board {
    /// As headers name it.
    fn number(self) -> u8 {
        match self {
            Board::L475 => 1,
            Board::Nrf52840 => 2,
        }
    }

    /// Where the programs of slot 1 and slot 2 begin.
    fn slots(self) -> [u32; 2] {
        match self {
            Board::L475 => [0x0801_0800, 0x0802_0800],
            Board::Nrf52840 => [0x0001_1000, 0x0002_1000],
        }
    }
}

/// Writes the update file and says what is in it.
pub fn run(
    key_file: &Path,
    board: Board,
    version: u32,
    programs: &[PathBuf],
    output: &Path,
) -> Result<String, Failure> {
    let key = read_key(key_file)?;
    let mut signed = Vec::new();
    for path in programs {
        let elf = std::fs::read(path)
            .map_err(|error| Failure::new(Exit::NoInput, format!("{} cannot be read: {error}", path.display())))?;
        let wrong = |what: &str| Failure::new(Exit::Data, format!("{}: {what}", path.display()));
        let (begin, program) = flatten(&elf).ok_or_else(|| wrong("is no linked program (ELF, 32 bits)"))?;
        let slot = (1..).zip(board.slots()).find(|(_, slot)| *slot == begin);
        let (slot, _) =
            slot.ok_or_else(|| wrong(&format!("begins at {begin:#010x}, which is no slot of this board")))?;
        signed.push((slot, program));
    }
    let file = UpdateFile::sign(&key, board.number(), version, &signed);
    // What cannot be read back would be refused by every gateway.
    UpdateFile::parse(&file.bytes())
        .map_err(|error| Failure::new(Exit::Data, format!("these programs make no update: {error}")))?;
    std::fs::write(output, file.bytes()).map_err(|error| {
        Failure::new(of_io(&error, Exit::CannotCreate), format!("{} cannot be written: {error}", output.display()))
    })?;
    let public = hex::encode(key.verifying_key().to_bytes());
    Ok(format!("version {version} for {board:?}, {} slots; readers must have been built with {public}", signed.len()))
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(of_io(&error, Exit::NoInput), format!("{} cannot be read: {error}", path.display()))
    })?;
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed)
        .map_err(|_| Failure::new(Exit::Data, format!("{} does not hold 64 hexadecimal digits", path.display())))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// What a debugger would write: the loaded parts of an ELF file, and where the first one goes. Gaps are FF.
fn flatten(elf: &[u8]) -> Option<(u32, Vec<u8>)> {
    let word = |at: usize| Some(u32::from_le_bytes(*elf.get(at..at + 4)?.as_array()?));
    let half = |at: usize| Some(u16::from_le_bytes(*elf.get(at..at + 2)?.as_array()?));
    if !elf.starts_with(b"\x7FELF\x01\x01") {
        return None;
    }
    let (table, size, count) = (word(0x1C)? as usize, usize::from(half(0x2A)?), usize::from(half(0x2C)?));
    let mut parts = Vec::new();
    for header in (0..count).map(|index| table + index * size) {
        let (kind, offset, address, length) =
            (word(header)?, word(header + 4)?, word(header + 12)?, word(header + 16)?);
        if kind == 1 && length > 0 {
            let offset = offset as usize;
            parts.push((address, elf.get(offset..offset.checked_add(length as usize)?)?));
        }
    }
    parts.sort_by_key(|(address, _)| *address);
    let (begin, _) = *parts.first()?;
    let mut program = Vec::new();
    for (address, part) in parts {
        let at = (address - begin) as usize;
        if at < program.len() || at > LONGEST {
            return None;
        }
        program.resize(at, 0xFF);
        program.extend_from_slice(part);
    }
    Some((begin, program))
}

/// No slot has more.
const LONGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two parts with a gap between them, in the order of the file and not of their places.
    fn elf() -> Vec<u8> {
        let mut file = vec![0; 0x34];
        file[..6].copy_from_slice(b"\x7FELF\x01\x01");
        file[0x1C] = 0x34;
        file[0x2A] = 32;
        file[0x2C] = 2;
        for (address, offset) in [(0x0801_0808_u32, 0x78_u32), (0x0801_0800, 0x74)] {
            for value in [1, offset, 0, address, 4, 4, 5, 4] {
                file.extend_from_slice(&value.to_le_bytes());
            }
        }
        file.extend_from_slice(b"headtail");
        file
    }

    #[test]
    fn a_linked_program_becomes_what_is_written_to_the_chip() {
        assert_eq!(flatten(&elf()), Some((0x0801_0800, b"head\xFF\xFF\xFF\xFFtail".to_vec())));
        assert_eq!(flatten(b"#!/bin/sh"), None);
        let whole = elf();
        for length in 0..whole.len() - 1 {
            assert_eq!(flatten(&whole[..length]), None, "{length}");
        }
    }
}
