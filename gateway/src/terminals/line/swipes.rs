//! Readers that only send: card numbers become punches, dated by the moment of reading.
//!
//! Such a reader keeps nothing, so until a punch is durable this is its only copy: it is kept while the store does not
//! take it, up to a bound, and what does not fit is counted and recorded as a gap. Does no I/O and keeps no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::dating::Moment;
use super::origin::{Origin, Swipe};
use super::{ascii, rdm6300};
use crate::punch::{Credential, Fact, Gap, GapKind, Quarantine, TimeSource};

/// A card that lies on the reader is one swipe: the same badge counts again after it was away this long.
pub const DEBOUNCE: Duration = Duration::from_secs(3);
/// Cards remembered for that.
const DEBOUNCED: usize = 64;
/// Punches kept while the store does not take them.
const KEPT: usize = 1_000;
/// Facts given to the store at once.
const BATCH: usize = 100;
/// What the store refused is offered again after this.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What the reader sends.
#[derive(Debug)]
pub enum Module {
    Rdm6300(rdm6300::Decoder),
    Ascii(ascii::Decoder),
}

/// A card number or a line that is none.
enum Read {
    Card { credential: Credential, raw: Vec<u8> },
    Unreadable { reason: &'static str, raw: Vec<u8> },
}

/// One reader that only sends.
#[derive(Debug)]
pub struct Swipes {
    origin: Origin,
    module: Module,
    last_byte: Option<Instant>,
    seen: VecDeque<(Credential, Instant)>,
    /// One record of an unreadable line per [`DEBOUNCE`]; noise must not fill the disk.
    quarantined_at: Option<Instant>,
    unreadable: u64,
    waiting: VecDeque<Fact>,
    dropped: u64,
    /// The store has refused: it is asked again then.
    offer_at: Option<Instant>,
}

impl Swipes {
    pub fn new(origin: Origin, module: Module) -> Swipes {
        Swipes {
            origin,
            module,
            last_byte: None,
            seen: VecDeque::new(),
            quarantined_at: None,
            unreadable: 0,
            waiting: VecDeque::new(),
            dropped: 0,
            offer_at: None,
        }
    }

    /// Bytes from the line, as they were read together.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Moment) {
        self.handle_timeout(now);
        for byte in bytes {
            if let Some(read) = self.module.handle_byte(*byte) {
                self.take(read, now);
            }
        }
        self.last_byte = Some(now.instant);
    }

    /// The time that [`Swipes::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.offer_at.take_if(|at| *at <= now.instant);
        if self.silent_at().is_none_or(|at| at > now.instant) {
            return;
        }
        self.last_byte = None;
        if let Some(read) = self.module.handle_idle() {
            self.take(read, now);
        }
    }

    /// When silence will mean something, or the store is to be asked again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.silent_at(), self.offer_at].into_iter().flatten().min()
    }

    fn silent_at(&self) -> Option<Instant> {
        self.last_byte.filter(|_| self.module.is_midway()).map(|at| at + self.module.idle())
    }

    /// The port is gone: half a number is nothing. What waits for the store goes on waiting.
    pub fn reset(&mut self) {
        self.last_byte = None;
        self.module.reset();
    }

    fn take(&mut self, read: Read, now: Moment) {
        let fact = match read {
            Read::Card { credential, raw } if self.is_new(&credential, now.instant) => self.punch(credential, raw, now),
            Read::Card { .. } => return,
            Read::Unreadable { reason, raw } => {
                self.unreadable += 1;
                if self.quarantined_at.is_some_and(|at| now.instant.saturating_duration_since(at) < DEBOUNCE) {
                    return;
                }
                self.quarantined_at = Some(now.instant);
                self.quarantine(reason, raw, now)
            }
        };
        if self.waiting.len() < KEPT {
            self.waiting.push_back(fact);
        } else {
            self.dropped += 1;
        }
    }

    /// Notes that the card was seen; whether it had been away.
    fn is_new(&mut self, credential: &Credential, now: Instant) -> bool {
        self.seen.retain(|(_, at)| now.saturating_duration_since(*at) < DEBOUNCE);
        if let Some((_, at)) = self.seen.iter_mut().find(|(seen, _)| seen == credential) {
            *at = now;
            return false;
        }
        if self.seen.len() == DEBOUNCED {
            self.seen.pop_front();
        }
        self.seen.push_back((credential.clone(), now));
        true
    }

    fn punch(&self, credential: Credential, raw: Vec<u8>, now: Moment) -> Fact {
        Fact::Punch(self.origin.punch(Swipe {
            record: None,
            identity_time: now.wall.0.to_string(),
            time_text: String::new(),
            time: now.wall,
            time_source: TimeSource::Gateway,
            received_at: now.wall,
            live: true,
            credential,
            raw,
        }))
    }

    fn quarantine(&self, reason: &str, raw: Vec<u8>, now: Moment) -> Fact {
        Fact::Quarantine(Quarantine {
            terminal: Some(self.origin.terminal.clone()),
            serial: self.origin.serial.clone(),
            record: None,
            at: now.wall,
            reason: reason.to_owned(),
            raw,
        })
    }

    /// The facts to be stored now, in this order; then [`Swipes::commit`] or [`Swipes::handle_refused`].
    pub fn poll_batch(&self, now: Moment) -> Option<Vec<Fact>> {
        let facts = if self.offer_at.is_none() { self.batch(now) } else { Vec::new() };
        (!facts.is_empty()).then_some(facts)
    }

    /// The oldest facts that are not durable, whether they are due or not.
    pub fn batch(&self, now: Moment) -> Vec<Fact> {
        let gap = (self.dropped > 0).then(|| {
            Fact::Gap(Gap {
                terminal: Some(self.origin.terminal.clone()),
                at: now.wall,
                count: Some(self.dropped),
                kind: GapKind::JournalFull,
                detail: "the store took no facts for so long that swipes had to be dropped".to_owned(),
            })
        });
        let facts: Vec<Fact> = self.waiting.iter().take(BATCH).cloned().collect();
        // A gap is told once room is made, after what was kept.
        if facts.is_empty() { gap.into_iter().collect() } else { facts }
    }

    /// These facts are durable.
    pub fn commit(&mut self, facts: &[Fact]) {
        self.offer_at = None;
        for fact in facts {
            match fact {
                Fact::Gap(gap) => self.dropped -= gap.count.unwrap_or(0).min(self.dropped),
                _ => drop(self.waiting.pop_front()),
            }
        }
    }

    /// The store has not taken what it was given.
    pub fn handle_refused(&mut self, now: Instant) {
        self.offer_at = Some(now + STORE_RETRY);
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Readings that were no number.
    pub fn noise(&self) -> u64 {
        self.unreadable + self.module.noise()
    }
}

