//! The platform is down, rejects the key, or refuses a punch: intake goes on, everybody is told, and what waited is
//! delivered once when the cause is gone.

use std::time::Duration;

use harness::face::Face;
use harness::site::{Plan, Site};
use harness::workers::{InventedWorker, csv_with_photos};
use reqwest::StatusCode;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
/// How long it takes to believe that a stopped courier asks nothing; it asked several times a second before.
const NEVER: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_was_down_gets_every_punch_of_that_time_once() {
    let site = start("platform-down").await;
    site.gateway.import_roster(&site.roster.csv_with_photos()).await;
    punch(&site, 0);
    confirmed(&site, 1).await;

    site.platform.go_down();
    for worker in 1..10 {
        punch(&site, worker);
    }
    assert!(site.faces[0].wait_delivered(LIMIT).await, "intake does not depend on the platform");
    let alarm = alarm(&site, "platform-down").await;
    assert_eq!(alarm["subject"], "national");
    let platform = platform(&site, |platform| platform["depth"]["open"] == 9).await;
    assert_eq!(platform["state"], "unreachable", "{platform:#}");
    assert!(platform["depth"]["oldest"].is_string(), "{platform:#}");
    assert!(site.gateway.is_healthy().await, "a platform that is away does not make the gateway unhealthy");

    site.platform.come_back();
    confirmed(&site, 10).await;
    no_alarm(&site, "platform-down").await;
    check_book(&site, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_key_stops_the_courier_and_a_retry_on_the_console_starts_it() {
    let site = start("platform-key").await;
    site.gateway.import_roster(&site.roster.csv_with_photos()).await;
    punch(&site, 0);
    confirmed(&site, 1).await;

    site.platform.reject_key(true);
    punch(&site, 1);
    let alarm = alarm(&site, "platform-stopped").await;
    assert_eq!((&alarm["severity"], &alarm["subject"]), (&json!("critical"), &json!("national")));
    platform(&site, |platform| platform["state"] == "stopped").await;
    let before = site.platform.book().requests;
    for worker in 2..6 {
        punch(&site, worker);
    }
    assert!(site.faces[0].wait_delivered(LIMIT).await, "intake goes on");
    platform(&site, |platform| platform["depth"]["open"] == 5).await;
    tokio::time::sleep(NEVER).await;
    assert_eq!(site.platform.book().requests, before, "a stopped courier went on");

    // Without the cause repaired, the retry is one more request, and the courier stops again.
    retry(&site).await;
    let asked_again = |site: &Site| site.platform.book().requests > before;
    let asked = async {
        while !asked_again(&site) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, asked).await.expect("a retry asks the platform");
    platform(&site, |platform| platform["state"] == "stopped").await;

    site.platform.reject_key(false);
    retry(&site).await;
    confirmed(&site, 6).await;
    no_alarm(&site, "platform-stopped").await;
    check_book(&site, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_punch_is_shown_and_goes_again_when_it_is_retried() {
    let site = start("platform-refuses").await;
    site.gateway.import_roster(&site.roster.csv_with_photos()).await;
    entered(&site, 10).await;
    site.platform.refuse(&site.roster.workers[3].id_number, "[{list}][{i}][date]值无效!");
    for worker in 0..6 {
        punch(&site, worker);
    }
    confirmed(&site, 5).await;
    let refused = refused(&site).await;
    assert_eq!(refused["state"], "refused");
    assert_eq!(refused["subject"]["kind"], "punch", "{refused:#}");
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("值无效")), "{refused:#}");
    let path = format!("punches/{}", refused["subject"]["id"].as_str().expect("an id"));
    let story = site.gateway.get_json(&path).await;
    assert_eq!(story["worker_id"], site.roster.workers[3].worker_id.as_str());
    alarm(&site, "platform-refuses").await;

    site.platform.refuse_nobody();
    let (status, text) = retry(&site).await;
    assert!(status.is_success() && text.contains("\"requeued\":1"), "{text}");
    confirmed(&site, 6).await;
    no_alarm(&site, "platform-refuses").await;
    check_book(&site, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whom_the_platform_refuses_goes_again_when_the_roster_is_repaired() {
    let site = start("roster-repaired").await;
    let right = site.roster.workers[0].clone();
    let other = &site.roster.workers[9];
    site.platform.refuse(&other.id_number, "[{list}][{i}][idCardNumber]与姓名不一致!");
    let wrong =
        InventedWorker { id_number: other.id_number.clone(), birth: other.birth, male: other.male, ..right.clone() };
    site.gateway.import_roster(&csv_with_photos(&[wrong])).await;
    punch(&site, 0);
    let refused = refused(&site).await;
    assert_eq!(refused["subject"], json!({"kind": "worker", "worker_id": right.worker_id}));
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("不一致")), "{refused:#}");
    let waiting = |punch: &Value| punch["uploads"][0]["state"] == "waiting";
    site.gateway.wait_for("punches", LIMIT, |answer| waiting(&answer["punches"][0])).await;

    site.gateway.import_roster(&csv_with_photos(&[right])).await;
    confirmed(&site, 1).await;
    no_alarm(&site, "platform-refuses").await;
    check_book(&site, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_needs_a_platform_that_is_configured() {
    let site = start("platform-unknown").await;
    let (status, text) = site.gateway.post_json("uploads/provincial/retry", &Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{text}");
    let (status, text) = retry(&site).await;
    assert!(status.is_success() && text.contains("\"requeued\":0"), "{text}");
}

async fn start(story: &'static str) -> Site {
    Site::start(Plan::new(story)).await.expect("the site starts")
}

/// At the face terminal, going in.
fn punch(site: &Site, worker: usize) {
    site.faces[0].punch(Face::of(&site.roster.workers[worker].worker_id));
}

async fn retry(site: &Site) -> (StatusCode, String) {
    site.gateway.post_json("uploads/national/retry", &Value::Null).await
}

/// Waits until this many punches have a receipt.
async fn confirmed(site: &Site, punches: u64) {
    platform(site, |platform| platform["depth"]["confirmed"] == punches).await;
}

async fn entered(site: &Site, workers: usize) {
    let there = async {
        while site.platform.book().moves.len() < workers {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, there).await.expect("the workers are registered and have entered");
}

async fn platform(site: &Site, wanted: impl Fn(&Value) -> bool) -> Value {
    let answer = site.gateway.wait_for("platforms", LIMIT, |answer| wanted(&answer["platforms"][0])).await;
    answer["platforms"][0].clone()
}

async fn refused(site: &Site) -> Value {
    let one = |answer: &Value| answer["uploads"].as_array().is_some_and(|uploads| uploads.len() == 1);
    let answer = site.gateway.wait_for("uploads?platform=national&state=refused", LIMIT, one).await;
    answer["uploads"][0].clone()
}

async fn alarm(site: &Site, kind: &str) -> Value {
    let answer = site.gateway.wait_for("alarms", LIMIT, |answer| standing(answer, kind).is_some()).await;
    standing(&answer, kind).cloned().expect("it was there a moment ago")
}

async fn no_alarm(site: &Site, kind: &str) {
    site.gateway.wait_for("alarms", LIMIT, |answer| standing(answer, kind).is_none()).await;
}

fn standing<'a>(answer: &'a Value, kind: &str) -> Option<&'a Value> {
    answer["alarms"].as_array()?.iter().find(|alarm| alarm["kind"] == kind)
}

/// The first so many workers, one punch each, nothing twice.
fn check_book(site: &Site, workers: usize) {
    let book = site.platform.book();
    assert_eq!(book.violations, Vec::<String>::new());
    let mut there: Vec<_> = book.attendance.iter().map(|punch| (punch.id_number.as_str(), punch.times)).collect();
    there.sort_unstable();
    let mut expected: Vec<_> =
        site.roster.workers[..workers].iter().map(|worker| (worker.id_number.as_str(), 1)).collect();
    expected.sort_unstable();
    assert_eq!(there, expected);
}
