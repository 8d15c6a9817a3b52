//! What a gateway costs and how fast it is, beside what the disk allows in the same run.
//!
//! `cargo run --release -p tests --bin bench [-- PART]`. Prints figures and judges nothing: on a shared machine they vary.

mod disk;
mod durable;
mod history;
mod load;
mod plot;
mod readers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gateway::clock::Clock;
use harness::broker::Mosquitto;
use harness::gateway::{GatewayProcess, Setup, Vitals};
use harness::platform::{Options as Rules, ReferencePlatform};
use harness::workers::InventedSite;

use crate::disk::{DiskLimit, Outcome, percentile};
use crate::load::{Load, Pace, Pushed, Receiver};

/// Measures the gateway that is built in the same profile; use --release.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// A run that only shows that everything works.
    #[arg(long)]
    short: bool,
    /// Where the picture of the durable part goes.
    #[arg(long, default_value = "target/durable.svg")]
    plot: PathBuf,
    /// Punches in the ledger of the large gateway.
    #[arg(long, default_value_t = 100_000)]
    punches: usize,
    /// Face terminals, each with one record in flight.
    #[arg(long, default_value_t = 100)]
    terminals: usize,
    /// Punches on the way from MQTT to the platform's receipt.
    #[arg(long, default_value_t = 5_000)]
    receipts: usize,
}

/// One part of the bench; all of them when none is named.
#[derive(Clone, Subcommand)]
enum Part {
    /// The whole gateway: start, memory, from MQTT to the platform's receipt.
    Gateway,
    /// Of the whole gateway only how long a hundred terminals wait, beside the disk and a broker that keeps nothing.
    Latency,
    /// Of the whole gateway only durable intake at full speed, and memory and start with what that leaves.
    Intake,
    /// Of the whole gateway only the way to the platform: receipts without a rate rule, and a backlog under one.
    Upload,
    /// The store beside the raw disk, sled and SQLite.
    Durable,
    /// Bytes, time to open, memory and questions at growing numbers of punches.
    History {
        /// Up to this many punches, in steps of ten.
        #[arg(long, default_value_t = 1_000_000)]
        up_to: u64,
    },
    /// How long a worker waits at a native reader, in virtual time.
    Readers,
    /// What the history part starts in a process of its own.
    #[command(hide = true)]
    Probe { dir: PathBuf, punches: u64, round: u64 },
}

const WORKERS: usize = 200;
const TEAMS: usize = 10;
/// At the start of a shift people pass a gate one after the other.
const SHIFT_PACE: Duration = Duration::from_secs(1);
/// Idle means: this long after the last punch was judged.
const SETTLE: Duration = Duration::from_secs(3);
/// The view writes what it has after this much rest.
const VIEW_RESTS: Duration = Duration::from_secs(35);
/// A backlog that has not moved to its end by then is a fault, not a figure.
const BACKLOG_LIMIT: Duration = Duration::from_secs(1_200);

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut options = Options::parse();
    if options.short {
        (options.punches, options.terminals, options.receipts) = (1_000, 20, 200);
    }
    if cfg!(debug_assertions) {
        eprintln!("not built with --release: the figures say little");
    }
    match options.part.clone() {
        None => {
            gateway_part(&options).await?;
            readers_part(&options);
            durable_part(&options).await?;
            history_part(if options.short { 1_000 } else { 1_000_000 }).await
        }
        Some(Part::Gateway) => gateway_part(&options).await,
        Some(Part::Latency) => {
            let gateway = empty_gateway(&options).await;
            latency(&options, &gateway).await
        }
        Some(Part::Intake) => {
            let gateway = empty_gateway(&options).await;
            intake_part(&options, gateway).await
        }
        Some(Part::Upload) => upload_part(&options).await,
        Some(Part::Durable) => durable_part(&options).await,
        Some(Part::History { up_to }) => history_part(up_to).await,
        Some(Part::Readers) => {
            readers_part(&options);
            Ok(())
        }
        Some(Part::Probe { dir, punches, round }) => history::probe(&dir, punches, round).await,
    }
}