impl Module {
    fn handle_byte(&mut self, byte: u8) -> Option<Read> {
        match self {
            Module::Rdm6300(decoder) => decoder.handle_byte(byte).map(Read::from),
            Module::Ascii(decoder) => decoder.handle_byte(byte).map(Read::from),
        }
    }

    fn handle_idle(&mut self) -> Option<Read> {
        match self {
            Module::Rdm6300(decoder) => decoder.handle_idle().map(Read::from),
            Module::Ascii(decoder) => decoder.handle_idle().map(Read::from),
        }
    }

    fn idle(&self) -> Duration {
        match self {
            Module::Rdm6300(_) => rdm6300::IDLE,
            Module::Ascii(_) => ascii::IDLE,
        }
    }

    fn is_midway(&self) -> bool {
        match self {
            Module::Rdm6300(decoder) => decoder.is_midway(),
            Module::Ascii(decoder) => decoder.is_midway(),
        }
    }

    fn noise(&self) -> u64 {
        match self {
            Module::Rdm6300(decoder) => u64::from(decoder.noise()),
            Module::Ascii(_) => 0,
        }
    }

    fn reset(&mut self) {
        match self {
            Module::Rdm6300(decoder) => decoder.reset(),
            Module::Ascii(decoder) => *decoder = ascii::Decoder::default(),
        }
    }
}

impl From<rdm6300::Read> for Read {
    fn from(rdm6300::Read { credential, raw }: rdm6300::Read) -> Read {
        Read::Card { credential, raw }
    }
}

