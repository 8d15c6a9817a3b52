//! 125 kHz modules on a line of their own. The frames are `protocol::em4100`'s, which the firmware's badge port speaks
//! too; here is only what a number becomes.

use std::time::Duration;

use protocol::em4100::{self, Card};

use crate::punch::{Badge, Credential};

/// Silence that ends an EM-18 number. Longer than on a reader's own port: USB adapters hand bytes over up to 16 ms late.
pub const IDLE: Duration = Duration::from_millis(em4100::IDLE_MS + 40);

/// A card read, and the bytes that say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub credential: Credential,
    pub raw: Vec<u8>,
}

/// Finds card numbers in a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder(em4100::Decoder);

impl Decoder {
    /// Takes one byte; gives the card that it completes.
    pub fn handle_byte(&mut self, byte: u8) -> Option<Read> {
        self.0.handle_byte(byte).map(read)
    }

    /// The line has been silent for [`IDLE`].
    pub fn handle_idle(&mut self) -> Option<Read> {
        self.0.handle_idle().map(read)
    }

    /// Whether silence would change anything.
    pub fn is_midway(&self) -> bool {
        self.0.is_midway()
    }

    /// Forgets half a frame.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// Frames with a wrong checksum, length or digit.
    pub fn noise(&self) -> u32 {
        self.0.noise()
    }
}

fn read(card: Card) -> Read {
    let raw = format!("{:02X}{:08X}", card.version, card.number).into_bytes();
    Read { credential: Credential::Badge(Badge(card.number)), raw }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: Credential = Credential::Badge(Badge(0xE308_6CED));

    #[test]
    fn the_recorded_frames_are_the_low_32_bits() {
        let text = include_str!("../../../../tests/fixtures/serial/rdm6300.json");
        let expected: serde_json::Value = serde_json::from_str(text).expect("fixture");
        let bytes = include_bytes!("../../../../tests/fixtures/serial/rdm6300_frame.bin");
        let mut decoder = Decoder::default();
        let reads: Vec<Read> = bytes.iter().filter_map(|byte| decoder.handle_byte(*byte)).collect();
        let raw = expected["tag"].as_str().expect("tag").as_bytes().to_vec();
        assert_eq!(reads, [Read { credential: CARD, raw }]);
        let printed = expected["decimal10_of_low32"].as_str().expect("decimal");
        assert_eq!(super::super::ascii::credential(printed), CARD);
    }

    #[test]
    fn an_em18_number_ends_by_silence() {
        let bytes = include_bytes!("../../../../tests/fixtures/serial/em18_12ascii.bin");
        let mut decoder = Decoder::default();
        assert!(bytes.iter().all(|byte| decoder.handle_byte(*byte).is_none()));
        assert_eq!(decoder.handle_idle().map(|read| read.credential), Some(CARD));
    }
}
