//! `ledger verify` and `ledger export`: the ledger read without a running gateway, or beside one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use gateway::store::keyring::master::MasterFile;
use gateway::store::keyring::{self, Keyring};
use gateway::store::ledger::check::{self, Report};
use gateway::store::ledger::export::{self, ExportError, Format};
use gateway::store::ledger::segment;

use super::exit::{Exit, Failure};

/// Checks the whole chain and the signed days; what is wrong is the failure's text.
pub fn verify(data: &Path, public_key: Option<&str>) -> Result<String, Failure> {
    let dir = ledger_of(data)?;
    let expected = public_key.map(public_key_of).transpose()?;
    let report = check::verify(&dir).map_err(|error| unreadable(&dir, &error))?;
    let stranger = report.days.keys.iter().find(|key| expected.is_some_and(|expected| **key != expected));
    if let Some(stranger) = stranger {
        let stranger = hex::encode(stranger);
        let text = format!("{}: days were signed with {stranger}, not with the expected key\n", dir.display());
        return Err(Failure::new(Exit::Data, text + &described(&report)));
    }
    match report.is_sound() {
        true => Ok(described(&report)),
        false => {
            let findings: String = report.findings.iter().map(|finding| format!("\n{finding}")).collect();
            Err(Failure::new(Exit::Data, format!("{} is not sound:{findings}\n{}", dir.display(), described(&report))))
        }
    }
}

fn described(report: &Report) -> String {
    let Report { segments, facts, last_seq, abandoned, .. } = report;
    let head = hex::encode(report.head);
    let mut text =
        format!("{facts} facts in {segments} segments, the last is {last_seq}\nhead {head}\n{}", report.days);
    if *abandoned > 0 {
        text +=
            &format!("\n{abandoned} facts were never acknowledged, because the disk failed while they were written");
    }
    for finding in report.findings.iter().filter(|_| report.is_sound()) {
        text += &format!("\n{finding}");
    }
    if let Some(end) = report.open_end {
        text += &format!(
            "\nafter the last fact there are {} bytes more: a write that was interrupted, or that goes on now",
            end.length
        );
    }
    match report.is_sound() {
        true => text + "\nsound: nothing was changed, removed, added or moved",
        false => text,
    }
}

/// Writes every fact to `out`, or to standard output. Personal data is in it as it stands in the ledger.
/// `key_file`: as in the configuration; by default the data directory's own.
pub fn export(data: &Path, key_file: Option<&Path>, out: Option<&Path>, format: Format) -> Result<String, Failure> {
    let dir = ledger_of(data)?;
    let keyring = keyring_of(data, key_file)?;
    let written = match out {
        Some(path) => {
            let file = create_new(path)?;
            export::export(&dir, &keyring, &file, format).and_then(|count| Ok(file.sync_all().map(|()| count)?))
        }
        None => export::export(&dir, &keyring, io::stdout().lock(), format),
    };
    match written {
        Ok(count) => Ok(format!("{count} facts exported")),
        Err(ExportError::Io(error)) => Err(unreadable(&dir, &error)),
        Err(error @ (ExportError::Json(_) | ExportError::Csv(_))) => Err(Failure::new(Exit::Io, error.to_string())),
    }
}

/// The ledger inside a data directory, or a copy of a ledger alone.
pub fn ledger_of(data: &Path) -> Result<PathBuf, Failure> {
    let candidates = [data.join("ledger"), data.to_owned()];
    let found = candidates.into_iter().find(|dir| segment::list(dir).is_ok_and(|segments| !segments.is_empty()));
    found.ok_or_else(|| {
        let problem = format!("{}: no ledger is here; name the gateway's data directory with --data", data.display());
        Failure::new(Exit::NoInput, problem)
    })
}

/// The keys of a data directory or a copy of one, which stays as it is.
pub fn keyring_of(data: &Path, key_file: Option<&Path>) -> Result<Keyring, Failure> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let master = MasterFile::choose(key_file, credentials.as_deref().map(Path::new), data);
    keyring::file::read_only(data, &master).map_err(|error| Failure::new(Exit::NoInput, error.to_string()))
}

/// A public key as it was written down, in groups or not.
pub fn public_key_of(text: &str) -> Result<[u8; 32], Failure> {
    let digits: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let mut key = [0; 32];
    hex::decode_to_slice(&digits, &mut key)
        .map_err(|_| Failure::new(Exit::Usage, format!("a public key has 64 hexadecimal digits, not `{text}`")))?;
    Ok(key)
}

/// A file for an output; an earlier one is evidence too and stays.
pub fn create_new(path: &Path) -> Result<File, Failure> {
    File::create_new(path)
        .map_err(|error| Failure::new(Exit::CannotCreate, format!("{} cannot be created: {error}", path.display())))
}

pub fn unreadable(dir: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Io, format!("{}: {error}", dir.display()))
}
