//! Group commit, and facts that come twice.

use std::time::Duration;

use bytes::Bytes;

use super::samples::{punch, step, verified, worker};
use super::{SMALL, append, last_seq, national, open, open_tuned, options};
use crate::punch::*;
use crate::store::group::Request;
use crate::store::{AppendError, StoreHealth, Tuning};

#[tokio::test]
async fn appends_in_flight_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_tuned(options(dir.path()), Tuning { segment_bytes: 4 << 20, ..SMALL });
    // Sealed beforehand: that is the callers' work, and here they all are one thread.
    let keyring = &store.handles.shared.keyring;
    let sealed: Vec<_> = (0..400).map(|n| Request::new(&[Fact::Punch(punch(n))], keyring).unwrap()).collect();
    let mut answers = Vec::new();
    for (request, answer) in sealed {
        store.handles.requests.send(request).await.unwrap();
        answers.push(answer);
    }
    let mut seqs = Vec::new();
    for answer in answers {
        seqs.push(answer.await.unwrap().unwrap()[0].seq.0);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=400).collect::<Vec<_>>());
    let counters = store.counters();
    assert_eq!(counters.facts, 400);
    assert!(counters.commits < 100, "{} syncs for 400 appends", counters.commits);
    store.close().await;
}

#[tokio::test]
async fn a_redelivered_punch_is_acknowledged_again_but_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = append(&store, vec![Fact::Punch(punch(1)), Fact::Punch(punch(1)), Fact::Punch(punch(2))]).await;
    assert_eq!(
        first.iter().map(|place| (place.seq.0, place.new)).collect::<Vec<_>>(),
        [(1, true), (1, false), (2, true)]
    );
    // Same id from the tail, from the view, and after a restart; what the terminal says otherwise does not count.
    let again = Punch { received_at: UnixMs(0), live: Some(false), ..punch(1) };
    for _ in 0..2 {
        let place = append(&store, vec![Fact::Punch(again.clone())]).await[0];
        assert_eq!((place.seq, place.new), (Seq(1), false));
    }
    store.close().await;
    let store = open(dir.path());
    let place = append(&store, vec![Fact::Punch(again)]).await[0];
    assert_eq!((place.seq, place.new, last_seq(&store)), (Seq(1), false, Seq(2)));
    assert_eq!(store.counters().commits, 0, "nothing new, nothing written");
    store.close().await;
}

#[tokio::test]
async fn redelivery_at_once_from_many_sides_stores_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        tasks.spawn(async move { store.append(vec![Fact::Punch(punch(1))]).await.unwrap()[0] });
    }
    let places = tasks.join_all().await;
    assert_eq!(places.iter().filter(|place| place.new).count(), 1);
    assert!(places.iter().all(|place| place.seq == Seq(1)));
    assert_eq!(last_seq(&store), Seq(1));
    store.close().await;
}

#[tokio::test]
async fn a_stranger_or_an_unreadable_record_comes_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let kept = |at| {
        Fact::Quarantine(Quarantine {
            terminal: None,
            serial: "AX-1001".to_owned(),
            record: Some("5".to_owned()),
            at: UnixMs(at),
            reason: "no time".to_owned(),
            raw: b"{}".to_vec(),
        })
    };
    assert!(append(&store, vec![kept(1)]).await[0].new);
    assert!(!append(&store, vec![kept(2)]).await[0].new);
    assert_eq!(store.read(|view| view.totals().quarantined).await, 1);
    store.close().await;
}

#[tokio::test]
async fn a_worker_without_a_change_is_no_fact_and_a_change_back_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let before = Fact::Worker(worker(1));
    let after = Fact::Worker(Worker { leader: true, ..worker(1) });
    let group = vec![before.clone(), before.clone(), after.clone(), before.clone()];
    let news: Vec<bool> = store.append(group).await.unwrap().iter().map(|place| place.new).collect();
    assert_eq!(news, [true, false, true, true]);
    assert!(!append(&store, vec![before.clone()]).await[0].new);
    assert_eq!(store.read(|view| view.roster_version()).await, Seq(3));
    assert!(append(&store, vec![after.clone()]).await[0].new);
    assert!(!append(&store, vec![after]).await[0].new);
    store.close().await;
}

#[tokio::test]
async fn badges_that_were_handed_on_belong_to_who_is_here() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let badge = Badge(0x01AB_CDEF);
    let full = Some(BadgeOnRoster::Full(badge));
    let left = Worker { badge: full, left_on: Some(jiff::civil::date(2026, 2, 1)), ..worker(1) };
    let here = Worker { badge: full, ..worker(2) };
    append(&store, vec![Fact::Worker(left), Fact::Worker(here.clone())]).await;
    let find = || store.read(move |view| (view.worker_by_badge(badge), view.worker_by_badge24(0xAB_CDEF)));
    assert_eq!(find().await, (Some(here.clone()), Some(here.clone())));
    let low = Worker { badge: Some(BadgeOnRoster::Low24(0xAB_CDEF)), ..worker(3) };
    append(&store, vec![Fact::Worker(low.clone())]).await;
    assert_eq!(find().await, (Some(here.clone()), None), "24 bits are two people's now");
    append(&store, vec![Fact::Worker(Worker { badge: None, ..here })]).await;
    assert_eq!(find().await, (Some(low.clone()), Some(low)), "a badge given back matches nobody");
    store.close().await;
}

