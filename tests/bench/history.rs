//! What a long history costs: bytes written, time to open, memory, and the questions that a page asks, at growing numbers
//! of punches in one store. Every opening is measured in a process of its own, which is this program again. Questions and
//! appends are compared with those to a short history of 1 000 punches, which is asked in turn with the long one: what else
//! the machine does at the time then slows both.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::punch::*;
use gateway::store::{PunchFilter, Store, StoreOptions, verify};
use serde::{Deserialize, Serialize};

use crate::disk::{Outcome, percentile};
use crate::durable::punch;

/// Punches in one append, and in one upload job.
const BATCH: u64 = 20;
const WORKERS: u64 = 500;
/// Punches of the history that others are compared with.
const SHORT: u64 = 1_000;
/// How often the two histories are asked in turn, and each time so many questions.
const ROUNDS: u64 = 9;
const QUESTIONS: u64 = 200;
const PLATFORM: &str = "national";
const LOOK: Duration = Duration::from_millis(500);
const START_LIMIT: Duration = Duration::from_secs(300);

/// What one size of history costs.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub punches: u64,
    /// By the process to its files since the size before, divided by the punches added.
    pub written_per_punch: u64,
    pub cpu_per_punch: Duration,
    pub opened: Opened,
    /// The same questions to a short history.
    pub short: Opened,
    /// Every record of the ledger, as `ledger verify` does.
    pub verify_ms: f64,
}

/// A store that has just been opened, as seen from inside its process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Opened {
    pub open_ms: f64,
    /// Until a punch was durable after the opening.
    pub first_stored_ms: f64,
    pub rss_kib: u64,
    pub head_count_us: f64,
    pub page_us: f64,
    pub append_us: f64,
}

impl Opened {
    /// The least of each time, because what disturbs only adds; and the most memory.
    fn merge(self, other: Opened) -> Opened {
        Opened {
            open_ms: self.open_ms.min(other.open_ms),
            first_stored_ms: self.first_stored_ms.min(other.first_stored_ms),
            rss_kib: self.rss_kib.max(other.rss_kib),
            head_count_us: self.head_count_us.min(other.head_count_us),
            page_us: self.page_us.min(other.page_us),
            append_us: self.append_us.min(other.append_us),
        }
    }
}

/// Fills a store below `dir` step by step, and shows each as soon as it is measured.
pub async fn measure(dir: &Path, sizes: &[u64], show: impl Fn(Size)) -> Outcome<()> {
    let long = dir.join("long");
    let mut there = 0;
    for &punches in sizes {
        let before = Spent::now()?;
        fill(&long, there, punches).await?;
        let after = Spent::now()?;
        let added = (punches - there).max(1);
        let short = dir.join(format!("beside-{punches}"));
        fill(&short, 0, SHORT).await?;
        let (opened, short) = in_turn((&long, punches), (&short, SHORT))?;
        let clock = Clock::system();
        let began = clock.instant();
        let report = verify(&long.join("ledger"))?;
        let verify_ms = millis(clock.instant() - began);
        if !report.is_sound() {
            return Err(format!("the ledger does not verify: {report:?}").into());
        }
        show(Size {
            punches,
            written_per_punch: (after.written - before.written) / added,
            cpu_per_punch: (after.cpu - before.cpu) / u32::try_from(added)?,
            opened,
            short,
            verify_ms,
        });
        there = punches;
    }
    Ok(())
}

/// Opens two histories in turn, round after round.
fn in_turn(long: (&Path, u64), short: (&Path, u64)) -> Outcome<(Opened, Opened)> {
    let round = |number| Outcome::Ok((opened(long.0, long.1, number)?, opened(short.0, short.1, number)?));
    let first = round(0)?;
    (1..ROUNDS).map(round).try_fold(first, |(long, short), round| {
        let (next_long, next_short) = round?;
        Ok((long.merge(next_long), short.merge(next_short)))
    })
}

/// Punches, verdicts, and receipts of a platform for all of them.
async fn fill(dir: &Path, from: u64, to: u64) -> Outcome<()> {
    let store = open(dir)?;
    let mut last = Seq(0);
    for first in (from..to).step_by(BATCH as usize) {
        let punches: Vec<Punch> = (first..(first + BATCH).min(to)).map(punch).collect();
        let subjects: Vec<Subject> = punches.iter().map(|punch| Subject::Punch(punch.id)).collect();
        let verdicts = (first..).zip(&punches).map(|(n, punch)| Fact::Judgement(verdict(n, punch))).collect();
        store.append(punches.iter().cloned().map(Fact::Punch).collect()).await?;
        store.append(verdicts).await?;
        for step in [
            Step::Sending { request_hash: [7; 32] },
            Step::Accepted { serial: format!("attendance-{first}") },
            Step::Confirmed { external: None, note: None },
        ] {
            let at = punches[0].time.plus_ms(60_000);
            let (platform, job) = (PlatformName::from(PLATFORM), JobId(first / BATCH + 1));
            let method = "WorkerAttendance.Add".to_owned();
            let step = UploadStep { platform, job, method, at, subjects: subjects.clone(), step };
            last = store.append(vec![Fact::Upload(step)]).await?[0].seq;
        }
    }
    store.applied(last).await;
    store.close().await;
    Ok(())
}

