//! Simulated badge readers: the real firmware logic behind a pty, several on one line, with faults on the wire; and a
//! plain RDM6300 module.
//!
//! The line's path is a link that stays the same while the gateway comes and goes. What a reader has been told and has
//! swiped is remembered up to a limit, so that a line can run for days.

mod chip;
mod flash;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;

use embedded_hal::digital::{ErrorType, OutputPin};
use firmware::{AllowList, Panel, Reader, Show};
use gateway::clock::Clock;
use protocol::{Address, Answer, Badge, Key, Refusal, Seq, Signal, StartCause, UptimeMs};

pub use self::chip::Chip;
pub use self::flash::{Flash, JOURNAL};
use crate::faults::Faults;
use crate::pty::Pump;

/// Swipes and signals that are remembered for whoever asks.
const REMEMBERED: usize = 10_000;

/// A reader to put on a line.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub address: u8,
    /// Without a key the reader obeys anybody.
    pub key: Option<[u8; 16]>,
}

/// Which share of frames, in each direction, suffers.
pub struct WireFaults {
    pub faults: Faults,
    /// From 0 to 1: one bit of the frame is flipped, or a byte is missing, or there is one too many.
    pub damaged: f64,
    /// From 0 to 1: the frame does not arrive.
    pub lost: f64,
}

impl WireFaults {
    /// A good wire.
    pub fn none() -> WireFaults {
        WireFaults { faults: Faults::new(0), damaged: 0.0, lost: 0.0 }
    }

    /// The frame as it arrives, if it does.
    pub fn pass(&mut self, mut frame: Vec<u8>) -> Option<Vec<u8>> {
        if self.faults.happens(self.lost) {
            return None;
        }
        if self.faults.happens(self.damaged) {
            let index = self.faults.pick(0..frame.len() as u64) as usize;
            match self.faults.pick(0..4) {
                0 => drop(frame.remove(index)),
                1 => frame.insert(index, self.faults.pick(0..256) as u8),
                _ => frame[index] ^= 1 << self.faults.pick(0..8),
            }
        }
        Some(frame)
    }
}

/// Lamps, buzzer and relay as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lamps {
    pub green: bool,
    pub red: bool,
    pub buzzer: bool,
    pub relay: bool,
}

/// A pin whose level can be looked at.
#[derive(Clone, Default)]
struct Pin(Arc<AtomicBool>);

impl ErrorType for Pin {
    type Error = std::convert::Infallible;
}

