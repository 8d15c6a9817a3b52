//! A simulated terminal and the gateway's session of it, face to face in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::DirectionRule;
use gateway::punch::{Fact, PunchId, TerminalId, UnixMs};
use gateway::terminals::hub::{Order, Terminal};
use gateway::terminals::mqtt::face::Now;
use gateway::terminals::mqtt::face::session::{Event, OrderNo, Session};
use gateway::terminals::mqtt::topics::Topics;

use super::{Face, FaceTerminal, Timings};
use crate::faults::Faults;

const SERIAL: &str = "1306612";
const START: UnixMs = UnixMs(1_778_021_882_000);

struct Site {
    clock: Clock,
    topics: Topics,
    terminal: FaceTerminal,
    session: Session,
    /// What the store holds, and how often each came.
    book: BTreeMap<PunchId, (String, usize)>,
    quarantined: usize,
    gaps: Vec<u64>,
    store_works: bool,
    link: bool,
    /// Probability that a message of QoS 0 is lost, either way.
    loss: f64,
    faults: Faults,
    orders: Vec<bool>,
}

fn known() -> Terminal {
    Terminal {
        id: TerminalId::from("north-in"),
        protocol: "mqtt-face".to_owned(),
        serial: SERIAL.to_owned(),
        direction: DirectionRule::Terminal,
        password: None,
    }
}

impl Site {
    fn new(terminal: Option<Terminal>, seed: u64) -> Site {
        let clock = Clock::manual(START);
        let session = Session::new(Now::of(&clock), SERIAL, "mqtt/face", terminal, jiff::tz::offset(8));
        Site {
            clock,
            topics: Topics::new(&["mqtt/face".to_owned()]),
            terminal: FaceTerminal::new(SERIAL, Timings::REAL),
            session,
            book: BTreeMap::new(),
            quarantined: 0,
            gaps: vec![],
            store_works: true,
            link: false,
            loss: 0.0,
            faults: Faults::new(seed),
            orders: vec![],
        }
    }

    fn connect(&mut self) {
        self.link = true;
        self.session.handle_link(Now::of(&self.clock), "test", false);
        self.terminal.handle_link_up(self.clock.now());
        self.exchange();
    }

    fn cut(&mut self) {
        self.link = false;
        self.terminal.handle_link_lost();
        self.session.handle_link_lost(Now::of(&self.clock));
        self.exchange();
    }

    fn punch(&mut self, custom_id: &str) {
        self.terminal.punch(self.clock.now(), Face::of(custom_id));
        self.exchange();
    }

    /// Time passes in steps of a second.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            let now = self.clock.now();
            if self.terminal.poll_timeout().is_some_and(|at| at <= now) {
                self.terminal.handle_timeout(now);
            }
            let now = Now::of(&self.clock);
            if self.session.poll_timeout().is_some_and(|at| at <= now.instant) {
                self.session.handle_timeout(now);
            }
            self.exchange();
        }
    }

    /// Carries messages until both are quiet.
    fn exchange(&mut self) {
        loop {
            self.serve_session();
            if let Some(up) = self.terminal.poll_transmit() {
                if self.link && !self.faults.happens(self.loss) {
                    let topic = self.topics.parse(&up.topic).expect("a topic of ours");
                    self.session.handle_publication(Now::of(&self.clock), topic, up.payload.as_bytes());
                }
            } else if let Some(down) = self.session.poll_transmit() {
                if self.link && !self.faults.happens(self.loss) {
                    let payload = String::from_utf8(down.payload.to_vec()).unwrap();
                    self.terminal.handle_message(self.clock.now(), &payload);
                }
            } else {
                return;
            }
        }
    }

    fn serve_session(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Store { token, fact, .. } => {
                    let now = Now::of(&self.clock);
                    if self.store_works {
                        self.keep(*fact);
                        self.session.handle_stored(now, token);
                    } else {
                        self.session.handle_not_stored(now, token);
                    }
                }
                Event::OrderDone { outcome, .. } => self.orders.push(outcome.is_ok()),
                Event::Status | Event::Alarm { .. } | Event::AlarmOver { .. } | Event::Foreign => {}
            }
        }
    }

    fn keep(&mut self, fact: Fact) {
        match fact {
            Fact::Punch(punch) => {
                let entry = self.book.entry(punch.id).or_insert((punch.record.unwrap(), 0));
                entry.1 += 1;
            }
            Fact::Gap(gap) => self.gaps.push(gap.count.unwrap()),
            _ => self.quarantined += 1,
        }
    }

    /// The records in the book, each once, in order of their numbers.
    fn stored(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.book.values().map(|(record, _)| record.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }
}