fn verdict(n: u64, punch: &Punch) -> Judgement {
    Judgement {
        punch: punch.id,
        at: punch.received_at,
        verdict: Verdict::Verified,
        rule_version: 1,
        worker: Some(WorkerId(format!("W{:04}", n % WORKERS))),
        direction: Direction::In,
        direction_inferred: false,
        duplicate_of: None,
    }
}

fn open(dir: &Path) -> Outcome<Store> {
    let platforms = vec![(PlatformName::from(PLATFORM), None)];
    Ok(Store::open(StoreOptions::new(dir.to_owned(), platforms), Clock::system())?)
}

/// Starts this program again to open the store.
fn opened(dir: &Path, punches: u64, round: u64) -> Outcome<Opened> {
    let program = std::env::current_exe()?;
    let numbers = [punches, round].map(|number| number.to_string());
    let output = Command::new(program).arg("probe").arg(dir).args(numbers).output()?;
    if !output.status.success() {
        return Err(format!("the probe failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Inside the other process: opens the store, asks what a page asks, and prints what it cost.
pub async fn probe(dir: &Path, punches: u64, round: u64) -> Outcome<()> {
    let clock = Clock::system();
    let began = clock.instant();
    let store = open(dir)?;
    let open_ms = millis(clock.instant() - began);
    // Of another time than those that are there, and new in every round.
    let new = |n| punch(u64::MAX - punches - round * (QUESTIONS + 1) - n);
    store.append(vec![Fact::Punch(new(0))]).await?;
    let first_stored_ms = millis(clock.instant() - began);
    finish_start(&clock).await?;
    // The last day: half of the punches of it at most.
    let newest = punch(punches.saturating_sub(1)).time;
    let day = newest.plus_ms(-500_000);
    let head_count_us = asked(&clock, &store, move |view| view.presences(day).len()).await;
    let filter = PunchFilter { from: Some(day), ..PunchFilter::default() };
    let page_us = asked(&clock, &store, move |view| view.punches(&filter, None, 100).items.len()).await;
    let mut appends = Vec::new();
    for n in 1..=QUESTIONS {
        let began = clock.instant();
        store.append(vec![Fact::Punch(new(n))]).await?;
        appends.push(clock.instant() - began);
    }
    appends.sort_unstable();
    let append_us = micros(percentile(&appends, 50));
    let rss_kib = Spent::now()?.rss_kib;
    store.close().await;
    let opened = Opened { open_ms, first_stored_ms, rss_kib, head_count_us, page_us, append_us };
    println!("{}", serde_json::to_string(&opened)?);
    Ok(())
}

/// Waits until what a start does beside the intake is done: the digests of all punches are gathered, the newest segments
/// checked.
async fn finish_start(clock: &Clock) -> Outcome<()> {
    let began = clock.instant();
    let mut before = Spent::now()?.cpu;
    while clock.instant() - began < START_LIMIT {
        tokio::time::sleep(LOOK).await;
        let now = Spent::now()?.cpu;
        if now - before < LOOK / 20 {
            return Ok(());
        }
        before = now;
    }
    Err(format!("the store is still busy {} s after its start", START_LIMIT.as_secs()).into())
}

async fn asked<T: Send + 'static>(
    clock: &Clock,
    store: &Store,
    question: impl Fn(&gateway::store::View) -> T + Clone + Send + 'static,
) -> f64 {
    let mut took = Vec::new();
    for _ in 0..QUESTIONS {
        let (question, began) = (question.clone(), clock.instant());
        store.read(move |view| question(view)).await;
        took.push(clock.instant() - began);
    }
    took.sort_unstable();
    micros(percentile(&took, 50))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// What this process has used up to now.
struct Spent {
    written: u64,
    cpu: Duration,
    rss_kib: u64,
}

impl Spent {
    fn now() -> Outcome<Spent> {
        let io = fs::read_to_string("/proc/self/io")?;
        let status = fs::read_to_string("/proc/self/status")?;
        let stat = fs::read_to_string("/proc/self/stat")?;
        let field = |text: &str, name: &'static str| -> Outcome<u64> {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).ok_or(name)?;
            Ok(value.split_whitespace().next().unwrap_or_default().parse()?)
        };
        // User and system time are the 14th and 15th fields, the 12th and 13th after the program's name.
        let after_name = stat.rsplit_once(") ").ok_or("/proc/self/stat has no name")?.1;
        let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
        Ok(Spent {
            written: field(&io, "write_bytes:")?,
            cpu: Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
            rss_kib: field(&status, "VmRSS:")?,
        })
    }
}
