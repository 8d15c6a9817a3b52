//! The reader: badges and line bytes in, answers and signals out.

use heapless::{Deque, Vec};
use protocol::image::Piece;
use protocol::{
    Address, Answer, Badge, Digest, Key, MAX_PUNCHES, NotUnderstood, Pairing, Punch, ReaderEnd, Refusal, Request,
    RequestId, Seq, Signal, StartCause, Status, UptimeMs, Wire,
};

use crate::backup_clock::Told;
use crate::journal::{Batch, Journal, Storage, StorageError};
use crate::panel::Show;
use crate::waiting::{RECENT, Waiting};

/// A card that lies on the reader is one swipe: the same badge counts again after it was away this long.
pub const DEBOUNCE_MS: u64 = 3_000;
/// How long the turnstile is opened for a registered badge while the gateway is away, in milliseconds.
const ALONE_PULSE_MS: u16 = 500;

pub(crate) const VERSION: [u8; 3] = [
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
];
/// Cards that may lie in the field at the same time.
const DEBOUNCED: usize = 4;

/// A request about the board rather than about punches; whoever owns the flash answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// [`Request::Image`].
    Image,
    /// [`Request::Stage`].
    Stage(Piece),
    /// [`Request::Write`].
    Write(u16, Piece),
    /// [`Request::Install`].
    Install,
    /// [`Request::Pair`].
    Pair(Pairing),
    /// [`Request::AllowList`].
    AllowList(Digest),
    /// [`Request::OfferList`].
    OfferList(Piece),
    /// [`Request::WriteList`].
    WriteList(u16, Piece),
}

/// One badge reader.
pub struct Reader<S> {
    end: ReaderEnd,
    journal: Journal<S>,
    /// What the gateway or the backup clock said the time was when this boot began, in milliseconds since 1970.
    boot_unix_ms: Option<u64>,
    /// The gateway has told the time in this boot.
    time_set: bool,
    /// The time now, for the backup clock.
    told: Option<u64>,
    seen: Vec<(Badge, UptimeMs), DEBOUNCED>,
    waiting: Waiting,
    last_order: u64,
    shows: Deque<Show, RECENT>,
    open_ms: Option<u16>,
    transmit: Option<Wire>,
    upkeep: Option<Upkeep>,
    supply_mv: u16,
    tamper: bool,
    badge_noise: u32,
    start: StartCause,
}

impl<S: Storage> Reader<S> {
    /// A reader that obeys only the gateway with this key. Fails when the storage cannot give a new boot id: without one
    /// recorded orders would work again.
    pub fn keyed(address: Address, key: Key, storage: S) -> Result<Reader<S>, StorageError> {
        let journal = Journal::recover(storage)?;
        Ok(Reader::new(ReaderEnd::keyed(address, journal.boot(), key), journal))
    }

    /// A reader that obeys anybody on the wire; for a trial on the desk.
    pub fn unkeyed(address: Address, storage: S) -> Result<Reader<S>, StorageError> {
        let journal = Journal::recover(storage)?;
        Ok(Reader::new(ReaderEnd::unkeyed(address, journal.boot()), journal))
    }

    fn new(end: ReaderEnd, journal: Journal<S>) -> Reader<S> {
        Reader {
            end,
            journal,
            boot_unix_ms: None,
            time_set: false,
            told: None,
            seen: Vec::new(),
            waiting: Waiting::default(),
            last_order: 0,
            shows: Deque::new(),
            open_ms: None,
            transmit: None,
            upkeep: None,
            supply_mv: 0,
            tamper: false,
            badge_noise: 0,
            start: StartCause::Unknown,
        }
    }

    /// A badge was read. Gives its number when it became a punch, `None` when it lies there still or could not be kept. To
    /// be followed by [`Reader::handle_listed`], when the reader is alone and has a list, and [`Reader::handle_time`].
    pub fn handle_badge(&mut self, badge: Badge, now: UptimeMs) -> Option<Seq> {
        if !self.is_new(badge, now) {
            return None;
        }
        let unix_ms = self.boot_unix_ms.map(|boot| boot.saturating_add(now.0));
        match self.journal.append(&Punch { boot: self.journal.boot(), at: now, unix_ms, badge }) {
            Ok(seq) => {
                self.waiting.swiped(seq, now);
                Some(seq)
            }
            Err(StorageError::Full | StorageError::Broken) => {
                push_out(&mut self.shows, Show::NotKept);
                None
            }
        }
    }

