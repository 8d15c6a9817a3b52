//! The controller: the gateway's end of a line with our own readers.
//!
//! Asks one reader at a time: those first at which somebody waits for a signal, then who was asked longest ago; a silent
//! one is asked less and less often. What a reader answers becomes facts for the store; the reader is told to release
//! them only after the owner said [`Controller::commit`]. Does no I/O, keeps no clock, rolls no dice; knows nothing about
//! ports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{Address, BootId, Damage, Decoder, Key, MAX_WIRE, Refusal, StartCause, Status, Wire};

pub use super::dating::Moment;
pub use super::listing::{List, Listed};
pub use super::origin::Origin;
use super::station::Station;
pub use super::update::Progress;
use crate::punch::{Fact, Judgement};
use crate::terminals::firmware::UpdateFile;

/// How long a reader may think, over the time that the bytes take: USB adapters keep bytes back for up to 16 ms, twice.
const TURNAROUND: Duration = Duration::from_millis(60);
/// Start bit, eight data bits, stop bit.
const BITS_PER_BYTE: u64 = 10;

/// A reader as configured.
#[derive(Clone, Debug)]
pub struct Stationed {
    pub origin: Origin,
    pub address: Address,
    /// Without a key the reader is believed whatever it says: only on lines that accept unkeyed readers.
    pub key: Option<Key>,
}

/// Something that an order wants of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Open,
    SetTime,
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// The reader does not answer.
    Silent,
    /// The reader did not confirm in time.
    NoAnswer,
    /// Another update is on its way.
    Busy,
    /// The gateway does not know the time itself.
    ClockUntrusted,
    Refused(Refusal),
}

/// What happened at a reader.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// To be made durable, all or none; then [`Controller::commit`] or [`Controller::abandon`].
    Facts { batch: u64, facts: Vec<Fact> },
    /// A session began.
    Greeted { boot: BootId },
    /// It has not answered for some seconds.
    Silent,
    /// It answers again.
    Heard,
    /// Its health.
    Status(Status),
    /// Why its present boot began.
    Started { cause: StartCause },
    /// Forged or replayed frames, in either direction; `frames` since the start.
    Attacked { frames: u64 },
    /// No more of them for a while.
    Calm,
    /// What became of the allow-list.
    Listed(Listed),
    /// How far an update is; with [`Progress::Done`] or [`Progress::Failed`] it has ended.
    Updating(Progress),
    /// A command has ended.
    Ordered { ticket: u64, outcome: Result<(), Declined> },
}

/// The controller of one line.
pub struct Controller {
    stations: Vec<Station>,
    decoder: Decoder,
    reply_timeout: Duration,
    /// The stations; first who was asked longest ago.
    order: VecDeque<usize>,
    /// Who is to be asked for time or health now, and after how many questions for punches somebody may be.
    house: Option<usize>,
    until_house: usize,
    open: Option<Open>,
    transmit: Option<Wire>,
    events: VecDeque<(usize, Event)>,
    timeouts: u64,
}

/// The open question: to whom, since when, until when.
struct Open {
    station: usize,
    sent: Instant,
    deadline: Instant,
}

impl Controller {
    /// A controller of these readers. `nonce` is drawn at random at each start.
    pub fn new(readers: Vec<Stationed>, baud: u32, nonce: u64, now: Instant) -> Controller {
        // The readers' keys differ; their nonces are kept apart nevertheless.
        let nonces = (0_u64..).map(|index| nonce.wrapping_add(index << 32));
        let stations: Vec<Station> =
            readers.into_iter().zip(nonces).map(|(reader, nonce)| Station::new(reader, nonce, now)).collect();
        let wire_time = Duration::from_secs(2 * MAX_WIRE as u64 * BITS_PER_BYTE) / baud.max(1);
        Controller {
            order: (0..stations.len()).collect(),
            stations,
            decoder: Decoder::new(),
            reply_timeout: wire_time + TURNAROUND,
            house: None,
            until_house: 0,
            open: None,
            transmit: None,
            events: VecDeque::new(),
            timeouts: 0,
        }
    }

