//! Views that are lost, damaged or foreign: built again, while facts are taken.

use std::fs;
use std::path::Path;

use super::samples::{punch, verified};
use super::{SMALL, append, last_seq, national, open, open_tuned, options, set_aside};
use crate::punch::*;
use crate::store::view::engine::ViewError;
use crate::store::{Store, Tuning};

async fn store_with_punches(dir: &Path, count: u32) {
    let store = open_tuned(options(dir), Tuning { segment_bytes: 1 << 20, ..SMALL });
    for n in (0..count).step_by(50) {
        let some = n..(n + 50).min(count);
        append(&store, some.clone().map(|n| Fact::Punch(punch(n))).collect()).await;
        append(&store, some.map(|n| verified(punch(n).id)).collect()).await;
    }
    store.close().await;
}

async fn outbox(store: &Store) -> usize {
    store.read(|view| view.outbox(&national(), Seq(0), 10_000).len()).await
}

#[tokio::test]
async fn a_view_whose_file_is_damaged_is_moved_aside_and_built_again() {
    let dir = tempfile::tempdir().unwrap();
    store_with_punches(dir.path(), 300).await;
    let db = dir.path().join("view").join("sled").join("db");
    let mut bytes = fs::read(&db).unwrap();
    for byte in bytes.iter_mut().skip(64).step_by(37) {
        *byte ^= 0x55;
    }
    fs::write(&db, bytes).unwrap();

    let store = open(dir.path());
    assert_eq!(outbox(&store).await, 300);
    assert_eq!(set_aside(dir.path()), 1);
    store.close().await;
}

#[tokio::test]
async fn a_view_with_a_file_cut_short_is_built_again() {
    let dir = tempfile::tempdir().unwrap();
    store_with_punches(dir.path(), 300).await;
    let db = fs::OpenOptions::new().write(true).open(dir.path().join("view").join("sled").join("db")).unwrap();
    db.set_len(1000).unwrap();
    let store = open(dir.path());
    assert_eq!(outbox(&store).await, 300);
    store.close().await;
}

#[tokio::test]
async fn a_snapshot_that_was_not_finished_does_not_stop_the_view_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    store_with_punches(dir.path(), 50).await;
    fs::write(dir.path().join("view").join("sled").join("snap.0000000000000800.generating"), b"half").unwrap();
    let store = open(dir.path());
    assert_eq!((outbox(&store).await, set_aside(dir.path())), (50, 0));
    store.close().await;
}

#[tokio::test]
async fn a_view_of_another_ledger_is_not_believed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    store_with_punches(dir.path(), 100).await;
    let store = open(other.path());
    for n in 200..400 {
        append(&store, vec![Fact::Punch(punch(n))]).await;
    }
    store.close().await;
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    fs::rename(other.path().join("view"), dir.path().join("view")).unwrap();

    let store = open(dir.path());
    assert_eq!((outbox(&store).await, set_aside(dir.path())), (100, 1));
    assert!(store.read(|view| view.punch(punch(300).id)).await.is_none());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_view_is_built_again_facts_are_taken_and_redelivery_is_known() {
    let dir = tempfile::tempdir().unwrap();
    store_with_punches(dir.path(), 2000).await;
    fs::remove_dir_all(dir.path().join("view")).unwrap();

    let store = open_tuned(options(dir.path()), Tuning { catch_up_at_open: 0, ..SMALL });
    let again = store.append(vec![Fact::Punch(punch(1999)), Fact::Punch(punch(5000))]).await.unwrap();
    assert_eq!(again.iter().map(|place| place.new).collect::<Vec<_>>(), [false, true]);
    assert_eq!((again[0].seq, again[1].seq), (Seq(3950), Seq(4001)));
    // What leads to a deed waits for the whole view.
    assert_eq!(outbox(&store).await, 2000);
    store.applied(last_seq(&store)).await;
    assert_eq!(store.read(|view| view.totals().punches).await, 2001);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_very_many_facts_the_old_ones_are_taken_again_only_when_it_is_certain_that_they_are_known() {
    let dir = tempfile::tempdir().unwrap();
    store_with_punches(dir.path(), 2000).await;
    fs::remove_dir_all(dir.path().join("view")).unwrap();

    let store = open_tuned(options(dir.path()), Tuning { catch_up_at_open: 0, exact_keys: 50, ..SMALL });
    let (mut refused, mut taken, mut doubted) = (0, 0, Vec::new());
    let (mut old, mut new) = ((0..1900).rev().cycle(), 2000..);
    while store.handles.shared.adoptions().is_some() {
        let again = old.next().unwrap();
        match store.append(vec![Fact::Punch(punch(again))]).await {
            Ok(place) => assert!(!place[0].new, "punch {again} was stored twice"),
            Err(_) => refused += 1,
        }
        let fresh = new.next().unwrap();
        match store.append(vec![Fact::Punch(punch(fresh))]).await {
            Ok(place) => taken += usize::from(place[0].new),
            Err(_) => doubted.push(fresh),
        }
    }
    assert!(refused > 0 && taken > 20 * doubted.len(), "{refused} {taken} {doubted:?}");
    let again = store.append((0..2000).map(|n| Fact::Punch(punch(n))).collect()).await.unwrap();
    assert!(again.iter().all(|place| !place.new));
    let doubted = store.append(doubted.into_iter().map(|n| Fact::Punch(punch(n))).collect()).await.unwrap();
    assert!(doubted.iter().all(|place| place.new));
    store.close().await;
}

/// The view fails under a running gateway: whatever comes again meanwhile is refused or known, and never a second fact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_given_up_while_running_never_takes_a_punch_twice() {
    let dir = tempfile::tempdir().unwrap();
    store_with_punches(dir.path(), 2000).await;
    let store = open(dir.path());
    append(&store, vec![Fact::Punch(punch(2000))]).await;
    let shared = &store.handles.shared;
    for round in 0..3 {
        let mut fresh = 3000 + round * 1_000_000..;
        let mut kept = Vec::new();
        shared.suspect(ViewError::Row);
        let mut seen_gone = false;
        // Until the follower has given the view up and built it again.
        while !(seen_gone && shared.adoptions().is_none()) {
            seen_gone |= shared.adoptions().is_some();
            let old = fresh.start % 2001;
            let again = store.append(vec![Fact::Punch(punch(old))]).await;
            assert!(again.iter().flatten().all(|place| !place.new), "round {round}: punch {old} was stored twice");
            let new = fresh.next().unwrap();
            if store.append(vec![Fact::Punch(punch(new))]).await.is_ok_and(|places| places[0].new) {
                kept.push(new);
            }
        }
        assert!(!kept.is_empty());
        for n in kept {
            let again = store.append(vec![Fact::Punch(punch(n))]).await.unwrap();
            assert!(!again[0].new, "round {round}: punch {n} was stored twice");
        }
        assert_eq!(outbox(&store).await, 2000);
    }
    assert_eq!(set_aside(dir.path()), 2, "only the two newest are kept");
    store.close().await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_building_again_is_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    store_with_punches(dir.path(), 1000).await;
    fs::remove_dir_all(dir.path().join("view")).unwrap();
    for _ in 0..3 {
        open_tuned(options(dir.path()), Tuning { catch_up_at_open: 0, ..SMALL }).close().await;
    }
    let store = open(dir.path());
    assert_eq!(outbox(&store).await, 1000);
    store.close().await;
}