impl From<ascii::Line> for Read {
    fn from(line: ascii::Line) -> Read {
        match line {
            ascii::Line::Badge { credential, raw } => Read::Card { credential, raw },
            ascii::Line::Unreadable { reason, raw } => Read::Unreadable { reason, raw },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::DirectionRule;
    use crate::punch::{Direction, PunchId, UnixMs};

    const START: UnixMs = UnixMs(1_772_406_065_000);

    struct Desk {
        swipes: Swipes,
        clock: Clock,
    }

    impl Desk {
        fn new(module: Module) -> Desk {
            let origin = Origin { terminal: "gate".into(), serial: "C1".to_owned(), direction: DirectionRule::In };
            Desk { swipes: Swipes::new(origin, module), clock: Clock::manual(START) }
        }

        fn ascii() -> Desk {
            Desk::new(Module::Ascii(ascii::Decoder::default()))
        }

        fn now(&self) -> Moment {
            Moment { instant: self.clock.instant(), wall: self.clock.now(), trusted: true }
        }

        fn send(&mut self, bytes: &[u8]) {
            self.swipes.handle_bytes(bytes, self.now());
        }

        fn wait(&mut self, ms: u64) {
            self.clock.advance(Duration::from_millis(ms));
            self.swipes.handle_timeout(self.now());
        }

        /// Stores what waits.
        fn store(&mut self) -> Vec<Fact> {
            let facts = self.swipes.batch(self.now());
            self.swipes.commit(&facts);
            facts
        }
    }

    #[test]
    fn a_card_is_a_punch_at_the_moment_of_reading() {
        let mut desk = Desk::ascii();
        desk.wait(1_500);
        desk.send(b"008,27885\r\n");
        let [Fact::Punch(punch)] = &desk.store()[..] else { panic!("one punch") };
        let at = START.plus_ms(1_500);
        assert_eq!((punch.time, punch.time_source, punch.received_at), (at, TimeSource::Gateway, at));
        assert_eq!(punch.credentials, [Credential::Badge24(0x08_6CED)]);
        assert_eq!((punch.direction, &punch.raw[..]), (Direction::In, &b"008,27885"[..]));
        assert_eq!(punch.id, PunchId::derive("C1", "", &at.0.to_string(), "008,27885"));
        assert_eq!(desk.store(), []);
    }

    #[test]
    fn a_module_that_repeats_its_frame_while_the_card_lies_there_is_one_punch() {
        let mut desk = Desk::new(Module::Rdm6300(rdm6300::Decoder::default()));
        let frame = include_bytes!("../../../../tests/fixtures/serial/rdm6300_frame.bin");
        for _ in 0..40 {
            desk.send(frame);
            desk.wait(100);
        }
        assert_eq!(desk.store().len(), 1);
        desk.wait(2_900);
        desk.send(frame);
        assert_eq!(desk.store().len(), 1);
    }

    #[test]
    fn a_stream_with_noise_byte_by_byte_is_one_punch() {
        let mut desk = Desk::new(Module::Rdm6300(rdm6300::Decoder::default()));
        for byte in include_bytes!("../../../../tests/fixtures/serial/rdm6300_stream_noise_and_repeat.bin") {
            desk.send(&[*byte]);
            desk.wait(5);
        }
        assert_eq!(desk.store().len(), 1);
        assert!(desk.swipes.noise() >= 2);
    }

    #[test]
    fn a_number_without_an_ending_is_read_after_silence() {
        for (module, bytes) in [
            (Module::Ascii(ascii::Decoder::default()), &b"3808980205"[..]),
            (Module::Rdm6300(rdm6300::Decoder::default()), b"62E3086CED08"),
        ] {
            let mut desk = Desk::new(module);
            for byte in bytes {
                desk.send(&[*byte]);
                desk.wait(10);
            }
            assert_eq!(desk.store(), []);
            let due = desk.swipes.poll_timeout().expect("midway");
            desk.wait(due.duration_since(desk.clock.instant()).as_millis() as u64);
            assert_eq!(desk.store().len(), 1);
            assert_eq!(desk.swipes.poll_timeout(), None);
        }
    }

    #[test]
    fn half_a_number_before_a_reopening_is_nothing() {
        let mut desk = Desk::ascii();
        desk.send(b"38089");
        desk.swipes.reset();
        desk.send(b"80205\n0012345678\n");
        let facts = desk.store();
        let text =
            |fact: &Fact| matches!(fact, Fact::Punch(punch) if punch.credentials == [Credential::Text("80205".into())]);
        assert_eq!(facts.len(), 2);
        assert!(text(&facts[0]));
    }

    #[test]
    fn an_unreadable_line_is_quarantined_and_noise_does_not_fill_the_disk() {
        let mut desk = Desk::ascii();
        for _ in 0..10 {
            desk.send(b"\xFF\xFF\n");
            desk.wait(100);
        }
        assert!(matches!(&desk.store()[..], [Fact::Quarantine(_)]));
        assert_eq!(desk.swipes.noise(), 10);
    }

    #[test]
    fn what_the_store_refused_is_offered_again_by_time_and_over_a_reopening() {
        let mut desk = Desk::ascii();
        desk.send(b"0012345678\n");
        let refused = desk.clock.instant();
        desk.swipes.handle_refused(refused);
        desk.swipes.reset();
        assert_eq!(desk.swipes.poll_timeout(), Some(refused + STORE_RETRY));
        assert_eq!(desk.swipes.poll_batch(desk.now()), None);
        desk.send(b"38089");
        desk.wait(1_000);
        assert_eq!(desk.swipes.poll_timeout(), None, "both have had their turn");
        assert_eq!(desk.store().len(), 2);

        desk.send(b"0012345679\n");
        desk.swipes.handle_refused(desk.clock.instant());
        assert_eq!(desk.store().len(), 1);
        assert_eq!(desk.swipes.poll_timeout(), None, "nothing waits any more");
        desk.send(b"0012345670\n");
        assert!(desk.swipes.poll_batch(desk.now()).is_some(), "the store has taken something meanwhile");
    }

    #[test]
    fn what_the_store_does_not_take_is_kept_and_beyond_the_bound_is_a_gap() {
        let mut desk = Desk::ascii();
        for number in 0..KEPT + 7 {
            desk.send(format!("{number:010}\n").as_bytes());
        }
        let mut punches = 0;
        loop {
            match &desk.store()[..] {
                [Fact::Gap(gap)] => break assert_eq!(gap.count, Some(7)),
                facts => punches += facts.len(),
            }
        }
        assert_eq!(punches, KEPT);
        assert_eq!(desk.store(), []);
    }
}
