//! Days that are closed, and single facts that are proven to somebody who has no ledger.

use std::path::Path;
use std::time::Duration;

use jiff::civil::date;
use jiff::tz::Offset;

use super::samples::{punch, verified, worker};
use super::{MORNING, SMALL, append, open, options};
use crate::clock::Clock;
use crate::punch::*;
use crate::store::ledger::check::{Report, Wrong, verify};
use crate::store::ledger::proof::{Flaw, Proof, ProveError, check, prove_from};
use crate::store::ledger::reader::{Item, Walk};
use crate::store::ledger::seal::{Sealed, read_open, seal};
use crate::store::ledger::{Ledger, frame, recover};
use crate::store::{Store, days, keyring};

const CHINA: Offset = Offset::constant(8);

async fn closed_days(dir: &Path) -> Store {
    let store = open(dir);
    for day in 0..3 {
        for n in day * 10..day * 10 + 7 {
            append(&store, vec![Fact::Punch(punch(n)), verified(punch(n).id)]).await;
        }
        let head = store.close_day(date(2026, 3, 1 + day as i8), MORNING.plus_ms(1)).await.unwrap().unwrap();
        assert_eq!(head.last.0 - head.first.0, if day == 0 { 13 } else { 14 }, "the head before is covered too");
    }
    store
}

fn named(report: &Report) -> Vec<(Wrong, u64)> {
    report.findings.iter().map(|finding| (finding.wrong, finding.first)).collect()
}

#[tokio::test]
async fn a_punch_of_a_closed_day_is_proven_without_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let store = closed_days(dir.path()).await;
    let key = store.public_key();
    for n in [0, 6, 12, 26] {
        let proof = store.read(move |view| view.prove(punch(n).id)).await.unwrap();
        // As it is handed over.
        let proof: Proof = serde_json::from_str(&serde_json::to_string(&proof).unwrap()).unwrap();
        let facts = check(&proof, Some(&key)).unwrap();
        assert_eq!(facts[0].1, Fact::Punch(punch(n)));
        assert!(matches!(&facts[1].1, Fact::Judgement(judgement) if judgement.punch == punch(n).id));
        assert_eq!(facts[1].0.0, facts[0].0.0 + 1);
        assert_eq!(
            check(&proof, Some(&[9; 32])),
            Err(Flaw::OtherKey { day: proof.facts[0].head.day, found: hex::encode(key) })
        );
    }
    append(&store, vec![Fact::Punch(punch(99))]).await;
    let open = store.read(|view| view.prove(punch(99).id)).await;
    assert!(matches!(open, Err(ProveError::NotClosed)));
    assert!(matches!(store.read(|view| view.prove(punch(77).id)).await, Err(ProveError::Unknown)));
    let online = store.read(|view| view.prove(punch(12).id)).await.unwrap();
    store.close().await;

    let options = options(dir.path());
    let keyring = keyring::file::read_only(&options.dir, &options.key).unwrap();
    assert_eq!(prove_from(&dir.path().join("ledger"), &keyring, punch(12).id).unwrap(), online);
    let report = verify(&dir.path().join("ledger")).unwrap();
    assert!(report.is_sound());
    assert_eq!((report.days.count, report.days.last, report.days.keys), (3, Some((date(2026, 3, 3), 44)), vec![key]));
}

#[tokio::test]
async fn a_changed_proof_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = closed_days(dir.path()).await;
    let proof = store.read(|view| view.prove(punch(3).id)).await.unwrap();
    store.close().await;
    let text = serde_json::to_string(&proof).unwrap();
    let facts = check(&proof, None).unwrap();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = match bytes[at] {
            digit @ b'0'..=b'8' => digit + 1,
            b'9' => b'0',
            letter @ b'a'..=b'e' => letter + 1,
            _ => continue,
        };
        let Ok(changed) = serde_json::from_slice::<Proof>(&bytes) else { continue };
        assert_ne!(check(&changed, None), Ok(facts.clone()), "byte {at} of {text}");
    }
}

/// Every fact of a ledger, written to a new one as somebody would who can write everything but sign nothing.
fn forge(from: &Path, to: &Path, change: impl Fn(u64, Vec<u8>) -> Vec<u8>) {
    let tail = recover::recover(&to.join("ledger"), &to.join("quarantine")).unwrap();
    let mut ledger = Ledger::new(&to.join("ledger"), &tail, 1 << 20);
    ledger.begin(MORNING).unwrap();
    let (mut walk, mut append) = (Walk::all(&from.join("ledger")), Vec::new());
    while let Some(item) = walk.next_item().unwrap() {
        let Item::Fact(found) = item else { continue };
        let payload = change(found.header.seq, found.payload);
        let digest = frame::digest(&payload);
        append.push(Sealed { payload, digest });
        if found.header.following == 0 {
            ledger.commit(&[std::mem::take(&mut append)], MORNING).unwrap();
        }
    }
    ledger.close().unwrap();
}

