//! What a process costs, as the kernel counts it.

use std::path::Path;
use std::time::Duration;

/// Costs of a process since its start.
#[derive(Clone, Copy, Debug)]
pub struct Vitals {
    /// Resident memory now, and at its highest.
    pub rss_kib: u64,
    pub peak_rss_kib: u64,
    /// Processor time of all its threads.
    pub cpu: Duration,
    /// Bytes that it caused to be written to disk.
    pub written_bytes: u64,
}

impl Vitals {
    /// `None` when there is no such process.
    pub fn of(pid: u32) -> Option<Vitals> {
        let dir = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(dir.join("status")).ok()?;
        let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
        let io = std::fs::read_to_string(dir.join("io")).unwrap_or_default();
        Some(Vitals {
            rss_kib: named(&status, "VmRSS:")?,
            peak_rss_kib: named(&status, "VmHWM:")?,
            cpu: cpu(&stat)?,
            written_bytes: named(&io, "write_bytes:").unwrap_or(0),
        })
    }
}

fn named(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted after the program's name, which may contain blanks. The kernel shows
/// them in hundredths of a second on every architecture that the gateway runs on.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0u64)).sum();
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_vitals_and_process_zero_has_none() {
        let vitals = Vitals::of(std::process::id()).expect("this process is there");
        assert!(vitals.rss_kib > 500 && vitals.peak_rss_kib >= vitals.rss_kib, "{vitals:?}");
        assert!(Vitals::of(0).is_none());
    }

    #[test]
    fn a_program_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 900 0 0 0 150 50 0 0 20 0 4 0 100 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }
}
