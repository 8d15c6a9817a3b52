//! One terminal's session: what its messages mean, what it is told, and when.
//!
//! Sans-I/O: `handle_*` something happened, `poll_*` what to do next. A record's `PushAck` is made in `handle_stored` and
//! nowhere else, from a token that only a store request gives out. A terminal that is not known gets nothing: no
//! greeting, no command, no acknowledgement. `PushAck` acknowledges a record and a PUBACK only its transport; but firmware
//! with `PushAck` switched off may erase a record on a PUBACK, so what is kept nowhere here is left with its sender.
//! Survives reconnections; knows nothing about sockets.

mod care;
mod pushes;
mod storing;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::tz::Offset;

pub use self::storing::StoreToken;
use self::storing::Waiting;
use super::super::topics::{self, OwnKind, Topic};
use super::Now;
use super::codec::{self, Answer, Down, Message};
pub use super::errands::OrderNo;
use super::errands::{Errand, Errands};
use super::lenient::EchoId;
use super::numbers::{Action, Numbers, Past};
use super::presence::Presence;
use super::skew::Skew;
use crate::ops::alarms::{Kind, Severity};
use crate::ops::board::TerminalStatus;
use crate::punch::{Fact, TerminalId, UnixMs};
use crate::terminals::hub::{Order, OrderError, Terminal};

/// The terminals' clocks are set again this often.
const SET_TIME_EVERY: Duration = Duration::from_secs(24 * 3600);

/// A message to publish to the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub topic: String,
    pub payload: Bytes,
}

/// Where a publication is once everything that it wanted stored is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposal {
    /// Stored, or nothing that anybody could miss.
    Done,
    /// With its sender and nowhere else: no receipt, on which firmware may erase its copy.
    LeftWithSender,
}

/// Something for the shell to carry out.
#[derive(Debug)]
pub enum Event {
    /// Make this durable (the photo first, its hash goes into the fact), then call `handle_stored`.
    Store {
        token: StoreToken,
        fact: Box<Fact>,
        photo: Option<Bytes>,
    },
    /// The status for the board has changed.
    Status,
    Alarm {
        severity: Severity,
        kind: Kind,
        text: String,
    },
    AlarmOver {
        kind: Kind,
    },
    /// An order has its outcome.
    OrderDone {
        order: OrderNo,
        outcome: Result<(), OrderError>,
    },
    /// The terminal spoke for another one; dropped.
    Foreign,
}

