//! `key rotate` and `key change`: the keys that seal the data, while the gateway stands still.

use std::fs::File;
use std::path::Path;

use gateway::config::Config;
use gateway::store::keyring::file::{self, KeyringError, Opened};
use gateway::store::keyring::master::{MasterError, MasterFile};
use gateway::store::{self, OpenError};

use super::exit::{Exit, Failure, of_io};

/// A further data key for everything that is stored from now on.
pub fn rotate(config: &Config) -> Result<String, Failure> {
    let number = with_keyring(config, |opened| file::rotate(&config.data_dir, &config.store.key, opened))?;
    Ok(format!("data key {number} seals what is stored from now on; the older ones still open what they sealed"))
}

/// Seals the keyring with the key in `new`, which is made when there is no such file.
pub fn change(config: &Config, new: &Path) -> Result<String, Failure> {
    let new_file = MasterFile { path: new.to_owned(), is_credential: false };
    with_keyring(config, |opened| {
        let secret = match new_file.read()? {
            Some(secret) => secret,
            None => new_file.create()?,
        };
        file::reseal(&config.data_dir, &secret, opened)
    })?;
    Ok(format!(
        "the keyring is sealed with {new}; name it in the configuration before the next start:\n[store]\nkey_file = \"{new}\"\n{old} opens nothing any more but older copies",
        new = new.display(),
        old = config.store.key.path.display(),
    ))
}

/// Keeps every gateway from the data directory while the file is held.
pub fn lock(config: &Config) -> Result<File, Failure> {
    store::lock(&config.data_dir).map_err(|error| {
        let hint = if matches!(error, OpenError::Locked { .. }) { "; stop the gateway first" } else { "" };
        Failure::new(exit_of(&error), format!("{error}{hint}"))
    })
}

/// Holds the store's lock, so that no gateway runs meanwhile.
fn with_keyring<T>(config: &Config, work: impl FnOnce(&mut Opened) -> Result<T, KeyringError>) -> Result<T, Failure> {
    let _lock = lock(config)?;
    let mut opened = file::existing(&config.data_dir, &config.store.key).map_err(failure)?;
    work(&mut opened).map_err(failure)
}

fn failure(error: KeyringError) -> Failure {
    Failure::new(exit_of_keyring(&error), error.to_string())
}

/// How a command ends that could not open the store.
pub fn exit_of(error: &OpenError) -> Exit {
    match error {
        OpenError::Locked { .. } => Exit::TemporaryFailure,
        OpenError::Io { source, .. } => of_io(source, Exit::Io),
        OpenError::Keyring(error) => exit_of_keyring(error),
    }
}

/// How a command ends that has no keys.
pub fn exit_of_keyring(error: &KeyringError) -> Exit {
    match error {
        KeyringError::Io { source, .. } | KeyringError::Master(MasterError::Io { source, .. }) => {
            of_io(source, Exit::Io)
        }
        KeyringError::Missing { .. } => Exit::NoInput,
        KeyringError::Master(_) | KeyringError::WrongKey { .. } => Exit::Config,
    }
}
