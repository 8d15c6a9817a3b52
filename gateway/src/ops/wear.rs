//! How fast the disk is worn: what this process has had written, and what the disk says of itself. An edge box's eMMC
//! takes some thousand writes of every block and no more.
//!
//! Reads `/proc` and `/sys`; what is not there is not said.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Writes of every block that are counted on: TLC flash of an industrial eMMC is sold with 3 000, a cheap one with 1 000.
const CYCLES: u64 = 1_000;
/// A shorter run says nothing about a day.
const LEAST_RUN: Duration = Duration::from_secs(3600);
const SECTOR: u64 = 512;

/// What is known now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wear {
    /// Bytes that the kernel had to write to a disk for this process since its start.
    pub written: Option<u64>,
    /// How much of its life the disk has used by its own account, from 0 to 1 (JEDEC: in steps of a tenth).
    pub used: Option<f64>,
    /// Size of the disk in bytes.
    pub disk: Option<u64>,
}

impl Wear {
    /// Looks for the disk of `dir`. Blocks for a few reads.
    pub fn look(dir: &Path) -> Wear {
        let disk = disk_of(dir);
        let read = |name: &str| fs::read_to_string(disk.as_ref()?.join(name)).ok();
        Wear {
            written: fs::read_to_string("/proc/self/io").ok().and_then(|io| field(&io, "write_bytes:")),
            used: read("device/life_time").and_then(|text| life_used(&text)),
            disk: read("size").and_then(|size| size.trim().parse::<u64>().ok()).map(|sectors| sectors * SECTOR),
        }
    }

    /// Years until every block has been written 1000 times, if it goes on as since the start.
    pub fn years_left(&self, running: Duration) -> Option<f64> {
        let (written, disk) = (self.written.filter(|written| *written > 0)?, self.disk?);
        if running < LEAST_RUN {
            return None;
        }
        let per_year = written as f64 / running.as_secs_f64() * 365.25 * 86_400.0;
        Some(disk as f64 * CYCLES as f64 * (1.0 - self.used.unwrap_or(0.0)) / per_year)
    }
}

/// `/sys/block/…` of the disk that a directory is on; a partition stands below its disk.
fn disk_of(dir: &Path) -> Option<PathBuf> {
    let device = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    match block.join("partition").exists() {
        true => block.parent().map(Path::to_owned),
        false => Some(block),
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// `0x01 0x02`: the used life of two kinds of blocks in tenths, rounded up; 0 is unknown, 11 is beyond the end.
fn life_used(text: &str) -> Option<f64> {
    let tenths = text.split_whitespace().filter_map(|word| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    tenths.filter(|tenths| (1..=11).contains(tenths)).max().map(|tenths| f64::from(tenths.min(10)) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emmc_says_its_life_in_tenths() {
        assert_eq!(life_used("0x01 0x02\n"), Some(0.2));
        assert_eq!(life_used("0x0b 0x01\n"), Some(1.0));
        assert_eq!(life_used("0x00 0x00\n"), None);
        assert_eq!(life_used(""), None);
    }

    #[test]
    fn years_left_follow_from_what_was_written_and_an_hour_is_the_least() {
        let day = Duration::from_secs(86_400);
        let wear = Wear { written: Some(8_000_000_000), used: None, disk: Some(8_000_000_000) };
        let years = wear.years_left(day).unwrap();
        assert!((years - 1000.0 / 365.25).abs() < 0.01, "{years}");
        assert_eq!(wear.years_left(Duration::from_secs(60)), None);
        let half = Wear { used: Some(0.5), ..wear }.years_left(day).unwrap();
        assert!((half * 2.0 - years).abs() < 0.01);
        assert_eq!(Wear { written: Some(0), ..wear }.years_left(day), None);
    }

    #[test]
    fn this_process_has_written_something_or_nothing_is_said() {
        let wear = Wear::look(Path::new("/"));
        assert!(wear.used.is_none_or(|used| (0.0..=1.0).contains(&used)));
        assert!(fs::metadata("/proc/self/io").is_err() || wear.written.is_some());
    }
}
