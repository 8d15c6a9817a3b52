//! Appends on their way to the ledger, and the group of them that one sync makes durable.

use tokio::sync::oneshot;

use super::dedup::{DedupKey, Found, Pending};
use super::keyring::Keyring;
use super::ledger::frame;
use super::ledger::seal::{self, Sealed};
use super::shared::Shared;
use super::view::engine::ViewError;
use super::{AppendError, Appended};
use crate::punch::{Fact, Seq};

/// Largest append.
const APPEND_BYTES: usize = 64 << 20;

/// What became of one append.
pub type Answer = Result<Vec<Appended>, AppendError>;

/// Facts on their way to the ledger.
pub struct Request {
    facts: Vec<Prepared>,
    answer: oneshot::Sender<Answer>,
    is_urgent: bool,
}

struct Prepared {
    sealed: Sealed,
    key: Option<DedupKey>,
}

impl Request {
    /// Seals facts; the caller's thread does this work, not the writer's.
    pub fn new(facts: &[Fact], keyring: &Keyring) -> Result<(Request, oneshot::Receiver<Answer>), AppendError> {
        let facts: Vec<Prepared> =
            facts.iter().map(|fact| Prepared { sealed: seal::seal(fact, keyring), key: DedupKey::of(fact) }).collect();
        let size: usize = facts.iter().map(|fact| fact.sealed.payload.len()).sum();
        if size > APPEND_BYTES || facts.iter().any(|fact| fact.sealed.payload.len() > frame::MAX_PAYLOAD) {
            return Err(AppendError::Unavailable(format!("{size} bytes are too many for one append")));
        }
        let (answer, answered) = oneshot::channel();
        Ok((Request { facts, answer, is_urgent: false }, answered))
    }

    /// What must be said though the disk is full, in the space kept back for that.
    pub fn urgent(self) -> Request {
        Request { is_urgent: true, ..self }
    }

    pub fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Bytes that it takes in the ledger, at most.
    pub fn size(&self) -> usize {
        self.facts.iter().map(|fact| frame::OVERHEAD + fact.sealed.payload.len()).sum()
    }

    /// Nothing of it is stored.
    pub fn refuse(self, text: &str) {
        // Whoever asked may have gone away.
        let _gone = self.answer.send(Err(AppendError::Unavailable(text.to_owned())));
    }
}

/// The appends of one sync.
#[derive(Default)]
pub struct Group {
    pub appends: Vec<Vec<Sealed>>,
    /// What can come twice of it.
    pub keys: Pending,
    /// How many punches are among them.
    pub punches: u64,
    answers: Vec<(oneshot::Sender<Answer>, Vec<Appended>)>,
}

impl Group {
    /// Gives every fact its sequence from `next` on, or the one it has already.
    pub fn gather(requests: impl IntoIterator<Item = Request>, shared: &Shared, mut next: u64) -> Group {
        let mut group = Group::default();
        for request in requests {
            match group.place(&request.facts, shared, next) {
                Ok(places) => next += group.take(request, places),
                Err(error) => request.refuse(&error.to_string()),
            }
        }
        group
    }

    fn place(&self, facts: &[Prepared], shared: &Shared, mut next: u64) -> Result<Vec<Appended>, ViewError> {
        let mut own = Pending::default();
        let mut places = Vec::with_capacity(facts.len());
        for fact in facts {
            let known = match &fact.key {
                None => None,
                Some(key) => match (own.find(key), self.keys.find(key)) {
                    (Found::Same(seq), _) | (Found::Absent, Found::Same(seq)) => Some(seq),
                    (Found::Changed, _) | (Found::Absent, Found::Changed) => None,
                    (Found::Absent, Found::Absent) => shared.find(key)?,
                },
            };
            if let Some(seq) = known {
                places.push(Appended { seq, new: false });
                continue;
            }
            places.push(Appended { seq: Seq(next), new: true });
            if let Some(key) = &fact.key {
                own.insert(key.clone(), Seq(next));
            }
            next += 1;
        }
        Ok(places)
    }

    /// Adds an append whose facts have these places; how many of them are new.
    fn take(&mut self, request: Request, places: Vec<Appended>) -> u64 {
        let mut new = Vec::new();
        for (fact, place) in request.facts.into_iter().zip(&places) {
            if place.new {
                if let Some(key) = fact.key {
                    self.punches += u64::from(matches!(key, DedupKey::Punch(_)));
                    self.keys.insert(key, place.seq);
                }
                new.push(fact.sealed);
            }
        }
        let count = new.len() as u64;
        if count > 0 {
            self.appends.push(new);
        }
        self.answers.push((request.answer, places));
        count
    }

    /// Everything of it is durable.
    pub fn answer(self) {
        for (answer, places) in self.answers {
            let _gone = answer.send(Ok(places));
        }
    }

    /// Nothing of it is stored.
    pub fn refuse(self, text: &str) {
        for (answer, _) in self.answers {
            let _gone = answer.send(Err(AppendError::Unavailable(text.to_owned())));
        }
    }
}
