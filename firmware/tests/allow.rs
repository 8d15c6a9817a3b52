//! The allow-list: what it says, how often it is wrong, and what a power cut leaves of it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod chip;

use std::collections::BTreeSet;

use chip::{Chip, Torn};
use firmware::journal::RamStorage;
use firmware::{AllowList, Reader, Show, Upkeep};
use protocol::allow::{FILLING, Header, Mark, false_accepts};
use protocol::image::{PIECE, Piece};
use protocol::{Address, Answer, Badge, Digest, Key, Refusal, Signal, Staging, UptimeMs};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::Digest as _;

const KEY: Key = Key([0x5A; 16]);
const PAGE: usize = 512;
/// A head and two pages of body: 256 fingerprints.
const PAGES: usize = 3;

type Flash = Chip<PAGE>;

struct Made {
    header: Piece,
    body: Vec<Piece>,
}

fn make(badges: &[u32]) -> Made {
    let marks: BTreeSet<u32> = badges.iter().map(|badge| Mark::Full(*badge).fingerprint(Some(KEY))).collect();
    let mut bytes: Vec<u8> = marks.iter().flat_map(|mark| mark.to_le_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(PIECE).max(PIECE), FILLING as u8);
    let hash = sha2::Sha256::digest(&bytes).into();
    let header = Header { fingerprints: marks.len() as u32, length: bytes.len() as u32, hash };
    Made { header: header.piece(), body: bytes.as_chunks().0.iter().map(|bytes| Piece(*bytes)).collect() }
}

fn digest(made: &Made) -> Digest {
    Header::parse(&made.header).unwrap().digest()
}

fn list(chip: &mut Flash) -> AllowList<&mut Flash> {
    AllowList::new(chip, 0, PAGES, Some(KEY))
}

