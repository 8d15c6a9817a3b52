//! What a directory must hold, whatever happened to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use gateway::store::keyring::master::MasterFile;
use gateway::store::{Format, export, keyring};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::marks::Mark;

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Expected {
    /// What was promised, in order, without what damage has taken.
    pub promised: Vec<Mark>,
    /// What each fact that could be there says, by sequence: see [`lines`].
    pub lines: BTreeMap<u64, Line>,
    /// Somebody has damaged the directory, beside what a cut does.
    pub is_damaged: bool,
    /// Facts whose bytes were damaged before. The store must say so.
    pub lost: BTreeSet<u64>,
    /// Those among them that only the view of a killed store can know of, and does not if it was behind.
    pub unwitnessed: BTreeSet<u64>,
    /// Photos that were damaged or deleted before.
    pub lost_photos: BTreeSet<u32>,
    /// Lives that the directory has had, for the clock.
    pub lives: u32,
}

impl Expected {
    /// Sequences of the facts that must be there.
    pub fn facts(&self) -> BTreeSet<u64> {
        self.promised.iter().filter_map(|mark| mark.seq()).collect()
    }

    /// Numbers and sequences of the punches that must be there.
    pub fn punches(&self) -> BTreeMap<u32, u64> {
        let punches = self.promised.iter().filter_map(|mark| match mark {
            Mark::Punch { n, seq } => Some((*n, *seq)),
            Mark::Fact { .. } | Mark::Photo { .. } => None,
        });
        punches.collect()
    }

    pub fn photos(&self) -> BTreeSet<u32> {
        let photos = self.promised.iter().filter_map(|mark| match mark {
            Mark::Photo { n } => Some(*n),
            Mark::Punch { .. } | Mark::Fact { .. } => None,
        });
        photos.collect()
    }

    /// Takes the promises back that damage has made impossible.
    pub fn lose(&mut self, facts: BTreeSet<u64>, photos: BTreeSet<u32>) {
        self.promised.retain(|mark| match mark {
            Mark::Punch { seq, .. } | Mark::Fact { seq } => !facts.contains(seq),
            Mark::Photo { n } => !photos.contains(n),
        });
        self.is_damaged = true;
        self.lost.extend(facts);
        self.lost_photos.extend(photos);
    }

    pub fn save(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }

    pub fn load(path: &Path) -> io::Result<Expected> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

/// One fact as the ledger's export says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub kind: String,
    /// Over everything that the export says of the fact, its hash in the chain included, but not its place in a file.
    pub digest: String,
    /// Of a punch, its id.
    pub punch: Option<String>,
}

/// What the export of a data directory's ledger says, by sequence; a sequence that comes twice is an error.
pub fn lines(data: &Path) -> io::Result<BTreeMap<u64, Line>> {
    let mut text = Vec::new();
    let master = MasterFile::choose(None, None, data);
    let keyring = keyring::file::read_only(data, &master).map_err(io::Error::other)?;
    export(&data.join("ledger"), &keyring, &mut text, Format::Jsonl).map_err(io::Error::other)?;
    let mut lines = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut line: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)?;
        line.retain(|key, _| key != "segment" && key != "offset");
        let seq = line.get("seq").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let kind = line.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
        let digest = hex::encode(&Sha256::digest(serde_json::to_vec(&line)?)[..16]);
        let id = line.get("fact").and_then(|fact| fact.get("id")).and_then(|id| id.as_str());
        let punch = id.filter(|_| kind == "punch").map(str::to_owned);
        if lines.insert(seq, Line { kind, digest, punch }).is_some() {
            return Err(io::Error::other(format!("fact {seq} is exported twice")));
        }
    }
    Ok(lines)
}
