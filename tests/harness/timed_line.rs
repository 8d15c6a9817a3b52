//! A line with its readers in virtual time, to the microsecond: every byte takes its time on the wire, every reader its
//! time to think, every commit its time on the disk. The gateway's controller and the readers are the real ones.
//!
//! Says how long workers wait at the gate, on any machine the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use ::gateway::clock::Clock;
use ::gateway::config::DirectionRule;
use ::gateway::punch::UnixMs;
use ::gateway::terminals::line::reader::{Controller, Event, Moment, Origin, Stationed};
use firmware::journal::RamStorage;
use firmware::{Reader, Show};
use protocol::{Address, Badge, Key, Seq, Signal, UptimeMs};

use crate::faults::Faults;

/// From the last bit of a question to the first of the answer: five blocks of SHA-256 at 16 MHz. Held by the emulator's
/// test of the image.
pub const THINK: Duration = Duration::from_micros(1_000);
/// A commit into the journal: four words.
const COMMIT: Duration = Duration::from_micros(400);
/// A swipe into the journal: 13 words of 91 µs at most when a page begins.
const APPEND: Duration = Duration::from_micros(1_200);
/// The reader's loop goes round at least this often.
const LOOP: Duration = Duration::from_millis(1);
/// The gateway's timers.
const TIMER_US: u64 = 1_000;
const START: UnixMs = UnixMs(1_772_406_065_000);

/// How long these bytes are on the wire: start bit, eight data bits, stop bit.
pub fn bytes(count: usize, baud: u32) -> Duration {
    Duration::from_nanos(count as u64 * 10 * 1_000_000_000 / u64::from(baud))
}

/// What a line is like.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub baud: u32,
    pub readers: usize,
    /// How long the gateway's adapter keeps bytes back, each way.
    pub adapter: Duration,
    /// One group commit.
    pub commit: Duration,
    /// From the last bit of the card until the badge is known: silence ends a Wiegand number, a frame ends itself.
    pub card: Duration,
    /// Between two swipes at one reader, on average.
    pub pause: Duration,
}

impl Conditions {
    /// Every gate has a swipe every second, which nobody can do; a Wiegand card that ends by silence, a slow disk, and a
    /// serial port of the box itself.
    pub const RUSH: Conditions = Conditions {
        baud: 115_200,
        readers: 8,
        adapter: Duration::ZERO,
        commit: Duration::from_millis(5),
        card: Duration::from_millis(6),
        pause: Duration::from_millis(1_000),
    };
}

enum Happening {
    Swipe(usize),
    Badge { reader: usize, badge: u32, swiped: u64 },
    AtReaders(Vec<u8>),
    AtGateway(Vec<u8>),
    Stored(Vec<(usize, u64)>),
}

struct Gate {
    reader: Reader<RamStorage<64>>,
    swiped: BTreeMap<Seq, u64>,
}

/// The line.
pub struct TimedLine {
    conditions: Conditions,
    faults: Faults,
    start: Instant,
    /// Microseconds since the start.
    now: u64,
    controller: Controller,
    gates: Vec<Gate>,
    happenings: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: BTreeMap<u64, Happening>,
    order: u64,
    /// Batches for the next group commit, and whether one runs.
    batches: Vec<(usize, u64)>,
    committing: bool,
    next_badge: u32,
    waits: Vec<Duration>,
}

impl TimedLine {
    pub fn new(conditions: Conditions, seed: u64) -> TimedLine {
        let start = Clock::manual(START).instant();
        let address = |index: usize| Address::new(index as u8 + 1).expect("few readers");
        let key = |index: usize| Key([index as u8 + 1; 16]);
        let readers = (0..conditions.readers).map(|index| Stationed {
            origin: Origin {
                terminal: format!("gate-{index}").as_str().into(),
                serial: format!("R{index}"),
                direction: DirectionRule::In,
            },
            address: address(index),
            key: Some(key(index)),
        });
        let controller = Controller::new(readers.collect(), conditions.baud, seed, start);
        let gate = |index| Gate {
            reader: Reader::keyed(address(index), key(index), RamStorage::new()).expect("memory gives boot ids"),
            swiped: BTreeMap::new(),
        };
        let gates = (0..conditions.readers).map(gate).collect();
        TimedLine {
            conditions,
            faults: Faults::new(seed),
            start,
            now: 0,
            controller,
            gates,
            happenings: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            order: 0,
            batches: Vec::new(),
            committing: false,
            next_badge: 0x1000,
            waits: Vec::new(),
        }
    }