async fn gateway_part(options: &Options) -> Outcome<()> {
    println!("data in {}", std::env::temp_dir().display());
    let gateway = empty_gateway(options).await;
    latency(options, &gateway).await?;
    slowly(options, &gateway).await;
    intake_part(options, gateway).await?;
    upload_part(options).await
}

async fn intake_part(options: &Options, gateway: GatewayProcess) -> Outcome<()> {
    let gateway = intake(options, gateway).await?;
    large_gateway(gateway).await;
    Ok(())
}

async fn upload_part(options: &Options) -> Outcome<()> {
    receipts(options).await?;
    backlog(options).await
}

fn readers_part(options: &Options) {
    readers::measure(if options.short { 200 } else { 20_000 });
}

async fn durable_part(options: &Options) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let rows = durable::measure(dir.path(), if options.short { 200 } else { 30_000 }).await?;
    println!("\ndurable punches/s (ratio to raw; p50/p99 of the acknowledgement) with so many in flight");
    let head: String = durable::IN_FLIGHT.iter().map(|count| format!("{count:>32}")).collect();
    println!("  {:<26}{head}", "");
    for row in &rows {
        let cells = row.cells.iter().zip(&rows[0].cells).map(|(cell, raw)| {
            let ratio = cell.per_second / raw.per_second;
            let text = format!("{:.0} ({ratio:.2}; {}/{})", cell.per_second, micros(cell.p50), micros(cell.p99));
            format!("{text:>32}")
        });
        println!("  {:<26}{}", row.engine.to_string(), cells.collect::<String>());
    }
    plot::draw(&options.plot, &rows)?;
    println!("  drawn in {}", options.plot.display());
    Ok(())
}

async fn history_part(up_to: u64) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let sizes: Vec<u64> =
        std::iter::successors(Some(1_000), |size| Some(size * 10)).take_while(|size| *size <= up_to).collect();
    println!(
        "\nhistory: punches with verdict and receipt (questions and appends: ratio to a history of 1 000 beside it)"
    );
    println!(
        "  punches     written  processor      open  first stored  memory      head-count          a page       an append    verify"
    );
    let beside = |long: f64, short: f64| format!("{long:.0} µs ({:.2})", long / short);
    let show = |size: history::Size| {
        let history::Size { punches, written_per_punch, cpu_per_punch, opened, short, verify_ms } = size;
        println!(
            "  {punches:<10} {written_per_punch:>6} B  {:>9}  {:>5.0} ms  {:>9.0} ms  {:>8}  {:>14}  {:>14}  {:>14}  {verify_ms:>6.0} ms",
            micros(cpu_per_punch),
            opened.open_ms,
            opened.first_stored_ms,
            mebibytes(opened.rss_kib),
            beside(opened.head_count_us, short.head_count_us),
            beside(opened.page_us, short.page_us),
            beside(opened.append_us, short.append_us),
        );
    };
    history::measure(dir.path(), &sizes, show).await
}

/// Start and memory of a gateway that has nothing to do.
async fn empty_gateway(options: &Options) -> GatewayProcess {
    let site = InventedSite::new(WORKERS, TEAMS);
    let gateway = terminals(Setup::new("bench").employers(&site.employers), options).start().await;
    tokio::time::sleep(SETTLE).await;
    println!("\nempty gateway");
    line("start to first healthy answer", seconds(gateway.start_took()));
    line("memory, idle", mebibytes(gateway.vitals().rss_kib));
    let program = std::fs::metadata(harness::gateway::program()).map_or(0, |metadata| metadata.len());
    line("size of the program", mebibytes(program >> 10));
    gateway.import_roster(&site.csv()).await;
    gateway
}

fn terminals(setup: Setup, options: &Options) -> Setup {
    load::serials(options.terminals)
        .iter()
        .fold(setup, |setup, serial| setup.face(&format!("gate-{serial}"), serial, "in"))
}

