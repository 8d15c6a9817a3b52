//! The two ends of the conversation with one reader: what may be believed, and what was said before.

use serde::de::DeserializeOwned;

use crate::damage::{Damage, count};
use crate::frame::{Decoder, Frame, Header, Wire, encode};
use crate::message::{Address, Answer, BootId, Request, RequestId};
use crate::seal::{Key, Seal, Tag};

/// Requests that were given up and whose late answer is no sign of an attack.
const REMEMBERED: usize = 8;

/// An authentic request that this firmware does not know. Answer it with [`crate::Refusal::NotUnderstood`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUnderstood;

/// The reader's end. Takes each request once, in rising order, and answers the last one it took.
pub struct ReaderEnd {
    address: Address,
    boot: BootId,
    seal: Seal,
    last: RequestId,
    decoder: Decoder,
    damage: Damage,
    asked: Option<Asked>,
}

/// What an answer is bound to.
#[derive(Clone, Copy)]
struct Asked {
    id: RequestId,
    tag: Option<Tag>,
}

impl ReaderEnd {
    /// An end that talks only to a gateway with this key. `boot` must never have been used with it before.
    pub fn keyed(address: Address, boot: BootId, key: Key) -> ReaderEnd {
        ReaderEnd::new(address, boot, Seal::keyed(key))
    }

    /// An end that obeys anybody on the wire. For a trial on the desk; the gateway must be told to accept it.
    pub fn unkeyed(address: Address, boot: BootId) -> ReaderEnd {
        ReaderEnd::new(address, boot, Seal::Unkeyed)
    }

    fn new(address: Address, boot: BootId, seal: Seal) -> ReaderEnd {
        let (decoder, damage) = (Decoder::new(), Damage::default());
        ReaderEnd { address, boot, seal, last: RequestId(0), decoder, damage, asked: None }
    }

    /// Takes one byte from the line; gives the request that it completes, if it is for us, authentic and new.
    pub fn handle_byte(&mut self, byte: u8) -> Option<Result<Request, NotUnderstood>> {
        let frame = self.decoder.handle_byte(byte)?;
        if frame.header.answer || frame.header.address != self.address {
            return None;
        }
        if !self.seal.verifies(frame.signed, None, frame.tag.as_ref()) {
            count(&mut self.damage.forged);
            return None;
        }
        let Header { id, boot, .. } = frame.header;
        let request = parse::<Request>(frame.payload);
        let is_hello = matches!(request, Some(Request::Hello { .. }));
        let fresh =
            if is_hello { id == RequestId(0) && boot == BootId(0) } else { boot == self.boot && id > self.last };
        if !fresh {
            count(&mut self.damage.stale);
            return None;
        }
        self.last = self.last.max(id);
        self.asked = Some(Asked { id, tag: frame.tag });
        if request.is_none() {
            count(&mut self.damage.malformed);
        }
        Some(request.ok_or(NotUnderstood))
    }

    /// Closes the answer to the request that was taken last; each request is answered at most once.
    pub fn answer(&mut self, answer: &Answer) -> Option<Wire> {
        let asked = self.asked.take()?;
        let header = Header { answer: true, address: self.address, id: asked.id, boot: self.boot };
        let (wire, _) = encode(header, answer, &self.seal, asked.tag.as_ref())?;
        Some(wire)
    }

    /// The boot that this end speaks for.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// The highest request id taken.
    pub fn last_request(&self) -> RequestId {
        self.last
    }

    /// Frames dropped so far.
    pub fn damage(&self) -> Damage {
        self.decoder.damage().plus(self.damage)
    }
}

/// An authentic answer to the request that was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The reader's boot.
    pub boot: BootId,
    /// What it says.
    pub answer: Answer,
}

/// The gateway's end towards one reader. Has at most one request open.
pub struct GatewayEnd {
    address: Address,
    seal: Seal,
    /// Of the next hello.
    nonce: u64,
    session: Option<Session>,
    open: Option<Open>,
    given_up: heapless::Deque<RequestId, REMEMBERED>,
    damage: Damage,
}

/// Learned from a welcome.
#[derive(Clone, Copy)]
struct Session {
    boot: BootId,
    last: RequestId,
}

#[derive(Clone, Copy)]
struct Open {
    id: RequestId,
    /// The nonce, when it is a hello.
    nonce: Option<u64>,
    tag: Option<Tag>,
}

impl GatewayEnd {
    /// An end that believes only a reader with this key. `nonce` is drawn at random at each start of the gateway.
    pub fn keyed(address: Address, key: Key, nonce: u64) -> GatewayEnd {
        GatewayEnd::new(address, Seal::keyed(key), nonce)
    }

