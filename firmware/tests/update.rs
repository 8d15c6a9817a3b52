//! Updates of the reader's program, on a chip whose power goes at every program and erase step.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod chip;

use std::sync::LazyLock;

use chip::{Chip, Torn};
use ed25519_dalek::{Signer, SigningKey};
use firmware::flash::WORD;
use firmware::update::{Identity, Mark, Slot, Updater, boot, slots};
use protocol::image::{Header, PIECE, Piece};
use protocol::{Image, Refusal, Staging};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

const PAGE: usize = 512;
/// A head and two pages of body, eight pieces.
const PAGES: usize = 3;
const BOARD: u8 = 1;
/// Cuts after the first one.
const MORE_CUTS: usize = 3;

type Flash = Chip<PAGE>;

fn maker() -> SigningKey {
    SigningKey::from_bytes(&[0x42; 32])
}

/// Header and body of an image.
#[derive(Clone)]
struct Made {
    header: Piece,
    body: Vec<Piece>,
}

fn make_with(key: &SigningKey, board: u8, slot: u8, version: u32, pieces: usize) -> Made {
    let mut rng = StdRng::seed_from_u64(u64::from(version));
    let body: Vec<u8> = (0..pieces * PIECE).map(|_| rng.random()).collect();
    let hash = Sha256::digest(&body).into();
    let header = Header { board, slot, version, length: body.len() as u32, hash };
    let header = header.piece(&key.sign(&header.signed()).to_bytes());
    Made { header, body: body.as_chunks().0.iter().map(|bytes| Piece(*bytes)).collect() }
}

fn make(slot: u8, version: u32) -> Made {
    make_with(&maker(), BOARD, slot, version, 5)
}

fn identity(running: u8) -> Identity {
    Identity { board: BOARD, running, maker: Some(maker().verifying_key().to_bytes()) }
}

fn start(chip: &mut Flash) -> Updater<&mut Flash> {
    let running = boot(chip, PAGES, BOARD).unwrap_or(0);
    Updater::new(chip, PAGES, identity(running))
}

/// What the line does: offers, writes, installs, and asks again while something is being checked.
fn deliver(updater: &mut Updater<&mut Flash>, made: &Made) -> Result<(), Refusal> {
    updater.stage(&made.header)?;
    // A reader on a desk does not need more; one without power never ends.
    for _ in 0..1_000 {
        match updater.image().staging {
            Staging::Checking => updater.work(),
            Staging::Next(next) if usize::from(next) < made.body.len() => {
                updater.write(next, &made.body[usize::from(next)])?;
            }
            Staging::Next(_) => updater.install()?,
            Staging::Ready => {
                updater.install()?;
                return Ok(());
            }
            Staging::Nothing => updater.stage(&made.header)?,
        }
    }
    panic!("no end");
}

fn body_in(chip: &mut Flash, number: u8, length: usize) -> Vec<u8> {
    let slot: Slot = slots(PAGES)[usize::from(number) - 1];
    let mut bytes = vec![0; length];
    slot.read(chip, 0, &mut bytes).unwrap();
    bytes
}

fn runs(chip: &mut Flash, made: &Made, number: u8) {
    assert_eq!(boot(chip, PAGES, BOARD), Some(number));
    let wanted: Vec<u8> = made.body.iter().flat_map(|piece| piece.0).collect();
    assert_eq!(body_in(chip, number, wanted.len()), wanted);
}

#[test]
fn an_update_runs_at_the_next_start_on_trial_and_stays_when_the_gateway_has_talked_to_it() {
    let mut chip = Flash::new(2 * PAGES, 1);
    let mut reader = start(&mut chip);
    let factory = Image { board: BOARD, version: 0, on_trial: false, target: 1, staging: Staging::Nothing };
    assert_eq!(reader.image(), factory);
    deliver(&mut reader, &make(1, 5)).unwrap();
    assert!(reader.wants_restart());

    runs(&mut chip, &make(1, 5), 1);
    let mut reader = start(&mut chip);
    let image = reader.image();
    assert_eq!((image.version, image.on_trial, image.target), (5, true, 2));
    reader.confirm();
    assert!(!reader.image().on_trial);
    deliver(&mut reader, &make(2, 6)).unwrap();
    runs(&mut chip, &make(2, 6), 2);
}

#[test]
fn an_image_that_never_reaches_the_gateway_gives_way_to_the_one_before() {
    let mut chip = Flash::new(2 * PAGES, 1);
    deliver(&mut start(&mut chip), &make(1, 1)).unwrap();
    start(&mut chip).confirm();
    deliver(&mut start(&mut chip), &make(2, 2)).unwrap();
    let starts = (0..100).take_while(|_| boot(&mut chip, PAGES, BOARD) == Some(2)).count();
    assert_eq!(starts, 8);
    runs(&mut chip, &make(1, 1), 1);
    // It may be offered again, and may be better then.
    deliver(&mut start(&mut chip), &make(2, 2)).unwrap();
    runs(&mut chip, &make(2, 2), 2);
}

