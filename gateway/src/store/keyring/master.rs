//! The master key: what opens the keyring. It comes from a file that nobody else can read, from a systemd credential
//! (which systemd may keep encrypted to this box), or is derived from a passphrase in such a file. It is never written
//! into the data directory by anything but the first start without any other choice.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use argon2::Argon2;
use rand::RngCore;

use super::Key;
use crate::store::ledger::segment::sync_name;

/// The credential's name in `$CREDENTIALS_DIRECTORY`.
pub const CREDENTIAL: &str = "anxin.store-key";
/// A passphrase shorter than this is guessed.
pub const MIN_PASSPHRASE: usize = 12;

/// Where the master key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterFile {
    pub path: PathBuf,
    /// Given by systemd: its permissions are systemd's business, and nothing is created.
    pub is_credential: bool,
}

impl MasterFile {
    /// The configured file; else the credential, when systemd gives one; else `store.key` in the data directory.
    pub fn choose(configured: Option<&Path>, credentials: Option<&Path>, data_dir: &Path) -> MasterFile {
        if let Some(path) = configured {
            return MasterFile { path: path.to_owned(), is_credential: false };
        }
        let credential = credentials.map(|dir| dir.join(CREDENTIAL)).filter(|path| path.exists());
        match credential {
            Some(path) => MasterFile { path, is_credential: true },
            None => MasterFile { path: data_dir.join("store.key"), is_credential: false },
        }
    }

    /// Whether whoever takes the data directory takes the key with it.
    pub fn is_inside(&self, data_dir: &Path) -> bool {
        self.path.starts_with(data_dir)
    }

    /// Reads the secret; `None` when there is no such file.
    pub fn read(&self) -> Result<Option<Secret>, MasterError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io(source)),
        };
        if !self.is_credential {
            let mode = fs::metadata(&self.path).map_err(|source| self.io(source))?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(MasterError::Open { path: self.path.clone(), mode });
            }
        }
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        let mut key = [0; 32];
        if hex::decode_to_slice(text, &mut key).is_ok() {
            return Ok(Some(Secret::Key(key)));
        }
        if text.chars().count() < MIN_PASSPHRASE {
            return Err(MasterError::Weak { path: self.path.clone() });
        }
        Ok(Some(Secret::Passphrase(text.to_owned())))
    }

    /// Writes a fresh key, durably, for the gateway's user alone.
    pub fn create(&self) -> Result<Secret, MasterError> {
        if self.is_credential {
            return Err(MasterError::Missing { path: self.path.clone() });
        }
        let mut key = [0; 32];
        rand::rng().fill_bytes(&mut key);
        // Whole or not at all under its name: half a key would never open anything, and never be made again.
        let new = self.path.with_extension("new");
        let written = || -> io::Result<()> {
            if self.path.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all((hex::encode(key) + "\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            sync_name(&self.path)
        };
        written().map_err(|source| self.io(source))?;
        Ok(Secret::Key(key))
    }

    fn io(&self, source: io::Error) -> MasterError {
        MasterError::Io { path: self.path.clone(), source }
    }
}

/// What stands in the file.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// 64 hexadecimal digits.
    Key(Key),
    /// Anything else.
    Passphrase(String),
}

impl Secret {
    /// The key that the keyring is sealed with. A passphrase costs 19 MiB and some 50 ms (Argon2id, RFC 9106).
    pub fn key(&self, salt: &[u8; 16]) -> Key {
        match self {
            Secret::Key(key) => *key,
            Secret::Passphrase(text) => {
                let mut key = [0; 32];
                let derived = Argon2::default().hash_password_into(text.as_bytes(), salt, &mut key);
                derived.expect("salt and key have lengths that Argon2 takes");
                key
            }
        }
    }
}

/// Why there is no master key. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    #[error("the key file {path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the key file {path} can be read by others (mode {mode:o}): chmod 600 {path}", path = path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("the key file {path} holds neither 64 hexadecimal digits nor a passphrase of {MIN_PASSPHRASE} characters or more", path = path.display())]
    Weak { path: PathBuf },
    #[error("the key file {path} is missing, and the data was sealed with it: put it back, or restore a backup", path = path.display())]
    Missing { path: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, text: &str, mode: u32) -> MasterFile {
        let path = dir.join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        MasterFile { path, is_credential: false }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let Err(error) = file(dir.path(), &"0".repeat(64), 0o640).read() else { panic!("taken") };
        assert!(error.to_string().contains("mode 640): chmod 600"), "{error}");
    }

    #[test]
    fn a_file_holds_a_key_or_a_passphrase_that_is_long_enough() {
        let dir = tempfile::tempdir().unwrap();
        let key = file(dir.path(), &format!("{}\n", "0a".repeat(32)), 0o600).read().unwrap().unwrap();
        assert_eq!(key.key(&[0; 16]), [0x0A; 32]);
        let phrase = file(dir.path(), "correct horse battery\n", 0o600).read().unwrap().unwrap();
        assert_ne!(phrase.key(&[0; 16]), phrase.key(&[1; 16]));
        assert!(matches!(file(dir.path(), "short", 0o600).read(), Err(MasterError::Weak { .. })));
        assert!(matches!(file(dir.path(), "", 0o600).read(), Err(MasterError::Weak { .. })));
    }

    #[test]
    fn a_created_key_is_for_nobody_else_and_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let chosen = MasterFile::choose(None, Some(Path::new("/nowhere")), dir.path());
        assert!(chosen.is_inside(dir.path()) && chosen.read().unwrap().is_none());
        let made = chosen.create().unwrap();
        assert!(chosen.read().unwrap() == Some(made));
        assert_eq!(fs::metadata(&chosen.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(chosen.create().is_err(), "a key is never overwritten");
    }

    #[test]
    fn a_power_cut_while_the_key_was_written_leaves_none_and_the_next_start_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let chosen = MasterFile::choose(None, None, dir.path());
        fs::write(dir.path().join("store.new"), "0a0a").unwrap();
        assert!(chosen.read().unwrap().is_none());
        let made = chosen.create().unwrap();
        assert!(chosen.read().unwrap() == Some(made));
        assert!(!dir.path().join("store.new").exists());
    }

    #[test]
    fn a_credential_of_systemd_comes_before_the_default_and_after_the_configuration() {
        let (credentials, data) = (tempfile::tempdir().unwrap(), Path::new("/data"));
        let credential = credentials.path().join(CREDENTIAL);
        fs::write(&credential, "0a".repeat(32)).unwrap();
        let chosen = MasterFile::choose(None, Some(credentials.path()), data);
        assert_eq!(chosen, MasterFile { path: credential, is_credential: true });
        let configured = Path::new("/etc/anxin/store.key");
        assert_eq!(MasterFile::choose(Some(configured), Some(credentials.path()), data).path, configured);
    }
}