impl OutputPin for Pin {
    fn set_low(&mut self) -> Result<(), Self::Error> {
        self.0.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Self::Error> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Pages of an allow-list, as on the real board.
const LIST_PAGES: usize = 17;

/// One reader's board: everything that survives a power cut, and the firmware that does not.
struct Board {
    setup: Setup,
    /// Always there but for the moment of a power cut.
    reader: Option<Reader<Flash>>,
    list: AllowList<Chip>,
    started: Instant,
    pins: [Pin; 4],
    panel: Panel<Pin, Pin, Pin, Pin>,
    swiped: VecDeque<(Seq, u32)>,
    signals: VecDeque<(u32, Signal)>,
}

impl Board {
    fn new(setup: Setup, storage: Flash, now: Instant) -> Board {
        let pins: [Pin; 4] = Default::default();
        let [green, red, buzzer, relay] = pins.clone();
        let panel = Panel::new(green, red, buzzer, relay);
        let reader = Some(start(setup, storage));
        let list = AllowList::new(Chip::new(2 * LIST_PAGES), 0, LIST_PAGES, setup.key.map(Key));
        let (swiped, signals) = (VecDeque::new(), VecDeque::new());
        Board { setup, reader, list, started: now, pins, panel, swiped, signals }
    }

    fn uptime(&self, now: Instant) -> UptimeMs {
        UptimeMs(now.saturating_duration_since(self.started).as_millis() as u64)
    }

    fn reader(&mut self) -> &mut Reader<Flash> {
        self.reader.as_mut().expect("a board without firmware exists only inside reset")
    }

    fn swipe(&mut self, badge: u32, now: Instant) -> bool {
        let uptime = self.uptime(now);
        let seq = self.reader().handle_badge(Badge::Full(badge), uptime);
        if let Some(seq) = seq {
            remember(&mut self.swiped, (seq, badge));
            if self.reader().is_alone(uptime)
                && let Some(is_registered) = self.list.has(Badge::Full(badge))
            {
                self.reader().handle_listed(seq, is_registered, uptime);
            }
        }
        self.reader().handle_time(uptime);
        self.show(now);
        seq.is_some()
    }

    fn reset(&mut self, now: Instant) {
        let storage = self.reader.take().expect("a board always has its firmware here").into_storage();
        self.reader = Some(start(self.setup, storage));
        self.started = now;
        let [green, red, buzzer, relay] = self.pins.clone();
        self.panel = Panel::new(green, red, buzzer, relay);
        self.show(now);
    }

    fn hear(&mut self, frame: &[u8], now: Instant) -> Option<Vec<u8>> {
        let uptime = self.uptime(now);
        for byte in frame {
            self.reader().handle_line_byte(*byte, uptime);
        }
        if let Some(upkeep) = self.reader().poll_upkeep() {
            // These boards have no program to exchange.
            let answer = self.list.answer(&upkeep).unwrap_or(Answer::Refused(Refusal::NotUnderstood));
            self.reader().answer_upkeep(&answer);
        }
        self.list.work();
        self.show(now);
        self.reader().poll_transmit().map(|wire| wire.to_vec())
    }

    fn show(&mut self, now: Instant) {
        let uptime = self.uptime(now);
        self.reader().handle_time(uptime);
        while let Some(show) = self.reader().poll_show() {
            if let Show::Punch { seq, signal } = show
                && let Some((_, badge)) = self.swiped.iter().rev().find(|(known, _)| *known == seq)
            {
                remember(&mut self.signals, (*badge, signal));
            }
            self.panel.show(show, uptime);
        }
        self.panel.poll(uptime).expect("these pins do not fail");
    }
}

/// The oldest gives way.
fn remember<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() == REMEMBERED {
        kept.pop_front();
    }
    kept.push_back(new);
}

fn start(setup: Setup, storage: Flash) -> Reader<Flash> {
    let address = Address::new(setup.address).expect("a test gives addresses from 1 to 247");
    let reader = match setup.key {
        Some(key) => Reader::keyed(address, Key(key), storage),
        None => Reader::unkeyed(address, storage),
    };
    reader.expect("memory gives boot ids")
}

/// What the thread and the owner share.
struct Shared {
    boards: Mutex<Boards>,
    clock: Clock,
    frames: AtomicU32,
}

struct Boards {
    boards: Vec<Board>,
    wire: WireFaults,
}

impl Shared {
    fn boards(&self) -> MutexGuard<'_, Boards> {
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line with readers on it.
pub struct ReaderLine {
    shared: Arc<Shared>,
    pump: Pump,
}

impl ReaderLine {
    /// Puts new readers on a new line that can be opened at `link`.
    pub fn start(link: &Path, setups: &[Setup], wire: WireFaults) -> io::Result<ReaderLine> {
        ReaderLine::with(link, setups.iter().map(|setup| (*setup, Flash::default())), wire)
    }

    /// The same, with readers whose flash is in files of this directory: those of an earlier process go on.
    pub fn start_kept(link: &Path, setups: &[Setup], wire: WireFaults, dir: &Path) -> io::Result<ReaderLine> {
        let file = |setup: &Setup| dir.join(format!("reader-{}.json", setup.address));
        let kept: Vec<_> =
            setups.iter().map(|setup| Ok((*setup, Flash::open(file(setup))?))).collect::<io::Result<_>>()?;
        ReaderLine::with(link, kept, wire)
    }

    fn with(
        link: &Path,
        readers: impl IntoIterator<Item = (Setup, Flash)>,
        wire: WireFaults,
    ) -> io::Result<ReaderLine> {
        let clock = Clock::system();
        let now = clock.instant();
        let boards = readers.into_iter().map(|(setup, flash)| Board::new(setup, flash, now)).collect();
        let boards = Mutex::new(Boards { boards, wire });
        let shared = Arc::new(Shared { boards, clock, frames: AtomicU32::new(0) });
        let serve = {
            let shared = shared.clone();
            let mut pending = Vec::new();
            move |bytes: &[u8]| answer(&shared, &mut pending, bytes)
        };
        Ok(ReaderLine { shared, pump: Pump::start(link, serve)? })
    }

    /// The reader at this place of the list given at the start.
    pub fn reader(&self, index: usize) -> SimulatedReader {
        assert!(index < self.shared.boards().boards.len(), "there is no reader {index} on this line");
        SimulatedReader { shared: self.shared.clone(), index }
    }

