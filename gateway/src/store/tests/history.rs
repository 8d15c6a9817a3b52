//! Older punches go into the runs of the history, and nobody notices.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::samples::{judgement, punch, step, verified};
use super::{MORNING, SMALL, append, copy_dir, national, open_tuned, options, set_aside};
use crate::punch::*;
use crate::store::view::engine::{Engine, history_dir};
use crate::store::view::history::History;
use crate::store::view::history::archivist::{self, Archivist};
use crate::store::view::keys;
use crate::store::view::live::Live;
use crate::store::view::merged::Sources;
use crate::store::{PunchFilter, Store, StoreOptions, Tuning};

/// Runs of 16, and 16 punches live.
const SHORT: Tuning = Tuning { window: 16, run_length: 16, ..SMALL };
/// Nothing is archived.
const NEVER: Tuning = Tuning { window: 1 << 30, ..SMALL };

fn open(dir: &Path) -> Store {
    open_tuned(options(dir), SHORT)
}

/// Punches that are verified, uploaded and confirmed.
async fn settle(store: &Store, punches: std::ops::Range<u32>) {
    for n in punches {
        let subjects = vec![Subject::Punch(punch(n).id)];
        let sending = step(u64::from(n), subjects.clone(), Step::Sending { request_hash: [7; 32] });
        let confirmed = step(u64::from(n), subjects, Step::Confirmed { external: None, note: None });
        let facts = vec![Fact::Punch(punch(n)), verified(punch(n).id), Fact::Upload(sending), Fact::Upload(confirmed)];
        append(store, facts).await;
    }
}

/// Waits until so many punches and records are in runs and nowhere else.
async fn archived(store: &Store, entries: u64) {
    until(store, |sources| {
        let done = archivist::named(&sources.live).unwrap().iter().all(|run| run.cleared);
        done && sources.history.runs().entries() >= entries
    })
    .await;
}

