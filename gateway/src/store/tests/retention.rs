//! Photos go when they have served, and make room when there is little of it; facts stay.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::samples::{judgement, punch, step, worker};
use super::{MORNING, SMALL, append, options};
use crate::clock::Clock;
use crate::punch::*;
use crate::store::ledger::reader::{Item, Walk};
use crate::store::ledger::seal::unseal;
use crate::store::{Retention, Store, StoreHealth, StoreOptions, Tuning};

const DAY: Duration = Duration::from_secs(86_400);

fn keeping(dir: &Path, days: u32, budget: Option<u64>) -> StoreOptions {
    let retention = Retention { photo_days: Some(days), budget, photos_make_room: true };
    StoreOptions { retention, ..options(dir) }
}

fn jpeg(n: u32, size: usize) -> Bytes {
    let mut bytes = n.to_be_bytes().repeat(size / 4);
    bytes[0..2].copy_from_slice(b"\xFF\xD8");
    Bytes::from(bytes)
}

/// A punch with a photo, and what was said of it.
async fn told(store: &Store, n: u32, size: usize, verdict: Verdict, receipt: bool) -> PhotoHash {
    let stored = store.append_with_photo(Fact::Punch(punch(n)), jpeg(n, size)).await.unwrap();
    assert!(stored.new);
    let mut facts = vec![Fact::Judgement(judgement(punch(n).id, verdict, "W0001"))];
    if receipt {
        let subjects = vec![Subject::Punch(punch(n).id)];
        facts.push(Fact::Upload(step(1, subjects.clone(), Step::Sending { request_hash: [0; 32] })));
        facts.push(Fact::Upload(step(1, subjects, Step::Confirmed { external: None, note: None })));
    }
    append(store, facts).await;
    PhotoHash::of(&jpeg(n, size))
}

async fn has(store: &Store, photo: PhotoHash) -> bool {
    store.photo(photo).await.unwrap().is_some()
}

async fn gone(store: &Store, photo: PhotoHash) {
    let went = async {
        while has(store, photo).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), went).await.expect("the photo goes");
}

/// What the ledger says of photos that went.
fn removals(store: &Store) -> Vec<Removal> {
    let shared = &store.handles.shared;
    let mut walk = Walk::all(&shared.paths.ledger);
    let mut removals = Vec::new();
    while let Some(item) = walk.next_item().unwrap() {
        let Item::Fact(frame) = item else { continue };
        if let Fact::Removal(removal) = unseal(&frame.payload, &shared.keyring).unwrap() {
            removals.push(removal);
        }
    }
    removals
}

#[tokio::test]
async fn photos_go_so_many_days_after_the_receipt_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(MORNING);
    let reopen = || Store::open_tuned(keeping(dir.path(), 30, None), clock.clone(), SMALL).unwrap();
    let store = reopen();
    let confirmed = told(&store, 1, 4000, Verdict::Verified, true).await;
    let waiting = told(&store, 2, 4000, Verdict::Verified, false).await;
    let held = told(&store, 3, 4000, Verdict::Held(HeldReason::UnknownWorker), false).await;
    let rejected = told(&store, 4, 4000, Verdict::Rejected(RejectedReason::Left), false).await;
    let on_roster = told(&store, 5, 4000, Verdict::Verified, true).await;
    append(&store, vec![Fact::Worker(Worker { photo: Some(on_roster), ..worker(5) })]).await;
    store.close().await;

    clock.advance(29 * DAY);
    let store = reopen();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(has(&store, confirmed).await, "a day early");
    let late = told(&store, 6, 4000, Verdict::Verified, false).await;
    store.close().await;

    clock.advance(2 * DAY);
    let store = reopen();
    gone(&store, confirmed).await;
    gone(&store, rejected).await;
    for (photo, why) in [(waiting, "waits"), (held, "is held"), (on_roster, "is on the roster"), (late, "is young")] {
        assert!(has(&store, photo).await, "its punch {why}");
    }
    // The terminal gives the record again: its photo does not come back.
    let again = store.append_with_photo(Fact::Punch(punch(1)), jpeg(1, 4000)).await.unwrap();
    assert!(!again.new && !has(&store, confirmed).await);
    let receipt = step(9, vec![Subject::Punch(punch(2).id)], Step::Refused { reason: "too late".to_owned() });
    let settled = UploadStep { at: clock.now(), ..receipt };
    append(&store, vec![Fact::Upload(settled)]).await;
    assert!(store.read(|view| view.story(punch(1).id)).await.is_some(), "the punch stays");
    let said = async {
        while removals(&store).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), said).await.expect("what went is said in the ledger");
    let told = removals(&store);
    assert!(told.len() == 1 && told[0].photos == 2 && !told[0].for_space, "{told:?}");
    store.close().await;

    clock.advance(29 * DAY);
    let store = reopen();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(has(&store, waiting).await, "its receipt is 29 days old");
    store.close().await;
    clock.advance(2 * DAY);
    let store = reopen();
    gone(&store, waiting).await;
    assert!(has(&store, held).await && has(&store, late).await);
    store.close().await;
}

