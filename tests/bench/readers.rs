//! How long a worker waits at a native reader, in virtual time: the same on every machine.

use std::time::Duration;

use harness::timed_line::{Conditions, TimedLine};

use crate::disk::percentile;

/// From the last bit of the card to the green lamp.
pub fn measure(swipes: usize) {
    println!("\nfrom the card to the green lamp, {swipes} swipes at 115 200 baud, in virtual time");
    let conditions = [
        ("1 reader", Conditions { readers: 1, ..Conditions::RUSH }),
        ("8 readers", Conditions::RUSH),
        (
            "8 readers, USB adapter (1 ms each way)",
            Conditions { adapter: Duration::from_millis(1), ..Conditions::RUSH },
        ),
        ("8 readers, disk of 15 ms", Conditions { commit: Duration::from_millis(15), ..Conditions::RUSH }),
        ("16 readers", Conditions { readers: 16, ..Conditions::RUSH }),
    ];
    for (name, conditions) in conditions {
        let waits = TimedLine::new(conditions, 1).waits(swipes);
        let [p50, p99] = [50, 99].map(|percent| percentile(&waits, percent).as_secs_f64() * 1e3);
        let max = waits.last().map_or(0.0, Duration::as_secs_f64) * 1e3;
        println!("  {name:<40} p50 {p50:>5.1} ms  p99 {p99:>5.1} ms  max {max:>5.1} ms");
    }
}
