//! `cargo demo`: a site to look at. Starts the real gateway as a process and around it, in this process, readers on a
//! serial line, face terminals over MQTT and the reference platform; workers come and go until Ctrl-C.
//!
//! What a gateway, a terminal or a platform remembers is in one directory, so that the next start goes on where this one
//! was. Whichever way this process ends, the gateway ends too.

mod become_gateway;
mod people;
mod place;
mod site;
mod trouble;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use harness::faults::Faults;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::people::People;
use self::place::Place;
use self::site::Site;
use self::trouble::Trouble;

/// Between two lines about how things stand.
const REPORT_EVERY: Duration = Duration::from_secs(30);
/// For what still runs when everything has been stopped.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// A real gateway with simulated gates and a reference platform · 真实网关、模拟闸机与参考平台
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// Port of the console · 控制台端口
    #[arg(long, default_value_t = 8080)]
    console_port: u16,
    /// Port of the MQTT endpoint · MQTT 端口
    #[arg(long, default_value_t = 1883)]
    mqtt_port: u16,
    /// How many workers come and go · 工人数
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(10..=400))]
    workers: u16,
    /// Where everything is kept; `demo` in the target directory if not given · 数据目录
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Forget what earlier starts have left there · 清空数据，重新开始
    #[arg(long)]
    fresh: bool,
    #[command(subcommand)]
    order: Option<Order>,
}

#[derive(Subcommand)]
enum Order {
    /// Becomes the gateway; for the demo itself.
    #[command(name = become_gateway::ORDER, hide = true)]
    BecomeGateway { parent: u32, program: PathBuf, arguments: Vec<OsString> },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match outcome(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            words::complain(&format!("{trouble:#}"));
            ExitCode::FAILURE
        }
    }
}

fn outcome(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Order::BecomeGateway { parent, program, arguments }) = arguments.order {
        return Err(become_gateway::exec(parent, &program, &arguments)).context(program.display().to_string());
    }
    // The gateway is started from this thread, which lives as long as the process: see `become_gateway`.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(run(&arguments));
    runtime.shutdown_timeout(LAST_WAIT);
    outcome
}

/// Until a signal says stop, or something goes wrong.
async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let dir = arguments.dir.clone().map_or_else(place::usual_dir, Ok)?;
    let place = Place::open(&dir, arguments.console_port, arguments.mqtt_port, arguments.fresh)?;
    words::starting();
    let site = tokio::select! {
        site = Site::start(&place, usize::from(arguments.workers)) => site?,
        () = signals.next() => return Ok(()),
    };
    words::welcome(&place, &site);
    let mut site = site;
    let outcome = tokio::select! {
        outcome = live(&mut site, &place) => outcome,
        () = signals.next() => Ok(()),
    };
    words::stopping();
    let stopped = tokio::select! {
        stopped = site.stop() => stopped,
        () = signals.next() => Ok(()),
    };
    words::stopped(&place);
    Ok(outcome.and(stopped)?)
}

/// Workers come and go. Returns only when something went wrong.
async fn live(site: &mut Site, place: &Place) -> Result<(), Trouble> {
    let count = site.roster().workers.len();
    let mut people = People::gather(&place.people_file(), count, Faults::new(rand::random()))?;
    let mut report = tokio::time::interval(REPORT_EVERY);
    report.reset_after(REPORT_EVERY / 2);
    loop {
        tokio::select! {
            () = tokio::time::sleep(people.pause()) => {
                if let Some(act) = people.act(site.now())? {
                    site.perform(act).await;
                }
            }
            _ = report.tick() => words::report(&site.standing().await?),
        }
        site.check()?;
    }
}

/// The orders to stop: Ctrl-C, a service manager's, and the end of the terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
