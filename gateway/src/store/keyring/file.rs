//! The keyring on disk: two equal copies in the data directory, each sealed with the master key. One bad sector costs
//! nothing; a copy that is damaged is written anew from the other.
//!
//! ```text
//! offset size
//!      0    8  magic            "AXKEYS01"
//!      8   16  salt             for a master key that is derived from a passphrase
//!     24    4  length           of the sealed part, little-endian
//!     28   24  nonce
//!     52    n  ciphertext, tag  XChaCha20-Poly1305 under the master key; bytes 0..28 are authenticated with it
//!   52+n    4  CRC-32C          over all bytes before it
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::master::{MasterError, MasterFile, Secret};
use super::{Key, Keyring, random};
use crate::store::ledger::segment::{sync_dir, write_whole};

const MAGIC: &[u8; 8] = b"AXKEYS01";
const HEAD: usize = 28;
const NONCE: usize = 24;
const COPIES: [&str; 2] = ["keyring-a", "keyring-b"];

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error(transparent)]
    Master(#[from] MasterError),
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{key_file} does not open the keyring in {dir}: it is another site's key, or the passphrase was changed; put the right key file there", key_file = key_file.display(), dir = dir.display())]
    WrongKey { key_file: PathBuf, dir: PathBuf },
    #[error("{dir}: no keyring is here that can be read; name a gateway's data directory", dir = dir.display())]
    Missing { dir: PathBuf },
}

/// What stands in the sealed part.
#[derive(Serialize, Deserialize)]
struct Contents {
    /// Counts the changes: of two copies that open, the higher one is right.
    generation: u32,
    data: Vec<(u32, Key)>,
    index: Key,
    signing: Key,
}

impl Contents {
    fn into_opened(self) -> Opened {
        let keyring = Keyring {
            data: self.data.into_iter().collect(),
            index: self.index,
            signing: SigningKey::from_bytes(&self.signing),
        };
        Opened { keyring, generation: self.generation, lost: None }
    }
}

/// The keyring as it was found or made.
pub struct Opened {
    pub keyring: Keyring,
    generation: u32,
    /// The keys of before are lost, and why: what they sealed stays sealed.
    pub lost: Option<String>,
}

/// Opens the keyring of a data directory; makes one at the first start. `stamp` names what is set aside.
pub fn open(dir: &Path, master: &MasterFile, stamp: &str) -> Result<Opened, KeyringError> {
    let copies = COPIES.map(|name| read(&dir.join(name)));
    let [a, b] = copies;
    let copies = [a?, b?];
    if copies.iter().any(|copy| matches!(copy, Copy::Good(_))) {
        return open_copies(dir, master, &copies);
    }
    let damaged = copies.iter().any(|copy| matches!(copy, Copy::Damaged));
    if damaged {
        set_aside(dir, stamp)?;
    }
    let secret = match master.read()? {
        Some(secret) => secret,
        None => master.create()?,
    };
    let opened = Opened {
        keyring: Keyring::generate(),
        generation: 1,
        lost: damaged
            .then(|| format!("both copies of the keyring were damaged and set aside as keyring-*.bad-{stamp}")),
    };
    write(dir, &secret, &opened)?;
    Ok(opened)
}

/// The keys of a data directory, or of a copy of one, without changing anything there.
pub fn read_only(dir: &Path, master: &MasterFile) -> Result<Keyring, KeyringError> {
    Ok(existing(dir, master)?.keyring)
}

/// The keyring of a data directory, to change it; makes none.
pub fn existing(dir: &Path, master: &MasterFile) -> Result<Opened, KeyringError> {
    let [a, b] = COPIES.map(|name| read(&dir.join(name)));
    let copies = [a?, b?];
    if !copies.iter().any(|copy| matches!(copy, Copy::Good(_))) {
        return Err(KeyringError::Missing { dir: dir.to_owned() });
    }
    Ok(newest(dir, master, &copies)?.1)
}

/// Adds a data key, durably.
pub fn rotate(dir: &Path, master: &MasterFile, opened: &mut Opened) -> Result<u32, KeyringError> {
    let secret = master.read()?.ok_or_else(|| MasterError::Missing { path: master.path.clone() })?;
    let number = opened.keyring.rotate();
    opened.generation += 1;
    write(dir, &secret, opened)?;
    Ok(number)
}

/// Seals the keyring with another master key, durably.
pub fn reseal(dir: &Path, secret: &Secret, opened: &mut Opened) -> Result<(), KeyringError> {
    opened.generation += 1;
    write(dir, secret, opened)
}

