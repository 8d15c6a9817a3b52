//! What a frame carries: a fact as bytes behind a byte that says how it is sealed.
//!
//! ```text
//! 00 postcard(Fact)      open: day heads, which everybody may check; other facts of a first version
//! 01 …                   postcard(Fact) sealed with the keyring
//! ```

use super::frame::{self, Hash};
use crate::punch::Fact;
use crate::store::keyring::{Key, Keyring, OpenSealedError, open_with};

const PLAIN: u8 = 0;

/// A fact ready for the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub payload: Vec<u8>,
    pub digest: Hash,
}

/// Why a payload could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    #[error(transparent)]
    Sealed(#[from] OpenSealedError),
    #[error("a fact this version does not know")]
    UnknownFact,
}

/// Turns a fact into a payload.
pub fn seal(fact: &Fact, keyring: &Keyring) -> Sealed {
    let start = if is_open(fact) { vec![PLAIN] } else { Vec::new() };
    let plain = postcard::to_extend(fact, start).expect("a fact has no unsized part and a Vec takes everything");
    let payload = if is_open(fact) { plain } else { keyring.seal(&plain) };
    let digest = frame::digest(&payload);
    Sealed { payload, digest }
}

/// Turns a payload into its fact.
pub fn unseal(payload: &[u8], keyring: &Keyring) -> Result<Fact, UnsealError> {
    match payload.split_first() {
        Some((&PLAIN, bytes)) => decode(bytes),
        Some(_) | None => decode(&keyring.open(payload)?),
    }
}

/// The fact of a payload that is not sealed.
pub fn read_open(payload: &[u8]) -> Option<Fact> {
    payload.strip_prefix(&[PLAIN]).and_then(|bytes| decode(bytes).ok())
}

fn is_open(fact: &Fact) -> bool {
    matches!(fact, Fact::DayHead(_))
}

/// Turns a payload into its fact with the one key that was handed out for it.
pub fn unseal_with(payload: &[u8], record_key: &Key) -> Result<Fact, UnsealError> {
    decode(&open_with(record_key, payload)?)
}

fn decode(bytes: &[u8]) -> Result<Fact, UnsealError> {
    match postcard::take_from_bytes(bytes) {
        Ok((fact, [])) => Ok(fact),
        Ok(_) | Err(_) => Err(UnsealError::UnknownFact),
    }
}