/// A shift begins: every terminal has people in front of it, each at its own moment; and the worst that can be, all of
/// them at the same moment. Beside it the disk, as much at rest as it is between punches and kept busy, and the same
/// terminals at a broker that keeps nothing.
async fn latency(options: &Options, gateway: &GatewayProcess) -> Outcome<()> {
    let rounds = if options.short { 3 } else { 30 };
    let mut shift = load(options, gateway, options.terminals * rounds);
    shift.rounds_before_now += options.punches.div_ceil(WORKERS) + 10;
    let broker = if Mosquitto::is_installed() { Some(Mosquitto::start().await?) } else { None };
    for at_once in [false, true] {
        shift.pace = Some(Pace { every: SHIFT_PACE, at_once });
        shift.rounds_before_now += 2 * rounds * options.terminals / WORKERS + 1;
        let pushed = shift.clone().push().await;
        wait_until_judged(gateway).await;
        let (rest, syncs) = match at_once {
            true => (SHIFT_PACE, rounds),
            false => (SHIFT_PACE / options.terminals as u32, options.terminals * rounds),
        };
        let rested = disk_limit(4096, syncs, rest).await?;
        let busy = disk_limit(4096, 1_000, Duration::ZERO).await?;
        let moments = if at_once { "all at the same moment" } else { "each at its own moment" };
        println!("\n{} terminals, a punch at each every {}, {moments}", options.terminals, seconds(SHIFT_PACE));
        report_latencies(&pushed);
        line("disk: append + fdatasync, as often as punches", spread(rested.median, rested.p99));
        line("disk: append + fdatasync, one upon the other", spread(busy.median, busy.p99));
        let of = |took: Duration| percentile(&pushed.latencies, 99).as_secs_f64() / took.as_secs_f64();
        let ratios = format!("{:.1} as often as punches, {:.1} one upon the other", of(rested.p99), of(busy.p99));
        line("p99 to the p99 of one fdatasync", ratios);
        let Some(broker) = &broker else {
            println!("  mosquitto is not installed: no peer");
            continue;
        };
        let unkept = Load { to: Receiver::Broker, address: broker.address(), ..shift.clone() }.push().await;
        let at = |percent| percentile(&unkept.latencies, percent);
        line("mosquitto, keeping nothing", spread(at(50), at(99)));
        line("p99 to that of mosquitto and one fdatasync", format!("{:.1}", of(at(99) + rested.p99)));
    }
    Ok(())
}

/// A quiet hour: ten punches a second.
async fn slowly(options: &Options, gateway: &GatewayProcess) {
    let seconds = if options.short { 2 } else { 30 };
    let mut load = load(options, gateway, 0);
    load.serials.truncate(10);
    load.records_per_terminal = seconds;
    load.rounds_before_now = 2 * options.punches.div_ceil(WORKERS) + 100;
    load.pace = Some(Pace { every: Duration::from_secs(1), at_once: false });
    wait_until_judged(gateway).await;
    // What went before is written down first.
    tokio::time::sleep(if options.short { SETTLE } else { VIEW_RESTS }).await;
    let before = Counted::of(gateway).await;
    let pushed = load.push().await;
    wait_until_judged(gateway).await;
    tokio::time::sleep(if options.short { SETTLE } else { VIEW_RESTS }).await;
    let after = Counted::of(gateway).await;
    println!("\n10 punches/s for {seconds} s");
    report_latencies(&pushed);
    let punches = pushed.punches as u64;
    let work = after.since(&before);
    let (ledger, view) = (work.ledger_bytes / punches, work.view_bytes / punches);
    line("bytes written per punch", format!("{} (ledger {ledger}, view {view})", ledger + view));
    let pages = (after.vitals.written_bytes - before.vitals.written_bytes) / punches;
    line("the same in whole pages, as the kernel counts", format!("{pages}"));
    line("group commits per punch", format!("{:.1}", work.commits as f64 / punches as f64));
}