/// The session of one terminal.
pub struct Session {
    serial: String,
    offset: Offset,
    /// Where the terminal listens; learned from where it speaks.
    prefix: String,
    /// `None`: waits for approval.
    terminal: Option<Terminal>,
    via: String,
    presence: Presence,
    skew: Skew,
    errands: Errands,
    numbers: Numbers,
    waiting: HashMap<u64, Waiting>,
    last_token: u64,
    greeted: Option<Instant>,
    last_greeting_id: Option<EchoId>,
    set_time_at: Option<Instant>,
    last_seen: Option<UnixMs>,
    last_punch: Option<UnixMs>,
    health: BTreeMap<String, String>,
    unknown_keys: BTreeSet<String>,
    unreadable: bool,
    kept_unacknowledged: Option<Instant>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Session {
    /// A terminal that has not said anything yet.
    pub fn new(now: Now, serial: &str, prefix: &str, terminal: Option<Terminal>, offset: Offset) -> Session {
        let mut session = Session {
            serial: serial.to_owned(),
            offset,
            prefix: prefix.to_owned(),
            terminal: None,
            via: String::new(),
            presence: Presence::new(now.instant),
            skew: Skew::default(),
            errands: Errands::new(offset),
            numbers: Numbers::default(),
            waiting: HashMap::new(),
            last_token: 0,
            greeted: None,
            last_greeting_id: None,
            set_time_at: None,
            last_seen: None,
            last_punch: None,
            health: BTreeMap::new(),
            unknown_keys: BTreeSet::new(),
            unreadable: false,
            kept_unacknowledged: None,
            transmits: VecDeque::new(),
            events: VecDeque::from([Event::Status]),
        };
        session.terminal = terminal;
        if session.terminal.is_none() {
            session.say_pending();
        }
        session
    }

    /// The store may have records of it from before the start; `handle_past` follows.
    pub fn expect_past(&mut self) {
        self.numbers = Numbers::expecting_a_past();
    }

    /// What the store has of it.
    pub fn handle_past(&mut self, now: Now, past: &Past) {
        self.numbers.recall(now.instant, past);
        self.drain(now);
    }

    /// Whether it may deliver.
    pub fn is_known(&self) -> bool {
        self.terminal.is_some()
    }

    /// The terminal as it stands for the console.
    pub fn status(&self) -> TerminalStatus {
        let id = self.terminal.as_ref().map_or_else(|| TerminalId(self.serial.clone()), |t| t.id.clone());
        TerminalStatus {
            id,
            serial: self.serial.clone(),
            protocol: "mqtt-face".to_owned(),
            direction: self.terminal.as_ref().map_or("", |t| t.direction.as_str()).to_owned(),
            via: self.via.clone(),
            online: self.presence.is_online(),
            pending: self.terminal.is_none(),
            last_seen: self.last_seen,
            last_punch: self.last_punch,
            skew_ms: self.skew.measured(),
            health: self.health.clone(),
        }
    }

    /// A connection of this terminal stands; `replaced` when it took the place of another.
    pub fn handle_link(&mut self, now: Now, via: &str, replaced: bool) {
        self.via = via.to_owned();
        if replaced {
            self.drop_errands();
        }
        let change = self.presence.handle_link(now.instant, replaced);
        self.report(change);
        self.events.push_back(Event::Status);
        self.drain(now);
    }

    /// The connection broke.
    pub fn handle_link_lost(&mut self, now: Now) {
        self.presence.handle_link_lost();
        self.drop_errands();
        self.transmits.clear();
        self.events.push_back(Event::Status);
        self.drain(now);
    }

    /// The terminal has been approved: it is greeted at once, so that it delivers what it kept.
    pub fn handle_adopted(&mut self, now: Now, terminal: Terminal) {
        let was_pending = self.terminal.is_none();
        self.terminal = Some(terminal);
        self.events.push_back(Event::Status);
        if was_pending {
            self.events.push_back(Event::AlarmOver { kind: Kind::TerminalPending });
            if self.presence.is_online() {
                self.greet(now);
            }
        }
        self.drain(now);
    }

    /// An order from the console.
    pub fn handle_order(&mut self, now: Now, number: OrderNo, order: Order) {
        let outcome = match order {
            _ if self.terminal.is_none() => Some(Err(self.refused("it waits for approval"))),
            Order::Adopted => Some(Ok(())),
            Order::Open { text } => {
                self.errands.request(Errand::Open { text }, Some(number));
                None
            }
            Order::SetTime if !now.trusted => Some(Err(self.refused("the gateway's own clock is not set"))),
            Order::SetTime => {
                self.errands.request(Errand::SetTime, Some(number));
                None
            }
            Order::Update(_) => Some(Err(OrderError::Unsupported(self.name()))),
        };
        if let Some(outcome) = outcome {
            self.events.push_back(Event::OrderDone { order: number, outcome });
        }
        self.drain(now);
    }

    /// A publication of this terminal, on one of its own topics or on a shared one.
    pub fn handle_publication(&mut self, now: Now, topic: Topic<'_>, payload: &[u8]) -> Disposal {
        self.last_seen = Some(now.wall);
        self.prefix.clear();
        self.prefix.push_str(topic.prefix());
        let text = codec::readable(payload);
        let disposal = match Message::decode(&text) {
            Ok(message) => self.handle_message(now, topic, &message),
            Err(error) => self.handle_noise(now, topic, &text, &error.to_string()),
        };
        self.events.push_back(Event::Status);
        self.drain(now);
        disposal
    }

    fn handle_message(&mut self, now: Now, topic: Topic<'_>, message: &Message<'_>) -> Disposal {
        let named = message.terminal();
        if named.as_deref().is_some_and(|named| named != self.serial) {
            match topic {
                Topic::Shared { .. } => {
                    self.events.push_back(Event::Foreign);
                    return Disposal::Done;
                }
                // The topic is bound to the terminal, the text in the message is not.
                Topic::Own { .. } => tracing::debug!(serial = self.serial, named, "message names another terminal"),
            }
        }
        if message.operator == "Offline" {
            let change = self.presence.handle_farewell();
            self.drop_errands();
            self.report(change);
            return Disposal::Done;
        }
        let change = self.presence.handle_sign(now.instant);
        self.report(change);
        match (message.operator.as_str(), topic) {
            ("Online", _) => self.handle_online(now, message),
            ("HeartBeat", _) => self.measure(now, message.info.text("time")),
            (_, Topic::Own { kind: OwnKind::Ack, .. } | Topic::Shared { .. }) if self.terminal.is_none() => {}
            (_, Topic::Own { kind: OwnKind::Ack, .. }) => self.handle_answer(now, message),
            (operator, Topic::Shared { .. }) => tracing::warn!(serial = self.serial, operator, "unknown operator"),
            ("RecPush", Topic::Own { .. }) => return self.handle_record(now, message),
            ("StrSnapPush", Topic::Own { .. }) => return self.handle_snap(now, message),
            (operator, Topic::Own { .. }) => {
                return self.quarantine(now, message.evidence(), None, &format!("unknown operator {operator}"));
            }
        }
        Disposal::Done
    }

    fn handle_online(&mut self, now: Now, message: &Message<'_>) {
        let change = self.presence.handle_greeting(now.instant);
        self.report(change);
        for (key, name) in [("ip", "ip"), ("facesname", "name")] {
            if let Some(value) = message.info.text(key) {
                self.health.insert(name.to_owned(), value);
            }
        }
        self.last_greeting_id = message.message_id.clone();
        self.measure(now, message.info.text("time"));
        if self.terminal.is_some() {
            self.greet(now);
        }
    }

    fn handle_answer(&mut self, now: Now, message: &Message<'_>) {
        let Some(answer) = message.answer() else {
            tracing::warn!(serial = self.serial, operator = message.operator, "unknown operator");
            return;
        };
        if answer.command == "PushAck" {
            // Informative only: a record that the terminal did not release comes again.
            return;
        }
        self.note_versions(&answer);
        self.errands.handle_answer(now, &answer);
    }

    fn note_versions(&mut self, answer: &Answer<'_>) {
        if let Some(version) = answer.info.text("Version").or_else(|| answer.info.text("version")) {
            self.health.insert("firmware".to_owned(), version);
        }
    }

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let daily = self.terminal.as_ref().and(self.set_time_at).map(|at| at + SET_TIME_EVERY);
        [self.presence.poll_timeout(), self.errands.poll_timeout(), self.numbers.poll_timeout(), daily]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(change) = self.presence.handle_timeout(now.instant) {
            self.report(Some(change));
        }
        self.errands.handle_timeout(now);
        let daily = self.set_time_at.is_some_and(|at| now.instant >= at + SET_TIME_EVERY);
        if daily && self.terminal.is_some() {
            self.set_time_at = Some(now.instant);
            if self.presence.is_online() && now.trusted {
                self.request_time(now);
            }
        }
        self.drain(now);
    }

