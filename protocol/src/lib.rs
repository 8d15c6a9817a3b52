//! What goes over a reader line, version 1: frames, messages, authentication.
//!
//! A line is one serial port of the gateway with up to 247 readers. The gateway asks, the addressed reader answers, and
//! nobody else speaks. A reader keeps its punches until the gateway says that they are durable: [`Request::Collect`]
//! carries the commit watermark and asks for what comes after it, so one exchange releases and fetches. This crate
//! allocates nothing, does no I/O, keeps no clock, rolls no dice and does not panic, whatever bytes come in. It knows
//! nothing about journals, ledgers or workers.
//!
//! # Why a recorded or held-back frame is worth nothing
//!
//! Every reader has its own 128-bit key. The tag of a frame is HMAC-SHA256, cut to 8 bytes, over the whole frame with
//! its direction, address, request id and boot id; the tag of an answer also covers the tag of the request. So:
//!
//! - **An answer fits one request only.** Its tag proves that the reader saw exactly that request. An answer recorded
//!   earlier, or meant for another request, reader, boot or direction, does not verify.
//! - **A request works once.** A boot id comes from a counter that the reader's storage never repeats, and inside one
//!   boot the reader takes only request ids above the highest one it has taken ([`ReaderEnd`]). A repeated request is
//!   dropped and counted as stale. No random numbers are needed in the reader.
//! - **The gateway may forget.** After its restart it sends [`Request::Hello`], which changes nothing in the reader, with
//!   a nonce that it drew at random. The answer repeats the nonce and tells boot id and highest request id. Because the
//!   answer is bound to a request that was never sent before, it is fresh, and the ids that follow are above everything
//!   the reader has taken. A replayed hello makes the reader say the same to nobody.
//! - **A request that was held back** on the wire and is delivered later, while its id is still good, can only say what
//!   is still true or no longer counts: a commit stays true; [`Request::SetTime`] names the uptime at which the time was
//!   right; [`Request::Open`] carries the uptime after which the reader must refuse it; a [`Request::Signal`] is for a
//!   swipe of the last seconds or is ignored.
//! - **An image** for an update is signed by its maker, over board, slot, version and hash ([`image`]). Who has a reader's
//!   key can hand it over; only the maker can make one, and an older one is refused.
//! - **An allow-list** ([`allow`]) is believed as every other request is; its digest says whether it arrived whole.
//! - **An unkeyed frame** is taken only by an end that was made with `unkeyed`; an end with a key counts it as forged.
//!
//! What remains to somebody who holds the wire: cutting it. Then the reader keeps its punches.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod allow;
mod damage;
pub mod em4100;
mod ends;
mod frame;
pub mod image;
mod message;
mod seal;

pub use damage::Damage;
pub use ends::{Accepted, GatewayEnd, NotUnderstood, ReaderEnd};
pub use frame::{Decoder, Frame, MAX_PAYLOAD, MAX_WIRE, Wire};
pub use message::{
    Address, Answer, Badge, BootId, Digest, Image, MAX_PUNCHES, Pairing, Punch, Refusal, Request, RequestId, Seq,
    Signal, Staging, StartCause, Status, UptimeMs,
};
pub use seal::Key;
