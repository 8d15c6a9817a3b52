//! The longer story: swipe after swipe over a bad wire, while the reader loses its power and the gateway is killed, and
//! once while the gateway stays away until the journal is full. What showed the stored signal is on the platform once;
//! what found no room is counted as a gap.
//!
//! A short form runs with the tests. `ANXIN_SWIPES`, `ANXIN_CUTS` and `ANXIN_KILLS` tell more of it; the long form is
//! `ANXIN_SWIPES=2000 ANXIN_CUTS=50 ANXIN_KILLS=20 cargo nextest run -p tests --test emulator cuts --no-capture`.

use std::collections::BTreeMap;
use std::time::Duration;

use ::gateway::clock::Clock;
use harness::emulator::{Line, NoisyWire};
use harness::faults::Faults;
use harness::reader::WireFaults;
use serde_json::Value;

use crate::emulated_image;
use crate::site::{Gate, PATIENCE};

/// Longer than a reader remembers a swipe: no signal comes later.
const SIGNAL_LIFE: Duration = Duration::from_secs(11);
/// Cards that nobody on the roster has, more than the journal of 122 pages of 63 holds.
const FLOOD: u32 = 8_000;
const FIRST_OF_FLOOD: u32 = 0xF10_0000;
/// The journal is read at some 500 punches a second.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Tally {
    swiped: usize,
    stored: Vec<usize>,
    power_cuts: usize,
    gateway_kills: usize,
}

/// What happens at which swipe.
struct Plan {
    swipes: usize,
    cuts: Vec<usize>,
    kills: Vec<usize>,
}

