//! The proof of single facts, for a worker or an inspector who has nothing but a file and the gateway's public key.
//!
//! A JSON object; bytes are hexadecimal:
//!
//! ```text
//! format              "anxin-proof-1"
//! facts[]             the punch first, then its verdicts
//!   frame_header      the first 60 bytes of the fact's frame (drawn in `ledger/frame.rs`)
//!   payload           the sealed payload of the frame (drawn in `keyring/mod.rs`)
//!   record_key        opens this payload and no other
//!   index, path[]     which leaf of the day's tree it is, and the hashes beside the way up, lowest first (RFC 6962)
//!   head              day, first, last, root, public_key, signature (the text that is signed: `ledger/day.rs`)
//! ```
//!
//! To check it: the leaf is SHA-256(frame_header ‖ SHA-256(payload)); with the path it must give the head's root; the
//! head's signature must be good for the public key that was written down when the site was set up; the payload,
//! opened with the record key, is the fact.

use std::io;
use std::path::Path;

use ct_merkle::{InclusionProof, RootHash};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::day::{self, Tree};
use super::frame::{self, HEADER_LEN, Hash};
use super::reader::{Item, Locus, PlacedFrame, Walk};
use super::seal::{unseal, unseal_with};
use crate::punch::{DayHead, Fact, PunchId, Seq, UnixMs};
use crate::store::keyring::Keyring;

const FORMAT: &str = "anxin-proof-1";

/// Proven facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub format: String,
    pub facts: Vec<ProvenFact>,
}

/// One fact and its way to the signed head of its day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenFact {
    pub frame_header: String,
    pub payload: String,
    pub record_key: String,
    pub index: u64,
    pub path: Vec<String>,
    pub head: SignedHead,
}

/// A [`DayHead`] in text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    pub day: Date,
    pub first: u64,
    pub last: u64,
    pub root: String,
    pub public_key: String,
    pub signature: String,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no such punch is in the ledger")]
    Unknown,
    #[error("the day of this punch is not closed yet; it is when the next day has begun on the site")]
    NotClosed,
    #[error(
        "{day} cannot be proven any more: facts {first} to {last} are not what was signed; `ledger verify` names the damage"
    )]
    Damaged { day: Date, first: Seq, last: Seq },
    #[error("the punch was stored before records were sealed one by one, or its data key is lost")]
    NoRecordKey,
}

/// Why a proof does not hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("it is no proof of the format {FORMAT}")]
    Format,
    #[error("{0} is not hexadecimal or has the wrong length")]
    Bytes(&'static str),
    #[error("the signature under {0} is not good: somebody else signed, or the head was changed")]
    Signature(Date),
    #[error("{day} was signed with the key {found}, not with the expected one")]
    OtherKey { day: Date, found: String },
    #[error("fact {0} is not what was signed")]
    NotSigned(u64),
    #[error("the contents of fact {0} are not what was signed")]
    Contents(u64),
}

/// What a copy of a ledger says about one punch: offline, by reading all of it.
pub fn prove_from(dir: &Path, keyring: &Keyring, punch: PunchId) -> Result<Proof, ProveError> {
    let (mut frames, mut heads) = (Vec::new(), Vec::new());
    let mut walk = Walk::all(dir);
    while let Some(item) = walk.next_item()? {
        let Item::Fact(frame) = item else { continue };
        match unseal(&frame.payload, keyring) {
            Ok(Fact::Punch(found)) if found.id == punch => frames.push(frame),
            Ok(Fact::Judgement(judgement)) if judgement.punch == punch => frames.push(frame),
            Ok(Fact::DayHead(head)) => heads.push(head),
            Ok(_) | Err(_) => {}
        }
    }
    prove(dir, keyring, &frames, &heads, None)
}

/// Proves facts, the punch first; those whose day is not closed yet are left out, unless it is the punch.
/// Everything before `limit` is durable.
pub fn prove(
    dir: &Path,
    keyring: &Keyring,
    frames: &[PlacedFrame],
    heads: &[DayHead],
    limit: Option<Locus>,
) -> Result<Proof, ProveError> {
    let punch = frames.first().ok_or(ProveError::Unknown)?.header.seq;
    let mut facts = Vec::new();
    let mut trees: Vec<(&DayHead, Tree)> = Vec::new();
    for frame in frames {
        let seq = Seq(frame.header.seq);
        let Some(head) = heads.iter().find(|head| (head.first..=head.last).contains(&seq)) else {
            if seq.0 == punch {
                return Err(ProveError::NotClosed);
            }
            continue;
        };
        if !trees.iter().any(|(known, _)| *known == head) {
            trees.push((head, tree_of(dir, head, limit)?));
        }
        let tree = trees.iter().find(|(known, _)| *known == head).map(|(_, tree)| tree);
        facts.extend(tree.map(|tree| proven(keyring, frame, head, tree)).transpose()?);
    }
    Ok(Proof { format: FORMAT.to_owned(), facts })
}