enum Copy {
    Absent,
    Damaged,
    Good(Vec<u8>),
}

fn read(path: &Path) -> Result<Copy, KeyringError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Copy::Absent),
        // A bad sector.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(Copy::Damaged),
        Err(source) => return Err(KeyringError::Io { path: path.to_owned(), source }),
    };
    let Some((sealed, crc)) = bytes.split_last_chunk::<4>() else { return Ok(Copy::Damaged) };
    let is_whole = sealed.len() > HEAD + NONCE && sealed.starts_with(MAGIC);
    let is_whole = is_whole && crc32c::crc32c(sealed) == u32::from_le_bytes(*crc);
    Ok(if is_whole { Copy::Good(sealed.to_vec()) } else { Copy::Damaged })
}

fn open_copies(dir: &Path, master: &MasterFile, copies: &[Copy]) -> Result<Opened, KeyringError> {
    let (secret, opened, all_equal) = newest(dir, master, copies)?;
    if !all_equal {
        tracing::warn!(dir = %dir.display(), "one copy of the keyring was damaged or old and is written anew");
        write(dir, &secret, &opened)?;
    }
    Ok(opened)
}

/// The newest copy that the master key opens, and whether all copies are like it.
fn newest(dir: &Path, master: &MasterFile, copies: &[Copy]) -> Result<(Secret, Opened, bool), KeyringError> {
    let secret = master.read()?.ok_or_else(|| MasterError::Missing { path: master.path.clone() })?;
    let contents = copies.iter().map(|copy| match copy {
        Copy::Good(bytes) => unwrap(bytes, &secret),
        Copy::Absent | Copy::Damaged => None,
    });
    let contents: Vec<Option<Contents>> = contents.collect();
    let generations: Vec<Option<u32>> = contents.iter().map(|one| one.as_ref().map(|one| one.generation)).collect();
    let newest = contents.into_iter().flatten().max_by_key(|contents| contents.generation);
    let Some(newest) = newest else {
        return Err(KeyringError::WrongKey { key_file: master.path.clone(), dir: dir.to_owned() });
    };
    let all_equal = generations.iter().all(|one| *one == Some(newest.generation));
    Ok((secret, newest.into_opened(), all_equal))
}

fn unwrap(bytes: &[u8], secret: &Secret) -> Option<Contents> {
    let salt: &[u8; 16] = bytes.get(8..24)?.try_into().ok()?;
    let nonce: [u8; NONCE] = bytes.get(HEAD..HEAD + NONCE)?.try_into().ok()?;
    let cipher = XChaCha20Poly1305::new(&secret.key(salt).into());
    let payload = Payload { msg: &bytes[HEAD + NONCE..], aad: &bytes[..HEAD] };
    postcard::from_bytes(&cipher.decrypt(&XNonce::from(nonce), payload).ok()?).ok()
}

/// One copy after the other, so that one is whole at any moment.
pub fn write(dir: &Path, secret: &Secret, opened: &Opened) -> Result<(), KeyringError> {
    let bytes = wrapped(secret, opened);
    for name in COPIES {
        let path = dir.join(name);
        write_whole(&path, &bytes).map_err(|source| KeyringError::Io { path, source })?;
    }
    Ok(())
}

/// The keys themselves, in the clear: for a backup, which is sealed as a whole.
pub fn contents(keyring: &Keyring) -> Vec<u8> {
    encode(keyring, 1)
}

/// The keyring from such bytes.
pub fn from_contents(bytes: &[u8]) -> Option<Opened> {
    postcard::from_bytes::<Contents>(bytes).ok().map(Contents::into_opened)
}

fn encode(keyring: &Keyring, generation: u32) -> Vec<u8> {
    let contents = Contents {
        generation,
        data: keyring.data.iter().map(|(number, key)| (*number, *key)).collect(),
        index: keyring.index,
        signing: keyring.signing.to_bytes(),
    };
    postcard::to_allocvec(&contents).expect("a keyring has no unsized part and a Vec takes everything")
}