    /// An end that believes anybody on the wire. Only when the owner of the line says so explicitly.
    pub fn unkeyed(address: Address, nonce: u64) -> GatewayEnd {
        GatewayEnd::new(address, Seal::Unkeyed, nonce)
    }

    fn new(address: Address, seal: Seal, nonce: u64) -> GatewayEnd {
        let (given_up, damage) = (heapless::Deque::new(), Damage::default());
        GatewayEnd { address, seal, nonce, session: None, open: None, given_up, damage }
    }

    /// The reader's place on the line.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The reader's boot, once it has said hello.
    pub fn boot(&self) -> Option<BootId> {
        self.session.map(|session| session.boot)
    }

    /// Begins a session: the answer will be [`Answer::Welcome`]. A session that was there ends.
    pub fn hello(&mut self) -> Option<Wire> {
        self.forget();
        self.nonce = self.nonce.wrapping_add(1);
        let nonce = self.nonce;
        self.send(RequestId(0), BootId(0), &Request::Hello { nonce }, Some(nonce))
    }

    /// Closes a request, which is then the open one. `None` without a session: say [`GatewayEnd::hello`] first.
    pub fn request(&mut self, request: &Request) -> Option<Wire> {
        self.give_up();
        let session = self.session.as_mut()?;
        session.last = RequestId(session.last.0.checked_add(1)?);
        let Session { boot, last } = *session;
        self.send(last, boot, request, None)
    }

    fn send(&mut self, id: RequestId, boot: BootId, request: &Request, nonce: Option<u64>) -> Option<Wire> {
        let header = Header { answer: false, address: self.address, id, boot };
        let (wire, tag) = encode(header, request, &self.seal, None)?;
        self.open = Some(Open { id, nonce, tag });
        Some(wire)
    }

    /// Stops waiting for the open request: its time is over.
    pub fn give_up(&mut self) {
        let Some(open) = self.open.take() else { return };
        if self.given_up.is_full() {
            self.given_up.pop_front();
        }
        // There is room: the oldest has just gone if there was none.
        let _ = self.given_up.push_back(open.id);
    }

    /// Ends the session: the reader seems to have started again.
    pub fn forget(&mut self) {
        self.give_up();
        self.session = None;
    }

    /// Takes an answer from this reader; gives it if it is authentic and answers the open request.
    pub fn accept(&mut self, frame: &Frame<'_>) -> Option<Accepted> {
        if !frame.header.answer || frame.header.address != self.address {
            return None;
        }
        let Some(open) = self.open.filter(|open| self.is_for(open, frame)) else {
            self.count_unasked(frame.header.id);
            return None;
        };
        if !self.seal.verifies(frame.signed, open.tag.as_ref(), frame.tag.as_ref()) {
            // The answer to an earlier hello has the same id 0 and another tag; it is late rather than forged.
            self.count_refused(frame.header.id);
            return None;
        }
        let Some(answer) = parse::<Answer>(frame.payload) else {
            count(&mut self.damage.malformed);
            return None;
        };
        let boot = frame.header.boot;
        match (&answer, open.nonce) {
            (Answer::Welcome { nonce, last_request, .. }, Some(sent)) if *nonce == sent => {
                self.session = Some(Session { boot, last: *last_request });
            }
            (Answer::Welcome { .. }, _) | (_, Some(_)) => {
                count(&mut self.damage.stale);
                return None;
            }
            (_, None) => {}
        }
        self.open = None;
        Some(Accepted { boot, answer })
    }

    fn is_for(&self, open: &Open, frame: &Frame<'_>) -> bool {
        let same_boot = open.nonce.is_some() || self.boot() == Some(frame.header.boot);
        open.id == frame.header.id && same_boot
    }

    fn count_unasked(&mut self, id: RequestId) {
        if self.was_given_up(id) { count(&mut self.damage.late) } else { count(&mut self.damage.stale) }
    }

    fn count_refused(&mut self, id: RequestId) {
        if self.was_given_up(id) { count(&mut self.damage.late) } else { count(&mut self.damage.forged) }
    }

    /// Whether this id was given up; each is asked about once.
    fn was_given_up(&mut self, id: RequestId) -> bool {
        let mut found = false;
        for _ in 0..self.given_up.len() {
            let Some(known) = self.given_up.pop_front() else { break };
            if known == id && !found {
                found = true;
            } else {
                let _ = self.given_up.push_back(known);
            }
        }
        found
    }

    /// Answers dropped so far.
    pub fn damage(&self) -> Damage {
        self.damage
    }
}

/// The message, if the payload is exactly one.
fn parse<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Some(message),
        Ok(_) | Err(_) => None,
    }
}
