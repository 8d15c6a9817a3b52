//! The end: wages were settled so many years ago that the data may be kept no longer. Everything is deleted, the keys with
//! it, and a signed certificate says what there was.
//!
//! ```text
//! anxin-erasure 1
//! project <project code>
//! facts <number> through <sequence of the last>
//! head <hash of the last fact, hexadecimal>
//! damaged <places that did not verify>
//! kept-until <yyyy-mm-dd>
//! erased <yyyy-mm-dd>
//! key <the ledger's Ed25519 key, hexadecimal>
//! signature <over all lines before this one, their line ends included, hexadecimal>
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::keyring::Keyring;
use super::keyring::master::MasterFile;
use super::ledger::check;
use super::ledger::segment::{sync_dir, write_whole};
use super::shared::Paths;

/// While the deletion goes on.
const UNFINISHED: &str = "erasing";

/// Whose data it was, and why it goes now.
#[derive(Clone, Debug)]
pub struct Occasion {
    pub project: String,
    /// The last day on which it was to be kept.
    pub kept_until: Date,
    pub today: Date,
}

/// Whether an erasure of this directory was begun and did not come to its end: the keys may be gone already.
pub fn is_unfinished(dir: &Path) -> bool {
    dir.join(UNFINISHED).exists()
}

/// Writes down what is there, and signs it.
pub fn certify(dir: &Path, keyring: &Keyring, occasion: &Occasion) -> io::Result<()> {
    let report = check::verify(&Paths::new(dir).ledger)?;
    let Occasion { project, kept_until, today } = occasion;
    let text = format!(
        "anxin-erasure 1\nproject {project}\nfacts {} through {}\nhead {}\ndamaged {}\nkept-until {kept_until}\nerased {today}\nkey {}\n",
        report.facts,
        report.last_seq,
        hex::encode(report.head),
        report.findings.len(),
        hex::encode(keyring.public_key()),
    );
    let signature = hex::encode(keyring.sign(text.as_bytes()));
    write_whole(&dir.join(UNFINISHED), format!("{text}signature {signature}\n").as_bytes())
}

/// Deletes everything that the gateway has stored here, and the key `master` if it lies here. The keys go first: without
/// them the rest says nothing. Returns the certificate's path.
pub fn erase(dir: &Path, master: &MasterFile, today: Date) -> io::Result<PathBuf> {
    if master.path.starts_with(dir) {
        remove(&master.path)?;
    }
    let mut ours = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if is_ours(&entry.file_name().to_string_lossy()) {
            ours.push(entry.path());
        }
    }
    ours.sort_by_key(|path| !path.is_file());
    ours.iter().try_for_each(|path| remove(path))?;
    sync_dir(dir)?;
    let certificate = dir.join(format!("erased-{today}.txt"));
    fs::rename(dir.join(UNFINISHED), &certificate)?;
    sync_dir(dir)?;
    Ok(certificate)
}

fn is_ours(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    ["keyring-a", "keyring-b", "ledger", "photos", "view", "quarantine", "owed", "reserve", "restored"].contains(&stem)
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