fn wrapped(secret: &Secret, Opened { keyring, generation, .. }: &Opened) -> Vec<u8> {
    let plain = encode(keyring, *generation);
    let (salt, nonce): ([u8; 16], [u8; NONCE]) = (random(), random());
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&salt);
    bytes.extend_from_slice(&((NONCE + plain.len() + 16) as u32).to_le_bytes());
    let cipher = XChaCha20Poly1305::new(&secret.key(&salt).into());
    let payload = Payload { msg: &plain, aad: &bytes };
    let encrypted = cipher.encrypt(&XNonce::from(nonce), payload).expect("a keyring is shorter than 256 GiB");
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&encrypted);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn set_aside(dir: &Path, stamp: &str) -> Result<(), KeyringError> {
    for name in COPIES {
        let path = dir.join(name);
        let moved = fs::rename(&path, dir.join(format!("{name}.bad-{stamp}")));
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(KeyringError::Io { path, source: error });
            }
            Ok(()) | Err(_) => {}
        }
    }
    sync_dir(dir).map_err(|source| KeyringError::Io { path: dir.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn master(dir: &Path) -> MasterFile {
        MasterFile::choose(Some(&dir.join("master")), None, dir)
    }

    fn opened(dir: &Path) -> Opened {
        open(dir, &master(dir), "now").unwrap()
    }

    fn put_key(dir: &Path, text: &str) {
        let path = dir.join("master");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn spoil(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        bytes[60] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_keys_of_the_first_start_are_there_at_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let first = opened(dir.path());
        let again = opened(dir.path());
        assert_eq!(again.keyring.open(&first.keyring.seal(b"x")).unwrap(), b"x");
        assert_eq!(again.keyring.public_key(), first.keyring.public_key());
        assert_eq!(again.keyring.blind("id", b"1"), first.keyring.blind("id", b"1"));
    }

    #[test]
    fn a_damaged_or_missing_copy_is_written_anew_from_the_other() {
        for name in COPIES {
            let dir = tempfile::tempdir().unwrap();
            let sealed = opened(dir.path()).keyring.seal(b"x");
            spoil(&dir.path().join(name));
            assert_eq!(opened(dir.path()).keyring.open(&sealed).unwrap(), b"x");
            fs::remove_file(dir.path().join(name)).unwrap();
            assert_eq!(opened(dir.path()).keyring.open(&sealed).unwrap(), b"x");
            assert_eq!(fs::read(dir.path().join(COPIES[0])).unwrap(), fs::read(dir.path().join(COPIES[1])).unwrap());
        }
    }

    #[test]
    fn two_damaged_copies_are_set_aside_and_new_keys_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = opened(dir.path()).keyring.seal(b"x");
        COPIES.iter().for_each(|name| spoil(&dir.path().join(name)));
        let again = opened(dir.path());
        assert!(again.lost.is_some_and(|text| text.contains("keyring-*.bad-now")));
        assert!(again.keyring.open(&sealed).is_err());
        assert!(dir.path().join("keyring-a.bad-now").exists() && dir.path().join("keyring-b.bad-now").exists());
    }

    #[test]
    fn a_wrong_or_missing_master_key_changes_nothing_and_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = opened(dir.path()).keyring.seal(b"x");
        let right = fs::read_to_string(dir.path().join("master")).unwrap();
        put_key(dir.path(), &"0".repeat(64));
        assert!(matches!(open(dir.path(), &master(dir.path()), "now"), Err(KeyringError::WrongKey { .. })));
        fs::remove_file(dir.path().join("master")).unwrap();
        let missing = open(dir.path(), &master(dir.path()), "now");
        assert!(matches!(missing, Err(KeyringError::Master(MasterError::Missing { .. }))));
        put_key(dir.path(), &right);
        assert_eq!(opened(dir.path()).keyring.open(&sealed).unwrap(), b"x");
    }

    #[test]
    fn a_further_data_key_and_another_master_key_keep_what_was_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = opened(dir.path());
        let before = first.keyring.seal(b"before");
        assert_eq!(rotate(dir.path(), &master(dir.path()), &mut first).unwrap(), 2);
        reseal(dir.path(), &Secret::Passphrase("a sentence that nobody guesses".to_owned()), &mut first).unwrap();
        let after = first.keyring.seal(b"after");
        put_key(dir.path(), "a sentence that nobody guesses\n");
        let again = opened(dir.path());
        assert_eq!(again.keyring.data_keys().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            (again.keyring.open(&before).unwrap(), again.keyring.open(&after).unwrap()),
            (b"before".to_vec(), b"after".to_vec())
        );
    }

    #[test]
    fn a_stop_between_the_two_copies_leaves_keys_that_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = opened(dir.path());
        let old = fs::read(dir.path().join(COPIES[1])).unwrap();
        rotate(dir.path(), &master(dir.path()), &mut first).unwrap();
        let sealed = first.keyring.seal(b"x");
        fs::write(dir.path().join(COPIES[1]), old).unwrap();
        assert_eq!(opened(dir.path()).keyring.open(&sealed).unwrap(), b"x");
    }
}