#[test]
fn what_is_not_signed_by_the_maker_is_refused_and_touches_no_flash() {
    let mut chip = Flash::new(2 * PAGES, 1);
    let stranger = SigningKey::from_bytes(&[0x43; 32]);
    let flipped = |byte: usize| {
        let mut bytes: [u8; PIECE] = make(1, 1).header.0;
        bytes[byte] ^= 1;
        Made { header: Piece(bytes), ..make(1, 1) }
    };
    let forged =
        [make_with(&stranger, BOARD, 1, 1, 7), flipped(0), flipped(17), flipped(50), flipped(90), flipped(120)];
    for made in forged {
        assert_eq!(deliver(&mut start(&mut chip), &made), Err(Refusal::NotSigned));
    }
    let mut keyless = Updater::new(&mut chip, PAGES, Identity { maker: None, ..identity(0) });
    assert_eq!(deliver(&mut keyless, &make(1, 1)), Err(Refusal::NotSigned));
    assert_eq!(chip.steps(), 0);
}

#[test]
fn another_board_the_running_slot_and_an_image_that_does_not_fit_are_refused() {
    let mut chip = Flash::new(2 * PAGES, 1);
    let mut reader = start(&mut chip);
    for (made, refusal) in [
        (make_with(&maker(), BOARD + 1, 1, 1, 7), Refusal::OtherBoard),
        (make(2, 1), Refusal::OtherBoard),
        (make_with(&maker(), BOARD, 1, 1, 9), Refusal::NoFlash),
    ] {
        assert_eq!(reader.stage(&made.header), Err(refusal));
    }
    assert_eq!(chip.steps(), 0);
}

#[test]
fn an_older_image_is_refused_also_when_it_was_good_once() {
    let mut chip = Flash::new(2 * PAGES, 1);
    for (number, version) in [(1, 3), (2, 4)] {
        deliver(&mut start(&mut chip), &make(number, version)).unwrap();
        start(&mut chip).confirm();
    }
    let mut reader = start(&mut chip);
    assert_eq!(reader.image().version, 4);
    for version in [1, 3, 4] {
        assert_eq!(deliver(&mut reader, &make(1, version)), Err(Refusal::OldVersion));
    }
    // Even if the newest went bad and the one before runs.
    chip.spoil(PAGES * PAGE + PAGE + 9);
    let mut reader = start(&mut chip);
    assert_eq!(reader.image().version, 3);
    assert_eq!(reader.stage(&make(2, 4).header), Err(Refusal::OldVersion));
    assert_eq!(deliver(&mut reader, &make(2, 5)), Ok(()));
}

#[test]
fn a_body_that_was_not_signed_is_refused_and_never_runs() {
    let mut chip = Flash::new(2 * PAGES, 1);
    let mut made = make(1, 1);
    made.body[4] = Piece([7; PIECE]);
    assert_eq!(deliver(&mut start(&mut chip), &made), Err(Refusal::Damaged));
    assert_eq!(boot(&mut chip, PAGES, BOARD), None);
    // Half of it does not run either.
    let mut reader = start(&mut chip);
    let made = make(1, 1);
    reader.stage(&made.header).unwrap();
    reader.work();
    reader.write(0, &made.body[0]).unwrap();
    assert_eq!(reader.install(), Err(Refusal::NotStaged));
    assert_eq!(boot(&mut chip, PAGES, BOARD), None);
}

#[test]
fn pieces_out_of_turn_and_repeated_ones_do_no_harm() {
    let mut chip = Flash::new(2 * PAGES, 1);
    let mut reader = start(&mut chip);
    let made = make(1, 1);
    reader.stage(&made.header).unwrap();
    reader.work();
    for index in [3, 0, 0, 2, 1, 0, 100, u16::MAX] {
        reader.write(index, &made.body[usize::from(index) % 5]).unwrap();
    }
    assert_eq!(reader.image().staging, Staging::Next(2));
    deliver(&mut reader, &made).unwrap();
    runs(&mut chip, &made, 1);
}

#[test]
fn an_update_goes_on_at_the_page_where_it_was_cut() {
    let mut chip = Flash::new(2 * PAGES, 1);
    let made = make(1, 1);
    let mut reader = start(&mut chip);
    reader.stage(&made.header).unwrap();
    reader.work();
    (0..5).for_each(|index| reader.write(index, &made.body[usize::from(index)]).unwrap());
    let mut reader = start(&mut chip);
    reader.stage(&made.header).unwrap();
    reader.work();
    assert_eq!(reader.image().staging, Staging::Next(4));
    deliver(&mut reader, &made).unwrap();
    runs(&mut chip, &made, 1);
}

#[test]
fn a_cell_that_is_programmed_wrong_is_noticed_and_a_mark_goes_to_the_next() {
    let mut chip = Flash::new(2 * PAGES, 1);
    chip.stick(PAGE + 2 * PIECE);
    assert_eq!(deliver(&mut start(&mut chip), &make(1, 1)), Err(Refusal::NoFlash));
    assert_eq!(boot(&mut chip, PAGES, BOARD), None);

    let mut chip = Flash::new(2 * PAGES, 1);
    [Mark::Whole, Mark::Tried, Mark::Good].into_iter().for_each(|mark| chip.stick(mark as usize * WORD));
    deliver(&mut start(&mut chip), &make(1, 1)).unwrap();
    start(&mut chip).confirm();
    runs(&mut chip, &make(1, 1), 1);
    assert!(!start(&mut chip).image().on_trial);
}