/// As the gateway does it; whether the reader goes by the list now.
fn deliver<const SIZE: usize>(list: &mut AllowList<&mut Chip<SIZE>>, made: &Made) -> Result<bool, Refusal> {
    for _ in 0..1_000 {
        let said = match list.answer(&Upkeep::OfferList(made.header)).unwrap() {
            Answer::List { staging: Staging::Next(next), .. } => {
                list.answer(&Upkeep::WriteList(next, made.body[usize::from(next)])).unwrap()
            }
            other => other,
        };
        match said {
            Answer::List { held, staging: Staging::Nothing } => return Ok(held == digest(made)),
            Answer::List { .. } => list.work(),
            Answer::Refused(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        }
    }
    panic!("no end");
}

fn held<const SIZE: usize>(list: &mut AllowList<&mut Chip<SIZE>>) -> Digest {
    match list.answer(&Upkeep::AllowList(Digest::default())) {
        Some(Answer::AllowList { held }) => held,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_badge_is_on_the_list_or_not_and_without_a_list_nobody_knows() {
    let mut chip = Flash::new(2 * PAGES, 1);
    let mut reader = list(&mut chip);
    assert_eq!((reader.has(Badge::Full(7)), held(&mut reader)), (None, Digest::default()));
    let badges: Vec<u32> = (0..200).map(|index| index * 0x0101_0101 + 3).collect();
    assert_eq!(deliver(&mut reader, &make(&badges)), Ok(true));
    assert!(badges.iter().all(|badge| reader.has(Badge::Full(*badge)) == Some(true)));
    assert_eq!(reader.has(Badge::Full(4)), Some(false));
    // The next list replaces it, also after a start; the leaver is gone.
    assert_eq!(deliver(&mut reader, &make(&badges[1..])), Ok(true));
    let mut reader = list(&mut chip);
    assert_eq!((reader.has(Badge::Full(badges[0])), reader.has(Badge::Full(badges[1]))), (Some(false), Some(true)));
    // Nobody is a list too.
    assert_eq!(deliver(&mut reader, &make(&[])), Ok(true));
    assert_eq!(reader.has(Badge::Full(badges[1])), Some(false));
}

#[test]
fn twenty_four_bits_match_as_the_roster_knows_them() {
    let of = |badge| Mark::of(badge).map(|mark| mark.fingerprint(Some(KEY)));
    let (whole, low) = (0xE308_6CED, 0x0008_6CED);
    // Whole on the roster: a whole badge must be the same, a reader of 24 bits sees its low ones.
    let roster = [Mark::Full(whole), Mark::LowOfFull(low)].map(|mark| mark.fingerprint(Some(KEY)));
    let matches = |badge, roster: &[u32]| of(badge).iter().any(|mark| roster.contains(mark));
    assert!(matches(Badge::Full(whole), &roster) && matches(Badge::Low24(low), &roster));
    assert!(!matches(Badge::Full(low), &roster) && !matches(Badge::Full(0x0108_6CED), &roster));
    // 24 bits on the roster: every badge with these.
    let roster = [Mark::Low(low).fingerprint(Some(KEY))];
    assert!(matches(Badge::Full(whole), &roster) && matches(Badge::Low24(low), &roster));
    assert!(!matches(Badge::Low24(low + 1), &roster));
    // Another reader's list says nothing here.
    assert_ne!(Mark::Full(whole).fingerprint(Some(KEY)), Mark::Full(whole).fingerprint(Some(Key([1; 16]))));
}

/// As many fingerprints as the board takes, and a million badges that are not registered: 3.8 are expected to pass.
#[test]
fn false_accepts_are_as_rare_as_is_said() {
    const FINGERPRINTS: u32 = 8_192;
    let mut chip = Chip::<2048>::new(34, 1);
    let mut reader = AllowList::new(&mut chip, 0, 17, Some(KEY));
    let badges: Vec<u32> = (0..FINGERPRINTS).collect();
    assert_eq!(deliver(&mut reader, &make(&badges)), Ok(true));
    let tried = 1_000_000;
    let passed = (0..tried).filter(|index| reader.has(Badge::Full(0x8000_0000 + index)) == Some(true)).count();
    let expected = false_accepts(FINGERPRINTS) * f64::from(tried);
    println!("{passed} of {tried} badges passed that are not registered; {expected:.1} were expected");
    assert!((3.7..3.9).contains(&expected) && passed <= 14);
}

#[test]
fn a_list_that_is_damaged_too_large_or_none_is_refused_and_the_old_one_stays() {
    let mut chip = Flash::new(2 * PAGES, 1);
    let mut reader = list(&mut chip);
    let good = make(&[1, 2, 3]);
    assert_eq!(deliver(&mut reader, &good), Ok(true));
    let mut damaged = make(&[4, 5, 6]);
    damaged.body[0].0[1] ^= 1;
    for _ in 0..damaged.body.len() {
        let _ = reader.answer(&Upkeep::OfferList(damaged.header));
        let _ = reader.answer(&Upkeep::WriteList(0, damaged.body[0]));
    }
    (0..10).for_each(|_| reader.work());
    assert_eq!(held(&mut reader), digest(&good));
    let large = make(&(0..300).collect::<Vec<u32>>());
    assert_eq!(deliver(&mut reader, &large), Err(Refusal::NoFlash));
    assert_eq!(reader.answer(&Upkeep::OfferList(Piece([7; PIECE]))), Some(Answer::Refused(Refusal::Damaged)));
    assert_eq!(reader.has(Badge::Full(2)), Some(true));
    assert_eq!(reader.answer(&Upkeep::Install), None);
}

/// The last word of its header was torn and reads well just once.
#[test]
fn a_list_whose_header_was_torn_is_begun_anew_and_stays() {
    for seed in 0..20 {
        let mut chip = Flash::new(2 * PAGES, seed);
        // One erase, and 16 words.
        chip.cut_after(16, Torn::Whole);
        let made = make(&[1, 2, 3]);
        let _ = deliver(&mut list(&mut chip), &made);
        chip.power_up();
        assert_eq!(deliver(&mut list(&mut chip), &made), Ok(true));
        for _ in 0..20 {
            chip.power_up();
            assert_eq!(list(&mut chip).has(Badge::Full(2)), Some(true), "seed {seed}");
        }
    }
}

#[test]
fn a_power_cut_at_every_step_leaves_a_list_that_was_pushed_and_takes_the_next() {
    let lists = [make(&[1, 2, 3]), make(&(0..200).collect::<Vec<u32>>()), make(&[9])];
    let tell = |chip: &mut Flash| {
        let power = chip.power();
        let mut whole = 0_usize;
        for made in &lists {
            let outcome = deliver(&mut list(chip), made);
            if power.get() {
                return whole;
            }
            assert_eq!(outcome, Ok(true));
            whole += 1;
        }
        whole
    };
    let mut chip = Flash::new(2 * PAGES, 1);
    assert_eq!(tell(&mut chip), 3);
    let steps = chip.steps();
    assert!(steps > 150, "{steps}");
    for (step, torn) in (0..steps).flat_map(|step| Torn::ALL.map(|torn| (step, torn))) {
        let mut rng = StdRng::seed_from_u64(step as u64);
        let mut chip = Flash::new(2 * PAGES, step as u64);
        chip.cut_after(step, torn);
        let mut before = Digest::default();
        for _ in 0..3 {
            let whole = tell(&mut chip);
            chip.power_up();
            let mut reader = list(&mut chip);
            // The list that was said to be held, or the one that was on its way.
            let found = held(&mut reader);
            let said = whole.checked_sub(1).map_or(before, |last| digest(&lists[last]));
            let coming = lists.get(whole).map(digest);
            assert!(found == said || Some(found) == coming, "step {step} {torn:?}: {found:?} after {whole}");
            before = found;
            chip.cut_after(rng.random_range(0..200), Torn::ALL[rng.random_range(0..Torn::ALL.len())]);
        }
        chip.power_up();
        assert_eq!(tell(&mut chip), 3, "step {step} {torn:?}");
        for _ in 0..4 {
            let mut reader = list(&mut chip);
            let heard = [9, 1].map(|badge| reader.has(Badge::Full(badge)));
            assert_eq!(heard, [Some(true), Some(false)], "step {step} {torn:?}");
            chip.power_up();
        }
    }
}

#[test]
fn without_the_gateway_the_list_opens_or_shows_unknown_and_every_swipe_is_kept() {
    let mut reader = Reader::keyed(Address::new(1).unwrap(), KEY, RamStorage::<8>::new()).unwrap();
    let now = UptimeMs(3_000);
    assert!(reader.is_alone(now) && !reader.is_alone(UptimeMs(2_999)));
    let seq = reader.handle_badge(Badge::Full(1), now).unwrap();
    reader.handle_listed(seq, true, now);
    reader.handle_time(now);
    assert_eq!(reader.poll_show(), Some(Show::Open { pulse_ms: 500 }));
    assert_eq!(reader.poll_show(), Some(Show::Kept));
    let seq = reader.handle_badge(Badge::Full(2), now).unwrap();
    reader.handle_listed(seq, false, now);
    reader.handle_time(UptimeMs(9_000));
    assert_eq!(reader.poll_show(), Some(Show::Punch { seq, signal: Signal::Unknown }));
    assert_eq!((reader.poll_show(), reader.status(now).journal_fill), (None, 2));
}