/// Durable intake at full speed, and the disk's limit with the same grouping.
async fn intake(options: &Options, gateway: GatewayProcess) -> Outcome<GatewayProcess> {
    let before = Counted::of(&gateway).await;
    let pushed = load(options, &gateway, options.punches).push().await;
    let acknowledged = gateway.vitals();
    wait_until_judged(&gateway).await;
    let after = Counted::of(&gateway).await;

    println!("\ndurable intake: {} punches, {} in flight", pushed.punches, options.terminals);
    report_latencies(&pushed);
    report_cost(&before.vitals, &acknowledged, &after.vitals, pushed.punches);
    let work = after.since(&before);
    let bytes_per_commit = (work.ledger_bytes / work.commits.max(1)) as usize;
    let syncs = (work.commits as usize).clamp(1, 1_000);
    let limit = disk_limit(bytes_per_commit, syncs, Duration::ZERO).await?;
    let facts_per_commit = work.facts as f64 / work.commits.max(1) as f64;
    line("facts per group commit", format!("{facts_per_commit:.1} ({bytes_per_commit} bytes)"));
    line("disk: one append of that size + fdatasync", format!("{} (p99 {})", micros(limit.median), micros(limit.p99)));
    // The raw limit pays for every group commit of the run, those of the verdicts too.
    let raw = pushed.punches as f64 / (limit.each.as_secs_f64() * work.commits.max(1) as f64);
    line("disk limit for the same commits", format!("{raw:.0} punches/s"));
    line("of the disk limit", format!("{:.2}", pushed.per_second() / raw));
    Ok(gateway)
}

async fn disk_limit(bytes: usize, times: usize, rest: Duration) -> Outcome<DiskLimit> {
    let dir = std::env::temp_dir();
    Ok(tokio::task::spawn_blocking(move || disk::measure(&dir, bytes, times, rest)).await??)
}

/// About this many punches by all terminals, up to now.
fn load(options: &Options, gateway: &GatewayProcess, punches: usize) -> Load {
    let records_per_terminal = punches.div_ceil(options.terminals);
    Load {
        to: Receiver::Gateway,
        address: gateway.mqtt_address(),
        serials: load::serials(options.terminals),
        workers: Arc::from(InventedSite::new(WORKERS, TEAMS).workers),
        records_per_terminal,
        rounds_before_now: (records_per_terminal * options.terminals).div_ceil(WORKERS),
        pace: None,
    }
}

/// Start and memory with a long ledger.
async fn large_gateway(mut gateway: GatewayProcess) {
    let punches = Counted::of(&gateway).await.punches;
    tokio::time::sleep(SETTLE).await;
    println!("\ngateway with {punches} punches");
    line("memory, right after the intake", mebibytes(gateway.vitals().rss_kib));
    tokio::time::sleep(VIEW_RESTS).await;
    line("memory, when the view has had its rest", mebibytes(gateway.vitals().rss_kib));
    line("memory, at its highest", mebibytes(gateway.vitals().peak_rss_kib));
    gateway.terminate().await;
    gateway.start_again().await;
    line("start to first healthy answer, after SIGTERM", seconds(gateway.start_took()));
    gateway.kill9();
    gateway.start_again().await;
    line("start to first healthy answer, after SIGKILL", seconds(gateway.start_took()));
    tokio::time::sleep(VIEW_RESTS).await;
    line("memory, idle after the start", mebibytes(gateway.vitals().rss_kib));
    gateway.terminate().await;
}

/// A gateway whose platform knows every worker, and the load that is to be measured.
struct Registered {
    gateway: GatewayProcess,
    platform: ReferencePlatform,
    load: Load,
    /// Punches that the platform has already.
    registered: u64,
}

