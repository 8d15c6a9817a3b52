//! `backup` and `restore`: all of a data directory in one encrypted file.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use gateway::config::Config;
use gateway::store::backup::{self, BackupError, Contents};
use gateway::store::keyring::file;
use gateway::store::keyring::master::MIN_PASSPHRASE;
use gateway::store::ledger::segment::sync_name;

use super::exit::{Exit, Failure, of_io};
use super::key::exit_of_keyring;

/// Writes a backup of the configured data directory; the gateway may be running.
pub fn write(config: &Config, output: &Path, passphrase_file: &Path) -> Result<String, Failure> {
    let passphrase = passphrase(passphrase_file)?;
    let keys = file::existing(&config.data_dir, &config.store.key)
        .map_err(|error| Failure::new(exit_of_keyring(&error), error.to_string()))?;
    // Whole or not at all under its name.
    let half = output.with_extension("half");
    if output.exists() {
        let text = format!("{} is there already; a backup does not overwrite another", output.display());
        return Err(Failure::new(Exit::CannotCreate, text));
    }
    let written = File::create(&half)
        .map_err(|error| Failure::new(of_io(&error, Exit::CannotCreate), format!("{}: {error}", half.display())))
        .and_then(|out| {
            let contents = backup::write(&config.data_dir, &keys.keyring, &passphrase, &out).map_err(failure)?;
            let kept = out.sync_all().and_then(|()| fs::rename(&half, output)).and_then(|()| sync_name(output));
            kept.map_err(|error| Failure::new(of_io(&error, Exit::Io), format!("{}: {error}", output.display())))?;
            Ok(contents)
        });
    if written.is_err() {
        // A disk that is full needs the space.
        let _nothing_to_remove = fs::remove_file(&half);
    }
    Ok(format!("{}: {}", output.display(), described(&written?)))
}

/// Makes the configured data directory from a backup.
pub fn restore(config: &Config, input: &Path, passphrase_file: &Path) -> Result<String, Failure> {
    let passphrase = passphrase(passphrase_file)?;
    let backup = File::open(input)
        .map_err(|error| Failure::new(Exit::NoInput, format!("{} cannot be read: {error}", input.display())))?;
    let contents = backup::restore(BufReader::new(backup), &passphrase, &config.data_dir, &config.store.key);
    let contents = contents.map_err(failure)?;
    Ok(format!(
        "{}: {}; the key is in {}. The gateway asks each platform what it has before it sends anything of this. Do not start the old box again",
        config.data_dir.display(),
        described(&contents),
        config.store.key.path.display()
    ))
}

fn described(contents: &Contents) -> String {
    let Contents { segments, photos, bytes } = contents;
    format!("{segments} segments and {photos} photos, {} MiB", bytes >> 20)
}

fn passphrase(file: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::new(Exit::NoInput, format!("{} cannot be read: {error}", file.display())))?;
    let phrase = text.trim().to_owned();
    if phrase.chars().count() < MIN_PASSPHRASE {
        let text = format!("{}: a passphrase has {MIN_PASSPHRASE} characters or more", file.display());
        return Err(Failure::new(Exit::Data, text));
    }
    Ok(phrase)
}

fn failure(error: BackupError) -> Failure {
    let exit = match &error {
        BackupError::Io { source, .. } | BackupError::Stream(source) => of_io(source, Exit::Io),
        BackupError::Keyring(error) => exit_of_keyring(error),
        BackupError::Sealed | BackupError::Foreign => Exit::Data,
        BackupError::NotEmpty { .. } => Exit::CannotCreate,
    };
    Failure::new(exit, error.to_string())
}