#[tokio::test]
async fn a_budget_lets_settled_photos_go_first_then_stops_intake_and_goes_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning { low_water_max: 1 << 20, ..SMALL };
    let clock = Clock::manual(MORNING);
    let store = Store::open_tuned(keeping(dir.path(), 30, Some(12 << 20)), clock, tuning).unwrap();
    let size = 128 << 10;
    let oldest = told(&store, 1, size, Verdict::Verified, true).await;
    let mut settled = 1;
    // More than the budget: the oldest photos make room for the new ones.
    for n in 2..110 {
        told_in_time(&store, n, size, true).await;
        settled += 1;
    }
    assert!(!has(&store, oldest).await && has(&store, PhotoHash::of(&jpeg(109, size))).await);
    assert_eq!(store.read(|view| view.totals().punches).await, settled);

    // Nobody has answered for these: intake stops before anything goes.
    let mut waiting = Vec::new();
    let mut n = 1_000;
    let mut refusals = 0;
    while refusals < 300 {
        match store.append_with_photo(Fact::Punch(punch(n)), jpeg(n, size)).await {
            Ok(_) => {
                waiting.push(n);
                n += 1;
                refusals = 0;
            }
            // There may still be settled photos to go.
            Err(_) => refusals += 1,
        }
        assert!(n < 2_000, "the budget is not kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = n;
    assert!(matches!(store.health(), StoreHealth::Full { .. }), "{:?}", store.health());
    for n in &waiting {
        assert!(has(&store, PhotoHash::of(&jpeg(*n, size))).await, "{n} was acknowledged and waits");
    }
    let used: u64 =
        std::fs::read_dir(dir.path().join("photos")).unwrap().map(|shelf| size_of(&shelf.unwrap().path())).sum();
    assert!(used < 12 << 20, "{used}");

    // A larger budget; the platform answers; the photos have served.
    store.close().await;
    let store = Store::open_tuned(keeping(dir.path(), 30, Some(16 << 20)), Clock::manual(MORNING), tuning).unwrap();
    told_in_time(&store, refused, size, false).await;
    for n in &waiting {
        assert!(has(&store, PhotoHash::of(&jpeg(*n, size))).await);
        told_in_time(&store, *n, size, true).await;
    }
    for n in 2_000..2_030 {
        told_in_time(&store, n, size, true).await;
    }
    let told = removals(&store);
    assert!(told.iter().all(|removal| removal.for_space), "{told:?}");
    assert!(told.iter().map(|removal| removal.photos).sum::<u32>() > 20, "{told:?}");
    store.close().await;
}

/// Offered again, as terminals do, until the store takes it.
async fn told_in_time(store: &Store, n: u32, size: usize, receipt: bool) {
    let taken = async {
        while store.append_with_photo(Fact::Punch(punch(n)), jpeg(n, size)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let subjects = vec![Subject::Punch(punch(n).id)];
        let mut facts = vec![Fact::Judgement(judgement(punch(n).id, Verdict::Verified, "W0001"))];
        if receipt {
            facts.push(Fact::Upload(step(1, subjects, Step::Confirmed { external: None, note: None })));
        }
        while store.append(facts.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), taken).await.expect("the store goes on");
}

fn size_of(shelf: &Path) -> u64 {
    let entries = std::fs::read_dir(shelf).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}