/// One earlier punch of each worker, so that everybody is registered before the measured punches come.
async fn register(
    options: &Options,
    site: &InventedSite,
    rules: &Rules,
    keys: &str,
    punches: usize,
) -> Outcome<Registered> {
    let platform = ReferencePlatform::start(rules.clone()).await?;
    let setup = terminals(Setup::new("bench-platform").employers(&site.employers), options)
        .project_code(&rules.project_code)
        .platform("bench", &platform.endpoint(), &rules.appid, &rules.secret, keys);
    let gateway = setup.start().await;
    gateway.import_roster(&site.csv()).await;
    let load = load(options, &gateway, punches);
    let mut first = load.clone();
    first.serials.truncate(1);
    (first.records_per_terminal, first.rounds_before_now) = (WORKERS, load.rounds_before_now + 10);
    let registered = first.push().await.punches as u64;
    confirmed(&gateway, registered).await;
    Ok(Registered { gateway, platform, load, registered })
}

/// From MQTT to the platform's receipt, to a platform without a rate rule that works at once.
async fn receipts(options: &Options) -> Outcome<()> {
    let site = InventedSite::new(WORKERS, TEAMS);
    let rules = Rules {
        general_contractor: site.employers[0].credit_code.clone(),
        min_interval: Duration::ZERO,
        job_delay: Duration::ZERO,
        complete_workers: false,
        ..Rules::default()
    };
    let Registered { mut gateway, platform, load, registered } =
        register(options, &site, &rules, WITHOUT_WAITS, options.receipts).await?;
    let (clock, before) = (Clock::system(), gateway.vitals());
    let began = clock.instant();
    let pushed = load.push().await;
    confirmed(&gateway, registered + pushed.punches as u64).await;
    let took = clock.instant() - began;
    println!("\nMQTT to receipt: {} punches, a platform without a rate rule", pushed.punches);
    line("acknowledged", format!("{:.0} punches/s", pushed.per_second()));
    line("receipts", format!("{:.0} punches/s", pushed.punches as f64 / took.as_secs_f64()));
    line("processor time per punch", micros((gateway.vitals().cpu - before.cpu) / pushed.punches as u32));
    let book = platform.book();
    line("in the platform's book", format!("{}, {} of them twice", book.attendance.len(), book.copies()));
    line("requests, of them against the rules", format!("{}, {}", book.requests, book.violations.len()));
    gateway.terminate().await;
    platform.stop().await;
    Ok(())
}

/// A backlog to a platform that takes one call of a kind a second, as the national one does; in the short form ten.
async fn backlog(options: &Options) -> Outcome<()> {
    let site = InventedSite::new(WORKERS, TEAMS);
    let rules = Rules {
        general_contractor: site.employers[0].credit_code.clone(),
        min_interval: Duration::from_millis(if options.short { 100 } else { 1_000 }),
        job_delay: Duration::ZERO,
        complete_workers: false,
        ..Rules::default()
    };
    let keys = format!("min_interval_ms = {}\nmissing_worker_fields = \"send\"\n", rules.min_interval.as_millis());
    let punches = if options.short { 100 } else { 800 };
    let Registered { mut gateway, platform, load, registered } =
        register(options, &site, &rules, &keys, punches).await?;
    let waiting = load.push().await.punches as u64;

    // The first receipts come when everything is under way.
    let clock = Clock::system();
    confirmed(&gateway, registered + 1).await;
    let (began, before) = (clock.instant(), confirmed_now(&gateway).await);
    confirmed(&gateway, registered + waiting).await;
    let per_second = (registered + waiting - before) as f64 / (clock.instant() - began).as_secs_f64();
    let allowed = MOHURD_BATCH / rules.min_interval.as_secs_f64();
    println!("\nbacklog: {waiting} punches, a platform that takes a call every {}", seconds(rules.min_interval));
    line("receipts", format!("{per_second:.1} punches/s"));
    line("of what its rule allows", format!("{:.2}", per_second / allowed));
    line("requests against the rules", format!("{}", platform.book().violations.len()));
    gateway.terminate().await;
    platform.stop().await;
    Ok(())
}

