//! The tag: who said it, to whom, in which boot, in answer to what.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Bytes of a tag on the wire: HMAC-SHA256, the first 8 of 32.
pub(crate) const TAG: usize = 8;

/// A tag as on the wire.
pub(crate) type Tag = [u8; TAG];

/// A reader's 128-bit key. Never shown.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key(pub [u8; 16]);

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// How an end closes and opens frames.
#[derive(Clone)]
pub(crate) enum Seal {
    Keyed(Hmac<Sha256>),
    /// Anybody on the wire can speak; chosen explicitly at both ends.
    Unkeyed,
}

impl Seal {
    pub(crate) fn keyed(key: Key) -> Seal {
        // A key longer than a SHA-256 block would be hashed first; 16 bytes are zero-padded, so this cannot fail.
        Seal::Keyed(Hmac::new(&padded(key)))
    }

    pub(crate) fn is_keyed(&self) -> bool {
        matches!(self, Seal::Keyed(_))
    }

    /// The tag over `body` (kind, address, id, boot, payload) and, in an answer, over the request's tag.
    pub(crate) fn tag(&self, body: &[u8], request: Option<&Tag>) -> Option<Tag> {
        let Seal::Keyed(mac) = self else { return None };
        let full = input(mac, body, request).finalize().into_bytes();
        let mut tag = Tag::default();
        tag.iter_mut().zip(full.iter()).for_each(|(to, from)| *to = *from);
        Some(tag)
    }

    /// Whether a frame with this body and tag was made with our key; compared in constant time.
    pub(crate) fn verifies(&self, body: &[u8], request: Option<&Tag>, tag: Option<&Tag>) -> bool {
        match (self, tag) {
            (Seal::Keyed(mac), Some(tag)) => input(mac, body, request).verify_truncated_left(tag).is_ok(),
            (Seal::Unkeyed, None) => true,
            (Seal::Keyed(_), None) | (Seal::Unkeyed, Some(_)) => false,
        }
    }
}

/// The kind byte at the front of `body` tells direction and version, so the request's tag at the end is unambiguous.
fn input(mac: &Hmac<Sha256>, body: &[u8], request: Option<&Tag>) -> Hmac<Sha256> {
    let mac = mac.clone().chain_update(body);
    match request {
        Some(tag) => mac.chain_update(tag),
        None => mac,
    }
}

pub(crate) fn padded(key: Key) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block.iter_mut().zip(key.0).for_each(|(to, from)| *to = from);
    block
}
