//! A line with its gateway and a store in virtual time, and the model that says what must have been stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use firmware::journal::RamStorage;
use firmware::{Reader, Show};
use gateway::clock::Clock;
use gateway::config::DirectionRule;
use gateway::punch::{
    Credential, Direction, Fact, Gap, GapKind, Judgement, Punch, PunchId, TimeSource, UnixMs, Verdict,
};
use gateway::terminals::line::reader::{Command, Controller, Event, Listed, Moment, Origin, Progress, Stationed};
use harness::faults::Faults;
use harness::reader::WireFaults;
use protocol::{Address, Badge, Damage, Key, Seq, Signal, StartCause, UptimeMs};

use super::program::Program;

const START: UnixMs = UnixMs(1_772_406_065_000);
pub const JOURNAL: usize = 32;
const BAUD: u32 = 115_200;

/// A reader, what is swiped at it, and what it shows.
pub struct Gate {
    pub reader: Option<Reader<RamStorage<JOURNAL>>>,
    pub key: Option<Key>,
    pub address: Address,
    pub started: u64,
    pub powered: bool,
    /// Badge and true time of every swipe that the reader kept.
    pub kept: BTreeMap<u32, UnixMs>,
    pub refused: u64,
    pub numbers: BTreeMap<Seq, u32>,
    pub signals: Vec<(u32, Signal)>,
    pub opened: u32,
    pub program: Program,
}

/// Frames on their way.
pub struct Flight {
    pub at: u64,
    pub to_gateway: bool,
    pub bytes: Vec<u8>,
}

/// Facts at the store, and what will become of them.
struct Write {
    at: u64,
    station: usize,
    batch: u64,
    facts: Vec<Fact>,
    works: bool,
}

pub struct Site {
    pub clock: Clock,
    /// Milliseconds since the start.
    pub ms: u64,
    pub faults: Faults,
    pub wire: WireFaults,
    pub gates: Vec<Gate>,
    pub controller: Controller,
    pub flights: VecDeque<Flight>,
    writes: Vec<Write>,
    /// What is durable.
    pub punches: BTreeMap<PunchId, Punch>,
    pub gaps: Vec<Gap>,
    pub redelivered: u64,
    pub store_fails: f64,
    pub attacks: u64,
    /// Dropped by controllers before the present one.
    pub damage: Damage,
    pub silent: BTreeSet<usize>,
    pub outcomes: Vec<Result<(), String>>,
    pub progress: Vec<Progress>,
    pub listed: Vec<(usize, Listed)>,
    pub recorded: Vec<Vec<u8>>,
    pub next_badge: u32,
    /// Why readers have started, as they told.
    pub starts: Vec<(usize, StartCause)>,
}

impl Gate {
    fn new(index: usize, keyed: bool) -> Gate {
        let key = keyed.then_some(Key([index as u8 + 1; 16]));
        let address = Address::new(index as u8 + 1).unwrap();
        let mut gate = Gate {
            reader: None,
            key,
            address,
            started: 0,
            powered: true,
            kept: BTreeMap::new(),
            refused: 0,
            numbers: BTreeMap::new(),
            signals: Vec::new(),
            opened: 0,
            program: Program::new(key),
        };
        gate.reader = Some(gate.start(RamStorage::new()));
        gate
    }

    pub fn start(&self, storage: RamStorage<JOURNAL>) -> Reader<RamStorage<JOURNAL>> {
        match self.key {
            Some(key) => Reader::keyed(self.address, key, storage).unwrap(),
            None => Reader::unkeyed(self.address, storage).unwrap(),
        }
    }

    pub fn signals_of(&self, badge: u32) -> Vec<Signal> {
        self.signals.iter().filter(|(known, _)| *known == badge).map(|(_, signal)| *signal).collect()
    }

    pub fn fill(&self) -> u32 {
        self.reader.as_ref().unwrap().status(UptimeMs(0)).journal_fill
    }

    pub fn damage(&self) -> Damage {
        self.reader.as_ref().unwrap().status(UptimeMs(0)).damage
    }

    pub fn forged(&self) -> u32 {
        self.damage().forged + self.damage().stale
    }
}

impl Site {
    pub fn new(seed: u64, gates: usize, keyed: bool) -> Site {
        let faults = Faults::new(seed);
        let wire = WireFaults { faults: faults.fork("wire"), damaged: 0.0, lost: 0.0 };
        let clock = Clock::manual(START);
        let controller = Controller::new(Vec::new(), BAUD, 0, clock.instant());
        let mut site = Site {
            clock,
            ms: 0,
            faults,
            wire,
            gates: (0..gates).map(|index| Gate::new(index, keyed)).collect(),
            controller,
            flights: VecDeque::new(),
            writes: Vec::new(),
            punches: BTreeMap::new(),
            gaps: Vec::new(),
            redelivered: 0,
            store_fails: 0.0,
            attacks: 0,
            damage: Damage::default(),
            silent: BTreeSet::new(),
            outcomes: Vec::new(),
            progress: Vec::new(),
            listed: Vec::new(),
            recorded: Vec::new(),
            next_badge: 0x1000,
            starts: Vec::new(),
        };
        site.controller = site.new_controller();
        site
    }