/// Punches that the national platform takes in one call.
const MOHURD_BATCH: f64 = 20.0;

/// Keys of the platform's section: no rate rule, and nothing waits to become a full batch.
const WITHOUT_WAITS: &str =
    "min_interval_ms = 0\npoll_interval_ms = 5\nbatch_wait_s = 0\nmissing_worker_fields = \"send\"\n";

/// Waits until the platform has confirmed this many punches.
async fn confirmed(gateway: &GatewayProcess, wanted: u64) {
    let clock = Clock::system();
    let began = clock.instant();
    loop {
        let confirmed = confirmed_now(gateway).await;
        if confirmed >= wanted {
            return;
        }
        let waited = clock.instant() - began;
        assert!(waited < BACKLOG_LIMIT, "the platform confirmed {confirmed} of {wanted}\n{}", gateway.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn confirmed_now(gateway: &GatewayProcess) -> u64 {
    let (_, text) = gateway.get("/metrics").await;
    metric(&text, "anxin_outbox_confirmed{platform=\"bench\"}")
}

/// The gateway's own counters at one moment.
struct Counted {
    facts: u64,
    commits: u64,
    ledger_bytes: u64,
    view_bytes: u64,
    punches: u64,
    unjudged: u64,
    vitals: Vitals,
}

impl Counted {
    async fn of(gateway: &GatewayProcess) -> Counted {
        let (status, text) = gateway.get("/metrics").await;
        assert!(status.is_success(), "/metrics: {status}");
        let state = |state: &str| metric(&text, &format!("anxin_ledger_punches{{state=\"{state}\"}}"));
        Counted {
            facts: metric(&text, "anxin_store_facts_total"),
            commits: metric(&text, "anxin_store_commits_total"),
            ledger_bytes: metric(&text, "anxin_store_ledger_bytes_total"),
            view_bytes: metric(&text, "anxin_store_view_bytes_total"),
            punches: ["unjudged", "verified", "held", "rejected"].iter().map(|name| state(name)).sum(),
            unjudged: state("unjudged"),
            vitals: gateway.vitals(),
        }
    }

    fn since(&self, earlier: &Counted) -> Counted {
        Counted {
            facts: self.facts - earlier.facts,
            commits: self.commits - earlier.commits,
            ledger_bytes: self.ledger_bytes - earlier.ledger_bytes,
            view_bytes: self.view_bytes - earlier.view_bytes,
            punches: self.punches - earlier.punches,
            ..*self
        }
    }
}

fn metric(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    value.unwrap_or_else(|| panic!("/metrics has no {name}")) as u64
}

async fn wait_until_judged(gateway: &GatewayProcess) {
    let clock = Clock::system();
    let began = clock.instant();
    while Counted::of(gateway).await.unjudged > 0 {
        assert!(clock.instant() - began < BACKLOG_LIMIT, "punches are still without a verdict");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn report_latencies(pushed: &Pushed) {
    line("acknowledged", format!("{:.0} punches/s", pushed.per_second()));
    let at = |percent| percentile(&pushed.latencies, percent);
    line("push to acknowledgement", spread(at(50), at(99)));
}

fn report_cost(before: &Vitals, acknowledged: &Vitals, judged: &Vitals, punches: usize) {
    let per_punch = |vitals: &Vitals| (vitals.cpu - before.cpu) / punches as u32;
    let text =
        format!("{} until acknowledged, {} until judged", micros(per_punch(acknowledged)), micros(per_punch(judged)));
    line("processor time per punch", text);
    let written = (judged.written_bytes - before.written_bytes) / punches as u64;
    line("bytes written per punch", format!("{written}"));
}

fn line(what: &str, figure: String) {
    println!("  {what:<46} {figure}");
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn spread(median: Duration, p99: Duration) -> String {
    format!("median {}, p99 {}", micros(median), micros(p99))
}

fn micros(duration: Duration) -> String {
    format!("{} µs", duration.as_micros())
}

fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