    /// Whether the worker at the reader has to do without the gateway.
    pub fn is_alone(&self, now: UptimeMs) -> bool {
        self.waiting.is_alone(now)
    }

    /// What the allow-list says of the badge that was just kept as this punch; to be told while the gateway is away. The
    /// punch stays what it is.
    pub fn handle_listed(&mut self, seq: Seq, is_registered: bool, now: UptimeMs) {
        if is_registered {
            self.open_ms = Some(ALONE_PULSE_MS);
        } else {
            self.signal(seq, Signal::Unknown, now);
        }
    }

    /// The supply voltage in millivolts, and whether the housing is open.
    pub fn handle_health(&mut self, supply_mv: u16, tamper: bool) {
        (self.supply_mv, self.tamper) = (supply_mv, tamper);
    }

    /// What a clock with a battery has kept over the time without power. A gateway's word counts more.
    pub fn handle_backup_clock(&mut self, told: Told, now: UptimeMs) {
        if !self.time_set {
            self.boot_unix_ms = told.unix_now().and_then(|unix_ms| unix_ms.checked_sub(now.0));
        }
    }

    /// The time now in milliseconds since 1970, when the gateway has just told it: for a clock with a battery.
    pub fn poll_told(&mut self) -> Option<u64> {
        self.told.take()
    }

    /// Why this boot began.
    pub fn handle_start(&mut self, cause: StartCause) {
        self.start = cause;
    }

    /// How many badge readings the badge port's decoder has dropped in this boot.
    pub fn handle_badge_noise(&mut self, dropped: u32) {
        self.badge_noise = dropped;
    }

    /// Time has passed: a swipe that nobody has confirmed by now is shown as kept. To be called every few milliseconds.
    pub fn handle_time(&mut self, now: UptimeMs) {
        if self.waiting.poll_kept(now) {
            push_out(&mut self.shows, Show::Kept);
        }
    }

    /// The line is quiet and will be for some time: slow work that must not delay an answer. Ends within one page erase.
    pub fn handle_quiet(&mut self) {
        self.journal.tidy();
    }

    /// A byte from the line.
    pub fn handle_line_byte(&mut self, byte: u8, now: UptimeMs) {
        let Some(asked) = self.end.handle_byte(byte) else { return };
        self.upkeep = None;
        self.waiting.heard(now);
        let answer = match asked {
            Ok(request) => self.answer(request, now),
            Err(NotUnderstood) => Some(Answer::Refused(Refusal::NotUnderstood)),
        };
        self.transmit = answer.and_then(|answer| self.end.answer(&answer));
    }

    /// The request that the owner of the board is to answer, with [`Reader::answer_upkeep`].
    pub fn poll_upkeep(&mut self) -> Option<Upkeep> {
        self.upkeep.take()
    }

    /// The answer to what [`Reader::poll_upkeep`] gave last.
    pub fn answer_upkeep(&mut self, answer: &Answer) {
        self.transmit = self.end.answer(answer);
    }

    /// Whether the gateway has asked anything after its greeting in this boot: the line works in both directions.
    pub fn is_served(&self) -> bool {
        self.end.last_request() > RequestId(0)
    }

    /// The answer to put on the line.
    pub fn poll_transmit(&mut self) -> Option<Wire> {
        self.transmit.take()
    }

    /// The next thing to show. What is not fetched in time gives way to newer signals; an order to open does not.
    pub fn poll_show(&mut self) -> Option<Show> {
        if let Some(pulse_ms) = self.open_ms.take() {
            return Some(Show::Open { pulse_ms });
        }
        self.shows.pop_front()
    }

    /// What the reader knows of itself.
    pub fn status(&self, now: UptimeMs) -> Status {
        let standing = self.journal.standing();
        Status {
            now,
            firmware: VERSION,
            supply_mv: self.supply_mv,
            tamper: self.tamper,
            time_set: self.time_set,
            journal_fill: self.journal.fill(),
            journal_capacity: self.journal.capacity(),
            lost: standing.lost,
            next: standing.next,
            badge_noise: self.badge_noise,
            damage: self.end.damage(),
        }
    }

    /// What a power cut leaves.
    pub fn into_storage(self) -> S {
        self.journal.into_storage()
    }