    /// Turns what the parts have decided into messages and events.
    fn drain(&mut self, now: Now) {
        let online = self.presence.is_online() && self.terminal.is_some();
        while let Some(action) = self.numbers.poll_action(now.instant, online) {
            match action {
                Action::Ask { from, to } => self.errands.request(Errand::Replay { from, to }, None),
                Action::GiveUp { first, last, reason } => self.store_gap(now, first, last, reason),
            }
        }
        while let Some((command, message_id)) = self.errands.poll_command(now) {
            self.transmit(&command, Some(&message_id));
        }
        while let Some((done, order)) = self.errands.poll_done() {
            self.handle_done(now, done, order);
        }
    }

    fn alarm(&mut self, severity: Severity, kind: Kind, text: String) {
        self.events.push_back(Event::Alarm { severity, kind, text });
    }

    fn transmit(&mut self, down: &Down, message_id: Option<&str>) {
        let payload = Bytes::from(down.encode(&self.serial, message_id));
        let topic = topics::down(&self.prefix, &self.serial);
        self.transmits.push_back(Transmit { topic, payload });
    }

    fn refused(&self, reason: &str) -> OrderError {
        OrderError::Refused { terminal: self.name(), reason: reason.to_owned() }
    }

    fn name(&self) -> String {
        self.terminal.as_ref().map_or_else(|| self.serial.clone(), |terminal| terminal.id.0.clone())
    }
}