#[tokio::test]
async fn a_worker_too_long_for_a_row_is_read_from_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let long = Worker { address: Some("长".repeat(3000)), ..worker(1) };
    append(&store, vec![Fact::Worker(long.clone())]).await;
    let id = long.id_number.clone();
    let found = store.read(move |view| (view.workers(), view.worker_by_id_number(&id))).await;
    assert_eq!(found, (vec![long.clone()], Some(long)));
    store.close().await;
}

#[tokio::test]
async fn a_platform_that_is_new_gets_the_verified_punches_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..20 {
        append(&store, vec![Fact::Punch(punch(n)), verified(punch(n).id)]).await;
    }
    append(&store, vec![Fact::Punch(punch(20))]).await;
    store.close().await;

    let later = PlatformName::from("provincial");
    let mut options = options(dir.path());
    options.platforms.push((later.clone(), Some(punch(15).time)));
    for _ in 0..2 {
        let store = open_tuned(options.clone(), SMALL);
        let later = later.clone();
        let (waiting, depth) = store.read(move |view| (view.outbox(&later, Seq(0), 99), view.depth(&later))).await;
        let punches: Vec<PunchId> = waiting.iter().map(|(outgoing, _)| outgoing.punch).collect();
        assert_eq!(punches, (15..20).map(|n| punch(n).id).collect::<Vec<_>>());
        assert_eq!((depth.open, depth.oldest), (5, Some(punch(15).time)));
        store.close().await;
    }
}

#[tokio::test]
async fn a_step_for_a_thousand_punches_fits_in_small_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_tuned(options(dir.path()), Tuning { segment_bytes: 4 << 20, ..SMALL });
    let ids: Vec<PunchId> = (0..1000).map(|n| punch(n).id).collect();
    store.append((0..1000).map(|n| Fact::Punch(punch(n))).collect()).await.unwrap();
    store.append(ids.iter().map(|id| verified(*id)).collect()).await.unwrap();
    let subjects = ids.iter().map(|id| Subject::Punch(*id)).collect();
    let sent = step(1, subjects, Step::Confirmed { external: None, note: None });
    append(&store, vec![Fact::Upload(sent)]).await;
    let depth = store.read(|view| view.depth(&national())).await;
    assert_eq!((depth.open, depth.confirmed), (0, 1000));
    store.close().await;
}

#[tokio::test]
async fn events_come_in_order_and_the_view_knows_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut events = store.subscribe();
    for n in 0..20 {
        store.append(vec![Fact::Punch(punch(n))]).await.unwrap();
    }
    for n in 0..20 {
        let event = events.recv().await.unwrap();
        assert_eq!((event.seq, &event.fact), (Seq(u64::from(n) + 1), &Fact::Punch(punch(n))));
        assert!(store.read(move |view| view.punch(punch(n).id)).await.is_some());
    }
    store.close().await;
}

#[tokio::test]
async fn the_same_photo_is_stored_once_and_a_changed_one_is_not_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let jpeg = Bytes::from_static(b"\xFF\xD8 a face");
    let hash = store.put_photo(jpeg.clone()).await.unwrap();
    assert_eq!(store.put_photo(jpeg.clone()).await.unwrap(), hash);
    assert_eq!(store.photo(hash).await.unwrap(), Some(jpeg));
    assert_eq!(store.photo(PhotoHash([0; 32])).await.unwrap(), None);
    let name = hash.to_string();
    let file = dir.path().join("photos").join(&name[..2]).join(format!("{name}.sealed"));
    std::fs::write(file, b"another face").unwrap();
    assert!(store.photo(hash).await.is_err());
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_takes_nothing_and_a_second_process_does_not_get_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let second = tokio::task::spawn_blocking({
        let options = options(dir.path());
        move || crate::store::Store::open_tuned(options, crate::clock::Clock::manual(UnixMs(0)), SMALL)
    });
    assert!(matches!(second.await.unwrap(), Err(crate::store::OpenError::Locked { .. })));
    let other = store.clone();
    store.close().await;
    assert!(matches!(other.append(vec![Fact::Punch(punch(1))]).await, Err(AppendError::Closed)));
    tokio::time::timeout(Duration::from_secs(5), other.applied(Seq(9))).await.unwrap();
    assert_eq!(other.health(), StoreHealth::Open);
    drop(other);
    open(dir.path()).close().await;
}