#[test]
fn every_punch_arrives_once_over_a_link_that_loses_and_breaks() {
    for seed in 1..=20 {
        let mut site = Site::new(Some(known()), seed);
        site.terminal.numeric_ids = seed % 2 == 0;
        site.loss = 0.2;
        site.connect();
        for worker in 0..100 {
            site.punch(&format!("W{worker:04}"));
            let pause = site.faults.pick(0..15);
            site.wait(pause);
            match site.faults.pick(0..10) {
                0 if site.link => site.cut(),
                1 => site.store_works = !site.store_works,
                2 | 3 if !site.link => site.connect(),
                _ => {}
            }
        }
        site.store_works = true;
        site.loss = 0.0;
        if !site.link {
            site.connect();
        }
        site.wait(3600);
        assert_eq!(site.stored(), (1..=100).collect::<Vec<u64>>(), "seed {seed}");
        assert_eq!(site.terminal.waiting(), 0, "seed {seed}");
        assert_eq!((site.quarantined, site.gaps.len()), (0, 0), "seed {seed}");
    }
}

#[test]
fn nothing_is_released_while_the_store_refuses() {
    let mut site = Site::new(Some(known()), 1);
    site.store_works = false;
    site.connect();
    for worker in 0..5 {
        site.punch(&format!("W{worker:04}"));
    }
    site.wait(600);
    assert_eq!((site.terminal.waiting(), site.book.len()), (5, 0));
    site.store_works = true;
    site.wait(11);
    assert_eq!((site.terminal.waiting(), site.stored()), (0, vec![1, 2, 3, 4, 5]));
}

#[test]
fn a_pending_terminal_keeps_its_records_until_it_is_approved() {
    let mut site = Site::new(None, 1);
    site.connect();
    site.punch("W0001");
    site.punch("W0002");
    site.wait(3600);
    assert!(site.terminal.heard.is_empty() && site.book.is_empty());
    site.session.handle_adopted(Now::of(&site.clock), known());
    site.session.handle_order(Now::of(&site.clock), OrderNo(1), Order::Adopted);
    site.wait(11);
    assert_eq!((site.stored(), site.terminal.waiting()), (vec![1, 2], 0));
    assert_eq!(site.orders, [true]);
}

#[test]
fn a_factory_fresh_terminal_is_made_to_keep_its_records() {
    let mut site = Site::new(Some(known()), 1);
    site.terminal.resume = false;
    site.connect();
    assert!(site.terminal.resume);
    assert_eq!(site.session.status().health["resume"], "on");
    site.cut();
    site.punch("W0001");
    site.wait(60);
    site.connect();
    site.wait(11);
    assert_eq!((site.stored(), site.terminal.lost), (vec![1], 0));
}

#[test]
fn a_terminal_in_the_last_century_is_set_whatever_spelling_it_wants() {
    for (key, separator) in [("SysTime", 'T'), ("SysTime", ' '), ("sysTime", 'T'), ("time", ' ')] {
        let mut site = Site::new(Some(known()), 1);
        site.terminal.time_form = (key, separator);
        site.terminal.clock_ahead_ms = -800_000_000_000;
        site.connect();
        site.wait(5);
        assert!(site.terminal.clock_ahead_ms.abs() <= 1000, "{key}{separator}: {}", site.terminal.clock_ahead_ms);
    }
}

#[test]
fn records_that_the_terminal_lost_end_as_a_gap() {
    let mut site = Site::new(Some(known()), 1);
    site.connect();
    site.punch("W0001");
    site.wait(5);
    let now = site.clock.now();
    site.terminal.skip_number(now);
    site.terminal.skip_number(now);
    site.punch("W0002");
    site.wait(1300);
    assert_eq!(site.gaps, [2]);
    assert!(site.terminal.heard.contains(&"ManualPushRecords".to_owned()));
    assert_eq!(site.book.len(), 2, "what was pushed again collapsed");
}

#[test]
fn the_gate_opens_from_afar() {
    let mut site = Site::new(Some(known()), 1);
    site.connect();
    site.session.handle_order(Now::of(&site.clock), OrderNo(1), Order::Open { text: "请通行".to_owned() });
    site.exchange();
    assert_eq!((site.terminal.opened.as_slice(), site.orders.as_slice()), (&["请通行".to_owned()][..], &[true][..]));
}