    /// `None` when the owner of the board has to answer.
    fn answer(&mut self, request: Request, now: UptimeMs) -> Option<Answer> {
        let upkeep = match request {
            Request::Hello { nonce } => {
                let (last_request, status) = (self.end.last_request(), self.status(now));
                return Some(Answer::Welcome { nonce, last_request, status });
            }
            Request::Collect { committed, lost_seen, limit } => {
                return Some(self.collect(committed, lost_seen, limit, now));
            }
            Request::Next => return Some(self.next(now)),
            Request::Status => return Some(Answer::Status(self.status(now))),
            Request::Signal { seq, signal } => {
                self.signal(seq, signal, now);
                return Some(Answer::Done);
            }
            Request::Open { order, pulse_ms, not_after } => return Some(self.open(order, pulse_ms, not_after, now)),
            Request::SetTime { unix_ms, at } => return Some(self.set_time(unix_ms, at, now)),
            Request::Start => return Some(Answer::Start(self.start)),
            Request::AllowList { digest } => Upkeep::AllowList(digest),
            Request::OfferList { header } => Upkeep::OfferList(header),
            Request::WriteList { index, piece } => Upkeep::WriteList(index, piece),
            Request::Image => Upkeep::Image,
            Request::Stage { header } => Upkeep::Stage(header),
            Request::Write { index, piece } => Upkeep::Write(index, piece),
            Request::Install => Upkeep::Install,
            Request::Pair(pairing) => Upkeep::Pair(pairing),
        };
        self.upkeep = Some(upkeep);
        None
    }

    fn collect(&mut self, committed: Seq, lost_seen: u32, limit: u8, now: UptimeMs) -> Answer {
        for seq in self.journal.commit(committed) {
            self.signal(Seq(seq), Signal::Stored, now);
        }
        self.journal.commit_lost(lost_seen);
        self.punches(usize::from(limit), now)
    }

    fn next(&mut self, now: UptimeMs) -> Answer {
        let standing = self.journal.standing();
        if self.journal.fill() == 0 && standing.lost == standing.lost_seen {
            return Answer::Nothing { now };
        }
        self.punches(MAX_PUNCHES, now)
    }

    fn punches(&mut self, limit: usize, now: UptimeMs) -> Answer {
        let Batch { first, punches } = self.journal.oldest(limit);
        let standing = self.journal.standing();
        Answer::Punches {
            now,
            released: standing.released,
            first,
            lost: standing.lost,
            lost_seen: standing.lost_seen,
            punches,
        }
    }

    fn signal(&mut self, seq: Seq, signal: Signal, now: UptimeMs) {
        if self.waiting.signalled(seq, now) {
            push_out(&mut self.shows, Show::Punch { seq, signal });
        }
    }

    fn open(&mut self, order: u64, pulse_ms: u16, not_after: UptimeMs, now: UptimeMs) -> Answer {
        if order == self.last_order {
            return Answer::Done;
        }
        if order < self.last_order {
            return Answer::Refused(Refusal::OutOfOrder);
        }
        if now > not_after {
            return Answer::Refused(Refusal::Expired);
        }
        self.last_order = order;
        self.open_ms = Some(pulse_ms);
        Answer::Done
    }

    fn set_time(&mut self, unix_ms: u64, at: UptimeMs, now: UptimeMs) -> Answer {
        match unix_ms.checked_sub(at.0) {
            Some(boot_unix_ms) if at <= now => {
                (self.boot_unix_ms, self.time_set) = (Some(boot_unix_ms), true);
                self.told = Some(boot_unix_ms.saturating_add(now.0));
                Answer::Done
            }
            Some(_) | None => Answer::Refused(Refusal::OutOfOrder),
        }
    }

    /// Notes that the badge was seen; whether it had been away.
    fn is_new(&mut self, badge: Badge, now: UptimeMs) -> bool {
        self.seen.retain(|(_, at)| now.0.saturating_sub(at.0) < DEBOUNCE_MS);
        if let Some((_, at)) = self.seen.iter_mut().find(|(seen, _)| *seen == badge) {
            *at = now;
            return false;
        }
        if self.seen.is_full() {
            self.seen.remove(0);
        }
        // There is room now.
        let _ = self.seen.push((badge, now));
        true
    }
}

/// Puts `item` at the end; the oldest makes room.
fn push_out<T, const N: usize>(deque: &mut Deque<T, N>, item: T) {
    if deque.is_full() {
        deque.pop_front();
    }
    let _ = deque.push_back(item);
}

/// A part of the version; all of ours are below 256.
const fn number(text: &str) -> u8 {
    let (bytes, mut value, mut i) = (text.as_bytes(), 0, 0);
    while i < bytes.len() {
        value = value * 10 + (bytes[i] - b'0');
        i += 1;
    }
    value
}
