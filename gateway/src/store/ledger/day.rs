//! The end of a day: a signed head over the facts since the day before was closed.
//!
//! The signature is Ed25519 over this text, each line ended by a line feed; hashes and numbers as they stand here:
//!
//! ```text
//! anxin day head 1
//! 2026-03-02
//! 1 5120
//! <root in 64 hexadecimal digits>
//! ```
//!
//! The third line holds the sequences of the first and the last fact. The root is that of a Merkle tree of RFC 6962 with
//! SHA-256; leaf `i` is the hash of the frame of fact `first + i`. The hash of a fact that is damaged when the day is
//! closed is taken from the frame after it, and is zeros when that is damaged too.

use std::fs::File;
use std::io;
use std::path::Path;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ed25519_dalek::{Signature, VerifyingKey};
use jiff::civil::Date;
use sha2::Sha256;

use super::frame::Hash;
use super::reader::{Item, Locus, PlacedFrame, Walk};
use super::segment::{self, FIRST_FRAME, SegmentHead};
use crate::punch::{DayHead, Seq, UnixMs};
use crate::store::keyring::Keyring;

/// The tree over a day's facts.
pub type Tree = MemoryBackedTree<Sha256, Hash>;

/// Signs the head of a day.
pub fn sign(keyring: &Keyring, day: Date, at: UnixMs, (first, last): (u64, u64), tree: &Tree) -> DayHead {
    let root = root(tree);
    let signature = keyring.sign(message(day, first, last, &root).as_bytes()).to_vec();
    DayHead { day, at, first: Seq(first), last: Seq(last), root, public_key: keyring.public_key(), signature }
}

/// Whether a head was signed by the owner of the public key in it.
pub fn is_signed(head: &DayHead) -> bool {
    let message = message(head.day, head.first.0, head.last.0, &head.root);
    let key = VerifyingKey::from_bytes(&head.public_key);
    let signature = Signature::from_slice(&head.signature);
    match (key, signature) {
        (Ok(key), Ok(signature)) => key.verify_strict(message.as_bytes(), &signature).is_ok(),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

fn message(day: Date, first: u64, last: u64, root: &Hash) -> String {
    format!("anxin day head 1\n{day}\n{first} {last}\n{}\n", hex::encode(root))
}

/// The root of a tree.
pub fn root(tree: &Tree) -> Hash {
    (*tree.root().as_bytes()).into()
}

/// The hashes of consecutive facts, as a walk meets them.
#[derive(Debug)]
pub struct Leaves {
    first: u64,
    /// `None` for a fact that could not be read, nor the one after it.
    hashes: Vec<Option<Hash>>,
}

impl Leaves {
    /// Nothing yet; `first` comes next.
    pub fn from(first: u64) -> Leaves {
        Leaves { first, hashes: Vec::new() }
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    fn next(&self) -> u64 {
        self.first + self.hashes.len() as u64
    }

    /// A fact. One from before is passed over.
    pub fn take(&mut self, frame: &PlacedFrame) {
        let seq = frame.header.seq;
        if seq < self.next() {
            return;
        }
        while self.next() < seq {
            self.hashes.push(None);
        }
        if let Some(before @ None) = self.hashes.last_mut() {
            *before = Some(frame.header.previous);
        }
        self.hashes.push(Some(frame.hash()));
    }

    /// The tree up to `last`, and whether every hash in it is known; `None` when the facts do not reach that far.
    pub fn tree(&self, last: u64) -> Option<(Tree, bool)> {
        let count = usize::try_from((last + 1).checked_sub(self.first)?).ok()?;
        let hashes = self.hashes.get(..count).filter(|hashes| !hashes.is_empty())?;
        let mut tree = Tree::new();
        hashes.iter().for_each(|hash| tree.push(hash.unwrap_or_default()));
        Some((tree, hashes.iter().all(Option::is_some)))
    }

    /// Forgets what a head has closed.
    pub fn forget_through(&mut self, last: u64) {
        let count = (last + 1).saturating_sub(self.first).min(self.hashes.len() as u64);
        self.hashes.drain(..count as usize);
        self.first = self.first.max(last + 1);
    }
}

/// Reads the hashes of the facts `first..=last`, which must be durable before `limit`.
pub fn read_leaves(dir: &Path, (first, last): (u64, u64), limit: Option<Locus>) -> io::Result<Leaves> {
    let mut leaves = Leaves::from(first);
    let mut walk = Walk::new(dir, segment_of(dir, first)?, limit);
    while leaves.next() <= last {
        match walk.next_item()? {
            Some(Item::Fact(frame)) => leaves.take(&frame),
            Some(Item::Begin { .. } | Item::Abandoned(_) | Item::End(_) | Item::Damage(_)) => {}
            None => break,
        }
    }
    Ok(leaves)
}

/// The beginning of the segment that holds a fact, or of one before it.
pub fn segment_of(dir: &Path, seq: u64) -> io::Result<Locus> {
    let numbers = segment::list(dir)?;
    for &number in numbers.iter().rev() {
        let head = SegmentHead::read(&File::open(segment::path(dir, number))?)?;
        if head.is_some_and(|head| head.first_seq <= seq) {
            return Ok(Locus { segment: number, offset: FIRST_FRAME });
        }
    }
    Ok(Locus { segment: numbers.first().copied().unwrap_or(0), offset: FIRST_FRAME })
}