    pub fn new_controller(&mut self) -> Controller {
        let readers = self.gates.iter().enumerate().map(|(index, gate)| Stationed {
            origin: Origin {
                terminal: format!("gate-{index}").as_str().into(),
                serial: format!("R{index}"),
                direction: DirectionRule::In,
            },
            address: gate.address,
            key: gate.key,
        });
        Controller::new(readers.collect(), BAUD, self.faults.pick(0..u64::MAX), self.clock.instant())
    }

    pub fn now(&self) -> Moment {
        Moment { instant: self.clock.instant(), wall: self.clock.now(), trusted: true }
    }

    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.step();
        }
    }

    /// One millisecond in which somebody may swipe, one of the first `cut` readers may lose its power and the gateway may
    /// start again. Whether a reader did.
    pub fn rough_step(&mut self, cut: u64) -> bool {
        self.step();
        if self.faults.happens(0.004) {
            let gate = self.faults.pick(0..self.gates.len() as u64) as usize;
            self.swipe(gate);
        }
        let is_cut = self.faults.happens(0.000_3);
        if is_cut {
            let gate = self.faults.pick(0..cut) as usize;
            self.reset(gate);
        }
        if self.faults.happens(0.000_1) {
            self.restart_gateway();
        }
        is_cut
    }

    /// One millisecond.
    pub fn step(&mut self) {
        self.ms += 1;
        self.clock.advance(Duration::from_millis(1));
        self.finish_writes();
        let now = self.now();
        if self.controller.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.controller.handle_timeout(now);
        }
        while let Some(wire) = self.controller.poll_transmit() {
            self.send(wire.to_vec(), false);
        }
        self.deliver();
        for gate in 0..self.gates.len() {
            if self.gates[gate].program.work() {
                self.reset(gate);
            }
        }
        while let Some((station, event)) = self.controller.poll_event() {
            self.handle_event(station, event);
        }
    }

    fn send(&mut self, frame: Vec<u8>, to_gateway: bool) {
        if self.recorded.len() < 5_000 {
            self.recorded.push(frame.clone());
        }
        let at = self.ms + 1 + frame.len() as u64 * 10_000 / u64::from(BAUD);
        let Some(mut bytes) = self.wire.pass(frame) else { return };
        // Partial reads: the gateway gets a frame in pieces.
        while to_gateway && bytes.len() > 1 && self.faults.happens(0.5) {
            let rest = bytes.split_off(self.faults.pick(1..bytes.len() as u64) as usize);
            self.flights.push_back(Flight { at, to_gateway, bytes });
            bytes = rest;
        }
        self.flights.push_back(Flight { at, to_gateway, bytes });
    }

    fn deliver(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            if flight.at > self.ms {
                self.flights.push_back(flight);
            } else if flight.to_gateway {
                self.controller.handle_bytes(&flight.bytes, self.now());
            } else {
                self.hear(&flight.bytes);
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut answers = Vec::new();
        for gate in self.gates.iter_mut().filter(|gate| gate.powered) {
            let uptime = UptimeMs(self.ms - gate.started);
            let reader = gate.reader.as_mut().unwrap();
            bytes.iter().for_each(|byte| reader.handle_line_byte(*byte, uptime));
            gate.program.look_after(reader);
            answers.extend(reader.poll_transmit());
            while let Some(show) = reader.poll_show() {
                match show {
                    Show::Punch { seq, signal } => gate.signals.push((gate.numbers[&seq], signal)),
                    Show::Kept | Show::NotKept => {}
                    Show::Open { .. } => gate.opened += 1,
                }
            }
        }
        answers.into_iter().for_each(|wire| self.send(wire.to_vec(), true));
    }

    fn handle_event(&mut self, station: usize, event: Event) {
        match event {
            Event::Facts { batch, facts } => {
                assert!(self.writes.iter().all(|write| write.station != station), "two batches of one reader");
                let (at, works) = (self.ms + self.faults.pick(1..20), !self.faults.happens(self.store_fails));
                self.writes.push(Write { at, station, batch, facts, works });
            }
            Event::Silent => drop(self.silent.insert(station)),
            Event::Heard => drop(self.silent.remove(&station)),
            Event::Attacked { .. } => self.attacks += 1,
            Event::Ordered { outcome, .. } => {
                self.outcomes.push(outcome.map_err(|declined| format!("{declined:?}")));
            }
            Event::Updating(progress) => self.progress.push(progress),
            Event::Listed(listed) => self.listed.push((station, listed)),
            Event::Started { cause } => self.starts.push((station, cause)),
            Event::Greeted { .. } | Event::Status(_) | Event::Calm => {}
        }
    }

    fn finish_writes(&mut self) {
        let (ready, waiting) = std::mem::take(&mut self.writes).into_iter().partition(|write| write.at <= self.ms);
        self.writes = waiting;
        let ready: Vec<Write> = ready;
        for Write { station, batch, facts, works, .. } in ready {
            if works {
                facts.into_iter().for_each(|fact| self.make_durable(fact));
                self.controller.commit(station, batch);
            } else {
                self.controller.abandon(station, batch, self.clock.instant());
            }
        }
    }

    /// As the store and the shell do: a known punch collapses, so does a known gap.
    fn make_durable(&mut self, fact: Fact) {
        match fact {
            Fact::Punch(punch) => {
                if let Some(known) = self.punches.get(&punch.id) {
                    assert_eq!((&known.record, &known.raw), (&punch.record, &punch.raw));
                    self.redelivered += 1;
                } else {
                    self.punches.insert(punch.id, punch);
                }
            }
            Fact::Gap(gap) => {
                let known = self.gaps.iter().any(|known| known.terminal == gap.terminal && known.detail == gap.detail);
                if !known {
                    self.gaps.push(gap);
                }
            }
            other => panic!("a reader gives punches and gaps, not {other:?}"),
        }
    }

    pub fn swipe(&mut self, gate: usize) -> u32 {
        self.next_badge += 1;
        let (badge, at) = (self.next_badge, self.clock.now());
        let gate = &mut self.gates[gate];
        let uptime = UptimeMs(self.ms - gate.started);
        match gate.reader.as_mut().unwrap().handle_badge(Badge::Full(badge), uptime) {
            Some(seq) => {
                gate.numbers.insert(seq, badge);
                gate.kept.insert(badge, at);
            }
            None => gate.refused += 1,
        }
        badge
    }

    /// A power cut.
    pub fn reset(&mut self, gate: usize) {
        let started = self.ms;
        let gate = &mut self.gates[gate];
        let storage = gate.reader.take().unwrap().into_storage();
        gate.reader = Some(gate.start(storage));
        gate.started = started;
        gate.program.start();
    }

    /// What the store was doing may have been done, and nobody knows.
    pub fn restart_gateway(&mut self) {
        for write in std::mem::take(&mut self.writes) {
            if self.faults.happens(0.5) {
                write.facts.into_iter().for_each(|fact| self.make_durable(fact));
            }
        }
        self.damage = self.damage.plus(self.controller.damage());
        self.controller = self.new_controller();
    }

    pub fn order(&mut self, command: Command) {
        let now = self.now();
        self.controller.order(0, self.ms, command, now);
    }

    pub fn judge(&mut self, punch: PunchId, verdict: Verdict) {
        let judgement = Judgement {
            punch,
            at: self.clock.now(),
            verdict,
            rule_version: 1,
            worker: None,
            direction: Direction::In,
            direction_inferred: false,
            duplicate_of: None,
        };
        self.controller.handle_judgement(&judgement, self.clock.instant());
    }

    /// A good wire and a good store until the journals are empty.
    pub fn calm_down(&mut self) {
        (self.wire.damaged, self.wire.lost, self.store_fails) = (0.0, 0.0, 0.0);
        for _ in 0..60 {
            self.run(1_000);
            if self.writes.is_empty() && self.gates.iter().all(|gate| gate.fill() == 0) {
                return;
            }
        }
        panic!("the journals do not drain");
    }

    /// The model: the set of badges kept by the readers is the set stored, once each; what they refused is in gaps;
    /// each date is within its own bound; green was shown at most once, and only for what is durable.
    pub fn check(&self) {
        let mut stored: Vec<u32> = self.punches.values().map(badge_of).collect();
        stored.sort();
        let mut kept: Vec<u32> = self.gates.iter().flat_map(|gate| gate.kept.keys().copied()).collect();
        kept.sort();
        assert_eq!(stored, kept);

        let full = self.gaps.iter().filter(|gap| gap.kind == GapKind::JournalFull);
        let missing: u64 = full.map(|gap| gap.count.unwrap()).sum();
        assert_eq!(missing, self.gates.iter().map(|gate| gate.refused).sum::<u64>());

        for punch in self.punches.values() {
            let badge = badge_of(punch);
            let gate = self.gates.iter().find(|gate| gate.kept.contains_key(&badge)).unwrap();
            let TimeSource::Uptime { uncertainty_ms } = punch.time_source else { panic!("dated by uptime") };
            let error = punch.time.since(gate.kept[&badge]).abs();
            assert!(error <= i64::from(uncertainty_ms), "{error} ms off, but said to be within {uncertainty_ms}");
        }
        for gate in &self.gates {
            for badge in gate.kept.keys() {
                assert!(gate.signals_of(*badge).len() <= 1, "badge {badge:x} got {:?}", gate.signals_of(*badge));
            }
        }
    }
}

fn badge_of(punch: &Punch) -> u32 {
    match punch.credentials[..] {
        [Credential::Badge(badge)] => badge.0,
        ref other => panic!("a reader gives one badge, not {other:?}"),
    }
}
