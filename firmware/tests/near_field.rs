//! The 13.56 MHz module: a chip that keeps its registers as the data sheet says, and cards that answer as the standard
//! says, or as somebody who means harm would.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use embedded_hal::spi::{ErrorType, Operation, SpiDevice};
use firmware::near_field::{LOOK_MS, Module, RETRY_MS};
use proptest::prelude::*;
use protocol::{Badge, UptimeMs};

const COMMAND: usize = 0x01;
const COM_IRQ: usize = 0x04;
const DIV_IRQ: usize = 0x05;
const ERROR: usize = 0x06;
const FIFO: usize = 0x09;
const FIFO_LEVEL: usize = 0x0A;
const CONTROL: usize = 0x0C;
const COLLISION: usize = 0x0E;
const FRAMING: usize = 0x0D;
const RELOAD_HIGH: usize = 0x2C;
const RELOAD_LOW: usize = 0x2D;
const VERSION: usize = 0x37;

/// What a card answers to a frame.
type Card = Box<dyn FnMut(&[u8]) -> Option<Vec<u8>>>;

struct Chip {
    registers: [u8; 64],
    fifo: Vec<u8>,
    card: Option<Card>,
    /// The port is empty and reads as this.
    absent: Option<u8>,
    /// What the error register says after each frame.
    error: u8,
    transfers: usize,
}

/// A port at which the chip sits; clones are the same port.
#[derive(Clone)]
struct Port(Rc<RefCell<Chip>>);

impl ErrorType for Port {
    type Error = Infallible;
}

impl SpiDevice for Port {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        let mut chip = self.0.borrow_mut();
        chip.transfers += 1;
        let mut address = None;
        for operation in operations {
            match operation {
                Operation::Write(bytes) => {
                    for byte in *bytes {
                        chip.shift(&mut address, *byte);
                    }
                }
                Operation::TransferInPlace(bytes) => {
                    bytes.iter_mut().for_each(|byte| *byte = chip.shift(&mut address, *byte));
                }
                _ => panic!("the driver only writes and transfers in place"),
            }
        }
        Ok(())
    }
}

impl Chip {
    /// One byte in, one byte out: the first is the address.
    fn shift(&mut self, address: &mut Option<u8>, byte: u8) -> u8 {
        match *address {
            None => {
                *address = Some(byte);
                0
            }
            Some(at) if at & 0x80 != 0 => self.read(usize::from(at >> 1 & 0x3F)),
            Some(at) => {
                self.write(usize::from(at >> 1 & 0x3F), byte);
                0
            }
        }
    }

    fn read(&mut self, register: usize) -> u8 {
        if let Some(level) = self.absent {
            return level;
        }
        match register {
            FIFO if self.fifo.is_empty() => 0,
            FIFO => self.fifo.remove(0),
            FIFO_LEVEL => self.fifo.len() as u8,
            VERSION => 0x92,
            _ => self.registers[register],
        }
    }

    fn write(&mut self, register: usize, value: u8) {
        self.registers[register] = value;
        match (register, value) {
            (COMMAND, 0x0F) => (self.registers, self.fifo) = ([0; 64], Vec::new()),
            (COMMAND, 0x03) => {
                let [low, high] = crc_a(&self.fifo);
                (self.registers[0x22], self.registers[0x21]) = (low, high);
                self.registers[DIV_IRQ] = 1 << 2;
            }
            (COM_IRQ, _) => self.registers[COM_IRQ] = 0,
            (DIV_IRQ, _) => self.registers[DIV_IRQ] = 0,
            (FIFO, byte) => self.fifo.push(byte),
            (FIFO_LEVEL, _) => self.fifo.clear(),
            (FRAMING, start) if start & 0x80 != 0 && self.registers[COMMAND] == 0x0C => self.transceive(),
            _ => {}
        }
    }

    fn transceive(&mut self) {
        let sent = std::mem::take(&mut self.fifo);
        match self.card.as_mut().and_then(|card| card(&sent)) {
            Some(answer) => (self.fifo, self.registers[COM_IRQ]) = (answer, 1 << 5),
            None => self.registers[COM_IRQ] = 1 << 0,
        }
        (self.registers[ERROR], self.registers[CONTROL]) = (self.error, 0);
    }
}

/// ISO/IEC 14443-3, annex B.
fn crc_a(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0x6363_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x8408 } else { crc >> 1 };
        }
    }
    crc.to_le_bytes()
}

/// A card with this number: 4, 7 or 10 bytes.
fn card(uid: &[u8]) -> Card {
    let levels: Vec<[u8; 4]> = match *uid {
        [a, b, c, d] => vec![[a, b, c, d]],
        [a, b, c, d, e, f, g] => vec![[0x88, a, b, c], [d, e, f, g]],
        [a, b, c, d, e, f, g, h, i, j] => vec![[0x88, a, b, c], [0x88, d, e, f], [g, h, i, j]],
        _ => panic!("no card has such a number"),
    };
    Box::new(move |frame| match *frame {
        [0x52] => Some(vec![[0x04, 0x44, 0x84][levels.len() - 1], 0x00]),
        [select, 0x20] => {
            let level = levels.get(usize::from(select - 0x93) / 2)?;
            Some([&level[..], &[level.iter().fold(0, |sum, byte| sum ^ byte)]].concat())
        }
        [select, 0x70, ref rest @ ..] => {
            let level = usize::from(select - 0x93) / 2;
            assert_eq!(crc_a(&frame[..7]), frame[7..], "the chip sends what the driver has summed");
            (rest[..4] == levels[level]).then(|| {
                let acknowledge = if level + 1 < levels.len() { 0x04 } else { 0x08 };
                [&[acknowledge][..], &crc_a(&[acknowledge])].concat()
            })
        }
        _ => None,
    })
}