fn tree_of(dir: &Path, head: &DayHead, limit: Option<Locus>) -> Result<Tree, ProveError> {
    let tree = day::read_tree(dir, (head.first.0, head.last.0), limit)?;
    match day::root(&tree) == head.root {
        true => Ok(tree),
        false => Err(ProveError::Damaged { day: head.day, first: head.first, last: head.last }),
    }
}

fn proven(keyring: &Keyring, frame: &PlacedFrame, head: &DayHead, tree: &Tree) -> Result<ProvenFact, ProveError> {
    let index = frame.header.seq - head.first.0;
    let path = tree.prove_inclusion(index as usize);
    let record_key = keyring.record_key(&frame.payload).map_err(|_| ProveError::NoRecordKey)?;
    Ok(ProvenFact {
        frame_header: hex::encode(frame.header.encode()),
        payload: hex::encode(&frame.payload),
        record_key: hex::encode(record_key),
        index,
        path: path.as_bytes().chunks(32).map(hex::encode).collect(),
        head: SignedHead {
            day: head.day,
            first: head.first.0,
            last: head.last.0,
            root: hex::encode(head.root),
            public_key: hex::encode(head.public_key),
            signature: hex::encode(&head.signature),
        },
    })
}

/// Checks a proof without any ledger; the facts it proves. `expected`: the public key that was written down.
pub fn check(proof: &Proof, expected: Option<&Hash>) -> Result<Vec<(Seq, Fact)>, Flaw> {
    if proof.format != FORMAT || proof.facts.is_empty() {
        return Err(Flaw::Format);
    }
    proof.facts.iter().map(|fact| check_fact(fact, expected)).collect()
}

fn check_fact(fact: &ProvenFact, expected: Option<&Hash>) -> Result<(Seq, Fact), Flaw> {
    let head = head_of(&fact.head)?;
    if !day::is_signed(&head) {
        return Err(Flaw::Signature(head.day));
    }
    if expected.is_some_and(|key| *key != head.public_key) {
        return Err(Flaw::OtherKey { day: head.day, found: fact.head.public_key.clone() });
    }
    let header: [u8; HEADER_LEN] = array(&fact.frame_header, "frame_header")?;
    let payload = hex::decode(&fact.payload).map_err(|_| Flaw::Bytes("payload"))?;
    let seq = head.first.0 + fact.index;
    let leaf: Hash = Sha256::new().chain_update(header).chain_update(frame::digest(&payload)).finalize().into();
    let path = hex::decode(fact.path.concat()).map_err(|_| Flaw::Bytes("path"))?;
    let path = InclusionProof::<Sha256>::try_from_bytes(path).map_err(|_| Flaw::Bytes("path"))?;
    let root = RootHash::<Sha256>::new(head.root.into(), head.last.0 + 1 - head.first.0);
    root.verify_inclusion(&leaf, fact.index, &path).map_err(|_| Flaw::NotSigned(seq))?;
    let contents = unseal_with(&payload, &array(&fact.record_key, "record_key")?);
    Ok((Seq(seq), contents.map_err(|_| Flaw::Contents(seq))?))
}

fn head_of(head: &SignedHead) -> Result<DayHead, Flaw> {
    if head.first > head.last {
        return Err(Flaw::Format);
    }
    Ok(DayHead {
        day: head.day,
        at: UnixMs(0),
        first: Seq(head.first),
        last: Seq(head.last),
        root: array(&head.root, "root")?,
        public_key: array(&head.public_key, "public_key")?,
        signature: hex::decode(&head.signature).map_err(|_| Flaw::Bytes("signature"))?,
    })
}

fn array<const N: usize>(text: &str, name: &'static str) -> Result<[u8; N], Flaw> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| Flaw::Bytes(name))?;
    Ok(bytes)
}
