//! How fast the store makes punches durable, beside the same groups written and synced by hand on the same disk.
//!
//! `cargo run --release --example store_rate -- [directory] [punches]`
//!
//! With a number of punches and `life`, what a punch costs from its coming to its receipt as the history grows: CPU,
//! bytes written, memory, and how long the store takes to open and to answer.
//!
//! `cargo run --release --example store_rate -- [directory] [punches] life`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use gateway::clock::Clock;
use gateway::punch::*;
use gateway::store::{PunchFilter, Store, StoreOptions, View};

const ROUNDS: u32 = 3;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "./store-rate".to_owned());
    let punches: u32 = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(20_000);
    let clock = Clock::system();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    if arguments.next().is_some_and(|word| word == "life") {
        return runtime.block_on(live(Path::new(&dir), punches, &clock));
    }
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
    let options = StoreOptions::new(dir.to_owned(), vec![(national(), None)]);
    let start = clock.instant();
    let opening = {
        let clock = clock.clone();
        tokio::task::spawn_blocking(move || Store::open(options, clock))
    };
    let store = opening.await.expect("no panic").expect("the store opens");
    (store, clock.instant() - start)
}

/// Punches that are handed in, judged and answered for together.
const BATCH: u32 = 50;
const WORKERS: u32 = 500;

/// Whole lives of punches, told of after each tenfold.
async fn live(dir: &Path, punches: u32, clock: &Clock) {
    let mut done = 0;
    let mut next = 1_000;
    while done < punches {
        let until = next.min(punches);
        let (store, opened) = open(dir, clock).await;
        let first = clock.instant();
        assert!(store.append(vec![Fact::Punch(punch(u32::MAX - done))]).await.is_ok());
        let first = clock.instant() - first;
        let (before, start) = (used(), clock.instant());
        for n in (done..until).step_by(BATCH as usize) {
            let batch = n..(n + BATCH).min(until);
            let places = store.append(batch.clone().map(|n| Fact::Punch(punch(n))).collect()).await;
            places.expect("the disk takes it");
            store.append(batch.clone().map(verified).collect()).await.expect("the disk takes it");
            for step in [Step::Sending { request_hash: [7; 32] }, Step::Confirmed { external: None, note: None }] {
                let step = Fact::Upload(upload(n, batch.clone(), step));
                let places = store.append(vec![step]).await.expect("the disk takes it");
                store.applied(places[0].seq).await;
            }
        }
        let (after, took) = (used(), clock.instant() - start);
        let count = f64::from(until - done);
        println!(
            "{until:>9} punches: opened in {opened:?}, first append {first:?}; {:.0}/s, {:.0} µs CPU, {:.0} bytes written for each ({:.0} ledger, {:.0} view); {} kB resident",
            count / took.as_secs_f64(),
            (after.cpu - before.cpu).as_secs_f64() * 1e6 / count,
            (after.written - before.written) as f64 / count,
            store.counters().ledger_bytes as f64 / count,
            store.counters().view_bytes as f64 / count,
            resident_kb(),
        );
        ask(&store, until, clock).await;
        store.close().await;
        let (store, opened) = open(dir, clock).await;
        println!("          opened again in {opened:?}, {} kB resident", resident_kb());
        store.close().await;
        done = until;
        next *= 10;
    }
    std::fs::remove_dir_all(dir.join("view")).expect("the directory is ours");
    let start = clock.instant();
    let (store, opened) = open(dir, clock).await;
    store.read(|view| view.unjudged(1)).await;
    let rebuilt = clock.instant() - start;
    println!(
        "          without a view opened in {opened:?}, built again in {rebuilt:?}, {} kB resident",
        resident_kb()
    );
    store.close().await;
}

/// How long questions take that somebody waits for.
async fn ask(store: &Store, punches: u32, clock: &Clock) {
    let last = punch(punches - 1).time;
    let day = PunchFilter { from: Some(last.plus_ms(-8_000_000)), to: Some(last), ..PunchFilter::default() };
    let old = punch(punches / 3).time;
    let old = PunchFilter { from: Some(old), to: Some(old.plus_ms(8_000_000)), ..PunchFilter::default() };
    let of = PunchFilter { worker: Some(worker(7)), from: day.from, ..PunchFilter::default() };
    let questions: [(&str, Question); 7] = [
        ("a recent page", Box::new(move |view| view.punches(&day, None, 100).items.len())),
        ("an old page", Box::new(move |view| view.punches(&old, None, 100).items.len())),
        ("a worker's page", Box::new(move |view| view.punches(&of, None, 100).items.len())),
        ("the head-count", Box::new(move |view| view.presences(last.plus_ms(-8_000_000)).len())),
        ("the latest", Box::new(|view| view.latest(50).len())),
        ("an old story", Box::new(move |view| usize::from(view.story(punch(punches / 3).id).is_some()))),
        ("a redelivery", Box::new(move |view| usize::from(view.punch(punch(punches / 2).id).is_some()))),
    ];
    let mut line = "         ".to_owned();
    for (name, question) in questions {
        let answer = |clock: Clock| {
            move |view: &View| {
                question(view);
                let start = clock.instant();
                let found = (0..ASKED).map(|_| question(view)).max().unwrap_or_default();
                ((clock.instant() - start) / ASKED, found)
            }
        };
        let (took, found) = store.read(answer(clock.clone())).await;
        line += &format!(" {name} {took:.0?} ({found});");
    }
    println!("{line}");
}

const ASKED: u32 = 20;

/// Says how much it found.
type Question = Box<dyn Fn(&View) -> usize + Send>;

fn worker(n: u32) -> WorkerId {
    WorkerId(format!("W{:04}", n % WORKERS))
}

fn verified(n: u32) -> Fact {
    Fact::Judgement(Judgement {
        punch: punch(n).id,
        at: punch(n).time,
        verdict: Verdict::Verified,
        rule_version: 1,
        worker: Some(worker(n)),
        direction: Direction::In,
        direction_inferred: false,
        duplicate_of: None,
    })
}

fn upload(job: u32, punches: std::ops::Range<u32>, step: Step) -> UploadStep {
    UploadStep {
        platform: national(),
        job: JobId(u64::from(job)),
        method: "WorkerAttendance.Add".to_owned(),
        at: punch(job).time,
        subjects: punches.map(|n| Subject::Punch(punch(n).id)).collect(),
        step,
    }
}

fn national() -> PlatformName {
    PlatformName::from("national")
}

struct Used {
    cpu: Duration,
    /// To the disk, by all of this process.
    written: u64,
}

fn used() -> Used {
    let usage = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 = usage.split(' ').skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Used { cpu: Duration::from_millis(ticks * 10), written: written.and_then(|n| n.parse().ok()).unwrap_or_default() }
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
