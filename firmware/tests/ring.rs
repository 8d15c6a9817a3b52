//! The journal in flash, on a chip whose power goes at every program and erase step.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod chip;
mod latency;
mod story;

use chip::Chip;
use firmware::FlashRing;
use firmware::journal::{Journal, StorageError};
use firmware::ring::rules::{Rules, Sound};
use protocol::{Badge, BootId, Punch, Seq, UptimeMs};
use story::{Outcome, cut_everywhere};

type Board = Chip<2048>;

/// `ANXIN_LIVES` tells more of them.
#[test]
fn a_power_cut_at_every_step_and_three_more_lose_nothing() {
    let lives = std::env::var("ANXIN_LIVES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut total = Outcome::default();
    for seed in (0..lives).map(|life| life * 5) {
        total = total
            .plus(&cut_everywhere::<128, 9, Sound>(seed + 1, 200))
            .plus(&cut_everywhere::<128, 12, Sound>(seed + 2, 200))
            .plus(&cut_everywhere::<256, 8, Sound>(seed + 3, 200))
            .plus(&cut_everywhere::<512, 9, Sound>(seed + 4, 200))
            .plus(&cut_everywhere::<2048, 8, Sound>(seed + 5, 200));
        println!("{total:?}");
        assert_eq!(total.broken, None);
    }
    assert!(total.steps > 3_000, "{total:?}");
}

/// Four cuts in a row that each left a slot that looks erased and refuses.
#[test]
fn a_start_after_many_cuts_at_the_same_place_finds_a_slot() {
    assert_eq!(cut_everywhere::<512, 9, Sound>(54, 200).broken, None);
}

/// How many lives a missing guard may take to be caught.
const LIVES: u64 = 8;

macro_rules! caught {
    ($($test:ident: $guard:ident from $seed:literal),+ $(,)?) => {$(
        #[test]
        fn $test() {
            struct Without;
            impl Rules for Without {
                const $guard: bool = false;
            }
            let broken = ($seed..$seed + LIVES).find_map(|seed| {
                let narrow = cut_everywhere::<128, 9, Without>(seed, 200).broken;
                narrow.or_else(|| cut_everywhere::<256, 8, Without>(seed, 200).broken)
            });
            println!("{broken:?}");
            assert!(broken.is_some(), "nothing misses {}", stringify!($guard));
        }
    )+};
}

caught! {
    a_record_that_is_not_read_back_is_missed: READ_BACK from 1,
    a_page_that_only_looks_erased_is_seen: ERASE_AGAIN from 1,
    a_page_that_is_written_on_whose_header_was_torn_is_seen: TWO_RECORDS from 1,
    a_torn_page_with_a_higher_order_is_seen: LATEST_STATE from 20,
    the_numbers_of_a_torn_page_are_seen: BLANK_TORN from 1,
    a_needed_page_that_is_erased_is_missed: KEEP_UNRELEASED from 1,
    a_watermark_that_was_torn_and_believed_is_seen: SURE_BEFORE_LAST from 16,
    a_record_without_its_checksum_is_seen: CHECKSUM from 1,
    a_ring_without_spare_pages_is_stuck: SPARE_PAGES from 1,
    a_start_that_is_not_written_down_is_seen: PIN_AT_START from 1,
    an_earlier_record_with_the_same_number_is_seen: LAST_WINS from 1,
    a_header_without_the_state_is_missed: STATE_IN_HEADER from 1,
}

fn punch(badge: u32) -> Punch {
    Punch { boot: BootId(1), at: UptimeMs(u64::from(badge)), unix_ms: None, badge: Badge::Full(badge) }
}

/// The chip of the board: 128 pages of 2 KiB.
fn board() -> Board {
    Chip::new(128, 1)
}

fn start(chip: &mut Board) -> Journal<FlashRing<&mut Board, 128>> {
    chip.power_up();
    Journal::recover(FlashRing::new(chip)).unwrap()
}

/// Punches until it refuses; how many there were.
fn fill(journal: &mut Journal<FlashRing<&mut Board, 128>>) -> u32 {
    (0..).take_while(|badge| journal.append(&punch(*badge)).is_ok()).count() as u32
}

#[test]
fn the_board_holds_five_thousand_punches_then_refuses_and_counts_and_goes_on_when_released() {
    let mut chip = board();
    let mut journal = start(&mut chip);
    let held = fill(&mut journal);
    println!("{held} punches fit, {} promised", journal.capacity());
    assert!(held >= 5_000 && journal.capacity().abs_diff(held) <= 63, "{held}");
    assert_eq!(journal.append(&punch(0)), Err(StorageError::Full));
    assert_eq!(journal.standing().lost, 2);

    let mut journal = start(&mut chip);
    assert_eq!((journal.fill(), journal.standing().lost), (held, 2));
    assert_eq!(journal.oldest(1).punches, [punch(0)]);
    assert_eq!(journal.commit(Seq(held)).len() as u32, held);
    assert_eq!(journal.append(&punch(7)), Ok(Seq(held + 1)));
    assert_eq!(start(&mut chip).oldest(6).punches, [punch(7)]);
}

#[test]
fn a_full_ring_takes_any_number_of_starts_and_losses() {
    let mut chip = board();
    let held = fill(&mut start(&mut chip));
    for _ in 0..1_000 {
        assert_eq!(start(&mut chip).append(&punch(2)), Err(StorageError::Full));
    }
    let journal = start(&mut chip);
    let standing = journal.standing();
    assert_eq!((standing.boot, standing.lost, journal.fill()), (BootId(1_002), 1_001, held));
}

#[test]
fn an_append_is_bounded_and_erases_nothing_when_the_line_has_been_quiet() {
    let mut chip = board();
    let effort = chip.effort();
    let mut journal = start(&mut chip);
    let mut most = 0;
    for swipe in 0..1_000 {
        journal.tidy();
        let before = effort.get();
        let seq = journal.append(&punch(swipe)).unwrap();
        let after = effort.get();
        assert_eq!(after.erases, before.erases, "erased while somebody waits");
        most = most.max(after.programs - before.programs);
        journal.commit(seq);
    }
    println!("{most} words are programmed in one append at most");
    assert_eq!(most, 8, "the record, and the header of a page that begins with it");
}

#[test]
fn wear_is_spread_over_all_pages() {
    let mut chip = board();
    let mut journal = start(&mut chip);
    for swipe in 0..30_000 {
        let seq = journal.append(&punch(swipe)).unwrap();
        journal.tidy();
        journal.commit(seq);
    }
    let (least, most) = (chip.erased.iter().min().unwrap(), chip.erased.iter().max().unwrap());
    println!("30000 punches, each released by itself: {least} to {most} erases per page");
    assert!(most - least <= 1 && *most <= 8);
}

#[test]
fn a_punch_whose_place_went_bad_is_a_gap_and_the_others_stay() {
    let mut chip = board();
    let mut journal = start(&mut chip);
    (1..=5).for_each(|badge| assert_eq!(journal.append(&punch(badge)), Ok(Seq(badge))));
    // The first page in use is page 1; slot 0 is its header, 1 and 2 the state of the start, 3 the first punch.
    chip.spoil(2048 + 3 * 32 + 9);
    chip.spoil(2048 + 4 * 32 + 9);
    let batch = start(&mut chip).oldest(6);
    assert_eq!((batch.first, batch.punches.as_slice()), (Seq(3), [punch(3), punch(4), punch(5)].as_slice()));
}

#[test]
fn a_start_takes_few_reads() {
    let mut chip = board();
    fill(&mut start(&mut chip));
    let before = chip.effort().get().reads;
    start(&mut chip);
    let reads = chip.effort().get().reads - before;
    println!("{reads} slots are read at the start of a full ring");
    assert!(reads < 700);
}