/// Waits for what is done between chunks, and gives cause for chunks.
async fn until(store: &Store, done: impl Fn(&Sources) -> bool) {
    let waited = async {
        while !done(&store.handles.shared.sources().unwrap()) {
            turns(store, 1).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("it comes to that");
}

/// Gives the archivist so many turns.
async fn turns(store: &Store, count: usize) {
    let adoption = Adoption {
        terminal: TerminalId::from("north-in"),
        protocol: "mqtt-face".to_owned(),
        serial: "AX-1001".to_owned(),
        direction: "in".to_owned(),
        at: MORNING,
    };
    for _ in 0..count {
        append(store, vec![Fact::Adoption(adoption.clone())]).await;
    }
}

fn live_punches(store: &Store) -> usize {
    store.handles.shared.sources().unwrap().live.ids().len()
}

fn live_rows(store: &Store, prefix: Vec<u8>) -> usize {
    store.handles.shared.sources().unwrap().live.prefix(prefix).count()
}

fn runs(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(history_dir(&dir.join("view"))).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_is_no_longer_recent_is_archived_and_found_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    settle(&store, 0..100).await;
    archived(&store, 80).await;
    assert_eq!(live_punches(&store), 20);
    let story = store.read(|view| view.story(punch(3).id)).await.unwrap();
    assert_eq!((story.punch.record.as_deref(), story.judgements.len(), story.uploads.len()), (Some("3"), 1, 2));
    let row = store.read(|view| view.upload(&national(), &Subject::Punch(punch(3).id))).await.unwrap();
    assert_eq!((row.state, row.attempts), (UploadState::Confirmed, 1));
    store.close().await;
    assert_eq!(runs(dir.path()).len(), 5);

    let store = open(dir.path());
    let all = store.read(|view| view.punches(&PunchFilter::default(), None, 1000)).await;
    assert_eq!(
        all.items.iter().map(|row| row.id).collect::<Vec<_>>(),
        (0..100).map(|n| punch(n).id).collect::<Vec<_>>()
    );
    store.close().await;
}

#[tokio::test]
async fn a_redelivered_punch_of_the_history_is_not_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    settle(&store, 0..60).await;
    archived(&store, 32).await;
    let known = |place: crate::store::Appended| (place.seq, place.new);
    assert_eq!(known(append(&store, vec![Fact::Punch(punch(2))]).await[0]), (Seq(9), false));
    store.close().await;
    let store = open(dir.path());
    assert_eq!(known(append(&store, vec![Fact::Punch(punch(2))]).await[0]), (Seq(9), false));
    store.close().await;

    // A run whose index is damaged is noticed by the question itself.
    let run = runs(dir.path()).remove(0);
    let mut bytes = fs::read(&run).unwrap();
    let index = bytes.windows(16).rposition(|window| window == punch(2).id.0).unwrap();
    bytes[index + 20] ^= 1;
    fs::write(&run, bytes).unwrap();
    let store = open(dir.path());
    let mut again = store.append(vec![Fact::Punch(punch(2))]).await;
    while again.is_err() {
        again = store.append(vec![Fact::Punch(punch(2))]).await;
    }
    assert_eq!(known(again.unwrap()[0]), (Seq(9), false));
    let everybody = store.read(|view| view.verified_of(&WorkerId::from("W0001"), UnixMs(0), UnixMs(i64::MAX))).await;
    assert_eq!((everybody.len(), set_aside(dir.path())), (60, 1), "the view was built again");
    store.close().await;
}

#[tokio::test]
async fn a_run_that_is_cut_short_or_gone_means_that_the_view_is_built_again() {
    let dir = tempfile::tempdir().unwrap();
    for (round, damage) in [|run: &Path| fs::remove_file(run), |run: &Path| fs::write(run, b"AXRUN")].iter().enumerate()
    {
        let store = open(dir.path());
        settle(&store, 0..60).await;
        archived(&store, 32).await;
        store.close().await;
        damage(&runs(dir.path())[1]).unwrap();

        let store = open(dir.path());
        assert_eq!(
            store.read(|view| view.verified_of(&WorkerId::from("W0001"), UnixMs(0), UnixMs(i64::MAX)).len()).await,
            60
        );
        assert_eq!(set_aside(dir.path()), round + 1);
        store.close().await;
    }
}

#[tokio::test]
async fn a_platform_that_is_new_gets_the_archived_punches_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    settle(&store, 0..60).await;
    archived(&store, 32).await;
    store.close().await;

    let provincial = PlatformName::from("provincial");
    let both = vec![(national(), None), (provincial.clone(), Some(MORNING.plus_ms(3_000)))];
    let store = open_tuned(StoreOptions::new(dir.path().to_owned(), both), SHORT);
    let outbox = {
        let provincial = provincial.clone();
        store.read(move |view| view.outbox(&provincial, Seq(0), 1000)).await
    };
    assert_eq!(outbox.len(), 57);
    assert_eq!(outbox[0].0.punch, punch(3).id);
    assert_eq!(store.read(|view| view.outbox(&national(), Seq(0), 1000).len()).await, 0);

    // It answers for all of them: then that goes into the runs too.
    for (outgoing, _) in outbox {
        let subjects = vec![Subject::Punch(outgoing.punch)];
        let receipt = step(outgoing.seq.0, subjects, Step::Confirmed { external: None, note: None });
        append(&store, vec![Fact::Upload(UploadStep { platform: provincial.clone(), ..receipt })]).await;
    }
    settle(&store, 60..120).await;
    // What waits for it stays live for twice as long.
    archived(&store, 64).await;
    until(&store, |sources| sources.live.count() <= 120 - 64 + SHORT.window).await;
    let depth = store.read(move |view| view.depth(&provincial)).await;
    assert_eq!((depth.open, depth.confirmed), (60, 57));
    store.close().await;
}