    /// From now on the wire is like this.
    pub fn set_faults(&self, wire: WireFaults) {
        self.shared.boards().wire = wire;
    }

    /// Whole frames that the gateway has sent so far, damaged ones included.
    pub fn frames(&self) -> u32 {
        self.shared.frames.load(Ordering::Relaxed)
    }

    /// What the gateway opens.
    pub fn path(&self) -> &Path {
        self.pump.link()
    }
}

/// One reader on a line; clones are the same reader.
#[derive(Clone)]
pub struct SimulatedReader {
    shared: Arc<Shared>,
    index: usize,
}

impl SimulatedReader {
    /// Somebody swipes a badge. False when it lies there still, or the journal is full.
    pub fn swipe(&self, badge: u32) -> bool {
        self.with(|board, now| board.swipe(badge, now))
    }

    /// A power cut: what is in RAM is gone, the journal stays.
    pub fn reset(&self) {
        self.with(Board::reset);
    }

    /// Why it will say that it has started.
    pub fn set_start(&self, cause: StartCause) {
        self.with(|board, _| board.reader().handle_start(cause));
    }

    /// The housing, and the supply in millivolts.
    pub fn set_health(&self, supply_mv: u16, tamper: bool) {
        self.with(|board, _| board.reader().handle_health(supply_mv, tamper));
    }

    /// Badges whose swipes got the stored signal, in order.
    pub fn stored(&self) -> Vec<u32> {
        self.signals().into_iter().filter(|(_, signal)| *signal == Signal::Stored).map(|(badge, _)| badge).collect()
    }

    /// The signals so far, with the badge that they were for.
    pub fn signals(&self) -> Vec<(u32, Signal)> {
        self.with(|board, _| board.signals.iter().copied().collect())
    }

    /// Punches in its journal.
    pub fn journal_fill(&self) -> u32 {
        self.with(|board, now| {
            let uptime = board.uptime(now);
            board.reader().status(uptime).journal_fill
        })
    }

    pub fn lamps(&self) -> Lamps {
        self.with(|board, now| {
            board.show(now);
            let [green, red, buzzer, relay] = board.pins.each_ref().map(|pin| pin.0.load(Ordering::Relaxed));
            Lamps { green, red, buzzer, relay }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Board, Instant) -> T) -> T {
        let now = self.shared.clock.instant();
        act(&mut self.shared.boards().boards[self.index], now)
    }
}

/// Gives every frame that came whole to all readers, as a wire does; tells what they say.
fn answer(shared: &Shared, pending: &mut Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let now = shared.clock.instant();
    let mut guard = shared.boards();
    let Boards { boards, wire } = &mut *guard;
    let mut said = Vec::new();
    for byte in bytes {
        pending.push(*byte);
        if *byte != 0 || pending.len() == 1 {
            continue;
        }
        shared.frames.fetch_add(1, Ordering::Relaxed);
        let Some(frame) = wire.pass(std::mem::take(pending)) else { continue };
        let answers: Vec<Vec<u8>> = boards.iter_mut().filter_map(|board| board.hear(&frame, now)).collect();
        said.extend(answers.into_iter().filter_map(|frame| wire.pass(frame)).flatten());
    }
    boards.iter_mut().for_each(|board| board.show(now));
    said
}

/// A 125 kHz module that sends its frame when a card comes near.
pub struct RdmModule {
    cards: mpsc::Sender<u32>,
    pump: Pump,
}

impl RdmModule {
    /// A module on a new line that can be opened at `link`.
    pub fn start(link: &Path) -> io::Result<RdmModule> {
        let (cards, near) = mpsc::channel();
        let serve = move |_: &[u8]| near.try_iter().flat_map(rdm_frame).collect();
        Ok(RdmModule { cards, pump: Pump::start(link, serve)? })
    }

    /// Somebody holds a card to it. Nobody listening means that the swipe is lost, as with the real thing.
    pub fn swipe(&self, number: u32) {
        // The thread ends only when this is dropped.
        let _ = self.cards.send(number);
    }

    /// What the gateway opens.
    pub fn path(&self) -> &Path {
        self.pump.link()
    }
}

/// What such a module sends for a card.
pub fn rdm_frame(number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_be_bytes();
    let version = 0x62;
    let checksum = version ^ a ^ b ^ c ^ d;
    format!("\x02{version:02X}{number:08X}{checksum:02X}\x03").into_bytes()
}
