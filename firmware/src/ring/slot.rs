//! One record in 32 bytes of flash.
//!
//! ```text
//! 0       kind    48 header, 53 state, 46 punch with all 32 bits, 4C punch with the low 24
//! 1..28   24 bytes of the kind, with a 00 at 8, 16 and 24, so that no word of a record reads like an erased one
//!   header  order 4 | state
//!   state   boot 4 | released 4 | next 4 | lost 4 | lost_seen 4
//!   punch   seq 4 | boot 4 | uptime in ms 6 | ms since 1970 6, all ones when not told | badge 4
//! 28..32  CRC-32/ISO-HDLC over 0..28
//! ```
//!
//! Numbers are little endian. An uptime above 8 900 years is stored as that.

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};
use protocol::{Badge, BootId, Punch, Seq, UptimeMs};

use crate::flash::WORD;
use crate::journal::Recovered;

/// Bytes of a slot.
pub const SLOT: usize = 32;
const BODY: usize = 24;
const SUMMED: usize = 28;
/// Without its table of 1 KiB: 28 bytes take 0.1 ms at 16 MHz, computed.
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);
/// The largest number in six bytes.
const MAX_48: u64 = (1 << 48) - 1;

const HEADER: u8 = 0x48;
const STATE: u8 = 0x53;
const FULL: u8 = 0x46;
const LOW24: u8 = 0x4C;

/// What a slot can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// First in a page: its place in the order of pages, and everything that was known when it was opened.
    Header {
        /// Counted up over all pages ever opened; from 1.
        order: u32,
        /// As of then.
        state: Recovered,
    },
    /// Everything but the punches, as of now.
    State(Recovered),
    /// A punch and its number.
    Punch(Seq, Punch),
}

/// What a slot looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// All ones: never programmed, or looks so.
    Erased,
    /// Neither erased nor a record: half programmed, half erased, or gone bad.
    Damaged,
    /// A whole record.
    Holds(Record),
}

/// The words to program for a record.
pub fn encode(record: &Record) -> [u8; SLOT] {
    let mut body = [0; BODY];
    let mut out = Fields { bytes: &mut body };
    let kind = match record {
        Record::Header { order, state } => {
            out.put::<4>(u64::from(*order));
            put_state(&mut out, state);
            HEADER
        }
        Record::State(state) => {
            put_state(&mut out, state);
            STATE
        }
        Record::Punch(seq, punch) => put_punch(&mut out, *seq, punch),
    };
    let mut bytes = [0; SLOT];
    bytes[0] = kind;
    spread(&mut bytes).zip(body).for_each(|(to, from)| *to = from);
    let crc = CRC.checksum(&bytes[..SUMMED]).to_le_bytes();
    bytes[SUMMED..].copy_from_slice(&crc);
    bytes
}

/// What these bytes are; with `trusting`, whatever their checksum says.
pub fn decode(bytes: &[u8; SLOT], trusting: bool) -> Slot {
    if bytes.iter().all(|byte| *byte == 0xFF) {
        return Slot::Erased;
    }
    let mut copy = *bytes;
    let crc = CRC.checksum(&bytes[..SUMMED]).to_le_bytes();
    if !trusting && bytes[SUMMED..] != crc {
        return Slot::Damaged;
    }
    let mut body = [0; BODY];
    spread(&mut copy).zip(&mut body).for_each(|(from, to)| *to = *from);
    let mut fields = Fields { bytes: &mut body };
    match bytes[0] {
        HEADER => {
            let order = fields.take::<4>() as u32;
            Slot::Holds(Record::Header { order, state: take_state(&mut fields) })
        }
        STATE => Slot::Holds(Record::State(take_state(&mut fields))),
        FULL => take_punch(&mut fields, Badge::Full),
        LOW24 => take_punch(&mut fields, Badge::Low24),
        _ => Slot::Damaged,
    }
}

/// The places of the body in a slot.
fn spread(bytes: &mut [u8; SLOT]) -> impl Iterator<Item = &mut u8> {
    let places = bytes.iter_mut().enumerate().take(SUMMED);
    places.filter(|(index, _)| index % WORD != 0).map(|(_, byte)| byte)
}

fn put_state(out: &mut Fields<'_>, state: &Recovered) {
    for value in [state.boot.0, state.released.0, state.next.0, state.lost, state.lost_seen] {
        out.put::<4>(u64::from(value));
    }
}

