//! The keys of one gateway: what is personal leaves memory only sealed with them.
//!
//! Data keys seal records, rows and photos; the newest seals, the older ones still open what they sealed. The index key
//! turns numbers of people into keys that say nothing. The signing key closes the days of the ledger. All of them lie
//! in the data directory, sealed themselves with the master key ([`mod@file`]), which lies elsewhere ([`master`]).
//!
//! ```text
//! offset size
//!      0    1  01               sealed in this way
//!      1    4  data key         its number, little-endian
//!      5   24  nonce            random
//!     29   32  commitment       SHA-256("anxin commitment" ‖ record key)
//!     61    n  ciphertext       XChaCha20-Poly1305 under the record key; bytes 0..61 are authenticated with it
//!   61+n   16  tag
//! ```
//!
//! The record key is HMAC-SHA-256(data key, "anxin record key" ‖ nonce): it can be handed out with the proof of one
//! record and opens nothing else. The commitment binds the bytes to one key, because the cipher alone does not.

pub mod file;
pub mod master;

use std::collections::BTreeMap;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::{Digest, Sha256};

/// The first byte of everything sealed in the way drawn above.
pub const SEALED: u8 = 1;
/// Bytes of a sealed thing beside its contents.
pub const OVERHEAD: usize = HEAD + TAG;

const HEAD: usize = 61;
const TAG: usize = 16;

/// A key of this kind: 256 bits.
pub type Key = [u8; 32];

/// Why something sealed could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenSealedError {
    #[error("sealed in a way this version does not know ({0:?})")]
    UnknownSeal(Option<u8>),
    #[error("sealed with data key {0}, which is not in the keyring")]
    UnknownKey(u32),
    #[error("changed since it was sealed, or sealed by somebody else")]
    Changed,
}

/// See the module.
pub struct Keyring {
    /// By number; the last one seals.
    data: BTreeMap<u32, Key>,
    index: Key,
    signing: SigningKey,
}

impl Keyring {
    /// Fresh keys.
    pub fn generate() -> Keyring {
        Keyring { data: BTreeMap::from([(1, random())]), index: random(), signing: SigningKey::from_bytes(&random()) }
    }

    /// A further data key: what is sealed from now on is sealed with it.
    pub fn rotate(&mut self) -> u32 {
        let number = self.data.last_key_value().map_or(0, |(number, _)| *number) + 1;
        self.data.insert(number, random());
        number
    }

    /// Numbers of the data keys.
    pub fn data_keys(&self) -> impl Iterator<Item = u32> {
        self.data.keys().copied()
    }

    /// Seals something; never twice to the same bytes.
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let (number, data_key) = self.data.last_key_value().expect("a keyring has a data key from its making on");
        let nonce: [u8; 24] = random();
        let key = record_key(data_key, &nonce);
        let mut sealed = Vec::with_capacity(OVERHEAD + plain.len());
        sealed.push(SEALED);
        sealed.extend_from_slice(&number.to_le_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&commitment(&key));
        let payload = Payload { msg: plain, aad: &sealed };
        let cipher = XChaCha20Poly1305::new(&key.into());
        let encrypted = cipher.encrypt(&XNonce::from(nonce), payload).expect("a record is shorter than 256 GiB");
        sealed.extend_from_slice(&encrypted);
        sealed
    }

    /// Opens what [`Keyring::seal`] sealed.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenSealedError> {
        open_with(&self.record_key(sealed)?, sealed)
    }

    /// The key that opens this one record and nothing else.
    pub fn record_key(&self, sealed: &[u8]) -> Result<Key, OpenSealedError> {
        let head = head(sealed)?;
        let data_key = self.data.get(&head.data_key).ok_or(OpenSealedError::UnknownKey(head.data_key))?;
        Ok(record_key(data_key, &head.nonce))
    }

    /// A key for an index over `kind` of number that does not give the number back.
    pub fn blind(&self, kind: &str, number: &[u8]) -> [u8; 16] {
        let mut half = [0; 16];
        half.copy_from_slice(&keyed(&self.index, &[kind.as_bytes(), &[0], number])[..16]);
        half
    }

    /// An Ed25519 signature by this gateway.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// The Ed25519 key that [`Keyring::sign`]'s signatures are checked with.
    pub fn public_key(&self) -> Key {
        self.signing.verifying_key().to_bytes()
    }
}