#[tokio::test]
async fn a_platform_that_is_new_does_not_make_all_of_a_long_history_live_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in (0..1000).step_by(50) {
        append(&store, (n..n + 50).map(|n| Fact::Punch(punch(n))).collect()).await;
        append(&store, (n..n + 50).map(|n| verified(punch(n).id)).collect()).await;
        let subjects = (n..n + 50).map(|n| Subject::Punch(punch(n).id)).collect();
        let receipt = step(u64::from(n), subjects, Step::Confirmed { external: None, note: None });
        append(&store, vec![Fact::Upload(receipt)]).await;
    }
    archived(&store, 960).await;
    store.close().await;

    let provincial = PlatformName::from("provincial");
    let both = vec![(national(), None), (provincial.clone(), None)];
    let store = open_tuned(StoreOptions::new(dir.path().to_owned(), both), SHORT);
    let outbox = store.read(move |view| view.outbox(&provincial, Seq(0), 1000)).await;
    assert_eq!(outbox.len(), 1000);
    assert!(live_punches(&store) < 500, "{} punches are live", live_punches(&store));
    store.close().await;
}

#[tokio::test]
async fn of_a_long_history_that_changes_here_and_there_no_more_is_live_than_of_a_short_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    settle(&store, 0..400).await;
    archived(&store, 384).await;
    for n in (0..400).step_by(5) {
        append(&store, vec![Fact::Judgement(judgement(punch(n).id, Verdict::Verified, "W0002"))]).await;
    }
    until(&store, |sources| sources.live.count() <= SHORT.window * 2 + SHORT.run_length).await;
    let changed = PunchFilter { worker: Some(WorkerId::from("W0002")), ..PunchFilter::default() };
    assert_eq!(store.read(move |view| view.punches(&changed, None, 1000).items.len()).await, 80);
    store.close().await;
}

#[tokio::test]
async fn punches_that_are_waited_for_are_archived_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, (0..60).map(|n| Fact::Punch(punch(n))).collect()).await;
    append(&store, (0..50).map(|n| verified(punch(n).id)).collect()).await;
    let subjects = |punches: std::ops::Range<u32>| punches.map(|n| Subject::Punch(punch(n).id)).collect::<Vec<_>>();
    let confirmed = |punches| step(1, subjects(punches), Step::Confirmed { external: None, note: None });
    let entries = |store: &Store| store.handles.shared.sources().unwrap().history.runs().entries();
    turns(&store, 20).await;
    assert_eq!(entries(&store), 0, "of none of them is all known");
    append(&store, vec![Fact::Upload(confirmed(0..40))]).await;
    archived(&store, 32).await;
    append(&store, (50..60).map(|n| verified(punch(n).id)).collect()).await;
    append(&store, vec![Fact::Upload(confirmed(40..60))]).await;
    turns(&store, 20).await;
    assert_eq!(entries(&store), 32, "and the window");
    // Not without end.
    append(&store, (60..200).map(|n| Fact::Punch(punch(n))).collect()).await;
    archived(&store, 144).await;
    let generations: Vec<u32> = {
        let runs = store.handles.shared.sources().unwrap().history.runs();
        runs.from(Seq(1)).iter().map(|listed| listed.run.head.generation).collect()
    };
    assert!(generations.iter().all(|generation| *generation == 0), "{generations:?}");
    store.close().await;
}

