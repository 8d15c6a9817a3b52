//! The longer story: swipe after swipe over a bad wire, while the reader loses its power and the gateway is killed. What
//! showed the stored signal is on the platform once. `ANXIN_SWIPES` tells more of it.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::emulator::{Line, NoisyWire};
use harness::faults::Faults;
use harness::reader::WireFaults;

use crate::emulated_image;
use crate::site::{Gate, PATIENCE};

/// Longer than a reader remembers a swipe: no signal comes later.
const SIGNAL_LIFE: Duration = Duration::from_secs(11);

#[derive(Debug, Default)]
struct Tally {
    swiped: usize,
    stored: Vec<usize>,
    power_cuts: usize,
    gateway_kills: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_showed_stored_is_on_the_platform_once_over_power_cuts_and_kills() {
    let Some(image) = emulated_image() else { return };
    let swipes: usize = std::env::var("ANXIN_SWIPES").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let mut faults = Faults::from_env("emulated cuts", 475);
    let mut gate = Gate::start(&image, swipes, Line::Socket, "port").await;
    let wire = WireFaults { faults: faults.fork("wire"), damaged: 0.05, lost: 0.05 };
    let _wire = NoisyWire::start(&gate.dir.path().join("port"), &gate.dir.path().join("line"), wire).unwrap();
    gate.reader.power_up();

    let tally = live(&mut gate, swipes, &mut faults).await;
    println!(
        "{} swipes, {} showed stored, {} power cuts, {} kills of the gateway",
        tally.swiped,
        tally.stored.len(),
        tally.power_cuts,
        tally.gateway_kills
    );
    assert!(tally.stored.len() * 2 > tally.swiped, "{tally:?}");
    judge(&gate, &tally).await;
}

/// Every worker swipes once. A cut comes at a random moment of a swipe, every fortieth of them on average and at least
/// after each forty.
async fn live(gate: &mut Gate, swipes: usize, faults: &mut Faults) -> Tally {
    let mut tally = Tally::default();
    for swipe in 0..swipes {
        let badge = gate.roster.workers[swipe].badge;
        gate.reader.swipe(badge);
        tally.swiped += 1;
        if swipe % 20 == 10 {
            tokio::time::sleep(Duration::from_millis(faults.pick(0..60))).await;
            gate.reader.power_cut();
            tally.power_cuts += 1;
            gate.reader.power_up();
            // Whoever stood there has seen nothing.
            continue;
        }
        if swipe % 40 == 25 {
            tokio::time::sleep(Duration::from_millis(faults.pick(0..60))).await;
            gate.gateway.kill9();
            tally.gateway_kills += 1;
            gate.gateway.start_again().await;
        }
        if gate.shows(SIGNAL_LIFE, |lamps| lamps.green).await {
            tally.stored.push(swipe);
            // The lamp of this swipe must not be taken for that of the next one.
            assert!(gate.shows(PATIENCE, |lamps| !lamps.green).await);
        }
    }
    tally
}

async fn judge(gate: &Gate, tally: &Tally) {
    let wanted: Vec<&str> = tally.stored.iter().map(|swipe| gate.roster.workers[*swipe].id_number.as_str()).collect();
    gate.booked("what was stored", |book| {
        wanted.iter().all(|worker| book.attendance.iter().any(|punch| punch.id_number == *worker))
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
