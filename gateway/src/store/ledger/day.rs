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

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ed25519_dalek::{Signature, VerifyingKey};
use jiff::civil::Date;
use sha2::{Digest, Sha256};

use super::frame::Hash;
use super::reader::{Item, Locus, PlacedFrame, Walk};
use super::segment::{self, FIRST_FRAME, SegmentHead};
use crate::punch::{DayHead, Seq, UnixMs};
use crate::store::keyring::Keyring;

/// The tree over a day's facts.
pub type Tree = MemoryBackedTree<Sha256, Hash>;

/// Signs the head of a day.
pub fn sign(keyring: &Keyring, day: Date, at: UnixMs, (first, last): (u64, u64), root: Hash) -> DayHead {
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

/// A tree of which only the roots of its whole subtrees are kept, widest first: one for each bit of the number of leaves.
#[derive(Clone, Debug, Default)]
struct Frontier {
    leaves: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    fn push(&mut self, leaf: &Hash) {
        let mut root: Hash = Sha256::new().chain_update([0]).chain_update(leaf).finalize().into();
        // Each trailing one of the number is a subtree as wide as the one that is whole now.
        for _ in 0..self.leaves.trailing_ones() {
            let left = self.roots.pop().unwrap_or_default();
            root = joined(&left, &root);
        }
        self.roots.push(root);
        self.leaves += 1;
    }

    fn root(&self) -> Option<Hash> {
        self.roots.iter().rev().copied().reduce(|right, left| joined(&left, &right))
    }
}

fn joined(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A head is stored behind its last fact with what came while the day's facts were read; a check keeps the hashes of so
/// many facts one by one, which are 4 MB, to find the root for any of them. One less than what its room grows to.
const KEPT: usize = (1 << 17) - 1;

/// The hashes of consecutive facts, as a walk meets them. What is far behind is kept as a `Frontier`, so that a day of
/// millions of facts needs no more room than another.
#[derive(Debug)]
pub struct Leaves {
    first: u64,
    far: Frontier,
    /// Whether every hash in `far` is known.
    far_is_known: bool,
    /// `None` for a fact that could not be read, nor the one after it.
    near: VecDeque<Option<Hash>>,
    kept: usize,
}

impl Leaves {
    /// Nothing yet; `first` comes next.
    pub fn from(first: u64) -> Leaves {
        Leaves { first, far: Frontier::default(), far_is_known: true, near: VecDeque::new(), kept: KEPT }
    }

    /// The same, for proofs: every hash is kept.
    fn all_from(first: u64) -> Leaves {
        Leaves { kept: usize::MAX, ..Leaves::from(first) }
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    fn next(&self) -> u64 {
        self.first + self.far.leaves + self.near.len() as u64
    }

    /// A fact. One from before is passed over.
    pub fn take(&mut self, frame: &PlacedFrame) {
        let seq = frame.header.seq;
        if seq < self.next() {
            return;
        }
        while self.next() < seq {
            self.push(None);
        }
        if let Some(before @ None) = self.near.back_mut() {
            *before = Some(frame.header.previous);
        }
        self.push(Some(frame.hash()));
    }

    fn push(&mut self, hash: Option<Hash>) {
        self.near.push_back(hash);
        if self.near.len() > self.kept
            && let Some(oldest) = self.near.pop_front()
        {
            self.far_is_known &= oldest.is_some();
            self.far.push(&oldest.unwrap_or_default());
        }
    }

    /// The root of the tree up to `last`, and whether every hash in it is known; `None` when the facts do not reach that
    /// far, or far beyond it.
    pub fn root(&self, last: u64) -> Option<(Hash, bool)> {
        let count = (last + 1).checked_sub(self.first)?.checked_sub(self.far.leaves)?;
        let count = usize::try_from(count).ok().filter(|count| *count <= self.near.len())?;
        let mut tree = self.far.clone();
        let mut is_known = self.far_is_known;
        for hash in self.near.range(..count) {
            is_known &= hash.is_some();
            tree.push(&hash.unwrap_or_default());
        }
        Some((tree.root()?, is_known))
    }

    /// Forgets what a head has closed.
    pub fn forget_through(&mut self, last: u64) {
        let mut count = (last + 1).saturating_sub(self.first);
        count = count.saturating_sub(self.far.leaves).min(self.near.len() as u64);
        self.near.drain(..count as usize);
        if last >= self.first {
            self.first = (last + 1).max(self.first + self.far.leaves);
            (self.far, self.far_is_known) = (Frontier::default(), true);
        }
    }
}

/// The root of the tree over the facts `first..=last`, which must be durable before `limit`; `None` when they are not there.
pub fn read_root(dir: &Path, (first, last): (u64, u64), limit: Option<Locus>) -> io::Result<Option<Hash>> {
    let leaves = read(dir, Leaves::from(first), last, limit)?;
    Ok(leaves.root(last).map(|(root, _)| root))
}

/// The whole tree.
pub fn read_tree(dir: &Path, (first, last): (u64, u64), limit: Option<Locus>) -> io::Result<Tree> {
    let leaves = read(dir, Leaves::all_from(first), last, limit)?;
    let mut tree = Tree::new();
    let count = (last + 1).saturating_sub(first) as usize;
    leaves.near.iter().take(count).for_each(|hash| tree.push(hash.unwrap_or_default()));
    Ok(tree)
}

/// Adds the hashes of facts up to `last`.
fn read(dir: &Path, mut leaves: Leaves, last: u64, limit: Option<Locus>) -> io::Result<Leaves> {
    let mut walk = Walk::new(dir, segment_of(dir, leaves.first)?, limit);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontier_has_the_root_of_the_tree_of_the_same_leaves() {
        let (mut frontier, mut tree) = (Frontier::default(), Tree::new());
        assert_eq!(frontier.root(), None);
        for n in 0..300_u16 {
            let leaf: Hash = Sha256::digest(n.to_be_bytes()).into();
            frontier.push(&leaf);
            tree.push(leaf);
            assert_eq!(frontier.root(), Some(root(&tree)), "{n}");
            assert!(frontier.roots.len() <= 9);
        }
    }

    #[test]
    fn what_is_far_behind_counts_as_if_it_were_kept() {
        let hash = |n: u64| (n % 7 != 3).then(|| Hash::from(Sha256::digest(n.to_be_bytes())));
        for head_at in [None, Some(24), Some(30)] {
            let (mut near, mut far) = (Leaves::all_from(5), Leaves { kept: 8, ..Leaves::from(5) });
            for n in 5..40 {
                near.push(hash(n));
                far.push(hash(n));
                assert_eq!((near.next(), far.next()), (n + 1, n + 1));
                if head_at == Some(n) {
                    near.forget_through(n - 4);
                    far.forget_through(n - 4);
                }
                assert_eq!(near.first(), far.first());
                for last in n.saturating_sub(8).max(near.first())..=n {
                    assert_eq!(near.root(last), far.root(last), "{n} {last}");
                    assert!(near.root(last).is_some());
                }
                assert_eq!(far.root(n + 1), None);
            }
            assert_eq!(far.root(near.first() - 1), None);
            assert!(far.near.len() <= 8);
        }
    }
}
