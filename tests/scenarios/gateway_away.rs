//! Terminals and gateway meet at an external broker, and the gateway is away for a while: the terminals keep what they
//! push, and each record is stored once when it is back. So it is when the broker has forgotten the gateway meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::broker::Mosquitto;
use harness::face::Face;
use harness::site::{Plan, Site};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const FACES: usize = 3;
/// Between two punches.
const PACE: Duration = Duration::from_millis(40);
/// Long enough that every terminal has pushed its record in flight several times.
const AWAY: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_away_loses_nothing_that_its_terminals_went_on_to_record() {
    let Some(mut site) = start("gateway-away").await else { return };
    punch_all(&site, 0..3).await;
    delivered(&site).await;

    site.gateway.terminate().await;
    punch_all(&site, 3..9).await;
    tokio::time::sleep(AWAY).await;
    assert!(site.faces.iter().all(|face| face.acknowledged().len() == 3), "nobody was there to acknowledge");
    site.gateway.start_again().await;
    punch_all(&site, 9..12).await;
    delivered(&site).await;
    check(&site, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_forgot_its_sessions_while_the_gateway_was_away_loses_nothing() {
    let Some(mut site) = start("broker-forgot").await else { return };
    punch_all(&site, 0..3).await;
    delivered(&site).await;

    site.gateway.kill9();
    punch_all(&site, 3..6).await;
    restart_broker(&mut site).await;
    punch_all(&site, 6..9).await;
    site.gateway.start_again().await;
    delivered(&site).await;

    // And under a gateway that is there.
    restart_broker(&mut site).await;
    punch_all(&site, 9..12).await;
    delivered(&site).await;
    check(&site, 12).await;
}

/// `None`, with a word about it, where there is no broker.
async fn start(story: &'static str) -> Option<Site> {
    if !Mosquitto::is_installed() {
        println!("SKIP: mosquitto is not installed (Debian package mosquitto)");
        return None;
    }
    let plan = Plan { faces: FACES, workers: 36, external_broker: true, ..Plan::new(story) };
    let site = Site::start(plan).await.expect("the site starts");
    site.gateway.import_roster(&site.roster.csv_with_photos()).await;
    Some(site)
}

async fn restart_broker(site: &mut Site) {
    site.broker.as_mut().expect("an external broker").restart().await.expect("mosquitto starts again");
}

/// In each round another worker at each terminal.
async fn punch_all(site: &Site, rounds: std::ops::Range<usize>) {
    for round in rounds {
        for (place, face) in site.faces.iter().enumerate() {
            face.punch(Face::of(&worker(site, round, place).worker_id));
        }
        tokio::time::sleep(PACE).await;
    }
}

fn worker(site: &Site, round: usize, place: usize) -> &harness::workers::InventedWorker {
    &site.roster.workers[round * FACES + place]
}

async fn delivered(site: &Site) {
    for face in &site.faces {
        assert!(face.wait_delivered(LIMIT).await, "{:?}", face.acknowledged());
    }
}

/// So many records of each terminal are stored, each once and in order, and have reached the platform once.
async fn check(site: &Site, rounds: usize) {
    assert!(site.faces.iter().all(|face| face.with(|terminal| terminal.lost) == 0), "a terminal without resume");
    let total = rounds * FACES;
    let all = |answer: &Value| {
        let punches = answer["punches"].as_array().expect("a list of punches");
        punches.len() == total && punches.iter().all(|punch| punch["uploads"][0]["state"] == "confirmed")
    };
    site.gateway.wait_for("punches?limit=200", LIMIT, all).await;
    for place in 0..FACES {
        let listed = site.gateway.get_json(&format!("punches?limit=200&terminal=gate-{place}")).await;
        let records: Vec<&str> =
            listed["punches"].as_array().expect("a list").iter().filter_map(|punch| punch["record"].as_str()).collect();
        let expected: Vec<String> = (1..=rounds).map(|record| record.to_string()).collect();
        assert_eq!(records, expected, "gate-{place}");
    }
    let book = site.platform.book();
    assert_eq!((book.violations.clone(), book.copies()), (vec![], 0));
    let there: BTreeSet<&str> = book.attendance.iter().map(|punch| punch.id_number.as_str()).collect();
    let expected: BTreeSet<&str> =
        site.roster.workers[..total].iter().map(|worker| worker.id_number.as_str()).collect();
    assert_eq!(there, expected);
}
