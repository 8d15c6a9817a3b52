//! Inputs without end for what a reader decodes beside the line: Wiegand pulses, settings, a journal in flash. No panic, no
//! growth, and what is whole is found again afterwards. How many, and the long form: see the protocol's `tests/longform.rs`.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

#[path = "../../protocol/tests/inputs/mod.rs"]
mod inputs;

use firmware::flash::{Flash, FlashError, WORD};
use firmware::journal::{Journal, Storage};
use firmware::settings::{self, Settings};
use firmware::{FlashRing, wiegand};
use inputs::Inputs;
use protocol::{Address, Badge, BootId, Key, Punch, UptimeMs};
use rand::Rng;

/// A byte is a pulse: its lowest bit, and the pause before it.
#[test]
fn mutated_pulses_stop_no_wiegand_decoder() {
    let number = |bits: u32| (0..bits).map(|bit| 0x40 | (bit % 2) as u8).collect::<Vec<u8>>();
    let mut inputs = Inputs::new("pulses", vec![number(26), number(34), number(35), vec![0xFF; 4]]);
    let (mut decoder, mut now) = (wiegand::Decoder::new(), 0_u64);
    while let Some(pulses) = inputs.next() {
        for pulse in pulses {
            now = now.saturating_add(u64::from(pulse >> 1) << inputs.rng.random_range(0..10));
            decoder.handle_pulse(pulse & 1 != 0, now);
        }
        if inputs.is_time_to_look() {
            now += wiegand::GAP_US;
            decoder.poll(now);
            // Zeros with their two parities: 24 bits of nothing.
            for bit in 0..26 {
                now += 2_000;
                decoder.handle_pulse(bit == 25, now);
            }
            assert_eq!(decoder.poll(now + wiegand::GAP_US), Some(Badge::Low24(0)));
        }
    }
}

#[test]
fn mutated_settings_are_settings_or_none() {
    let settings = Settings { address: Address::new(9).unwrap(), key: Some(Key([7; 16])), baud: 115_200 };
    let keyless = Settings { key: None, ..settings };
    let mut inputs =
        Inputs::new("settings", vec![settings.encode().to_vec(), keyless.encode().to_vec(), vec![0xFF; 32]]);
    let mut taken = 0;
    while let Some(mut bytes) = inputs.next() {
        bytes.resize(settings::LEN, 0xFF);
        let mut bytes: [u8; settings::LEN] = bytes.try_into().unwrap();
        if inputs.rng.random() {
            let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes[..28]).to_le_bytes();
            bytes[28..].copy_from_slice(&crc);
        }
        if let Some(settings) = Settings::decode(&bytes) {
            taken += 1;
            assert_eq!(Settings::decode(&settings.encode()), Some(settings));
            assert!((1_200..=921_600).contains(&settings.baud));
        }
    }
    assert!(taken > 0, "the mended ones get through");
}

/// Whatever is in the flash, a start ends, and what is kept afterwards can be read.
#[test]
fn mutated_flash_stops_no_start() {
    let mut inputs = Inputs::new("flash", flashes());
    let (mut broken, mut kept) = (0_u64, 0_u64);
    while let Some(mut cells) = inputs.next() {
        cells.resize(Cells::PAGE * PAGES, 0xFF);
        let Ok(mut journal) = Journal::recover(FlashRing::<_, PAGES>::new(Cells(cells))) else {
            broken += 1;
            continue;
        };
        journal.oldest(6);
        let punch = Punch { boot: journal.boot(), at: UptimeMs(1), unix_ms: None, badge: Badge::Full(0xBAD6E) };
        if let Ok(seq) = journal.append(&punch) {
            kept += 1;
            assert_eq!(journal.into_storage().read(seq), Some(punch));
        }
    }
    println!("{kept} took a punch, {broken} did not start");
    assert!(kept > broken);
}

const PAGES: usize = 8;

/// Flash without ECC, in which anything can stand.
struct Cells(Vec<u8>);

impl Flash for Cells {
    const PAGE: usize = 128;

    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<(), FlashError> {
        into.copy_from_slice(self.0.get(at..at + into.len()).ok_or(FlashError)?);
        Ok(())
    }

    fn program(&mut self, at: usize, word: &[u8; WORD]) -> Result<(), FlashError> {
        let cell =
            self.0.get_mut(at..at + WORD).filter(|cell| cell.iter().all(|byte| *byte == 0xFF)).ok_or(FlashError)?;
        cell.copy_from_slice(word);
        Ok(())
    }

    fn erase(&mut self, page: usize) -> Result<(), FlashError> {
        self.0.get_mut(page * Self::PAGE..(page + 1) * Self::PAGE).ok_or(FlashError)?.fill(0xFF);
        Ok(())
    }
}

/// Journals at several ages.
fn flashes() -> Vec<Vec<u8>> {
    let mut flashes = vec![vec![0xFF; Cells::PAGE * PAGES]];
    for boots in 1..=6 {
        let mut cells = vec![0xFF; Cells::PAGE * PAGES];
        for boot in 1..=boots {
            let mut journal = Journal::recover(FlashRing::<_, PAGES>::new(Lent(&mut cells))).unwrap();
            for at in 0..3 {
                let punch = Punch { boot: BootId(boot), at: UptimeMs(at), unix_ms: Some(9), badge: Badge::Full(boot) };
                let Ok(seq) = journal.append(&punch) else { continue };
                if boot % 2 == 0 {
                    journal.commit(seq);
                }
            }
        }
        flashes.push(cells);
    }
    flashes
}

/// The same in borrowed memory.
struct Lent<'a>(&'a mut Vec<u8>);

impl Lent<'_> {
    fn with<T>(&mut self, act: impl FnOnce(&mut Cells) -> T) -> T {
        let mut cells = Cells(std::mem::take(self.0));
        let done = act(&mut cells);
        *self.0 = cells.0;
        done
    }
}

impl Flash for Lent<'_> {
    const PAGE: usize = Cells::PAGE;

    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<(), FlashError> {
        self.with(|cells| cells.read(at, into))
    }

    fn program(&mut self, at: usize, word: &[u8; WORD]) -> Result<(), FlashError> {
        self.with(|cells| cells.program(at, word))
    }

    fn erase(&mut self, page: usize) -> Result<(), FlashError> {
        self.with(|cells| cells.erase(page))
    }
}
