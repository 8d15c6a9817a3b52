//! Torn tails, flipped bits, and hands that remove, add or move facts.

use std::fs;
use std::path::{Path, PathBuf};

use super::samples::{punch, verified};
use super::{MORNING, append, copy_dir, national, open, open_tuned, options};
use crate::punch::*;
use crate::store::keyring::Keyring;
use crate::store::ledger::Ledger;
use crate::store::ledger::check::{Report, Wrong, verify};
use crate::store::ledger::frame::OVERHEAD;
use crate::store::ledger::reader::{Item, PlacedFrame, Walk};
use crate::store::ledger::recover::recover;
use crate::store::ledger::seal::seal;
use crate::store::ledger::segment;
use crate::store::tests::SMALL;
use crate::store::{Damage, Tuning};

/// One segment for everything, so that a test knows where it is.
const ONE_SEGMENT: Tuning = Tuning { segment_bytes: 1 << 20, ..SMALL };

/// A ledger of 20 facts in a closed segment, and its frames.
async fn ledger_of_twenty(dir: &Path) -> Vec<PlacedFrame> {
    let store = open_tuned(options(dir), ONE_SEGMENT);
    for n in 0..10 {
        append(&store, vec![Fact::Punch(punch(n)), verified(punch(n).id)]).await;
    }
    store.close().await;
    frames(&dir.join("ledger"))
}

fn frames(ledger: &Path) -> Vec<PlacedFrame> {
    let mut walk = Walk::all(ledger);
    let mut frames = Vec::new();
    while let Some(item) = walk.next_item().unwrap() {
        if let Item::Fact(frame) = item {
            frames.push(frame);
        }
    }
    frames
}

fn segment_file(dir: &Path) -> PathBuf {
    segment::path(&dir.join("ledger"), 1)
}

/// The bytes of one frame.
fn bytes_of(file: &[u8], frame: &PlacedFrame) -> Vec<u8> {
    file[frame.at.offset as usize..frame.end().offset as usize].to_vec()
}

/// Puts a file together from the head, these frames, and what stood after the last one.
fn rewrite(dir: &Path, frames: &[PlacedFrame], order: &[usize]) {
    let path = segment_file(dir);
    let file = fs::read(&path).unwrap();
    let mut new = file[..frames[0].at.offset as usize].to_vec();
    for index in order {
        new.extend(bytes_of(&file, &frames[*index]));
    }
    new.extend(&file[frames[19].end().offset as usize..]);
    fs::write(&path, new).unwrap();
}

fn named(report: &Report) -> Vec<(Wrong, u64, u64)> {
    report.findings.iter().map(|finding| (finding.wrong, finding.first, finding.last)).collect()
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_is_cut_at_the_last_whole_append() {
    let dir = tempfile::tempdir().unwrap();
    let frames = ledger_of_twenty(dir.path()).await;
    let whole = fs::read(segment_file(dir.path())).unwrap();
    // The last append has two frames: a cut in either takes both, for an append is stored whole or not at all.
    let (first, end) = (frames[18].at.offset as usize, frames[19].end().offset as usize);
    for cut in first..end {
        for filling in [None, Some(0), Some(0xA5)] {
            let torn = tempfile::tempdir().unwrap();
            let (ledger, quarantine) = (torn.path().join("ledger"), torn.path().join("quarantine"));
            fs::create_dir(&ledger).unwrap();
            let mut bytes = whole[..cut].to_vec();
            if let Some(filling) = filling {
                bytes.resize(whole.len() + 4096, filling);
            }
            fs::write(segment::path(&ledger, 1), &bytes).unwrap();

            let tail = recover(&ledger, &quarantine).unwrap();
            assert_eq!((tail.last_seq, tail.head), (18, frames[17].hash()), "cut {cut} {filling:?}");
            let kept: u64 =
                fs::read_dir(&quarantine).into_iter().flatten().map(|f| f.unwrap().metadata().unwrap().len()).sum();
            assert_eq!(kept > 0, cut > first || filling == Some(0xA5), "what was cut is kept aside");
            let report = verify(&ledger).unwrap();
            assert!(report.is_sound() && report.facts == 18 && report.head == frames[17].hash(), "{report:?}");
            assert_eq!(
                recover(&ledger, &quarantine).unwrap(),
                crate::store::ledger::recover::Tail { torn: None, ..tail }
            );
        }
    }
}

#[tokio::test]
async fn after_a_torn_tail_the_store_goes_on_and_the_punch_can_be_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, vec![Fact::Punch(punch(1))]).await;
    append(&store, vec![Fact::Punch(punch(2))]).await;
    store.close().await;
    let last = frames(&dir.path().join("ledger")).pop().unwrap();
    let file = fs::OpenOptions::new().write(true).open(segment_file(dir.path())).unwrap();
    file.set_len(last.end().offset - 7).unwrap();

    let store = open(dir.path());
    let again = append(&store, vec![Fact::Punch(punch(2))]).await;
    assert!(again[0].new);
    assert_eq!(store.read(|view| view.totals().punches).await, 2);
    // The view had the fact that is gone, so somebody was told that it is stored: that is damage, and it is said.
    let gap = wait_for_gap(&store).await;
    assert!(gap.detail.contains("were in the ledger"), "{}", gap.detail);
    store.close().await;
    assert!(verify(&dir.path().join("ledger")).unwrap().is_sound());
}

