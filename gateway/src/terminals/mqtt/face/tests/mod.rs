//! Stories of one session, told with virtual time and without any I/O.

mod commands;
mod fixtures;
mod life;
mod noise;
mod records;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::super::topics::{OwnKind, Topic};
use super::Now;
use super::errands::OrderNo;
use super::session::{Disposal, Event, Session, StoreToken};
use crate::clock::Clock;
use crate::config::DirectionRule;
use crate::ops::alarms::Kind;
use crate::punch::{Fact, Punch, TerminalId, UnixMs};
use crate::terminals::hub::{Order, OrderError, Terminal};

pub const SERIAL: &str = "1306612";
const PREFIX: &str = "mqtt/face";

/// 2026-05-06 06:58:02 at the site: one second after the fixtures' record.
const NOON: UnixMs = UnixMs(1_778_021_882_000);

pub fn fixture(name: &str) -> String {
    let path = format!("{}/../tests/fixtures/mqtt_face/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn terminal(direction: DirectionRule) -> Terminal {
    Terminal {
        id: TerminalId::from("north-in"),
        protocol: "mqtt-face".to_owned(),
        serial: SERIAL.to_owned(),
        direction,
        password: None,
    }
}

/// What a session wants stored, with the token that answers for it.
pub struct Wanted {
    pub token: StoreToken,
    pub fact: Fact,
    pub photo: Option<Bytes>,
}

/// A session with a clock, and what it has said so far.
pub struct Bench {
    pub clock: Clock,
    pub session: Session,
    pub wanted: Vec<Wanted>,
    pub alarms: Vec<(Kind, bool)>,
    pub orders: Vec<(OrderNo, Result<(), OrderError>)>,
    pub foreign: usize,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(Some(terminal(DirectionRule::Terminal)), NOON)
    }

    pub fn with(terminal: Option<Terminal>, start: UnixMs) -> Bench {
        let clock = Clock::manual(start);
        let session = Session::new(Now::of(&clock), SERIAL, PREFIX, terminal, jiff::tz::offset(8));
        let mut bench = Bench { clock, session, wanted: vec![], alarms: vec![], orders: vec![], foreign: 0 };
        bench.collect();
        bench
    }

    pub fn now(&self) -> Now {
        Now::of(&self.clock)
    }

    /// The terminal publishes on a topic of its own.
    pub fn hear(&mut self, kind: OwnKind, payload: &str) -> Disposal {
        self.publish(Topic::Own { prefix: PREFIX, id: SERIAL, kind }, payload)
    }

    /// The terminal publishes on a shared topic.
    pub fn hear_shared(&mut self, payload: &str) -> Disposal {
        self.publish(Topic::Shared { prefix: PREFIX }, payload)
    }

    fn publish(&mut self, topic: Topic<'_>, payload: &str) -> Disposal {
        let now = self.now();
        let disposal = self.session.handle_publication(now, topic, payload.as_bytes());
        self.collect();
        disposal
    }

    /// The terminal's wall clock, which is right.
    pub fn time(&self) -> String {
        super::record::wall_text(self.clock.now(), jiff::tz::offset(8), ' ')
    }

    /// A heartbeat with the right time.
    pub fn beat(&mut self) {
        let beat = super::codec::up::heartbeat(SERIAL, &self.time());
        self.hear_shared(&beat);
    }

    pub fn wait(&mut self, time: Duration) {
        self.clock.advance(time);
        let now = self.now();
        self.session.handle_timeout(now);
        self.collect();
    }

    pub fn order(&mut self, number: u64, order: Order) {
        let now = self.now();
        self.session.handle_order(now, OrderNo(number), order);
        self.collect();
    }

    /// The store has taken everything it was given.
    pub fn commit(&mut self) -> Vec<Fact> {
        let mut facts = Vec::new();
        while !self.wanted.is_empty() {
            let Wanted { token, fact, .. } = self.wanted.remove(0);
            let now = self.now();
            self.session.handle_stored(now, token);
            facts.push(fact);
            self.collect();
        }
        facts
    }

    /// The store refuses everything.
    pub fn refuse(&mut self) {
        for Wanted { token, .. } in std::mem::take(&mut self.wanted) {
            let now = self.now();
            self.session.handle_not_stored(now, token);
        }
        self.collect();
    }

    /// The messages to the terminal since the last call.
    pub fn sent(&mut self) -> Vec<Value> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.session.poll_transmit() {
            assert_eq!(transmit.topic, "mqtt/face/1306612");
            sent.push(serde_json::from_slice(&transmit.payload).unwrap());
        }
        sent
    }

    /// Their operators.
    pub fn operators(&mut self) -> Vec<String> {
        self.sent().iter().map(|message| message["operator"].as_str().unwrap().to_owned()).collect()
    }

    /// The only punch wanted, photo and all.
    pub fn only_punch(&self) -> &Punch {
        match self.wanted.as_slice() {
            [Wanted { fact: Fact::Punch(punch), .. }] => punch,
            other => panic!("{} facts wanted, not one punch", other.len()),
        }
    }

    /// Whether the alarm stands.
    pub fn alarmed(&self, kind: Kind) -> bool {
        self.alarms.iter().rev().find(|(of, _)| *of == kind).is_some_and(|(_, stands)| *stands)
    }

    fn collect(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Store { token, fact, photo } => self.wanted.push(Wanted { token, fact: *fact, photo }),
                Event::Status => {}
                Event::Alarm { kind, .. } => self.alarms.push((kind, true)),
                Event::AlarmOver { kind } => self.alarms.push((kind, false)),
                Event::OrderDone { order, outcome } => self.orders.push((order, outcome)),
                Event::Foreign => self.foreign += 1,
            }
        }
    }
}