struct Desk {
    port: Port,
    module: Module<Port>,
    now: u64,
}

impl Desk {
    fn new() -> Desk {
        let chip = Chip { registers: [0; 64], fifo: Vec::new(), card: None, absent: None, error: 0, transfers: 0 };
        let port = Port(Rc::new(RefCell::new(chip)));
        let mut desk = Desk { module: Module::new(port.clone()), port, now: 0 };
        assert_eq!(desk.look(), None, "it is started first");
        desk
    }

    fn hold(&mut self, card: Card) {
        self.port.0.borrow_mut().card = Some(card);
    }

    fn look(&mut self) -> Option<Badge> {
        self.now += LOOK_MS;
        self.module.poll(UptimeMs(self.now))
    }
}

#[test]
fn a_number_of_four_bytes_is_the_badge_as_printed() {
    let mut desk = Desk::new();
    assert_eq!((desk.look(), desk.module.noise()), (None, 0));
    desk.hold(card(&[0xE3, 0x08, 0x6C, 0xED]));
    assert_eq!(desk.look(), Some(Badge::Full(0xE308_6CED)));
    for _ in 0..1_000 {
        assert_eq!(desk.look(), Some(Badge::Full(0xE308_6CED)), "it lies there still");
    }
    desk.port.0.borrow_mut().card = None;
    assert_eq!((desk.look(), desk.module.noise()), (None, 0));
}

#[test]
fn of_longer_numbers_the_last_four_bytes_count() {
    let mut desk = Desk::new();
    desk.hold(card(&[0x04, 1, 2, 0xA3, 0xB4, 0xC5, 0xD6]));
    assert_eq!(desk.look(), Some(Badge::Full(0xA3B4_C5D6)));
    desk.hold(card(&[0x04, 1, 2, 3, 4, 5, 0xA1, 0xA2, 0xA3, 0xA4]));
    assert_eq!(desk.look(), Some(Badge::Full(0xA1A2_A3A4)));
}

#[test]
fn a_telephones_random_number_is_no_badge() {
    let mut desk = Desk::new();
    desk.hold(card(&[0x08, 1, 2, 3]));
    assert_eq!((desk.look(), desk.module.noise()), (None, 1));
    desk.hold(card(&[0x08, 1, 2, 0xA3, 0xB4, 0xC5, 0xD6]));
    assert_eq!(desk.look(), Some(Badge::Full(0xA3B4_C5D6)), "only short ones are drawn");
}

#[test]
fn between_two_looks_nothing_is_said_and_a_look_waits_a_millisecond_at_most() {
    let mut desk = Desk::new();
    desk.look();
    let before = desk.port.0.borrow().transfers;
    assert_eq!(desk.module.poll(UptimeMs(desk.now + LOOK_MS - 1)), None);
    assert_eq!(desk.port.0.borrow().transfers, before);
    let chip = desk.port.0.borrow();
    assert_eq!((chip.registers[RELOAD_HIGH], chip.registers[RELOAD_LOW]), (0, 40), "of 25 µs");
}

#[test]
fn a_module_that_is_not_there_or_goes_away_costs_little_and_is_found_when_it_comes() {
    for level in [0x00, 0xFF] {
        let mut desk = Desk::new();
        desk.hold(card(&[1, 2, 3, 4]));
        desk.port.0.borrow_mut().absent = Some(level);
        for _ in 0..2_000 {
            assert_eq!(desk.look(), None);
        }
        let spent = desk.port.0.borrow().transfers;
        assert!(spent < 2_000 * 10 + 21 * 4_001, "{spent} transfers in {} ms", desk.now);
        desk.port.0.borrow_mut().absent = None;
        let found = (0..2 * RETRY_MS / LOOK_MS).find_map(|_| desk.look());
        assert_eq!(found, Some(Badge::Full(0x0102_0304)));
    }
}

proptest! {
    /// Whoever holds a card of his own making to the module gets no badge for nothing, stops nothing, and the next
    /// honest card is read.
    #[test]
    fn no_card_can_stop_the_module(answers in prop::collection::vec(
        prop::option::of(prop::collection::vec(any::<u8>(), 0..12)), 1..40), error in prop_oneof![Just(0), Just(8), any::<u8>()], collision in any::<u8>())
    {
        let mut desk = Desk::new();
        let mut answers = answers.into_iter().cycle();
        desk.hold(Box::new(move |_| answers.next().flatten()));
        for _ in 0..20 {
            let before = desk.port.0.borrow().transfers;
            desk.look();
            desk.port.0.borrow_mut().registers[COLLISION] = collision;
            desk.port.0.borrow_mut().error = error;
            prop_assert!(desk.port.0.borrow().transfers - before <= 4_001);
        }
        desk.hold(card(&[1, 2, 3, 4]));
        desk.port.0.borrow_mut().error = 0;
        let found = (0..2 * RETRY_MS / LOOK_MS).find_map(|_| desk.look());
        prop_assert_eq!(found, Some(Badge::Full(0x0102_0304)));
    }
}
