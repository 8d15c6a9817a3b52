//! A reader's flash: its journal over power cuts, and in a file over restarts of the process that simulates it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use firmware::journal::{Recovered, Storage, StorageError};
use protocol::{BootId, Punch, Seq};
use serde::{Deserialize, Serialize};

use crate::kept;

/// Punches that a simulated reader can hold.
pub const JOURNAL: usize = 256;

/// The flash of one reader.
#[derive(Clone, Debug, Default)]
pub struct Flash {
    cells: Cells,
    file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cells {
    boot: BootId,
    released: Seq,
    /// The number of the last punch.
    last: Seq,
    lost: u32,
    lost_seen: u32,
    punches: BTreeMap<u32, Punch>,
}

impl Flash {
    /// What is in this file; new when there is none. Every change is in the file before the reader says anything of it.
    pub fn open(file: PathBuf) -> io::Result<Flash> {
        let cells = kept::load(&file)?.unwrap_or_default();
        Ok(Flash { cells, file: Some(file) })
    }

    fn write(&mut self, change: impl FnOnce(&mut Cells)) -> Result<(), StorageError> {
        change(&mut self.cells);
        match &self.file {
            Some(file) => kept::save(file, &self.cells).map_err(|_| StorageError::Broken),
            None => Ok(()),
        }
    }
}

impl Storage for Flash {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        let boot = self.cells.boot.0.checked_add(1).map(BootId).ok_or(StorageError::Broken)?;
        self.write(|cells| cells.boot = boot)?;
        let Cells { released, last, lost, lost_seen, .. } = self.cells;
        Ok(Recovered { boot, released, next: Seq(last.0 + 1), lost, lost_seen })
    }

    fn append(&mut self, seq: Seq, punch: &Punch) -> Result<(), StorageError> {
        if self.cells.punches.len() >= JOURNAL {
            return Err(StorageError::Full);
        }
        self.write(|cells| {
            cells.punches.insert(seq.0, *punch);
            cells.last = seq;
        })
    }

    fn read(&mut self, seq: Seq) -> Option<Punch> {
        self.cells.punches.get(&seq.0).copied()
    }

    fn release(&mut self, through: Seq) -> Result<(), StorageError> {
        self.write(|cells| {
            cells.punches.retain(|seq, _| *seq > through.0);
            cells.released = through;
        })
    }

    fn record_lost(&mut self, lost: u32, seen: u32) -> Result<(), StorageError> {
        self.write(|cells| (cells.lost, cells.lost_seen) = (lost, seen))
    }

    fn capacity(&self) -> u32 {
        JOURNAL as u32
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Badge, UptimeMs};

    use super::*;

    #[test]
    fn a_second_process_finds_boot_numbers_and_unreleased_punches_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("reader.json");
        let punch = |badge| Punch { boot: BootId(1), at: UptimeMs(5), unix_ms: Some(9), badge: Badge::Full(badge) };
        let mut first = Flash::open(file.clone()).unwrap();
        assert_eq!(first.recover().unwrap().boot, BootId(1));
        first.append(Seq(1), &punch(7)).unwrap();
        first.append(Seq(2), &punch(8)).unwrap();
        first.release(Seq(1)).unwrap();
        first.record_lost(3, 2).unwrap();

        let mut second = Flash::open(file).unwrap();
        let wanted = Recovered { boot: BootId(2), released: Seq(1), next: Seq(3), lost: 3, lost_seen: 2 };
        assert_eq!(second.recover(), Ok(wanted));
        assert_eq!((second.read(Seq(1)), second.read(Seq(2))), (None, Some(punch(8))));
    }

    #[test]
    fn a_full_flash_takes_a_punch_again_when_one_is_released() {
        let punch = Punch { boot: BootId(1), at: UptimeMs(0), unix_ms: None, badge: Badge::Full(1) };
        let mut flash = Flash::default();
        (1..=JOURNAL as u32).for_each(|seq| flash.append(Seq(seq), &punch).unwrap());
        let next = Seq(JOURNAL as u32 + 1);
        assert_eq!(flash.append(next, &punch), Err(StorageError::Full));
        flash.release(Seq(1)).unwrap();
        assert_eq!(flash.append(next, &punch), Ok(()));
    }
}
