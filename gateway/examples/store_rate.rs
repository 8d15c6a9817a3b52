//! How fast the store makes punches durable, beside the same groups written and synced by hand on the same disk.
//!
//! `cargo run --release --example store_rate -- [directory] [punches]`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use gateway::clock::Clock;
use gateway::punch::*;
use gateway::store::{Store, StoreOptions};

const ROUNDS: u32 = 3;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "./store-rate".to_owned());
    let punches: u32 = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(20_000);
    let clock = Clock::system();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    for in_flight in [1, 100] {
        let punches = if in_flight == 1 { punches / 10 } else { punches };
        for round in 0..ROUNDS {
            let dir = Path::new(&dir).join(format!("{in_flight}-{round}"));
            let measured = runtime.block_on(measure(&dir, in_flight, punches, &clock));
            let raw = raw(&dir.join("raw"), measured.group, measured.frame, punches, &clock);
            measured.tell(in_flight, punches, raw);
            std::fs::remove_dir_all(&dir).expect("the directory is ours");
        }
    }
}

struct Measured {
    took: Duration,
    /// Until the view had followed.
    followed: Duration,
    /// Facts per commit, and bytes per fact.
    group: u32,
    frame: usize,
    latencies: Vec<Duration>,
    /// A new store, and the filled one again.
    opened: [Duration; 2],
}

impl Measured {
    fn tell(mut self, in_flight: u32, punches: u32, raw: Duration) {
        self.latencies.sort();
        let quantile = |part: f64| self.latencies[((self.latencies.len() - 1) as f64 * part) as usize];
        let rate = |took: Duration| f64::from(punches) / took.as_secs_f64();
        println!(
            "{in_flight:>3} in flight: {:>6.0}/s, raw {:>6.0}/s with groups of {}, ratio {:.2}; p50 {:?} p99 {:?}; view {:.0}/s; opened new in {:?}, full in {:?}; {} kB resident",
            rate(self.took),
            rate(raw),
            self.group,
            raw.as_secs_f64() / self.took.as_secs_f64(),
            quantile(0.5),
            quantile(0.99),
            rate(self.followed),
            self.opened[0],
            self.opened[1],
            resident_kb(),
        );
    }
}

async fn measure(dir: &Path, in_flight: u32, punches: u32, clock: &Clock) -> Measured {
    let (store, opened_new) = open(dir, clock).await;
    let start = clock.instant();
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..in_flight {
        let (store, clock) = (store.clone(), clock.clone());
        producers.spawn(async move {
            let mut latencies = Vec::new();
            for n in (producer..punches).step_by(in_flight as usize) {
                let before = clock.instant();
                store.append(vec![Fact::Punch(punch(n))]).await.expect("the disk takes it");
                latencies.push(clock.instant() - before);
            }
            latencies
        });
    }
    let latencies = producers.join_all().await.concat();
    let took = clock.instant() - start;
    store.applied(Seq(u64::from(punches))).await;
    let followed = clock.instant() - start;
    let counters = store.counters();
    store.close().await;
    let (store, opened_full) = open(dir, clock).await;
    store.close().await;
    Measured {
        took,
        followed,
        group: (counters.facts / counters.commits) as u32,
        frame: (counters.ledger_bytes / counters.facts) as usize,
        latencies,
        opened: [opened_new, opened_full],
    }
}

async fn open(dir: &Path, clock: &Clock) -> (Store, Duration) {
    let options = StoreOptions::new(dir.to_owned(), Vec::new());
    let start = clock.instant();
    let opening = {
        let clock = clock.clone();
        tokio::task::spawn_blocking(move || Store::open(options, clock))
    };
    let store = opening.await.expect("no panic").expect("the store opens");
    (store, clock.instant() - start)
}

/// Memory of this process, from the kernel.
fn resident_kb() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or("?").trim().trim_end_matches(" kB").to_owned()
}

/// Append and `fdatasync` of the same groups into a file of allocated space.
fn raw(path: &Path, group: u32, frame: usize, punches: u32, clock: &Clock) -> Duration {
    let file = File::create(path).expect("the directory is ours");
    let size = u64::from(punches + group) * frame as u64;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).expect("there is space");
    file.sync_all().expect("the disk syncs");
    let bytes = vec![0xA5; group as usize * frame];
    let start: Instant = clock.instant();
    for index in 0..u64::from(punches / group) {
        file.write_all_at(&bytes, index * bytes.len() as u64).expect("there is space");
        file.sync_data().expect("the disk syncs");
    }
    clock.instant() - start
}

fn punch(n: u32) -> Punch {
    let record = n.to_string();
    let time = UnixMs(1_772_406_000_000 + i64::from(n) * 1_000);
    Punch {
        id: PunchId::derive("AX-1001", &record, "", "W0001"),
        terminal: TerminalId::from("north-in"),
        serial: "AX-1001".to_owned(),
        record: Some(record),
        time,
        time_text: "2026-03-02 07:01:05".to_owned(),
        time_source: TimeSource::Terminal,
        received_at: time,
        live: Some(true),
        skew_ms: Some(-20),
        direction: Direction::In,
        direction_source: DirectionSource::Configured,
        method: Method::Face,
        credentials: vec![Credential::CustomId("W0001".to_owned())],
        says: TerminalSays::Allowed,
        similarity: Some(93.5),
        photo: None,
        raw: vec![b'x'; 400],
    }
}
