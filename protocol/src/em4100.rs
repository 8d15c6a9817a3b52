//! Bytes of 125 kHz modules: RDM6300 with frame marks, EM-18 and ID-12 without. Readers and gateways both have such
//! modules on a port, so the decoder is here.
//!
//! ```text
//! RDM6300   02 | 10 hex digits: version byte, 32-bit number | 2 hex digits: XOR of the 5 bytes | 03
//! EM-18          the same 12 hex digits, nothing around them, then silence (ID-12 adds CR LF)
//! ```
//!
//! A module repeats its frame while the card lies there; leaving repeats out is the caller's business.

use crate::damage::count;

/// Silence that ends an EM-18 number, in milliseconds. At 9600 baud a byte takes 1 ms.
pub const IDLE_MS: u64 = 20;

const STX: u8 = 0x02;
const ETX: u8 = 0x03;
const DIGITS: usize = 12;

/// A card as the module read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// The card's version or customer byte.
    pub version: u8,
    /// The card number.
    pub number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Digits here may be an EM-18 number.
    Outside,
    /// After 02.
    Framed,
    /// In noise: wait for 02 or silence.
    Spoiled,
}

/// Finds card numbers in a stream of bytes. Never fails: resynchronises on 02 and on silence, and counts.
#[derive(Clone, Debug)]
pub struct Decoder {
    place: Place,
    digits: [u8; DIGITS],
    len: usize,
    noise: u32,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// Before the first byte.
    pub const fn new() -> Decoder {
        Decoder { place: Place::Outside, digits: [0; DIGITS], len: 0, noise: 0 }
    }

    /// Takes one byte; gives the card that it completes.
    pub fn handle_byte(&mut self, byte: u8) -> Option<Card> {
        match (self.place, byte) {
            (_, STX) => {
                self.drop_digits();
                self.place = Place::Framed;
                None
            }
            (Place::Framed, ETX) => self.finish(),
            (Place::Framed | Place::Outside, b'\r' | b'\n') if self.len == DIGITS || self.len == 0 => {
                if self.place == Place::Outside { self.finish() } else { None }
            }
            (Place::Framed | Place::Outside, digit) if digit.is_ascii_hexdigit() && self.len < DIGITS => {
                if let Some(slot) = self.digits.get_mut(self.len) {
                    *slot = digit;
                }
                self.len += 1;
                None
            }
            (Place::Spoiled, _) => None,
            (Place::Framed | Place::Outside, _) => {
                count(&mut self.noise);
                self.len = 0;
                self.place = Place::Spoiled;
                None
            }
        }
    }

    /// The port has been silent for [`IDLE_MS`] or longer: twelve digits by themselves are an EM-18 number.
    pub fn handle_idle(&mut self) -> Option<Card> {
        if self.place == Place::Outside && self.len == DIGITS {
            return self.finish();
        }
        self.reset();
        None
    }

    /// Whether silence would change anything.
    pub fn is_midway(&self) -> bool {
        self.len > 0 || self.place != Place::Outside
    }

    /// The port was opened anew: half a frame is forgotten.
    pub fn reset(&mut self) {
        self.drop_digits();
        self.place = Place::Outside;
    }

    /// Readings with a wrong checksum, length or digit.
    pub fn noise(&self) -> u32 {
        self.noise
    }

    fn finish(&mut self) -> Option<Card> {
        let len = core::mem::take(&mut self.len);
        self.place = Place::Outside;
        if len == 0 {
            return None;
        }
        let card = if len == DIGITS { parse(&self.digits) } else { None };
        if card.is_none() {
            count(&mut self.noise);
        }
        card
    }

    fn drop_digits(&mut self) {
        if core::mem::take(&mut self.len) > 0 {
            count(&mut self.noise);
        }
    }
}

fn parse(digits: &[u8; DIGITS]) -> Option<Card> {
    let mut bytes = [0_u8; DIGITS / 2];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            *byte = *byte << 4 | char::from(*digit).to_digit(16)? as u8;
        }
    }
    let [version, a, b, c, d, checksum] = bytes;
    let right = version ^ a ^ b ^ c ^ d == checksum;
    right.then_some(Card { version, number: u32::from_be_bytes([a, b, c, d]) })
}
