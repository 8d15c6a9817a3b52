//! A database that has grown far beyond its rows is made anew while the store is open.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::samples::{punch, verified};
use super::{SMALL, append, national, open, open_tuned, options};
use crate::punch::*;
use crate::store::view::engine::{Engine, history_dir};
use crate::store::{PunchFilter, Store, Tuning};

/// Every rest makes the database anew.
const EAGER: Tuning = Tuning { slack_bytes: 0, write_after: Duration::from_millis(20), ..SMALL };
/// No rest does.
const CALM: Tuning = Tuning { write_after: Duration::from_millis(20), ..SMALL };

async fn fill(store: &Store, numbers: std::ops::Range<u32>) {
    append(store, numbers.clone().map(|n| Fact::Punch(punch(n))).collect()).await;
    append(store, numbers.map(|n| verified(punch(n).id)).collect()).await;
}

/// Every punch, and those in the outbox.
async fn seen(store: &Store) -> (usize, usize) {
    let all = |view: &crate::store::View| view.punches(&PunchFilter::default(), None, 10_000).items.len();
    store.read(move |view| (all(view), view.outbox(&national(), Seq(0), 10_000).len())).await
}

fn databases(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("view")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("sled"));
    names.sort();
    names
}

async fn until(what: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("it comes to pass");
}

#[tokio::test]
async fn a_bloated_database_is_made_anew_at_rest_and_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_tuned(options(dir.path()), EAGER);
    fill(&store, 0..120).await;
    until(|| databases(dir.path()) == ["sled-1"]).await;
    assert_eq!(seen(&store).await, (120, 120));
    fill(&store, 100..200).await;
    assert_eq!(seen(&store).await, (200, 200));
    store.close().await;

    let store = open(dir.path());
    assert_eq!(seen(&store).await, (200, 200));
    assert_eq!(databases(dir.path()), ["sled-1"]);
    store.close().await;
}

#[tokio::test]
async fn a_database_as_large_as_its_rows_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_tuned(options(dir.path()), CALM);
    fill(&store, 0..120).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(databases(dir.path()), ["sled"]);
    store.close().await;
}

#[tokio::test]
async fn who_reads_from_the_old_database_reads_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_tuned(options(dir.path()), EAGER);
    fill(&store, 0..120).await;
    let old = store.handles.shared.sources().unwrap();
    until(|| databases(dir.path()).contains(&"sled-1".to_owned())).await;
    assert_eq!(old.live.prefix(Vec::new()).filter(|row| row.is_ok()).count(), rows(&store));
    drop(old);
    until(|| databases(dir.path()) == ["sled-1"]).await;
    store.close().await;
}

fn rows(store: &Store) -> usize {
    store.handles.shared.sources().unwrap().live.prefix(Vec::new()).count()
}

/// A cut may leave a copy that is not finished, or both databases.
#[tokio::test]
async fn the_newest_finished_database_is_opened_and_the_others_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0..120).await;
    store.close().await;
    let view = dir.path().join("view");
    let renewed = Engine::open(&view).unwrap().renewed().unwrap();
    drop(renewed);
    assert_eq!(databases(dir.path()), ["sled", "sled-1"]);
    copy(&view.join("sled"), &view.join("sled-2.new"));
    fs::remove_file(view.join("sled").join("db")).unwrap();

    let store = open(dir.path());
    assert_eq!((seen(&store).await, databases(dir.path())), ((120, 120), vec!["sled-1".to_owned()]));
    assert!(history_dir(&view).exists());
    store.close().await;
}

fn copy(from: &Path, to: &PathBuf) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}
