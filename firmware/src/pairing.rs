//! A reader that nobody has told its address and key yet, on the bench.
//!
//! It listens at [`Address::UNPAIRED`], without a key, at [`BAUD`]: whoever holds the cable is believed, once. What it is
//! told is in its flash before it says so; then it starts again as that reader. A second pairing is refused until
//! somebody has held the button inside its housing ([`Hold`]). The journal is no part of this: its punches and boot
//! numbers stay.

use protocol::{Address, Answer, BootId, NotUnderstood, Pairing, ReaderEnd, Refusal, Request, Status, UptimeMs, Wire};

use crate::flash::{Flash, WORD};
use crate::reader::VERSION;
use crate::settings::{self, Settings};

/// Speed of the line before a reader is told another one.
pub const BAUD: u32 = 115_200;
/// How long the button is to be held to forget the settings, in milliseconds.
const CLEAR_MS: u64 = 5_000;
/// After the pairing it listens on for this long, in case its answer got lost.
const LINGER_MS: u64 = 1_000;

/// The settings in the page at this place, if there are any.
pub fn load<F: Flash>(flash: &mut F, page: usize) -> Option<Settings> {
    let mut bytes = [0; settings::LEN];
    flash.read(page * F::PAGE, &mut bytes).ok()?;
    Settings::decode(&bytes)
}

/// Whether the settings are there now, as meant.
fn store<F: Flash>(flash: &mut F, page: usize, settings: &Settings) -> bool {
    let bytes = settings.encode();
    let (words, _) = bytes.as_chunks::<WORD>();
    let places = (page * F::PAGE..).step_by(WORD);
    let is_written = flash.erase(page).is_ok() && places.zip(words).all(|(at, word)| flash.program(at, word).is_ok());
    is_written && load(flash, page) == Some(*settings)
}

/// The button inside the housing.
#[derive(Debug, Default)]
pub struct Hold {
    since: Option<UptimeMs>,
}

impl Hold {
    /// Whether it has been held long enough for the settings to be erased.
    pub fn handle(&mut self, pressed: bool, now: UptimeMs) -> bool {
        let since = *self.since.get_or_insert(now);
        if !pressed {
            self.since = None;
        }
        pressed && now.0.saturating_sub(since.0) >= CLEAR_MS
    }
}

/// A reader without settings.
pub struct Unpaired<F> {
    end: ReaderEnd,
    flash: F,
    page: usize,
    paired: Option<(Settings, UptimeMs)>,
}

impl<F: Flash> Unpaired<F> {
    /// Settings will be in this page.
    pub fn new(flash: F, page: usize) -> Unpaired<F> {
        Unpaired { end: ReaderEnd::unkeyed(Address::UNPAIRED, BootId(1)), flash, page, paired: None }
    }

    /// Takes a byte from the line; gives the answer that it calls for.
    pub fn handle_line_byte(&mut self, byte: u8, now: UptimeMs) -> Option<Wire> {
        let answer = match self.end.handle_byte(byte)? {
            Ok(Request::Hello { nonce }) => {
                let status = Status { now, firmware: VERSION, damage: self.end.damage(), ..Status::default() };
                Answer::Welcome { nonce, last_request: self.end.last_request(), status }
            }
            Ok(Request::Pair(pairing)) => self.pair(&pairing, now).map_or_else(Answer::Refused, |()| Answer::Done),
            // Everything else is for a reader that knows who it is.
            Ok(_) | Err(NotUnderstood) => Answer::Refused(Refusal::NotUnderstood),
        };
        self.end.answer(&answer)
    }

    fn pair(&mut self, pairing: &Pairing, now: UptimeMs) -> Result<(), Refusal> {
        let Pairing { address, baud, key } = *pairing;
        let address = Address::new(address).ok_or(Refusal::NotUnderstood)?;
        let wanted = Settings { address, key: Some(key), baud };
        if Settings::decode(&wanted.encode()).is_none() {
            return Err(Refusal::NotUnderstood);
        }
        let is_done = match &self.paired {
            Some((settings, _)) if *settings != wanted => return Err(Refusal::Paired),
            Some(_) => true,
            None => store(&mut self.flash, self.page, &wanted),
        };
        self.paired = is_done.then_some((wanted, now));
        if is_done { Ok(()) } else { Err(Refusal::NoFlash) }
    }

    /// Whether to start again, as the reader that it is now.
    pub fn wants_restart(&self, now: UptimeMs) -> bool {
        self.paired.is_some_and(|(_, at)| now.0.saturating_sub(at.0) >= LINGER_MS)
    }

    /// What a power cut leaves.
    pub fn into_flash(self) -> F {
        self.flash
    }
}