    /// Bytes from the line.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Moment) {
        for byte in bytes {
            let Some(frame) = self.decoder.handle_byte(*byte) else { continue };
            if !frame.is_answer() {
                continue;
            }
            let of_sender = |station: &Station| station.end().address() == frame.address();
            let Some(index) = self.stations.iter().position(of_sender) else { continue };
            let sent = self.open.as_ref().filter(|open| open.station == index).map_or(now.instant, |open| open.sent);
            let Some(events) = self.stations[index].handle_frame(&frame, sent, now) else { continue };
            self.events.extend(events.into_iter().map(|event| (index, event)));
            self.open = None;
        }
    }

    /// The time that [`Controller::poll_timeout`] named has come, or something else happened.
    pub fn handle_timeout(&mut self, now: Moment) {
        if let Some(open) = self.open.take_if(|open| open.deadline <= now.instant) {
            self.timeouts += 1;
            let event = self.stations[open.station].handle_no_answer(now.instant);
            self.events.extend(event.map(|event| (open.station, event)));
        }
        for (index, station) in self.stations.iter_mut().enumerate() {
            let events = station.expire(now.instant);
            self.events.extend(events.into_iter().map(|event| (index, event)));
        }
        if self.open.is_none() {
            self.ask_next(now);
        }
    }

    fn ask_next(&mut self, now: Moment) {
        let due: Vec<usize> =
            self.order.iter().copied().filter(|index| self.stations[*index].due() <= now.instant).collect();
        let urgent = due.iter().copied().find(|index| self.stations[*index].is_urgent());
        let house = self.house.filter(|house| due.contains(house));
        let Some(station) = urgent.or(house).or(due.first().copied()) else { return };
        let keeps_house = urgent.is_none() && self.house.take_if(|house| *house == station).is_some();
        self.transmit = self.stations[station].ask(now, keeps_house);
        if urgent.is_none() && !keeps_house {
            self.plan_house(station, now.instant);
        }
        self.order.retain(|index| *index != station);
        self.order.push_back(station);
        self.open = Some(Open { station, sent: now.instant, deadline: now.instant + self.reply_timeout });
    }

    /// Time and health are asked right after a reader's punches and of one reader while all are asked for punches: in the
    /// place of a question for punches, or of all readers at once, a swipe would wait for them.
    fn plan_house(&mut self, station: usize, now: Instant) {
        self.until_house = self.until_house.saturating_sub(1);
        if self.until_house == 0 && self.house.is_none() && self.stations[station].is_house_due(now) {
            (self.house, self.until_house) = (Some(station), self.stations.len());
        }
    }

    /// Bytes for the line.
    pub fn poll_transmit(&mut self) -> Option<Wire> {
        self.transmit.take()
    }

    /// What happened, and at which reader.
    pub fn poll_event(&mut self) -> Option<(usize, Event)> {
        self.events.pop_front()
    }

    /// When [`Controller::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.open {
            Some(open) => Some(open.deadline),
            None => {
                let expiries = self.stations.iter().filter_map(Station::expires_at);
                self.stations.iter().map(Station::due).chain(expiries).min()
            }
        }
    }

    /// The facts of this batch are durable.
    pub fn commit(&mut self, station: usize, batch: u64) {
        self.stations[station].commit(batch);
    }

    /// The facts of this batch were not stored; the reader still has what they stand for.
    pub fn abandon(&mut self, station: usize, batch: u64, now: Instant) {
        self.stations[station].abandon(batch, now);
    }

    /// Verification has spoken; whoever stands at the reader is told.
    pub fn handle_judgement(&mut self, judgement: &Judgement, now: Instant) {
        for station in &mut self.stations {
            station.handle_judgement(judgement, now);
        }
    }

    /// Gives an order to a reader; it ends with [`Event::Ordered`].
    pub fn order(&mut self, station: usize, ticket: u64, command: Command, now: Moment) {
        let declined = match command {
            Command::Open | Command::SetTime if self.stations[station].is_silent() => Declined::Silent,
            Command::SetTime if !now.trusted => Declined::ClockUntrusted,
            Command::Open | Command::SetTime => return self.stations[station].order(ticket, command, now.instant),
        };
        self.events.push_back((station, Event::Ordered { ticket, outcome: Err(declined) }));
    }

    /// The reader is to go by this list while the gateway is away; what becomes of it comes as [`Event::Listed`].
    pub fn want_list(&mut self, station: usize, list: Arc<List>, now: Instant) {
        self.stations[station].want_list(list, now);
    }

    /// Begins to hand a new program to a reader; what becomes of it comes as [`Event::Updating`].
    pub fn update(&mut self, station: usize, file: Arc<UpdateFile>, now: Instant) -> Result<(), Declined> {
        let station = &mut self.stations[station];
        if station.is_silent() {
            return Err(Declined::Silent);
        }
        if station.update(file, now) { Ok(()) } else { Err(Declined::Busy) }
    }

    /// The port was opened anew: nothing that was said before on it can be relied on.
    pub fn reset(&mut self, now: Instant) {
        let damage = self.decoder.damage();
        self.decoder = Decoder::resuming(damage);
        (self.open, self.transmit) = (None, None);
        self.stations.iter_mut().for_each(|station| station.reset(now));
    }

    /// How many readers there are.
    pub fn len(&self) -> usize {
        self.stations.len()
    }

    /// Whether there is no reader.
    pub fn is_empty(&self) -> bool {
        self.stations.is_empty()
    }

    /// The reader at this place.
    pub fn origin(&self, station: usize) -> &Origin {
        self.stations[station].origin()
    }

    /// The place of the reader with this serial.
    pub fn place(&self, serial: &str) -> Option<usize> {
        self.stations.iter().position(|station| station.origin().serial == serial)
    }

    /// Frames dropped on this line so far.
    pub fn damage(&self) -> Damage {
        let ends = self.stations.iter().map(|station| station.end().damage());
        ends.fold(self.decoder.damage(), Damage::plus)
    }

    /// Questions that were not answered in time.
    pub fn timeouts(&self) -> u64 {
        self.timeouts
    }
}
