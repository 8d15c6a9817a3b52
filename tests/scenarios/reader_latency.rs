//! How long a worker waits at a native reader, with a gateway behind a busy line.

use std::time::Duration;

use harness::timed_line::{Conditions, TimedLine};

const BAR: Duration = Duration::from_millis(100);
const SWIPES: usize = 2_000;

/// 99 of 100 wait no longer than this, and nobody longer than that.
fn waits(conditions: Conditions, seed: u64) -> [Duration; 2] {
    let waits = TimedLine::new(conditions, seed).waits(SWIPES);
    let [p50, p99, max] = [SWIPES / 2, SWIPES * 99 / 100, SWIPES - 1].map(|at| waits[at]);
    println!("seed {seed}: p50 {p50:?}, p99 {p99:?}, max {max:?}");
    [p99, max]
}

#[test]
fn with_eight_readers_on_a_line_nobody_waits_longer_than_100_ms() {
    for seed in 1..=3 {
        let [_, max] = waits(Conditions::RUSH, seed);
        assert!(max <= BAR, "seed {seed}: {max:?}");
    }
}

#[test]
fn nor_does_anybody_for_a_slow_disk() {
    for seed in 1..=3 {
        let [_, max] = waits(Conditions { commit: Duration::from_millis(15), ..Conditions::RUSH }, seed);
        assert!(max <= BAR, "seed {seed}: {max:?}");
    }
}

#[test]
fn nor_do_99_of_100_over_a_usb_adapter() {
    for seed in 1..=3 {
        let [p99, _] = waits(Conditions { adapter: Duration::from_millis(1), ..Conditions::RUSH }, seed);
        assert!(p99 <= BAR, "seed {seed}: {p99:?}");
    }
}
