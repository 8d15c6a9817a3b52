//! What is acknowledged is there after every kind of stop.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::samples::{punch, verified};
use super::{MORNING, SMALL, append, last_seq, national, open, options};
use crate::clock::Clock;
use crate::punch::*;
use crate::store::ledger::check::verify;
use crate::store::ledger::export::{Format, export};
use crate::store::ledger::segment;
use crate::store::{Store, keyring};

#[tokio::test]
async fn facts_and_view_are_there_again_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..300 {
        append(&store, vec![Fact::Punch(punch(n)), verified(punch(n).id)]).await;
    }
    let last = last_seq(&store);
    store.close().await;

    let store = open(dir.path());
    assert_eq!(last_seq(&store), last);
    let (totals, outbox, page) = store
        .read(|view| {
            (view.totals(), view.outbox(&national(), Seq(0), 1000), view.punches(&Default::default(), None, 1000))
        })
        .await;
    assert_eq!((totals.punches, totals.verified, totals.unjudged), (300, 300, 0));
    assert_eq!(outbox.len(), 300);
    assert_eq!(page.items.len(), 300);
    assert!(page.items.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    store.close().await;
    assert!(verify(&dir.path().join("ledger")).unwrap().is_sound());
}

#[tokio::test]
async fn a_new_month_begins_a_new_segment() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(MORNING);
    let store = Store::open_tuned(options(dir.path()), clock.clone(), SMALL).unwrap();
    for n in 0..6 {
        append(&store, vec![Fact::Punch(punch(n))]).await;
        clock.advance(Duration::from_secs(10 * 86_400));
    }
    store.close().await;
    let ledger = dir.path().join("ledger");
    assert_eq!(segment::list(&ledger).unwrap(), [1, 2], "2, 12 and 22 March; 1, 11 and 21 April");
    assert!(verify(&ledger).unwrap().is_sound());
}

#[tokio::test]
async fn a_store_that_is_only_dropped_can_be_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3 {
        let store = open(dir.path());
        append(&store, vec![Fact::Punch(punch(n))]).await;
    }
    let store = open(dir.path());
    assert_eq!(store.read(|view| view.totals().punches).await, 3);
    store.close().await;
}

/// Says to the child process, which is this test again, where to work.
const CHILD_DIR: &str = "STORE_TEST_KILLED_DIR";
const CHILD_FROM: &str = "STORE_TEST_KILLED_FROM";

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        let from = std::env::var(CHILD_FROM).unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(append_until_killed(Path::new(&dir), from));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..6 {
        acknowledged = append_and_kill(dir.path(), acknowledged, 40 + round * 37);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = open(dir.path());
            let (punches, first, last) = store
                .read(move |view| {
                    let row = |n| view.punch(punch(n).id);
                    (view.totals().punches, row(0), row(acknowledged - 1))
                })
                .await;
            assert!(
                first.is_some() && last.is_some() && punches >= u64::from(acknowledged),
                "{punches} {acknowledged}"
            );
            store.close().await;
        });
        let report = verify(&dir.path().join("ledger")).unwrap();
        assert!(report.is_sound(), "round {round}: {report:?}");
    }
}

/// Runs a child that appends, kills it after so many acknowledgements, and says how many there are in all.
fn append_and_kill(dir: &Path, from: u32, count: u32) -> u32 {
    let name = std::thread::current().name().unwrap().to_owned();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_FROM, from.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let acknowledged = said.filter(|line| line.starts_with("stored ")).take(count as usize).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(acknowledged, count as usize, "the child ended by itself");
    from + count
}

/// Punches after punch, each told when it is acknowledged.
async fn append_until_killed(dir: &Path, from: u32) {
    let store = open(dir);
    for n in from.. {
        store.append(vec![Fact::Punch(punch(n)), verified(punch(n).id)]).await.unwrap();
        println!("stored {n}");
    }
}

#[tokio::test]
async fn an_export_has_every_fact_with_its_place_in_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, vec![Fact::Punch(punch(1)), verified(punch(1).id)]).await;
    let story = store.read(|view| view.story(punch(1).id)).await.unwrap();
    store.close().await;

    let ledger = dir.path().join("ledger");
    let options = options(dir.path());
    let keyring = keyring::file::read_only(&options.dir, &options.key).unwrap();
    let (mut lines, mut table) = (Vec::new(), Vec::new());
    assert_eq!(export(&ledger, &keyring, &mut lines, Format::Jsonl).unwrap(), 2);
    assert_eq!(export(&ledger, &keyring, &mut table, Format::Csv).unwrap(), 2);
    let first: serde_json::Value = serde_json::from_slice(lines.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(first["kind"], "punch");
    assert_eq!(first["hash"], hex::encode(story.place.hash));
    assert_eq!(first["fact"]["id"], punch(1).id.to_string());
    assert_eq!(first["fact"]["raw"], "{\"RecordID\":\"1\"}");
    let mut rows = csv::Reader::from_reader(&table[..]);
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    assert_eq!(&rows[1][4], &rows[0][3], "each hash is the next fact's previous hash");
}