#[tokio::test]
async fn a_whole_new_chain_does_not_get_past_the_signed_days() {
    let (dir, unchanged, forged, resigned) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    closed_days(dir.path()).await.close().await;
    let ours = options(dir.path());
    let keyring = keyring::file::read_only(&ours.dir, &ours.key).unwrap();

    forge(dir.path(), unchanged.path(), |_, payload| payload);
    assert!(verify(&unchanged.path().join("ledger")).unwrap().is_sound(), "written again word for word");

    let other = Fact::Punch(Punch { time: MORNING.plus_ms(-3_600_000), ..punch(11) });
    forge(dir.path(), forged.path(), |seq, payload| if seq == 18 { seal(&other, &keyring).payload } else { payload });
    let report = verify(&forged.path().join("ledger")).unwrap();
    assert_eq!(
        named(&report),
        [(Wrong::HeadBroken, 30), (Wrong::HeadBroken, 45)],
        "the second day, and its head in the third"
    );
    assert_eq!(report.days.count, 1);

    forge(dir.path(), resigned.path(), |_, payload| match read_open(&payload) {
        Some(Fact::DayHead(head)) => seal(&Fact::DayHead(DayHead { day: date(2025, 1, 1), ..head }), &keyring).payload,
        Some(_) | None => payload,
    });
    let report = verify(&resigned.path().join("ledger")).unwrap();
    assert_eq!(named(&report), [(Wrong::HeadForged, 15), (Wrong::HeadForged, 30), (Wrong::HeadForged, 45)]);
}

#[tokio::test]
async fn a_damaged_fact_or_head_is_named_and_the_other_days_still_hold() {
    let dir = tempfile::tempdir().unwrap();
    let store = closed_days(dir.path()).await;
    let place = store.read(|view| view.story(punch(11).id)).await.unwrap().place;
    store.close().await;
    let path = crate::store::ledger::segment::path(&dir.path().join("ledger"), place.segment);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[place.offset as usize + 70] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    let report = verify(&dir.path().join("ledger")).unwrap();
    assert_eq!(named(&report), [(Wrong::Damaged, place.seq.0)]);
    assert_eq!(report.days.count, 3, "its hash is known from the fact after it");

    let store = open(dir.path());
    store.watch_damage().wait_for(|damage| damage.places > 0).await.unwrap();
    let proof = store.read(|view| view.prove(punch(12).id)).await.unwrap();
    assert_eq!(check(&proof, None).unwrap()[0].1, Fact::Punch(punch(12)));
    store.close().await;
}

#[tokio::test]
async fn a_day_is_closed_once_when_it_is_over_and_not_by_a_clock_that_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(MORNING);
    let store = Store::open_tuned(options(dir.path()), clock.clone(), SMALL).unwrap();
    append(&store, vec![Fact::Worker(worker(1))]).await;
    let closed_after = async |seconds| {
        clock.advance(Duration::from_secs(seconds));
        let head = days::look(&store, &clock, CHINA).await.unwrap();
        head.map(|head| (head.day, head.first.0, head.last.0))
    };
    assert_eq!(closed_after(0).await, None, "the day goes on");
    assert_eq!(closed_after(16 * 3600 + 59 * 60).await, None, "a minute before midnight on the site");
    assert_eq!(closed_after(60).await, Some((date(2026, 3, 2), 1, 1)));
    assert_eq!(closed_after(60).await, None, "closed once");
    assert_eq!(closed_after(3 * 86_400).await, Some((date(2026, 3, 5), 2, 2)), "days without the gateway are one head");
    store.close().await;

    let (other, unset) = (tempfile::tempdir().unwrap(), Clock::manual(UnixMs(0)));
    let store = Store::open_tuned(options(other.path()), unset.clone(), SMALL).unwrap();
    append(&store, vec![Fact::Worker(worker(1))]).await;
    unset.advance(Duration::from_secs(5 * 86_400));
    assert_eq!(days::look(&store, &unset, CHINA).await.unwrap(), None);
    store.close().await;
}
