//! What a session wants stored, and what it does when it is, or is not.

use bytes::Bytes;

use super::super::Now;
use super::super::codec::{Down, PushKind};
use super::super::lenient::EchoId;
use super::{Event, Session};
use crate::punch::{Fact, UnixMs};

/// Names a store request until its outcome is handed back; not copied, so that it is answered once.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct StoreToken(u64);

/// What the outcome of a request is about.
pub(super) enum Waiting {
    Push {
        kind: PushKind,
        id: EchoId,
        number: Option<(u64, UnixMs)>,
    },
    /// Kept as evidence; there is nothing to acknowledge.
    Silent,
    Gap {
        first: u64,
        last: u64,
    },
}

impl Session {
    pub(super) fn store(&mut self, waiting: Waiting, fact: Fact, photo: Option<Vec<u8>>) {
        self.last_token += 1;
        self.waiting.insert(self.last_token, waiting);
        let token = StoreToken(self.last_token);
        self.events.push_back(Event::Store { token, fact: Box::new(fact), photo: photo.map(Bytes::from) });
    }

    /// The fact is durable: the terminal may forget its copy.
    pub fn handle_stored(&mut self, now: Now, token: StoreToken) {
        match self.waiting.remove(&token.0) {
            Some(Waiting::Push { kind, id, number }) => {
                if let Some((number, time)) = number {
                    self.numbers.handle_record(now.instant, number, time);
                }
                self.transmit(&Down::PushAck { kind, id }, None);
            }
            Some(Waiting::Gap { .. } | Waiting::Silent) | None => {}
        }
        self.drain(now);
    }

    /// Nothing was stored: nothing is acknowledged, and the terminal sends it again.
    pub fn handle_not_stored(&mut self, now: Now, token: StoreToken) {
        if let Some(Waiting::Gap { first, last }) = self.waiting.remove(&token.0) {
            self.numbers.put_back(now.instant, first, last);
        }
        self.drain(now);
    }
}
