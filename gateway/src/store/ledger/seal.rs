//! What a frame carries: a fact as bytes behind a byte that says how it is sealed.
//!
//! ```text
//! 00 postcard(Fact)      not encrypted
//! ```

use super::frame::{self, Hash};
use crate::punch::Fact;

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
    #[error("sealed in a way this version does not know ({0:?})")]
    UnknownSeal(Option<u8>),
    #[error("a fact this version does not know")]
    UnknownFact,
}

/// Turns a fact into a payload.
pub fn seal(fact: &Fact) -> Sealed {
    let payload =
        postcard::to_extend(fact, vec![PLAIN]).expect("a fact has no unsized part and a Vec takes everything");
    let digest = frame::digest(&payload);
    Sealed { payload, digest }
}

/// Turns a payload into its fact.
pub fn unseal(payload: &[u8]) -> Result<Fact, UnsealError> {
    let Some((&PLAIN, bytes)) = payload.split_first() else {
        return Err(UnsealError::UnknownSeal(payload.first().copied()));
    };
    match postcard::take_from_bytes(bytes) {
        Ok((fact, [])) => Ok(fact),
        Ok(_) | Err(_) => Err(UnsealError::UnknownFact),
    }
}