#[tokio::test]
async fn an_archived_punch_can_be_judged_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    settle(&store, 0..60).await;
    archived(&store, 32).await;
    let other = judgement(punch(5).id, Verdict::Verified, "W0002");
    append(&store, vec![Fact::Judgement(other)]).await;
    let none = judgement(punch(6).id, Verdict::Rejected(RejectedReason::Duplicate), "W0001");
    append(&store, vec![Fact::Judgement(none)]).await;
    for _ in 0..2 {
        let of = |worker: &'static str| {
            store.read(move |view| {
                let listed = PunchFilter { worker: Some(WorkerId::from(worker)), ..PunchFilter::default() };
                let verified = view.verified_of(&WorkerId::from(worker), UnixMs(0), UnixMs(i64::MAX)).len();
                (verified, view.punches(&listed, None, 1000).items.len())
            })
        };
        assert_eq!((of("W0001").await, of("W0002").await), ((58, 59), (1, 1)));
        let story = store.read(|view| view.story(punch(5).id)).await.unwrap();
        assert_eq!((story.judgements.len(), story.uploads.len()), (2, 2));
        // So much else changes that the run is made again.
        for round in 0..4 {
            for n in 8..16 {
                let again = Judgement { rule_version: round, ..judgement(punch(n).id, Verdict::Verified, "W0001") };
                append(&store, vec![Fact::Judgement(again)]).await;
            }
        }
        until(&store, |sources| sources.history.runs().from(Seq(1))[0].run.head.generation > 0).await;
        archived(&store, 32).await;
    }
    store.close().await;
    let runs = runs(dir.path());
    assert_eq!(runs.len(), 2, "{runs:?}: the generations of before are gone");
}

#[tokio::test]
async fn a_stranger_of_long_ago_is_not_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let stranger = |n: u32| {
        Fact::Stranger(Stranger {
            terminal: TerminalId::from("north-in"),
            serial: "AX-1001".to_owned(),
            record: Some(n.to_string()),
            time: MORNING,
            time_text: String::new(),
            received_at: MORNING,
            photo: None,
            raw: Vec::new(),
        })
    };
    for n in 0..100 {
        append(&store, vec![stranger(n)]).await;
    }
    archived(&store, 80).await;
    assert_eq!(live_rows(&store, keys::records()), 20);
    for n in 0..100 {
        let place = append(&store, vec![stranger(n)]).await[0];
        assert_eq!((place.seq, place.new), (Seq(u64::from(n) + 1), false));
    }
    store.close().await;
}

#[tokio::test]
async fn a_stop_after_any_turn_of_archiving_is_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_tuned(options(dir.path()), NEVER);
    settle(&store, 0..50).await;
    append(&store, vec![Fact::Judgement(judgement(punch(1).id, Verdict::Held(HeldReason::BeforeEntry), "W0001"))])
        .await;
    store.close().await;

    let view = dir.path().join("view");
    let mut engine = Engine::open(&view).unwrap();
    let history = History::open(&history_dir(&view), &[]).unwrap();
    let live = Live::load(engine.tree().clone()).unwrap();
    let sources = Sources { live: live.into(), history: history.into() };
    let mut archivist = Archivist::new(4, 40);
    let mut busy_turns = 0;
    loop {
        archivist.turn(&mut engine, &sources).unwrap();
        if !archivist.is_busy() {
            break;
        }
        busy_turns += 1;
        // Once without what is not written yet, once with it.
        for is_synced in [false, true] {
            if is_synced {
                sources.live.write_out(&mut engine).unwrap();
                engine.sync().unwrap();
            }
            let copy = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), copy.path());
            let store = open_tuned(options(copy.path()), NEVER);
            let again = append(&store, (0..50).map(|n| Fact::Punch(punch(n))).collect()).await;
            assert!(again.iter().all(|place| !place.new), "turn {busy_turns}");
            let all = store.read(|view| view.punches(&PunchFilter::default(), None, 1000)).await;
            assert_eq!(all.items.len(), 50, "turn {busy_turns}");
            let listed = store.read(|view| view.uploads(&national(), None, None, 1000)).await;
            assert_eq!(listed.items.len(), 50, "turn {busy_turns}");
            // What was begun is finished.
            archived(&store, 0).await;
            assert_eq!(set_aside(copy.path()), 0, "turn {busy_turns}");
            store.close().await;
        }
    }
    assert!(busy_turns >= 4, "{busy_turns} turns");
}
