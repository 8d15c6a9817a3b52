//! The emulated reader while the gateway is away: it opens for who is registered, shows who is not, keeps every swipe.

use std::time::Duration;

use harness::emulator::Line;
use reqwest::Method;

use crate::emulated_image;
use crate::site::{Gate, PATIENCE};

/// Longer than a reader waits before it takes the gateway for away.
const AWAY: Duration = Duration::from_millis(4_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_alone_opens_for_the_registered_and_shows_leavers_and_strangers_as_unknown() {
    let Some(image) = emulated_image() else { return };
    let mut gate = Gate::start(&image, 4, Line::Pty, "line").await;
    gate.reader.power_up();
    let has_list = |fingerprints: &'static str| {
        move |answer: &serde_json::Value| answer["terminals"][0]["health"]["allow list"] == fingerprints
    };
    gate.gateway.wait_for("terminals", PATIENCE, has_list("8 fingerprints")).await;

    // One worker leaves: the reader hears of it.
    let left = gate.roster.workers[3].clone();
    let path = format!("workers/{}", left.worker_id);
    let change = ("application/json", r#"{"left_on":"2026-06-01"}"#.to_owned());
    let (status, text) = gate.gateway.ask(Method::PATCH, &path, Some(change)).await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    gate.gateway.wait_for("terminals", PATIENCE, has_list("6 fingerprints")).await;

    gate.gateway.kill9();
    // The list is in flash: it outlives the reader's power too.
    gate.reader.power_cut();
    gate.reader.power_up();
    tokio::time::sleep(AWAY).await;
    let registered = gate.roster.workers[0].clone();
    gate.reader.swipe(registered.badge);
    assert!(
        gate.shows(PATIENCE, |lamps| lamps.relay && lamps.red == lamps.green).await,
        "it stays shut for who is registered, or shows green alone, which is for what is durable"
    );
    assert!(gate.shows(PATIENCE, |lamps| !lamps.relay).await);
    for badge in [left.badge, 0x00BA_D6E0] {
        gate.reader.swipe(badge);
        assert!(gate.shows(PATIENCE, |lamps| lamps.red).await, "{badge:08x} is not shown as unknown");
        assert!(!gate.reader.lamps().relay, "it opens for {badge:08x}");
    }

    gate.gateway.start_again().await;
    gate.booked("the swipe while the gateway was away", |book| {
        book.attendance.iter().any(|punch| punch.id_number == registered.id_number)
    })
    .await;
    let list = gate.gateway.wait_for("punches?terminal=south-in", PATIENCE, |answer| {
        answer["punches"].as_array().is_some_and(|punches| punches.len() == 3)
    });
    list.await;
}