impl Plan {
    fn from_env() -> Plan {
        let number = |name, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
        let swipes = number("ANXIN_SWIPES", 24);
        // Spread over the story, never at the same swipe.
        let spread = |count: usize, shift: usize| (0..count).map(|index| (index * swipes + shift) / count).collect();
        let (cuts, kills) = (number("ANXIN_CUTS", 2), number("ANXIN_KILLS", 1));
        Plan { swipes, cuts: spread(cuts, swipes / 2), kills: spread(kills, swipes / 3) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_showed_stored_is_on_the_platform_once_over_power_cuts_and_kills() {
    let Some(image) = emulated_image() else { return };
    let plan = Plan::from_env();
    let mut faults = Faults::from_env("emulated cuts", 475);
    let mut gate = Gate::start(&image, plan.swipes, Line::Socket, "port").await;
    let wire = WireFaults { faults: faults.fork("wire"), damaged: 0.05, lost: 0.05 };
    let wire = NoisyWire::start(&gate.dir.path().join("port"), &gate.dir.path().join("line"), wire).unwrap();
    gate.reader.power_up();

    let tally = live(&mut gate, &plan, &mut faults).await;
    println!(
        "{} swipes, {} showed stored, {} power cuts, {} kills of the gateway",
        tally.swiped,
        tally.stored.len(),
        tally.power_cuts,
        tally.gateway_kills
    );
    assert!(tally.stored.len() * 2 > tally.swiped, "{tally:?}");
    // Every lost frame costs a timeout, and there are thousands to fetch.
    wire.set_noise(0.005);
    overflow(&mut gate).await;
    judge(&gate, &tally).await;
    count_drops(&mut gate).await;
}

/// Every worker swipes once. A cut or kill comes at a random moment of its swipe.
async fn live(gate: &mut Gate, plan: &Plan, faults: &mut Faults) -> Tally {
    let mut tally = Tally::default();
    for swipe in 0..plan.swipes {
        gate.reader.saw_stored();
        gate.reader.swipe(gate.roster.workers[swipe].badge);
        tally.swiped += 1;
        if plan.cuts.contains(&swipe) {
            tokio::time::sleep(Duration::from_millis(faults.pick(0..60))).await;
            gate.reader.power_cut();
            tally.power_cuts += 1;
            gate.reader.power_up();
            // Whoever stood there has seen nothing.
            continue;
        }
        if plan.kills.contains(&swipe) {
            tokio::time::sleep(Duration::from_millis(faults.pick(0..60))).await;
            gate.gateway.kill9();
            tally.gateway_kills += 1;
            gate.gateway.start_again().await;
        }
        match gate.shows_stored(SIGNAL_LIFE).await {
            true => tally.stored.push(swipe),
            false => println!("swipe {swipe} was not shown as stored in time"),
        }
        if tally.swiped.is_multiple_of(100) {
            println!("{} swipes, {} showed stored", tally.swiped, tally.stored.len());
        }
    }
    tally
}

/// The gateway is away until the journal is full and more; the power goes too. Then all is well again.
async fn overflow(gate: &mut Gate) {
    let fill_is =
        |wanted: fn(u64) -> bool| move |terminals: &Value| fill(terminals).is_some_and(|(punches, _)| wanted(punches));
    gate.gateway.wait_for("terminals", PATIENCE, fill_is(|punches| punches == 0)).await;
    gate.gateway.kill9();
    gate.reader.swipe_all(FIRST_OF_FLOOD..FIRST_OF_FLOOD + FLOOD);
    let clock = Clock::system();
    let began = clock.instant();
    let mut before = Vec::new();
    // Nothing more is written when the last card is through: each one is kept or counted.
    while before != gate.reader.flash() {
        assert!(clock.instant() - began < DRAIN_LIMIT, "the flood does not end");
        before = gate.reader.flash();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("{FLOOD} more swipes without a gateway in {:?}", clock.instant() - began);
    gate.reader.power_cut();
    gate.reader.power_up();
    gate.gateway.start_again().await;
    let is_empty = |terminals: &Value| fill(terminals).is_some_and(|(punches, _)| punches == 0);
    let terminals = gate.gateway.wait_for("terminals", DRAIN_LIMIT, is_empty).await;
    println!("the journal is empty again after {:?}: {:?}", clock.instant() - began, fill(&terminals));
}

/// Punches in the reader's journal and drops, as the gateway's list of terminals shows them.
fn fill(terminals: &Value) -> Option<(u64, u64)> {
    let health = &terminals["terminals"][0]["health"];
    let punches = health["journal"].as_str()?.split(' ').next()?.parse().ok()?;
    Some((punches, health["dropped"].as_str()?.parse().ok()?))
}

async fn judge(gate: &Gate, tally: &Tally) {
    let wanted: Vec<&str> = tally.stored.iter().map(|swipe| gate.roster.workers[*swipe].id_number.as_str()).collect();
    // The platform takes a team's workers and punches in batches with a pause between.
    let limit = PATIENCE + Duration::from_millis(200) * tally.swiped as u32;
    gate.booked_within(limit, "what was stored", |book| {
        let booked: std::collections::BTreeSet<&str> =
            book.attendance.iter().map(|punch| punch.id_number.as_str()).collect();
        wanted.iter().all(|worker| booked.contains(worker))
    })
    .await;
    let book = gate.platform.book();
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for punch in &book.attendance {
        *times.entry(punch.id_number.as_str()).or_default() += punch.times;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}");
    // A swipe that was cut may be there without having been shown; more than were swiped cannot.
    assert!(times.len() <= tally.swiped && times.len() >= tally.stored.len());
    println!("{} on the platform, once each", times.len());
}

/// Each card of the flood is a punch in the ledger, once, or counted in a gap.
async fn count_drops(gate: &mut Gate) {
    gate.gateway.terminate().await;
    let data = gate.gateway.data_dir();
    let exported = gate.gateway.command(&["ledger", "export", "--data", data.to_str().unwrap()]).await;
    assert!(exported.status.success());
    let lines = String::from_utf8_lossy(&exported.stdout).into_owned();
    let facts: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut flood: Vec<u64> = facts
        .iter()
        .filter(|line| line["kind"] == "punch")
        .filter_map(|line| line["fact"]["credentials"][0]["Badge"].as_u64())
        .filter(|badge| (u64::from(FIRST_OF_FLOOD)..u64::from(FIRST_OF_FLOOD + FLOOD)).contains(badge))
        .collect();
    let kept = flood.len() as u64;
    flood.sort_unstable();
    flood.dedup();
    assert_eq!(flood.len() as u64, kept, "a swipe without a gateway is there twice");
    let gaps: Vec<&Value> = facts.iter().filter(|line| line["kind"] == "gap").map(|line| &line["fact"]).collect();
    assert!(gaps.iter().all(|gap| gap["kind"] == "JournalFull"), "{gaps:?}");
    let dropped: u64 = gaps.iter().filter_map(|gap| gap["count"].as_u64()).sum();
    println!("{kept} of {FLOOD} swipes without a gateway are in the ledger, {dropped} are counted as gaps");
    assert!(dropped > 0 && kept + dropped == u64::from(FLOOD), "{kept} kept and {dropped} dropped of {FLOOD}");
}
