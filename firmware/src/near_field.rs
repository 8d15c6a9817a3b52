//! A 13.56 MHz module with an MFRC522: cards of ISO/IEC 14443 A to badges. The driver is a crate; here is what it lacks
//! for a reader that nobody looks after: it ends, whatever the chip or a card answers, and it does not keep the line
//! waiting.
//!
//! ```text
//! 4 bytes    the number as printed: the first byte is the highest
//! 7, 10      the last four bytes, as the last four of an EM card; the first ones name the maker
//! 08 …       drawn at random by telephones, at each touch another: no badge
//! ```

use embedded_hal::spi::{self, Operation, SpiDevice};
use mfrc522::comm::blocking::spi::{DummyDelay, SpiInterface};
use mfrc522::{Error, Initialized, Mfrc522, Uid};
use protocol::{Badge, UptimeMs};

/// From one look for a card to the next: a look without a card takes 1.5 ms.
pub const LOOK_MS: u64 = 50;
/// A module that does not answer is tried again after this.
pub const RETRY_MS: u64 = 5_000;

/// Transfers that reading a card may take: three cascade levels take 900, most of them to wait.
const TRANSFERS: u32 = 4_000;
/// How long a card may think, in steps of 25 µs: 1 ms. ISO/IEC 14443-3 gives it 91 µs; the driver would wait for 25 ms.
const PATIENCE: u8 = 40;
/// Wakes every card, also one that was read before (ISO/IEC 14443-3, 6.4.1).
const WAKE_UP: u8 = 0x52;
/// Registers as they are addressed for writing: data, and the two halves of the timer's reload (MFRC522 data sheet, 8.1.2).
const FIFO: u8 = 0x09 << 1;
const RELOAD_HIGH: u8 = 0x2C << 1;
const RELOAD_LOW: u8 = 0x2D << 1;
/// First byte of a number that is another one each time (6.5.4).
const RANDOM: u8 = 0x08;

/// The module.
pub struct Module<SPI: SpiDevice> {
    spi: SPI,
    chip: Option<Chip<SPI>>,
    next_at: u64,
    noise: u32,
}

type Chip<SPI> = Mfrc522<SpiInterface<Bounded<SPI>, DummyDelay>, Initialized>;

impl<SPI: SpiDevice + Clone> Module<SPI> {
    /// At this port. Nothing is said to it before [`Module::poll`]; it need not be there.
    pub fn new(spi: SPI) -> Module<SPI> {
        Module { spi, chip: None, next_at: 0, noise: 0 }
    }

    /// Looks for a card, when it is time to. A card that lies there is found again and again.
    pub fn poll(&mut self, now: UptimeMs) -> Option<Badge> {
        if now.0 < self.next_at {
            return None;
        }
        self.next_at = now.0 + LOOK_MS;
        let Some(chip) = &mut self.chip else {
            self.chip = start(self.spi.clone());
            if self.chip.is_none() {
                self.next_at = now.0 + RETRY_MS;
            }
            return None;
        };
        let uid = match chip.wupa() {
            Ok(card) => chip.select(&card),
            Err(Error::Timeout) => return None,
            Err(error) => Err(error),
        };
        let badge = uid.as_ref().ok().and_then(badge);
        if badge.is_none() {
            self.noise = self.noise.saturating_add(1);
        }
        if matches!(uid, Err(Error::Comm(_))) {
            self.chip = None;
        }
        badge
    }

    /// Cards that could not be read, or are no badges.
    pub fn noise(&self) -> u32 {
        self.noise
    }
}

/// The chip, if there is one.
fn start<SPI: SpiDevice>(spi: SPI) -> Option<Chip<SPI>> {
    let bounded = Bounded { inner: spi, left: TRANSFERS };
    let mut chip = Mfrc522::new(SpiInterface::new(bounded)).init().ok()?;
    // An empty port reads as all zeros or all ones.
    let version = chip.version().ok()?;
    (version != 0x00 && version != 0xFF).then_some(chip)
}

fn badge(uid: &Uid) -> Option<Badge> {
    let is_random = matches!(uid, Uid::Single(_)) && uid.as_bytes().first() == Some(&RANDOM);
    let number = uid.as_bytes().last_chunk::<4>().filter(|_| !is_random)?;
    Some(Badge::Full(u32::from_be_bytes(*number)))
}

/// Why the module was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The port does not work.
    Bus,
    /// It never comes to an end.
    Endless,
}

impl spi::Error for Trouble {
    fn kind(&self) -> spi::ErrorKind {
        spi::ErrorKind::Other
    }
}

/// A way to the chip that ends after [`TRANSFERS`], counted from the start or from the last wake-up.
struct Bounded<SPI> {
    inner: SPI,
    left: u32,
}

impl<SPI: SpiDevice> spi::ErrorType for Bounded<SPI> {
    type Error = Trouble;
}

impl<SPI: SpiDevice> SpiDevice for Bounded<SPI> {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Trouble> {
        if let [Operation::Write(to), Operation::Write(bytes)] = operations
            && *to == [FIFO]
            && *bytes == [WAKE_UP]
        {
            self.left = TRANSFERS;
        }
        self.left = self.left.checked_sub(1).ok_or(Trouble::Endless)?;
        let done = match operations {
            [Operation::Write([RELOAD_HIGH, _])] => self.inner.write(&[RELOAD_HIGH, 0]),
            [Operation::Write([RELOAD_LOW, _])] => self.inner.write(&[RELOAD_LOW, PATIENCE]),
            _ => self.inner.transaction(operations),
        };
        done.map_err(|_| Trouble::Bus)
    }
}