#[tokio::test]
async fn every_flipped_bit_is_named_and_nothing_else_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let frames = ledger_of_twenty(dir.path()).await;
    let whole = fs::read(segment_file(dir.path())).unwrap();
    let file = tempfile::tempdir().unwrap();
    for (index, frame) in frames.iter().enumerate() {
        let length = OVERHEAD + frame.payload.len();
        for bit in (0..length * 8).step_by(13) {
            let mut flipped = whole.clone();
            flipped[frame.at.offset as usize + bit / 8] ^= 1 << (bit % 8);
            fs::write(segment::path(file.path(), 1), &flipped).unwrap();
            let report = verify(file.path()).unwrap();
            let seq = index as u64 + 1;
            assert_eq!(named(&report), [(Wrong::Damaged, seq, seq)], "bit {bit} of fact {seq}");
            assert_eq!((report.facts, report.last_seq), (19, 20));
        }
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_reported_once_copied_aside_and_stepped_over() {
    let dir = tempfile::tempdir().unwrap();
    let frames = ledger_of_twenty(dir.path()).await;
    let mut bytes = fs::read(segment_file(dir.path())).unwrap();
    let damaged = &frames[8];
    bytes[damaged.at.offset as usize + 80] ^= 0x10;
    fs::write(segment_file(dir.path()), &bytes).unwrap();
    fs::remove_dir_all(dir.path().join("view")).unwrap();

    let store = open(dir.path());
    let gap = wait_for_gap(&store).await;
    assert_eq!((gap.kind, gap.count), (GapKind::StoreDamage, Some(1)));
    assert!(gap.detail.contains("fact 9 damaged"), "{}", gap.detail);
    assert_eq!(*store.watch_damage().borrow(), Damage { places: 1, latest: gap.detail });
    let totals = store.read(|view| view.totals()).await;
    assert_eq!((totals.punches, totals.verified), (9, 9), "all but the damaged punch and its judgement");
    store.close().await;
    let kept: Vec<_> = fs::read_dir(dir.path().join("quarantine")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(fs::read(&kept[0]).unwrap(), bytes[damaged.at.offset as usize..damaged.end().offset as usize]);

    let store = open(dir.path());
    append(&store, vec![Fact::Punch(punch(77))]).await;
    store.close().await;
    let store = open(dir.path());
    assert_eq!(
        store.read(|view| view.gaps(10).len()).await,
        1,
        "the same damage is one gap, however often it is found"
    );
    store.close().await;
}

#[tokio::test]
async fn removed_added_moved_and_changed_facts_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let frames = ledger_of_twenty(dir.path()).await;
    let all: Vec<usize> = (0..20).collect();
    let tampered = |order: Vec<usize>| {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(&dir.path().join("ledger"), &copy.path().join("ledger"));
        rewrite(copy.path(), &frames, &order);
        named(&verify(&copy.path().join("ledger")).unwrap())
    };
    assert_eq!(tampered(all.clone()), []);
    for n in 0..20 {
        let seq = n as u64 + 1;
        let without: Vec<usize> = all.iter().copied().filter(|index| *index != n).collect();
        assert_eq!(tampered(without), [(Wrong::Removed, seq, seq)], "fact {seq} removed");
        let mut doubled = all.clone();
        doubled.insert(n + 1, n);
        assert_eq!(tampered(doubled), [(Wrong::Added, seq, seq)], "fact {seq} added again");
    }
    for n in 0..19 {
        let mut swapped = all.clone();
        swapped.swap(n, n + 1);
        let seq = n as u64 + 1;
        assert_eq!(tampered(swapped), [(Wrong::Moved, seq, seq)], "fact {seq} moved behind the next");
    }
    assert_eq!(tampered([0, 1, 2, 7, 8].into_iter().chain(9..20).collect()), [(Wrong::Removed, 4, 7)]);
}

#[tokio::test]
async fn a_fact_rewritten_with_a_right_checksum_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let frames = ledger_of_twenty(dir.path()).await;
    let path = segment_file(dir.path());
    let whole = fs::read(&path).unwrap();
    for (index, frame) in frames.iter().enumerate() {
        let mut forged = whole.clone();
        let (start, end) = (frame.at.offset as usize, frame.end().offset as usize);
        forged[start + OVERHEAD] ^= 1;
        let crc = crc32c::crc32c(&forged[start..end - 4]);
        forged[end - 4..end].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, &forged).unwrap();
        let seq = index as u64 + 1;
        assert_eq!(named(&verify(&dir.path().join("ledger")).unwrap()), [(Wrong::Changed, seq, seq)]);
    }
}

