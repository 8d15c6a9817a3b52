//! What the store keeps when the power goes: `cargo run --release -p tests --bin powerfail`.
//!
//! Records the file operations of the real store under three workloads, rebuilds the disk images that a cut could have
//! left, opens each with the gateway's own code and compares it with what was promised until then. Two further campaigns
//! kill the store and damage its directory. Controls that must fail prove that the harness can see. Prints a table; the
//! exit code is 1 when a promise was broken or a control was not red. A run is repeated with its seed except for the
//! order in which threads happen to run; what fails is kept and can be judged again.

mod courier;
mod cuts;
mod damage;
mod disk;
mod expected;
mod facts;
mod flips;
mod frames;
mod image;
mod judge;
mod kills;
mod marks;
mod panel;
mod portrait;
mod powercut;
mod recorder;
mod strace;
mod trace;
mod trials;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use harness::faults::Faults;
use rand::seq::SliceRandom;

use self::powercut::{Before, Recorded, record};
use self::trials::{Tally, Trials};
use self::workload::{Kind, Workload};

/// Images of a control at most; a tenth of all.
const CONTROL: usize = 60;
/// Only a cut between an early acknowledgement and its sync shows it.
const MOST_EARLY: usize = 600;
/// Directories that a cut has left and that are cut again while they are opened, of each of the first two workloads.
const SECOND_CUTS: usize = 2;

/// Puts the store on trial after power cuts, kills and damage.
#[derive(Parser)]
struct Arguments {
    /// Distinct images of power cuts, over all workloads; 0 leaves them out.
    #[arg(long, default_value_t = 5_100)]
    images: usize,
    /// Lives that end with a kill.
    #[arg(long, default_value_t = 500)]
    kills: usize,
    /// Directories that are damaged.
    #[arg(long, default_value_t = 1_000)]
    flips: usize,
    /// Punches of one recorded life.
    #[arg(long, default_value_t = 300)]
    punches: u32,
    /// Where chance begins.
    #[arg(long)]
    seed: Option<u64>,
    /// Where to work; a disk in memory is the fastest. The system's directory for temporary files if not given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where failing images are kept; `powerfail-failed` in the target directory if not given.
    #[arg(long)]
    keep: Option<PathBuf>,
    #[command(subcommand)]
    order: Option<Order>,
}

#[derive(Subcommand)]
enum Order {
    /// Judges an image that was kept.
    Again { place: PathBuf },
    /// Lives a workload; for the campaigns themselves.
    #[command(hide = true)]
    Workload(Workload),
    /// Judges directories; for the campaigns themselves.
    #[command(name = panel::ORDER, hide = true)]
    Judge,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.order {
        Some(Order::Workload(workload)) => workload.run()?,
        Some(Order::Judge) => panel::serve()?,
        Some(Order::Again { place }) => {
            let scratch = arguments.scratch()?;
            let verdict = Trials::new(scratch.path(), place).again(place)?;
            return Ok(ExitCode::from(u8::from(!verdict.faults.is_empty())));
        }
        None => return campaigns(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn campaigns(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(reason) = strace::unavailable().filter(|_| arguments.images > 0) {
        println!("SKIP: {reason}");
        return Ok(ExitCode::SUCCESS);
    }
    let faults = match arguments.seed {
        Some(seed) => Faults::new(seed),
        None => Faults::from_env("powerfail", 1),
    };
    if let Some(seed) = arguments.seed {
        println!("powerfail: seed {seed}");
    }
    let scratch = arguments.scratch()?;
    let keep = arguments.keep.clone().unwrap_or_else(|| PathBuf::from("target/powerfail-failed"));
    let mut trials = Trials::new(scratch.path(), &keep);
    let mut tallies = Vec::new();
    if arguments.images > 0 {
        power_cuts(arguments, &mut trials, &faults, &mut tallies).context("power cuts")?;
    }
    if arguments.kills > 0 {
        let tally = kills::campaign(&mut trials, arguments.kills, &mut faults.fork("kills")).context("kills")?;
        finish(tally, &mut tallies);
    }
    if arguments.flips > 0 {
        let mut faults = faults.fork("damage");
        let tally = flips::campaign(&mut trials, arguments.flips, arguments.punches, &mut faults).context("damage")?;
        finish(tally, &mut tallies);
    }
    println!("\n{}", Tally::head());
    tallies.iter().for_each(|tally| println!("{}", tally.row()));
    Ok(ExitCode::from(u8::from(!tallies.iter().all(Tally::is_good))))
}

/// Says at once what a campaign has found; the next one may take an hour.
fn finish(tally: Tally, tallies: &mut Vec<Tally>) {
    println!("{}", tally.row());
    tallies.push(tally);
}

fn power_cuts(
    arguments: &Arguments,
    trials: &mut Trials,
    faults: &Faults,
    tallies: &mut Vec<Tally>,
) -> anyhow::Result<()> {
    let of_one = arguments.images.div_ceil(3);
    let scratch = trials.scratch.clone();
    let begin = |kind: Kind, before: Before, round: u32, faults: &mut Faults| {
        let place = scratch.join(format!("{}-{round}", kind.name()));
        let recorded = record(kind, before, arguments.punches, &place, faults)?;
        println!("{}", recorded.describe());
        Ok::<Recorded, std::io::Error>(recorded)
    };
    let mut cut = Vec::new();
    for kind in [Kind::Steady, Kind::Churn] {
        let (mut tally, mut faults) = (trials.tally(kind.name()), faults.fork(kind.name()));
        let recorded = begin(kind, Before::Nothing, 0, &mut faults)?;
        recorded.cuts().run(trials, &mut tally, &mut faults, |tally| tally.distinct >= of_one)?;
        if kind == Kind::Steady {
            let images = (arguments.images / 10).clamp(1, CONTROL);
            tallies.extend(controls(&recorded, images, trials, &mut faults)?);
        }
        for _ in 0..SECOND_CUTS {
            cut.push(recorded.cut_once(&mut faults)?);
        }
        finish(tally, tallies);
    }
    let (mut tally, mut faults) = (trials.tally(Kind::Salvage.name()), faults.fork("salvage"));
    let mut rounds: Vec<Before> = (0..damage::PLANS).map(Before::Damage).chain(cut).collect();
    rounds.shuffle(faults.rng());
    // A few images of each are worth a recording.
    rounds.truncate((of_one / 4).max(1));
    let of_round = of_one.div_ceil(rounds.len());
    for (round, before) in rounds.into_iter().enumerate() {
        let recorded = begin(Kind::Salvage, before, round as u32, &mut faults)?;
        let wanted = of_round * (round + 1);
        recorded.cuts().run(trials, &mut tally, &mut faults, |tally| tally.distinct >= wanted)?;
    }
    finish(tally, tallies);
    Ok(())
}

/// What must be red.
fn controls(
    recorded: &Recorded,
    images: usize,
    trials: &mut Trials,
    faults: &mut Faults,
) -> anyhow::Result<[Tally; 2]> {
    let mut early = trials.control("control: acknowledges early");
    let enough = |tally: &Tally| tally.failed >= 3 || tally.runs >= MOST_EARLY;
    recorded.early_acknowledgements()?.run(trials, &mut early, faults, enough)?;
    let mut forged = trials.control("control: no checksum");
    recorded.forged().run(trials, &mut forged, faults, |tally| tally.runs >= images)?;
    Ok([early, forged])
}

impl Arguments {
    fn scratch(&self) -> anyhow::Result<tempfile::TempDir> {
        let dir = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        tempfile::Builder::new().prefix("powerfail-").tempdir_in(&dir).with_context(|| dir.display().to_string())
    }
}
