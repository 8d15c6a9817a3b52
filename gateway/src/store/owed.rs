//! Reports that the ledger is owed: damage that can be noticed only once. Written down before its last trace goes, deleted
//! when the ledger has it; a stop of any kind in between costs nothing.
//!
//! ```text
//! data/owed/<name>     1 byte  01
//!                      n       postcard(Gap)
//!                      4       CRC-32C over all bytes before it
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::ledger::segment::{sync_dir, sync_name, write_whole};
use crate::punch::Gap;

const FORMAT: u8 = 1;

/// A report on its way to the ledger.
pub struct Owed {
    pub gap: Gap,
    file: PathBuf,
}

impl Owed {
    /// The ledger has it.
    pub fn settle(&self) -> io::Result<()> {
        fs::remove_file(&self.file)?;
        sync_name(&self.file)
    }
}

/// Makes a report durable; one of that name that is there already says it.
pub fn note(dir: &Path, name: &str, gap: &Gap) -> io::Result<()> {
    if !dir.exists() {
        fs::create_dir(dir)?;
        sync_name(dir)?;
    }
    let path = dir.join(name);
    if path.exists() {
        return sync_dir(dir);
    }
    write_whole(&path, &encode(gap))
}

/// What is owed. A file that cannot be read stays where it is.
pub fn read(dir: &Path) -> io::Result<Vec<Owed>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut owed = Vec::new();
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some() {
            continue;
        }
        match fs::read(&file).map(|bytes| decode(&bytes)) {
            Ok(Some(gap)) => owed.push(Owed { gap, file }),
            Ok(None) => tracing::warn!(file = %file.display(), "a report of damage is damaged itself"),
            Err(error) => tracing::warn!(file = %file.display(), %error, "a report of damage cannot be read"),
        }
    }
    Ok(owed)
}

fn encode(gap: &Gap) -> Vec<u8> {
    let mut bytes =
        postcard::to_extend(gap, vec![FORMAT]).expect("a gap has no unsized part and a Vec takes everything");
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Gap> {
    let (whole, crc) = bytes.split_last_chunk::<4>()?;
    let is_good = crc32c::crc32c(whole) == u32::from_le_bytes(*crc);
    let gap = whole.strip_prefix(&[FORMAT]).filter(|_| is_good)?;
    postcard::from_bytes(gap).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::punch::{GapKind, UnixMs};

    fn gap(detail: &str) -> Gap {
        Gap { terminal: None, at: UnixMs(1), count: Some(3), kind: GapKind::StoreDamage, detail: detail.to_owned() }
    }

    #[test]
    fn what_is_owed_is_there_until_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let owed = dir.path().join("owed");
        assert!(read(&owed).unwrap().is_empty());
        note(&owed, "facts-1-3", &gap("one")).unwrap();
        note(&owed, "facts-1-3", &gap("one in other words")).unwrap();
        note(&owed, "facts-7-9", &gap("other")).unwrap();
        let found = read(&owed).unwrap();
        assert_eq!(found.len(), 2);
        found.iter().find(|owed| owed.gap == gap("one")).unwrap().settle().unwrap();
        assert_eq!(read(&owed).unwrap()[0].gap, gap("other"));
    }

    #[test]
    fn a_damaged_or_unfinished_report_is_no_report_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        note(dir.path(), "facts-1-3", &gap("one")).unwrap();
        let file = read(dir.path()).unwrap().remove(0).file;
        fs::write(file.with_extension("new"), "half").unwrap();
        let whole = fs::read(&file).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &flipped).unwrap();
            assert!(read(dir.path()).unwrap().is_empty(), "bit {bit}");
        }
        assert!(file.exists());
    }
}