/// Opens something sealed with its record key.
pub fn open_with(record_key: &Key, sealed: &[u8]) -> Result<Vec<u8>, OpenSealedError> {
    let Head { nonce, commitment: committed, .. } = head(sealed)?;
    if commitment(record_key) != committed {
        return Err(OpenSealedError::Changed);
    }
    let payload = Payload { msg: &sealed[HEAD..], aad: &sealed[..HEAD] };
    let cipher = XChaCha20Poly1305::new(record_key.into());
    cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| OpenSealedError::Changed)
}

struct Head {
    data_key: u32,
    nonce: [u8; 24],
    commitment: [u8; 32],
}

fn head(sealed: &[u8]) -> Result<Head, OpenSealedError> {
    match sealed.first() {
        Some(&SEALED) => {}
        other => return Err(OpenSealedError::UnknownSeal(other.copied())),
    }
    let head: &[u8; HEAD] = sealed.first_chunk().ok_or(OpenSealedError::Changed)?;
    let (mut number, mut nonce, mut commitment) = ([0; 4], [0; 24], [0; 32]);
    number.copy_from_slice(&head[1..5]);
    nonce.copy_from_slice(&head[5..29]);
    commitment.copy_from_slice(&head[29..61]);
    Ok(Head { data_key: u32::from_le_bytes(number), nonce, commitment })
}

fn record_key(data_key: &Key, nonce: &[u8; 24]) -> Key {
    keyed(data_key, &[b"anxin record key", nonce])
}

fn commitment(record_key: &Key) -> [u8; 32] {
    Sha256::new().chain_update(b"anxin commitment").chain_update(record_key).finalize().into()
}

fn keyed(key: &Key, parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_again_and_shows_nothing() {
        let ring = Keyring::generate();
        let sealed = ring.seal(b"110101194912310016");
        assert_eq!(ring.open(&sealed).unwrap(), b"110101194912310016");
        assert_eq!(sealed.len(), OVERHEAD + 18);
        assert!(!sealed.windows(4).any(|window| b"110101194912310016".windows(4).any(|part| part == window)));
        assert_ne!(ring.seal(b"110101194912310016"), sealed, "equal contents are not seen to be equal");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let ring = Keyring::generate();
        let sealed = ring.seal(b"worker");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ring.open(&flipped).is_err(), "bit {bit}");
        }
        for cut in 0..sealed.len() {
            assert!(ring.open(&sealed[..cut]).is_err(), "cut {cut}");
        }
    }

    #[test]
    fn a_record_key_opens_its_record_and_no_other() {
        let ring = Keyring::generate();
        let (one, other) = (ring.seal(b"one"), ring.seal(b"other"));
        let key = ring.record_key(&one).unwrap();
        assert_eq!(open_with(&key, &one).unwrap(), b"one");
        assert_eq!(open_with(&key, &other), Err(OpenSealedError::Changed));
    }

    #[test]
    fn a_new_data_key_seals_and_the_old_one_still_opens() {
        let mut ring = Keyring::generate();
        let before = ring.seal(b"before");
        assert_eq!(ring.rotate(), 2);
        let after = ring.seal(b"after");
        assert_eq!((before[1], after[1]), (1, 2));
        assert_eq!((ring.open(&before).unwrap(), ring.open(&after).unwrap()), (b"before".to_vec(), b"after".to_vec()));
        let stranger = Keyring::generate();
        assert_eq!(stranger.open(&after), Err(OpenSealedError::UnknownKey(2)));
        assert_eq!(stranger.open(&before), Err(OpenSealedError::Changed));
    }

    #[test]
    fn a_blinded_number_is_the_same_each_time_and_differs_by_kind_and_keyring() {
        let ring = Keyring::generate();
        assert_eq!(ring.blind("id", b"1"), ring.blind("id", b"1"));
        assert_ne!(ring.blind("id", b"1"), ring.blind("badge", b"1"));
        assert_ne!(ring.blind("id", b"1"), Keyring::generate().blind("id", b"1"));
    }
}
