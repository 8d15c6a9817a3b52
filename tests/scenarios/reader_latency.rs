//! How long a worker waits at a reader, with a gateway behind a busy line.

use std::time::Duration;

use harness::timed_line::{Conditions, TimedLine};

const BAR: Duration = Duration::from_millis(100);

#[test]
fn with_eight_readers_on_a_line_nobody_waits_longer_than_100_ms() {
    for seed in 1..=3 {
        let waits = TimedLine::new(Conditions::RUSH, seed).waits(1_000);
        let [p50, p99, max] = [waits[500], waits[990], waits[999]];
        println!("seed {seed}: p50 {p50:?}, p99 {p99:?}, max {max:?}");
        assert!(max <= BAR, "seed {seed}: {max:?}");
    }
}