/// The marks of whole and good are torn, each reads well at first, and what was said by them stays true.
#[test]
fn a_program_that_was_confirmed_by_a_torn_mark_stays() {
    for seed in 0..20 {
        let mut chip = Flash::new(2 * PAGES, seed);
        deliver(&mut start(&mut chip), &make(1, 1)).unwrap();
        start(&mut chip).confirm();
        let mut copy = chip.copy();
        let before = copy.steps();
        deliver(&mut start(&mut copy), &make(2, 2)).unwrap();
        chip.cut_after(copy.steps() - before - 1, Torn::Whole);
        let power = chip.power();
        let mut updater = start(&mut chip);
        while !power.get() {
            let _ = deliver(&mut updater, &make(2, 2));
        }
        chip.power_up();
        // The start takes a trial, the gateway's word is torn.
        chip.cut_after(1, Torn::Whole);
        start(&mut chip).confirm();
        assert!(power.get());
        chip.power_up();
        let mut updater = start(&mut chip);
        let image = updater.image();
        assert_eq!((image.version, image.on_trial), (2, false), "seed {seed}");
        updater.confirm();
        for _ in 0..20 {
            chip.power_up();
            assert_eq!(boot(&mut chip, PAGES, BOARD), Some(2), "seed {seed}");
        }
    }
}

/// Three updates, each taken, started and confirmed; and what was said of them while there was power.
struct Life {
    chip: Flash,
    confirmed: u32,
}

impl Life {
    fn new() -> Life {
        Life { chip: Flash::new(2 * PAGES, 7), confirmed: 0 }
    }

    /// Signed once: each life tells of the same ones.
    fn made(version: u32) -> &'static (Made, u8) {
        static MADE: LazyLock<[(Made, u8); 3]> =
            LazyLock::new(|| [(1, 1), (2, 2), (1, 3)].map(|(number, version)| (make(number, version), number)));
        &MADE[version as usize - 1]
    }

    /// A start, then updates until the last version runs or the power goes.
    fn live(&mut self) {
        let power = self.chip.power();
        for _ in 0..10 {
            let running = boot(&mut self.chip, PAGES, BOARD);
            if power.get() {
                return;
            }
            let version = self.judge(running);
            let mut updater = Updater::new(&mut self.chip, PAGES, identity(running.unwrap_or(0)));
            assert_eq!(updater.image().version, version);
            updater.confirm();
            if !power.get() && !updater.image().on_trial {
                self.confirmed = version;
            }
            if version == 3 {
                return;
            }
            // Without power every refusal is possible; with it none is.
            let outcome = deliver(&mut updater, &Life::made(version + 1).0);
            if power.get() {
                return;
            }
            assert_eq!(outcome, Ok(()));
        }
        panic!("no end");
    }

    /// What runs is an image that was signed, whole, and none older than one that was said to stay.
    fn judge(&mut self, running: Option<u8>) -> u32 {
        let Some(number) = running else {
            assert_eq!(self.confirmed, 0, "the factory's image is back");
            return 0;
        };
        let piece = slots(PAGES)[usize::from(number) - 1].header(&mut self.chip).unwrap();
        let version = Header::parse(&piece).unwrap().0.version;
        let (made, slot) = Life::made(version);
        let wanted: Vec<u8> = made.body.iter().flat_map(|piece| piece.0).collect();
        assert_eq!((*slot, body_in(&mut self.chip, number, wanted.len())), (number, wanted));
        assert!(version >= self.confirmed, "{version} runs after {} was confirmed", self.confirmed);
        version
    }
}

#[test]
fn a_power_cut_at_every_step_and_three_more_leave_a_reader_that_starts_and_can_be_updated() {
    let mut whole = Life::new();
    whole.live();
    let steps = whole.chip.steps();
    assert!(steps > 250, "{steps}");
    let mut cuts = 0;
    for step in 0..steps {
        for torn in Torn::ALL {
            let mut life = Life::new();
            let mut rng = StdRng::seed_from_u64(step as u64);
            life.chip.cut_after(step, torn);
            for _ in 0..MORE_CUTS {
                life.live();
                life.chip.power_up();
                cuts += 1;
                let within = if rng.random_bool(0.5) { 24 } else { 300 };
                life.chip.cut_after(rng.random_range(0..within), Torn::ALL[rng.random_range(0..Torn::ALL.len())]);
            }
            life.live();
            life.chip.power_up();
            life.live();
            let running = boot(&mut life.chip, PAGES, BOARD);
            assert_eq!(life.judge(running), 3, "step {step} {torn:?}");
        }
    }
    println!("{steps} steps, {cuts} cuts: it started after each, and took the update");
}
