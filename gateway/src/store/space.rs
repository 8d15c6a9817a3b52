//! How much room there is: what the disk has left, or what the site's budget leaves, whichever is nearer to its end.
//!
//! Without a budget one call to the file system tells. With one, the files are counted: photos once at the start and then as
//! they come and go, everything else again and again, because it is few files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::statvfs;

use super::shared::Paths;

/// Bytes of a file system's block in `stat`.
const BLOCK: u64 = 512;

/// Room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub free: u64,
    pub total: u64,
    /// Below this much nothing is taken: 5 % of the whole, because sled needs room to live, but no more than a limit.
    pub low: u64,
    /// With so much things are taken again.
    pub enough: u64,
}

impl Room {
    fn new(free: u64, total: u64, limits: &Limits) -> Room {
        let low = (total / 20).min(limits.low_most);
        Room { free, total, low, enough: low + low / 4 + limits.reserve }
    }

    /// Intake must stop.
    pub fn is_full(&self) -> bool {
        self.free < self.low
    }

    /// Intake may soon have to stop.
    pub fn is_short(&self) -> bool {
        self.free < self.low * 2
    }

    /// Far enough from being short.
    pub fn is_ample(&self) -> bool {
        self.free >= (self.low * 5 / 2).max(self.enough)
    }

    /// What is between here and the end.
    fn margin(&self) -> i128 {
        i128::from(self.free) - i128::from(self.low)
    }
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What the data directory may take.
    pub budget: Option<u64>,
    /// The low-water mark is no more than this.
    pub low_most: u64,
    /// Set aside for the day the disk is full.
    pub reserve: u64,
}

/// Measures the room of one data directory.
pub struct Space {
    dir: PathBuf,
    photos_dir: PathBuf,
    ledger_dir: PathBuf,
    limits: Limits,
    photos: AtomicU64,
    others: AtomicU64,
}

impl Space {
    pub fn new(dir: &Path, paths: &Paths, limits: Limits) -> Space {
        Space {
            dir: dir.to_owned(),
            photos_dir: paths.photos.clone(),
            ledger_dir: paths.ledger.clone(),
            limits,
            photos: AtomicU64::new(0),
            others: AtomicU64::new(0),
        }
    }

    /// The room there is, as far as the files were counted.
    pub fn room(&self) -> io::Result<Room> {
        let disk = statvfs(&self.ledger_dir)?;
        let disk = Room::new(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize, &self.limits);
        let Some(budget) = self.limits.budget else { return Ok(disk) };
        let used = self.photos.load(Ordering::Relaxed) + self.others.load(Ordering::Relaxed);
        let allowed = Room::new(budget.saturating_sub(used), budget, &self.limits);
        Ok(if allowed.margin() < disk.margin() { allowed } else { disk })
    }

    /// Counts the photos; they are many, so only at the start.
    pub fn count_photos(&self) -> io::Result<()> {
        if self.limits.budget.is_some() {
            self.photos.store(size_of(&self.photos_dir, None)?, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts everything but the photos.
    pub fn count_others(&self) -> io::Result<()> {
        if self.limits.budget.is_some() {
            self.others.store(size_of(&self.dir, Some(&self.photos_dir))?, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A photo of so many bytes came.
    pub fn photo_came(&self, bytes: u64) {
        self.photos.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A photo of so many bytes was removed.
    pub fn photo_went(&self, bytes: u64) {
        let less = |photos: u64| Some(photos.saturating_sub(bytes));
        // The closure always has an answer.
        let _always = self.photos.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// Bytes that a directory takes on the disk, without one below it.
fn size_of(dir: &Path, without: Option<&Path>) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Files come and go meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !metadata.is_dir() {
            size += metadata.blocks() * BLOCK;
        } else if without != Some(&entry.path()) {
            size += size_of(&entry.path(), without)?;
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(dir: &Path, budget: Option<u64>) -> Space {
        let paths = Paths::new(dir);
        fs::create_dir_all(&paths.ledger).unwrap();
        fs::create_dir_all(paths.photos.join("ab")).unwrap();
        Space::new(dir, &paths, Limits { budget, low_most: 512 << 20, reserve: 0 })
    }

    #[test]
    fn a_budget_counts_every_file_and_ends_before_the_disk_does() {
        let dir = tempfile::tempdir().unwrap();
        let space = space(dir.path(), Some(1 << 20));
        fs::write(dir.path().join("ledger/1.seg"), vec![7; 300 << 10]).unwrap();
        fs::write(dir.path().join("photos/ab/abcd.sealed"), vec![7; 200 << 10]).unwrap();
        space.count_photos().unwrap();
        space.count_others().unwrap();
        let room = space.room().unwrap();
        assert_eq!((room.total, room.low), (1 << 20, (1 << 20) / 20));
        let left = (1 << 20) - (500 << 10);
        assert!((left - (64 << 10)..=left).contains(&room.free), "{room:?}");
        assert!(!room.is_short());
        space.photo_came(room.free - room.low);
        assert!(!space.room().unwrap().is_full() && space.room().unwrap().is_short());
        space.photo_came(1);
        assert!(space.room().unwrap().is_full());
        space.photo_went(1 << 30);
        assert!(space.room().unwrap().is_ample());
    }

    #[test]
    fn without_a_budget_or_with_a_generous_one_the_disk_counts() {
        let dir = tempfile::tempdir().unwrap();
        let disk = space(dir.path(), None).room().unwrap();
        let generous = space(dir.path(), Some(u64::MAX / 2)).room().unwrap();
        assert_eq!((disk.total, disk.low), (generous.total, generous.low));
    }
}
