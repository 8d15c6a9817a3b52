//! The allow-list on its way to one reader, so that it knows the registered badges while the gateway is away.
//!
//! The reader is asked which list it has, at each session and when the list changes; what it lacks is sent in pieces, in
//! the turns that nobody needs. A reader that knows no lists, or has no room, is left alone until its next session.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::allow::{FILLING, Header, Mark};
use protocol::image::{PIECE, Piece};
use protocol::{Digest, Key, Refusal, Request, Staging};
use sha2::Digest as _;

use crate::punch::{Badge, BadgeOnRoster};

/// Before a question to a reader that is checking what it has got.
const PAUSE: Duration = Duration::from_millis(200);

/// Fingerprints of the registered badges, for one reader.
#[derive(Clone, PartialEq, Eq)]
pub struct List {
    header: Header,
    body: Vec<Piece>,
}

impl List {
    /// Of these badges, for the reader with this key.
    pub fn new(badges: &[BadgeOnRoster], key: Option<Key>) -> List {
        let marks = badges.iter().flat_map(|badge| match badge {
            BadgeOnRoster::Full(Badge(bits)) => vec![Mark::Full(*bits), Mark::LowOfFull(bits & 0x00FF_FFFF)],
            BadgeOnRoster::Low24(low) => vec![Mark::Low(*low)],
        });
        let fingerprints: BTreeSet<u32> = marks.map(|mark| mark.fingerprint(key)).collect();
        let mut bytes: Vec<u8> = fingerprints.iter().flat_map(|mark| mark.to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(PIECE).max(PIECE), FILLING as u8);
        let hash = sha2::Sha256::digest(&bytes).into();
        let header = Header { fingerprints: fingerprints.len() as u32, length: bytes.len() as u32, hash };
        List { header, body: bytes.as_chunks::<PIECE>().0.iter().map(|bytes| Piece(*bytes)).collect() }
    }

    /// Its name at the reader.
    pub fn digest(&self) -> Digest {
        self.header.digest()
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List({} fingerprints)", self.header.fingerprints)
    }
}

/// What became of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// The reader goes by it; it has so many fingerprints.
    Held(u32),
    /// The reader does not take it.
    Refused(Refusal),
}

/// The list that one reader should have, and what it has.
#[derive(Default)]
pub(super) struct Listing {
    wanted: Option<Arc<List>>,
    /// As it said in this session.
    held: Option<Digest>,
    staging: Option<Staging>,
    ask_at: Option<Instant>,
}

impl Listing {
    /// From now on this is the list.
    pub(super) fn want(&mut self, list: Arc<List>, now: Instant) {
        if self.wanted.as_ref().is_none_or(|wanted| wanted.digest() != list.digest()) {
            self.wanted = Some(list);
            self.begin(now);
        }
    }

    /// A session begins: the reader may be another one, or have got its list back from before.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.held, self.staging) = (None, None);
        self.ask_at = self.wanted.is_some().then_some(now);
    }

    /// When the next question is due, if there is one.
    pub(super) fn due(&self) -> Option<Instant> {
        self.ask_at
    }

    /// The next question.
    pub(super) fn request(&self, now: Instant) -> Option<Request> {
        let wanted = self.wanted.as_ref()?;
        self.ask_at.filter(|at| *at <= now)?;
        let offer = Request::OfferList { header: wanted.header.piece() };
        Some(match (self.held, self.staging) {
            (None, _) => Request::AllowList { digest: wanted.digest() },
            (Some(_), Some(Staging::Next(index))) => match wanted.body.get(usize::from(index)) {
                Some(piece) => Request::WriteList { index, piece: *piece },
                None => offer,
            },
            (Some(_), _) => offer,
        })
    }

    /// Which list the reader goes by, and how far the offered one is.
    pub(super) fn handle_held(&mut self, held: Digest, staging: Option<Staging>, now: Instant) -> Option<Listed> {
        let wanted = self.wanted.as_ref()?;
        (self.held, self.staging) = (Some(held), staging);
        if held == wanted.digest() {
            self.ask_at = None;
            return Some(Listed::Held(wanted.header.fingerprints));
        }
        let waits = staging == Some(Staging::Checking);
        self.ask_at = Some(if waits { now + PAUSE } else { now });
        None
    }

    /// The reader says no: not in this session.
    pub(super) fn handle_refusal(&mut self, refusal: Refusal) -> Listed {
        self.ask_at = None;
        Listed::Refused(refusal)
    }
}