#[tokio::test]
async fn a_removed_segment_is_noticed_by_the_facts_that_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3 {
        let store = open(dir.path());
        append(&store, vec![Fact::Punch(punch(n))]).await;
        store.close().await;
    }
    let ledger = dir.path().join("ledger");
    assert!(verify(&ledger).unwrap().is_sound());
    fs::remove_file(segment::path(&ledger, 2)).unwrap();
    assert_eq!(named(&verify(&ledger).unwrap()), [(Wrong::Removed, 2, 2)]);
    let store = open(dir.path());
    assert_eq!(wait_for_gap(&store).await.count, Some(1));
    assert_eq!(store.read(|view| view.outbox(&national(), Seq(0), 9).len()).await, 0);
    store.close().await;
}

/// The first gap that the store reports.
async fn wait_for_gap(store: &crate::store::Store) -> Gap {
    let mut events = store.subscribe();
    loop {
        if let Some((_, gap)) = store.read(|view| view.gaps(1)).await.pop() {
            return gap;
        }
        events.recv().await.unwrap();
    }
}

/// What a power cut leaves of a write of several appends: a later one whole, an earlier one not.
#[tokio::test]
async fn a_hole_in_the_write_that_was_going_on_is_no_damage_and_a_hole_before_it_is() {
    // What came after the segment was read whole and closed by the next start is damage too.
    for (spoilt, closed_whole, sound) in [(2, false, true), (0, false, false), (2, true, false)] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger");
        let keyring = Keyring::generate();
        let tail = recover(&ledger, &dir.path().join("quarantine")).unwrap();
        let mut writer = Ledger::new(&ledger, &tail, 1 << 16);
        writer.begin(MORNING).unwrap();
        let appends = |numbers: std::ops::Range<u32>| -> Vec<_> {
            numbers.map(|n| vec![seal(&Fact::Punch(punch(n)), &keyring)]).collect()
        };
        writer.commit(&appends(0..2), MORNING).unwrap();
        writer.commit(&appends(2..5), MORNING).unwrap();
        drop(writer);
        let mut walk = Walk::all(&ledger);
        let frames: Vec<PlacedFrame> = std::iter::from_fn(|| walk.next_item().unwrap())
            .filter_map(|item| if let Item::Fact(frame) = item { Some(frame) } else { None })
            .collect();
        let places: Vec<u16> = frames.iter().map(|frame| frame.header.in_write).collect();
        assert_eq!(places, [1, 2, 1, 2, 3]);
        if closed_whole {
            recover(&ledger, &dir.path().join("quarantine")).unwrap();
        }
        let path = segment::path(&ledger, 1);
        let mut bytes = fs::read(&path).unwrap();
        let (from, to) = (frames[spoilt].at.offset as usize, frames[spoilt].end().offset as usize);
        bytes[from..to].fill(0);
        fs::write(&path, &bytes).unwrap();

        for _ in 0..2 {
            let report = verify(&ledger).unwrap();
            let wrong = if sound { Wrong::Interrupted } else { Wrong::Damaged };
            assert_eq!(named(&report), [(wrong, spoilt as u64 + 1, spoilt as u64 + 1)]);
            assert_eq!((report.is_sound(), report.facts), (sound, 4));
            // The second time after the segment was closed by who came later.
            recover(&ledger, &dir.path().join("quarantine")).unwrap();
        }
    }
}
