//! What the controller asks, seen from a reader that answers as it is told to.

use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::DirectionRule;
use gateway::punch::UnixMs;
use gateway::terminals::line::reader::{Controller, Event, Moment, Origin, Stationed};
use protocol::{Address, Answer, Badge, BootId, Punch, ReaderEnd, Refusal, Request, RequestId, Seq, Status, UptimeMs};

const BOOT: BootId = BootId(3);
/// How long the controller lets the line rest when there was nothing.
const REST: Duration = Duration::from_millis(25);

/// A controller, and the reader's end of the line.
struct Desk {
    controller: Controller,
    reader: ReaderEnd,
    now: Moment,
}

impl Desk {
    /// After the greeting and the questions that come once.
    fn new() -> Desk {
        let clock = Clock::manual(UnixMs(1_772_406_065_000));
        let address = Address::new(1).unwrap();
        let origin = Origin { terminal: "gate".into(), serial: "R1".to_owned(), direction: DirectionRule::In };
        let stationed = Stationed { origin, address, key: None };
        let controller = Controller::new(vec![stationed], 115_200, 1, clock.instant());
        let now = Moment { instant: clock.instant(), wall: clock.now(), trusted: true };
        let mut desk = Desk { controller, reader: ReaderEnd::unkeyed(address, BOOT), now };
        let Request::Hello { nonce } = desk.asked().unwrap() else { panic!("no hello") };
        let status = Status { next: Seq(8), ..Status::default() };
        desk.answer(&Answer::Welcome { nonce, last_request: RequestId(0), status });
        desk
    }

    /// The question that is due now.
    fn asked(&mut self) -> Option<Request> {
        self.controller.handle_timeout(self.now);
        let wire = self.controller.poll_transmit()?;
        wire.iter().find_map(|byte| self.reader.handle_byte(*byte)).map(|asked| asked.unwrap())
    }

    fn answer(&mut self, answer: &Answer) {
        self.now.instant += Duration::from_millis(5);
        let wire = self.reader.answer(answer).unwrap();
        self.controller.handle_bytes(&wire, self.now);
    }

    /// The next question about punches; those about the reader itself are answered on the way.
    fn asked_for_punches(&mut self) -> Request {
        for _ in 0..20 {
            let uptime = self.uptime();
            match self.asked() {
                Some(asked @ (Request::Collect { .. } | Request::Next)) => return asked,
                Some(Request::SetTime { .. }) => self.answer(&Answer::Done),
                Some(Request::Start) => self.answer(&Answer::Refused(Refusal::NotUnderstood)),
                Some(Request::Status) => {
                    self.answer(&Answer::Status(Status { now: uptime, next: Seq(8), ..Status::default() }));
                }
                Some(other) => panic!("asked {other:?}"),
                None => self.now.instant += REST,
            }
        }
        panic!("never asked for punches");
    }

    fn punches(&mut self, released: u32, punches: &[Punch]) {
        self.answer(&Answer::Punches {
            now: self.uptime(),
            released: Seq(released),
            first: Seq(released + 1),
            lost: 0,
            lost_seen: 0,
            punches: punches.iter().copied().collect(),
        });
    }

    fn uptime(&self) -> UptimeMs {
        let since = self.now.instant.saturating_duration_since(Clock::manual(self.now.wall).instant());
        UptimeMs(60_000 + since.as_millis() as u64)
    }

    /// Makes what was collected last durable.
    fn commit(&mut self) {
        while let Some((station, event)) = self.controller.poll_event() {
            if let Event::Facts { batch, .. } = event {
                self.controller.commit(station, batch);
            }
        }
    }
}

fn swipe() -> Punch {
    Punch { boot: BOOT, at: UptimeMs(60_000), unix_ms: None, badge: Badge::Full(0xE308_6CED) }
}

fn collect(committed: u32) -> Request {
    Request::Collect { committed: Seq(committed), lost_seen: 0, limit: 6 }
}

#[test]
fn a_reader_that_agrees_is_asked_the_short_question() {
    let mut desk = Desk::new();
    assert_eq!(desk.asked_for_punches(), collect(0));
    desk.punches(7, &[]);
    for _ in 0..3 {
        assert_eq!(desk.asked_for_punches(), Request::Next);
        desk.answer(&Answer::Nothing { now: desk.uptime() });
        assert_eq!(desk.asked(), None, "the line rests");
    }
    assert_eq!(desk.asked_for_punches(), Request::Next);
    desk.punches(7, &[swipe()]);
    desk.commit();
    assert_eq!(desk.asked(), Some(collect(8)));
}

#[test]
fn a_reader_that_has_not_released_what_is_durable_is_told_again() {
    let mut desk = Desk::new();
    assert_eq!(desk.asked_for_punches(), collect(0));
    desk.punches(7, &[swipe()]);
    desk.commit();
    for _ in 0..3 {
        assert_eq!(desk.asked_for_punches(), collect(8));
        desk.punches(7, &[swipe()]);
    }
    assert_eq!(desk.asked_for_punches(), collect(8));
    desk.punches(8, &[]);
    assert_eq!(desk.asked_for_punches(), Request::Next);
}

#[test]
fn a_reader_that_does_not_know_the_short_question_is_asked_the_long_one() {
    let mut desk = Desk::new();
    assert_eq!(desk.asked_for_punches(), collect(0));
    desk.punches(7, &[]);
    assert_eq!(desk.asked_for_punches(), Request::Next);
    desk.answer(&Answer::Refused(Refusal::NotUnderstood));
    for _ in 0..3 {
        assert_eq!(desk.asked_for_punches(), collect(7));
        desk.punches(7, &[]);
    }
}
