//! Who this reader is: its address, its key, the line's speed. Written once on the bench, read at each start.
//!
//! ```text
//! 0    4    "AXR1"
//! 4    1    address, 1 to 247
//! 5    1    1 with a key, 0 without
//! 6    2    00
//! 8    4    baud, little endian
//! 12  16    key; zeros without
//! 28   4    CRC-32/ISO-HDLC over 0..28, little endian
//! ```

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};
use protocol::{Address, Key};

/// Bytes of the settings.
pub const LEN: usize = 32;
const MARK: [u8; 4] = *b"AXR1";
const SUMMED: usize = 28;
/// Without its table of 1 KiB: 28 bytes take 0.1 ms at 16 MHz, computed.
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// What a reader has been told about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its place on the line.
    pub address: Address,
    /// Without one it obeys anybody on the wire; for a trial on the desk.
    pub key: Option<Key>,
    /// Bits per second of the line: 1 200 to 921 600.
    pub baud: u32,
}

impl Settings {
    /// What is to be written.
    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MARK);
        bytes[4] = self.address.get();
        bytes[5] = u8::from(self.key.is_some());
        bytes[8..12].copy_from_slice(&self.baud.to_le_bytes());
        bytes[12..SUMMED].copy_from_slice(&self.key.map_or([0; 16], |key| key.0));
        let crc = CRC.checksum(&bytes[..SUMMED]).to_le_bytes();
        bytes[SUMMED..].copy_from_slice(&crc);
        bytes
    }

    /// `None` when nothing was written, or something that no reader can be.
    pub fn decode(bytes: &[u8; LEN]) -> Option<Settings> {
        let (front, crc) = bytes.split_last_chunk::<4>()?;
        if !front.starts_with(&MARK) || CRC.checksum(front) != u32::from_le_bytes(*crc) {
            return None;
        }
        let baud = u32::from_le_bytes(*bytes.get(8..12)?.as_array()?);
        let key = Key(*bytes.get(12..SUMMED)?.as_array()?);
        let key = match bytes[5] {
            0 => None,
            1 => Some(key),
            _ => return None,
        };
        let address = Address::new(bytes[4])?;
        (1_200..=921_600).contains(&baud).then_some(Settings { address, key, baud })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { address: Address::new(247).unwrap(), key: Some(Key([0xA5; 16])), baud: 115_200 }
    }

    #[test]
    fn settings_come_back_as_they_were() {
        let keyless = Settings { key: None, ..settings() };
        for settings in [settings(), keyless] {
            assert_eq!(Settings::decode(&settings.encode()), Some(settings));
        }
    }

    #[test]
    fn an_erased_page_a_flipped_bit_and_a_wrong_address_are_no_settings() {
        assert_eq!(Settings::decode(&[0xFF; LEN]), None);
        for bit in 0..LEN * 8 {
            let mut bytes = settings().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Settings::decode(&bytes), None, "bit {bit}");
        }
        let slow = Settings { baud: 300, ..settings() };
        assert_eq!(Settings::decode(&slow.encode()), None);
    }
}