fn take_state(fields: &mut Fields<'_>) -> Recovered {
    let mut next = || fields.take::<4>() as u32;
    Recovered { boot: BootId(next()), released: Seq(next()), next: Seq(next()), lost: next(), lost_seen: next() }
}

fn put_punch(out: &mut Fields<'_>, seq: Seq, punch: &Punch) -> u8 {
    out.put::<4>(u64::from(seq.0));
    out.put::<4>(u64::from(punch.boot.0));
    out.put::<6>(punch.at.0.min(MAX_48));
    out.put::<6>(punch.unix_ms.map_or(MAX_48, |ms| ms.min(MAX_48 - 1)));
    let (kind, number) = match punch.badge {
        Badge::Full(number) => (FULL, number),
        Badge::Low24(number) => (LOW24, number),
    };
    out.put::<4>(u64::from(number));
    kind
}

fn take_punch(fields: &mut Fields<'_>, badge: fn(u32) -> Badge) -> Slot {
    let seq = Seq(fields.take::<4>() as u32);
    let boot = BootId(fields.take::<4>() as u32);
    let at = UptimeMs(fields.take::<6>());
    let unix_ms = Some(fields.take::<6>()).filter(|ms| *ms != MAX_48);
    let badge = badge(fields.take::<4>() as u32);
    Slot::Holds(Record::Punch(seq, Punch { boot, at, unix_ms, badge }))
}

/// Little-endian numbers one after the other.
struct Fields<'a> {
    bytes: &'a mut [u8],
}

impl Fields<'_> {
    fn put<const N: usize>(&mut self, value: u64) {
        self.advance(N).iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
    }

    fn take<const N: usize>(&mut self) -> u64 {
        self.advance(N).iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn advance(&mut self, count: usize) -> &mut [u8] {
        let bytes = core::mem::take(&mut self.bytes);
        let (front, rest) = bytes.split_at_mut(count.min(bytes.len()));
        self.bytes = rest;
        front
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> [Record; 5] {
        let state =
            Recovered { boot: BootId(u32::MAX), released: Seq(u32::MAX), next: Seq(7), lost: u32::MAX, lost_seen: 1 };
        let punch = |unix_ms, badge| Punch { boot: BootId(u32::MAX), at: UptimeMs(MAX_48), unix_ms, badge };
        [
            Record::Header { order: u32::MAX, state },
            Record::State(state),
            Record::Punch(Seq(u32::MAX), punch(None, Badge::Full(u32::MAX))),
            Record::Punch(Seq(1), punch(Some(1_780_000_000_123), Badge::Full(0))),
            Record::Punch(Seq(2), punch(Some(0), Badge::Low24(0xFF_FFFF))),
        ]
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        for record in records() {
            assert_eq!(decode(&encode(&record), false), Slot::Holds(record));
        }
    }

    #[test]
    fn no_word_of_a_record_reads_like_an_erased_one() {
        for record in records() {
            assert!(encode(&record).chunks(WORD).all(|word| word != [0xFF; WORD]), "{record:?}");
        }
    }

    #[test]
    fn every_single_flipped_bit_is_seen() {
        for record in records() {
            for bit in 0..SLOT * 8 {
                let mut bytes = encode(&record);
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&bytes, false), Slot::Damaged, "{record:?}, bit {bit}");
            }
        }
    }

    /// Readers in the field hold punches in this layout over an update.
    #[test]
    fn the_layout_stays() {
        let punch = Punch {
            boot: BootId(3),
            at: UptimeMs(0x0102_0304_0506),
            unix_ms: Some(0x0A0B_0C0D_0E0F),
            badge: Badge::Full(0xCAFE_F00D),
        };
        let bytes = encode(&Record::Punch(Seq(0x1122_3344), punch));
        let body = [
            0x46, 0x44, 0x33, 0x22, 0x11, 3, 0, 0, 0, 0, 6, 5, 4, 3, 2, 1, 0, 0x0F, 0x0E, 0x0D, 0x0C, 0x0B, 0x0A, 0x0D,
            0, 0xF0, 0xFE, 0xCA,
        ];
        assert_eq!(bytes[..SUMMED], body);
        assert_eq!(bytes[SUMMED..], CRC.checksum(&body).to_le_bytes());
    }
}
