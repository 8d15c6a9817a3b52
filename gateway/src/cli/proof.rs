//! `ledger prove` and `ledger check-proof`: one punch for somebody who has no ledger.

use std::fs;
use std::io::Write;
use std::path::Path;

use gateway::punch::PunchId;
use gateway::store::ledger::export::readable;
use gateway::store::ledger::proof::{self, Proof, ProveError};

use super::exit::{Exit, Failure};
use super::ledger::{create_new, keyring_of, ledger_of, public_key_of, unreadable};

/// Writes a proof to `out`, or to standard output.
pub fn prove(data: &Path, key_file: Option<&Path>, out: Option<&Path>, punch: &str) -> Result<String, Failure> {
    let id: PunchId = punch
        .parse()
        .map_err(|_| Failure::new(Exit::Usage, format!("a punch's id is 32 hexadecimal digits, not `{punch}`")))?;
    let dir = ledger_of(data)?;
    let keyring = keyring_of(data, key_file)?;
    let proof = proof::prove_from(&dir, &keyring, id).map_err(|error| match error {
        ProveError::Io(error) => unreadable(&dir, &error),
        other => Failure::new(Exit::Data, other.to_string()),
    })?;
    let text = serde_json::to_string_pretty(&proof).expect("a proof has only text and numbers") + "\n";
    let written = match out {
        Some(path) => create_new(path)?.write_all(text.as_bytes()),
        None => std::io::stdout().write_all(text.as_bytes()),
    };
    written.map_err(|error| Failure::new(Exit::Io, format!("the proof cannot be written: {error}")))?;
    Ok(format!("{} facts proven; personal data can be read in the proof", proof.facts.len()))
}

/// What a proof proves.
pub fn check(file: &Path, public_key: Option<&str>) -> Result<String, Failure> {
    let expected = public_key.map(public_key_of).transpose()?;
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::new(Exit::NoInput, format!("{} cannot be read: {error}", file.display())))?;
    let proof: Proof = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Exit::Data, format!("{} is no proof: {error}", file.display())))?;
    let facts = proof::check(&proof, expected.as_ref())
        .map_err(|flaw| Failure::new(Exit::Data, format!("{} proves nothing: {flaw}", file.display())))?;
    let mut said = String::new();
    for ((seq, fact), proven) in facts.iter().zip(&proof.facts) {
        let (kind, fact) = readable(fact).map_err(|error| Failure::new(Exit::Data, error.to_string()))?;
        said += &format!("fact {seq}, of the day closed as {}: {kind}\n{fact:#}\n", proven.head.day);
    }
    let key = &proof.facts[0].head.public_key;
    said += match expected {
        Some(_) => "sound, and signed with the expected key",
        None => "sound, if this is the key that was written down on the site:",
    };
    Ok(if expected.is_some() { said } else { format!("{said}\n{key}") })
}
