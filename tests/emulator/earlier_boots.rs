//! When was it, if the power has gone since? A punch of an earlier boot is dated as closely as anybody can know, and says
//! how closely; one that nobody can date says so and is held for the office.

use ::gateway::clock::Clock;
use harness::emulator::Line;
use serde_json::Value;

use crate::emulated_image;
use crate::site::{Gate, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_punch_from_before_a_power_cut_is_dated_within_its_bound_or_held_as_undatable() {
    let Some(image) = emulated_image() else { return };
    let clock = Clock::system();
    let mut gate = Gate::start(&image, 3, Line::Pty, "line").await;
    gate.reader.power_up();
    // The first boot is greeted, told the time and asked why it began.
    let terminals =
        gate.gateway.wait_for("terminals", PATIENCE, |answer| answer.to_string().contains("started by")).await;
    assert_eq!(terminals["terminals"][0]["health"]["started by"], "power on");
    gate.gateway.kill9();

    // Told the time, then alone.
    let told = gate.roster.workers[0].clone();
    let before = clock.now();
    swiped(&mut gate, told.badge).await;
    let after = clock.now();
    gate.reader.power_cut();
    // Alone from the start to the end.
    gate.reader.power_up();
    let alone = gate.roster.workers[1].clone();
    swiped(&mut gate, alone.badge).await;
    let alone_before = clock.now();
    gate.reader.power_cut();

    gate.reader.power_up();
    gate.gateway.start_again().await;
    let has_both = |answer: &Value| {
        let punches = answer["punches"].as_array().unwrap();
        punches.len() == 2 && punches.iter().all(|punch| !punch["verdict"].is_null())
    };
    let list = gate.gateway.wait_for("punches", PATIENCE, has_both).await;
    let story = async |worker: &str| {
        let punch = list["punches"].as_array().unwrap().iter().find(|punch| punch["worker_id"] == worker).unwrap();
        gate.gateway.get_json(&format!("punches/{}", punch["id"].as_str().unwrap())).await
    };

    let punch = story(&told.worker_id).await;
    let (time, bound) = dated(&punch);
    println!("told the time: {:+} ms, said to be within {bound} ms", time - before.0);
    assert!(bound <= 60_000, "{punch:#}");
    assert!(time >= before.0 - bound && time <= after.0 + bound, "{time} ± {bound}, swiped {before:?} to {after:?}");
    assert_eq!(punch["verdict"]["kind"], "verified");

    let punch = story(&alone.worker_id).await;
    let (time, bound) = dated(&punch);
    assert_eq!(bound, i64::from(u32::MAX), "nobody can know when: {punch:#}");
    assert!(time >= alone_before.0, "the latest it can have been");
    assert_eq!((&punch["verdict"]["kind"], &punch["verdict"]["reason"]), (&"held".into(), &"clock-suspect".into()));
}

/// Until the reader shows that the swipe is in its flash; it writes other things there too.
async fn swiped(gate: &mut Gate, badge: u32) {
    gate.reader.swipe(badge);
    assert!(gate.shows(PATIENCE, |lamps| lamps.green && lamps.red).await, "not shown as kept");
}

/// Milliseconds since 1970, and the bound.
fn dated(punch: &Value) -> (i64, i64) {
    let time: jiff::Timestamp = punch["time"].as_str().unwrap().parse().unwrap();
    let bound = punch["presented"]["time_source"]["uncertainty_ms"].as_i64().unwrap();
    (time.as_millisecond(), bound)
}