    /// From the last bit of each card to the green lamp, shortest first, over this many swipes.
    pub fn waits(mut self, swipes: usize) -> Vec<Duration> {
        for gate in 0..self.gates.len() {
            self.schedule_swipe(gate);
        }
        while self.waits.len() < swipes {
            self.step();
        }
        self.waits.sort();
        self.waits
    }

    fn schedule_swipe(&mut self, gate: usize) {
        let pause = self.conditions.pause.as_micros() as u64;
        let after = self.faults.pick(pause / 2..pause * 3 / 2);
        self.schedule(self.now + after, Happening::Swipe(gate));
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.order += 1;
        self.happenings.push(Reverse((at, self.order)));
        self.waiting.insert(self.order, happening);
    }

    /// To the next moment at which something happens.
    fn step(&mut self) {
        let timer = self.controller.poll_timeout().map(|at| {
            let due = at.saturating_duration_since(self.start).as_nanos() as u64;
            due.div_ceil(1_000).max(self.now).next_multiple_of(TIMER_US)
        });
        let next = self.happenings.peek().map(|Reverse((at, _))| *at);
        let at = next.into_iter().chain(timer).min().expect("readers are always asked again");
        self.now = at;
        while let Some(Reverse((_, order))) = self.happenings.peek().copied().filter(|Reverse((due, _))| *due <= at) {
            self.happenings.pop();
            let happening = self.waiting.remove(&order).expect("each happening waits once");
            self.handle(happening);
        }
        self.controller.handle_timeout(self.moment());
        while let Some(wire) = self.controller.poll_transmit() {
            let arrives = self.after(self.conditions.adapter + bytes(wire.len(), self.conditions.baud));
            self.schedule(arrives, Happening::AtReaders(wire.to_vec()));
        }
        while let Some((station, event)) = self.controller.poll_event() {
            if let Event::Facts { batch, .. } = event {
                self.batches.push((station, batch));
                self.commit_next();
            }
        }
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Swipe(reader) => {
                self.next_badge += 1;
                let known = self.after(self.conditions.card + LOOP + APPEND);
                self.schedule(known, Happening::Badge { reader, badge: self.next_badge, swiped: self.now });
                self.schedule_swipe(reader);
            }
            Happening::Badge { reader, badge, swiped } => {
                let uptime = self.uptime();
                let gate = &mut self.gates[reader];
                let seq = gate.reader.handle_badge(Badge::Full(badge), uptime).expect("the journal is never full");
                gate.swiped.insert(seq, swiped);
                gate.reader.handle_time(uptime);
            }
            Happening::AtReaders(frame) => self.hear(&frame),
            Happening::AtGateway(frame) => self.controller.handle_bytes(&frame, self.moment()),
            Happening::Stored(batches) => {
                self.committing = false;
                batches.into_iter().for_each(|(station, batch)| self.controller.commit(station, batch));
                self.commit_next();
            }
        }
    }

    /// Everything that waits goes into one commit; what comes meanwhile goes into the next.
    fn commit_next(&mut self) {
        if self.committing || self.batches.is_empty() {
            return;
        }
        self.committing = true;
        let batches = std::mem::take(&mut self.batches);
        self.schedule(self.after(self.conditions.commit), Happening::Stored(batches));
    }

    fn hear(&mut self, frame: &[u8]) {
        let uptime = self.uptime();
        let mut answers = Vec::new();
        for gate in &mut self.gates {
            let fill = gate.reader.status(uptime).journal_fill;
            frame.iter().for_each(|byte| gate.reader.handle_line_byte(*byte, uptime));
            let commits = gate.reader.status(uptime).journal_fill < fill;
            let done = THINK + if commits { COMMIT } else { Duration::ZERO };
            let shown_at = self.now + done.as_micros() as u64;
            answers.extend(gate.reader.poll_transmit().map(|answer| (answer, done)));
            while let Some(show) = gate.reader.poll_show() {
                let Show::Punch { seq, signal: Signal::Stored } = show else { continue };
                let Some(swiped) = gate.swiped.remove(&seq) else { continue };
                self.waits.push(Duration::from_micros(shown_at - swiped));
            }
        }
        for (answer, done) in answers {
            let arrives = self.after(done + bytes(answer.len(), self.conditions.baud) + self.conditions.adapter);
            self.schedule(arrives, Happening::AtGateway(answer.to_vec()));
        }
    }

    fn after(&self, time: Duration) -> u64 {
        self.now + time.as_micros() as u64
    }

    fn uptime(&self) -> UptimeMs {
        UptimeMs(self.now / 1_000)
    }

    fn moment(&self) -> Moment {
        let passed = Duration::from_micros(self.now);
        Moment { instant: self.start + passed, wall: START.plus_ms(passed.as_millis() as i64), trusted: true }
    }
}
