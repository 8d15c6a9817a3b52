//! The physical limit: how fast this disk makes appended bytes durable, whatever the program above it does.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use gateway::clock::Clock;

/// What a measurement gives, or why there is none.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the disk does with appends of one size, each followed by `fdatasync`.
pub struct DiskLimit {
    /// Mean time of one append with its sync.
    pub each: Duration,
    pub median: Duration,
    pub p99: Duration,
}

/// Appends `bytes` and syncs, `times` over, in a file of its own below `dir`, each after a `rest`. A disk and a core that
/// have rested take longer than those that are kept busy, and what comes now and then finds them so.
pub fn measure(dir: &Path, bytes: usize, times: usize, rest: Duration) -> std::io::Result<DiskLimit> {
    let clock = Clock::system();
    let path = dir.join("anxin-bench-disk");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let block = vec![0x5A; bytes];
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        if !rest.is_zero() {
            std::thread::park_timeout(rest);
        }
        let began = clock.instant();
        file.write_all(&block)?;
        file.sync_data()?;
        took.push(clock.instant() - began);
    }
    std::fs::remove_file(&path)?;
    let each = took.iter().sum::<Duration>() / times as u32;
    took.sort_unstable();
    Ok(DiskLimit { each, median: percentile(&took, 50), p99: percentile(&took, 99) })
}

/// The value below which this percentage of the sorted values lies.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).copied().unwrap_or_default()
}
