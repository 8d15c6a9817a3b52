//! Frames: where one begins and ends, and whether it arrived whole. Who said it is [`crate::ReaderEnd`]'s and
//! [`crate::GatewayEnd`]'s business.
//!
//! ```text
//! wire   00 | COBS( body ) | 00                       the leading 00 ends whatever noise came before
//!
//! body   kind     1   0001 00 k a   version 1, k = has a tag, a = is an answer
//!        address  1   1..=247
//!        id       1…10   varint, request id; 0 in a hello and its answer
//!        boot     1…5    varint, boot id; 0 in a hello
//!        payload  1…224  postcard: Request or Answer
//!        tag      8   only with k: HMAC-SHA256(key, everything before [, tag of the request]), first 8 bytes
//!        crc      2   CRC-16/XMODEM over everything before, little endian
//! ```
//!
//! A body has at most 251 bytes, so COBS adds exactly one.

use crc::{CRC_16_XMODEM, Crc};
use heapless::Vec;
use serde::Serialize;

use crate::damage::{Damage, count};
use crate::message::{Address, BootId, RequestId};
use crate::seal::{Seal, TAG, Tag};

/// Most bytes of a message.
pub const MAX_PAYLOAD: usize = 224;
const MAX_HEADER: usize = 1 + 1 + 10 + 5;
const CRC_LEN: usize = 2;
const MAX_BODY: usize = MAX_HEADER + MAX_PAYLOAD + TAG + CRC_LEN;
const MAX_ENCODED: usize = MAX_BODY + 1;
/// Most bytes of a frame on the wire, delimiters included.
pub const MAX_WIRE: usize = MAX_ENCODED + 2;

const DELIMITER: u8 = 0;
const VERSION_1: u8 = 0x10;
const ANSWER: u8 = 0x01;
const KEYED: u8 = 0x02;
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// A frame ready for the wire.
pub type Wire = Vec<u8, MAX_WIRE>;

/// What stands before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub answer: bool,
    pub address: Address,
    pub id: RequestId,
    pub boot: BootId,
}

/// A frame that arrived whole. Nothing is proven about its sender yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub(crate) header: Header,
    /// Everything under the tag.
    pub(crate) signed: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) tag: Option<Tag>,
}

impl Frame<'_> {
    /// Whose frame it is: the addressed reader of a request, the sender of an answer.
    pub fn address(&self) -> Address {
        self.header.address
    }

    /// Whether a reader speaks. A gateway hears its own requests on adapters that echo, and readers hear each other.
    pub fn is_answer(&self) -> bool {
        self.header.answer
    }

    /// Parses a body whose CRC was right.
    fn parse(body: &[u8]) -> Option<Frame<'_>> {
        let (&kind, rest) = body.split_first()?;
        if kind & !(ANSWER | KEYED) != VERSION_1 {
            return None;
        }
        let (&address, rest) = rest.split_first()?;
        let (id, rest) = postcard::take_from_bytes::<RequestId>(rest).ok()?;
        let (boot, rest) = postcard::take_from_bytes::<BootId>(rest).ok()?;
        let (payload, tag) = if kind & KEYED == 0 {
            (rest, None)
        } else {
            let (payload, tag) = rest.split_last_chunk::<TAG>()?;
            (payload, Some(*tag))
        };
        let signed = body.get(..body.len() - tag.map_or(0, |_| TAG))?;
        let header = Header { answer: kind & ANSWER != 0, address: Address::new(address)?, id, boot };
        Some(Frame { header, signed, payload, tag })
    }
}

/// Closes a message into a frame, and tells its tag. `None` when the message is longer than [`MAX_PAYLOAD`].
pub(crate) fn encode(
    header: Header,
    message: &impl Serialize,
    seal: &Seal,
    request: Option<&Tag>,
) -> Option<(Wire, Option<Tag>)> {
    let mut body = [0; MAX_BODY];
    let mut end = 0;
    let kind = VERSION_1 | if header.answer { ANSWER } else { 0 } | if seal.is_keyed() { KEYED } else { 0 };
    for byte in [kind, header.address.get()] {
        *body.get_mut(end)? = byte;
        end += 1;
    }
    end += postcard::to_slice(&header.id, body.get_mut(end..)?).ok()?.len();
    end += postcard::to_slice(&header.boot, body.get_mut(end..)?).ok()?.len();
    end += postcard::to_slice(message, body.get_mut(end..end + MAX_PAYLOAD)?).ok()?.len();
    let tag = seal.tag(body.get(..end)?, request);
    for byte in tag.iter().flatten() {
        *body.get_mut(end)? = *byte;
        end += 1;
    }
    let crc = CRC.checksum(body.get(..end)?).to_le_bytes();
    body.get_mut(end..end + CRC_LEN)?.copy_from_slice(&crc);
    end += CRC_LEN;

    let mut wire = Wire::new();
    wire.resize(MAX_WIRE, DELIMITER).ok()?;
    let encoded = cobs::try_encode(body.get(..end)?, wire.get_mut(1..1 + MAX_ENCODED)?).ok()?;
    wire.truncate(1 + encoded + 1);
    // What `try_encode` left behind the frame is the second delimiter, because the buffer was zero.
    if let Some(last) = wire.last_mut() {
        *last = DELIMITER;
    }
    Some((wire, tag))
}

/// Finds frames in a stream of bytes. Never fails: after damage it goes on with the next delimiter, and counts.
#[derive(Clone)]
pub struct Decoder {
    buffer: [u8; MAX_ENCODED],
    len: usize,
    overlong: bool,
    damage: Damage,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// At the beginning of a stream; half a frame there is damage like any other.
    pub const fn new() -> Decoder {
        let damage = Damage { crc: 0, cobs: 0, too_long: 0, malformed: 0, forged: 0, stale: 0, late: 0 };
        Decoder::resuming(damage)
    }

    /// At the beginning of another stream, with the counters of the last one.
    pub const fn resuming(damage: Damage) -> Decoder {
        Decoder { buffer: [0; MAX_ENCODED], len: 0, overlong: false, damage }
    }

    /// Takes one byte; gives the frame that it completes.
    pub fn handle_byte(&mut self, byte: u8) -> Option<Frame<'_>> {
        if byte != DELIMITER {
            match self.buffer.get_mut(self.len) {
                Some(slot) => {
                    *slot = byte;
                    self.len += 1;
                }
                None => self.overlong = true,
            }
            return None;
        }
        let len = core::mem::take(&mut self.len);
        if core::mem::take(&mut self.overlong) {
            count(&mut self.damage.too_long);
            return None;
        }
        if len == 0 {
            return None;
        }
        self.parse(len)
    }

    fn parse(&mut self, len: usize) -> Option<Frame<'_>> {
        let Decoder { buffer, damage, .. } = self;
        let decoded = buffer.get_mut(..len).and_then(|encoded| cobs::decode_in_place(encoded).ok());
        let body = decoded.and_then(|len| buffer.get(..len));
        let Some((body, crc)) = body.and_then(|body| body.split_last_chunk::<CRC_LEN>()) else {
            count(&mut damage.cobs);
            return None;
        };
        if CRC.checksum(body) != u16::from_le_bytes(*crc) {
            count(&mut damage.crc);
            return None;
        }
        let frame = Frame::parse(body);
        if frame.is_none() {
            count(&mut damage.malformed);
        }
        frame
    }

    /// Frames dropped so far.
    pub fn damage(&self) -> Damage {
        self.damage
    }
}
