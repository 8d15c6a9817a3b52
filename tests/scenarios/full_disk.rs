//! The disk is full: terminals are not acknowledged and keep their punches, everybody is told, and intake goes on by
//! itself when there is space. Nothing that was acknowledged is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::disk::SmallDisk;
use harness::face::link::{FaceLink, Login};
use harness::face::{Face, FaceTerminal, Timings};
use harness::gateway::{GatewayProcess, Setup};
use harness::workers::InventedSite;
use serde_json::Value;

/// The gateway looks at the space every few seconds, and waits up to ten before it looks again.
const LIMIT: Duration = Duration::from_secs(40);
/// Everybody is told within this.
const ALARM_WITHIN: Duration = Duration::from_secs(5);
/// In this time a terminal pushes a record that is not acknowledged several times.
const NEVER: Duration = Duration::from_secs(2);
const SERIAL: &str = "1306612";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_acknowledgements_and_space_starts_them_again() {
    let setup = Setup::new("full-disk").face("north-in", SERIAL, "in").employers(&InventedSite::new(1, 1).employers);
    let Some(disk) = SmallDisk::mount(setup.dir().join("data")) else {
        println!("SKIP: this account may not mount a small file system");
        return;
    };
    let mut gateway = setup.start().await;
    // Goes before the directory that it lies in.
    let disk = disk;
    let link = FaceLink::start(FaceTerminal::new(SERIAL, Timings::faster(20)), Login::at(gateway.mqtt_address()));
    for worker in 0..20 {
        link.punch(Face::of(&format!("W{worker:05}")));
    }
    assert!(link.wait_delivered(LIMIT).await);

    disk.fill();
    let alarm = gateway.wait_for("alarms", ALARM_WITHIN, |answer| full(answer).is_some()).await;
    assert_eq!(full(&alarm).expect("there")["severity"], "critical");
    let (status, text) = gateway.get("/healthz").await;
    assert_eq!(status.as_u16(), 503, "{text}");
    let health: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&health["status"], &health["problems"][0]["problem"]), (&"failing".into(), &"store-full".into()));
    for worker in 20..30 {
        link.punch(Face::of(&format!("W{worker:05}")));
    }
    tokio::time::sleep(NEVER).await;
    assert_eq!(link.acknowledged().len(), 20, "something was acknowledged on a full disk");
    assert_eq!(records(&gateway).await.len(), 20);
    let (status, text) = gateway.post_csv("workers/import", &InventedSite::new(1, 1).csv()).await;
    assert_eq!(status.as_u16(), 503, "a roster is not taken either: {text}");
    // The gateway has freed its reserve to say so.
    disk.fill();
    backup_does_not_fit(&gateway).await;

    disk.free();
    assert!(link.wait_delivered(LIMIT).await, "intake does not go on: {:?}", link.acknowledged());
    gateway.wait_for("alarms", LIMIT, |answer| full(answer).is_none()).await;
    assert!(gateway.is_healthy().await);
    let acknowledged: BTreeSet<String> = link.acknowledged().iter().map(u64::to_string).collect();
    assert_eq!(acknowledged.len(), 30);
    gateway.wait_for("punches", LIMIT, |answer| answer["punches"].as_array().is_some_and(|all| all.len() == 30)).await;
    assert_eq!(records(&gateway).await, acknowledged);
    check_ledger(&mut gateway, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_on_a_full_disk_starts_again_and_takes_what_the_terminals_kept() {
    let setup = Setup::new("full-kill").face("north-in", SERIAL, "in");
    let Some(disk) = SmallDisk::mount(setup.dir().join("data")) else {
        println!("SKIP: this account may not mount a small file system");
        return;
    };
    let mut gateway = setup.start().await;
    let disk = disk;
    let link = FaceLink::start(FaceTerminal::new(SERIAL, Timings::faster(20)), Login::at(gateway.mqtt_address()));
    link.punch(Face::of("W00001"));
    assert!(link.wait_delivered(LIMIT).await);
    disk.fill();
    link.punch(Face::of("W00002"));
    gateway.wait_for("alarms", LIMIT, |answer| full(answer).is_some()).await;
    gateway.kill9();
    disk.free();
    gateway.start_again().await;
    assert!(link.wait_delivered(LIMIT).await);
    gateway.wait_for("punches", LIMIT, |answer| answer["punches"].as_array().is_some_and(|all| all.len() == 2)).await;
    check_ledger(&mut gateway, 2).await;
}

/// A backup onto the full disk says so and leaves nothing behind; one beside it is made.
async fn backup_does_not_fit(gateway: &GatewayProcess) {
    let site = gateway.data_dir().parent().expect("the site's directory").to_owned();
    std::fs::write(site.join("phrase"), "correct horse battery staple").expect("the temporary directory takes files");
    let there = gateway.data_dir().join("site.backup");
    let there = there.to_str().expect("a path in UTF-8");
    let failed = gateway.command(&["backup", "--passphrase-file", "phrase", there]).await;
    assert_eq!(failed.status.code(), Some(74), "{failed:?}");
    assert!(String::from_utf8_lossy(&failed.stderr).contains("No space left"), "{failed:?}");
    let left: Vec<_> = std::fs::read_dir(gateway.data_dir()).expect("the data directory").flatten().collect();
    assert!(!left.iter().any(|entry| entry.file_name().to_string_lossy().starts_with("site")), "{left:?}");
    let beside = gateway.command(&["backup", "--passphrase-file", "phrase", "site.backup"]).await;
    assert!(beside.status.success(), "{beside:?}");
}

/// The ledger verifies and holds so many punches.
async fn check_ledger(gateway: &mut GatewayProcess, punches: usize) {
    gateway.terminate().await;
    let data = gateway.data_dir();
    let data = data.to_str().expect("a path in UTF-8");
    let verified = gateway.command(&["ledger", "verify", "--data", data]).await;
    assert!(verified.status.success(), "{verified:?}");
    let exported = gateway.command(&["ledger", "export", "--data", data]).await;
    let lines = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert_eq!(lines.lines().filter(|line| line.contains("\"kind\":\"punch\"")).count(), punches);
    assert!(lines.contains("disk full at"), "the ledger does not say that intake stopped");
}

fn full(answer: &Value) -> Option<&Value> {
    answer["alarms"].as_array()?.iter().find(|alarm| alarm["kind"] == "store-full")
}

async fn records(gateway: &GatewayProcess) -> BTreeSet<String> {
    let answer = gateway.get_json("punches").await;
    let punches = answer["punches"].as_array().expect("a list of punches").iter();
    punches.map(|punch| punch["record"].as_str().expect("a record number").to_owned()).collect()
}
