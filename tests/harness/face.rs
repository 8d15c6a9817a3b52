//! Simulated `mqtt-face` terminals.
//!
//! [`FaceTerminal`] is the terminal's logic without I/O: its own record store, strictly one record in flight, pushed
//! again after 10 s as late, kept over a lost link, `Online` until `Online-Ack`. [`link::FaceLink`] connects one to a real
//! endpoint or broker. Knows nothing about the gateway but the protocol's codec.

pub mod link;
mod store;
#[cfg(test)]
mod stories;

use std::collections::VecDeque;
use std::time::Duration;

use gateway::photo;
use gateway::punch::UnixMs;
use gateway::terminals::mqtt::face::codec::{Message, PushKind, json_text, up};
use gateway::terminals::mqtt::face::lenient::EchoId;
use gateway::terminals::mqtt::face::record::{Record, wall_text, wall_time};
use serde::{Deserialize, Serialize};

use self::store::Store;
pub use self::store::{Kept, Made};

/// Orders that are remembered for whoever asks.
const REMEMBERED: usize = 10_000;

/// The smallest picture that a terminal might send.
pub const FACE_JPEG: &[u8] = include_bytes!("../fixtures/mqtt_face/face_tiny.jpg");

/// How fast the terminal lives.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// A record without `PushAck` is pushed again after this.
    pub push_again: Duration,
    pub beat: Duration,
    /// `Online` without `Online-Ack` is repeated after this.
    pub greet_again: Duration,
}

impl Timings {
    /// As real terminals do it.
    pub const REAL: Timings = Timings {
        push_again: Duration::from_secs(10),
        beat: Duration::from_secs(60),
        greet_again: Duration::from_secs(20),
    };

    /// All waits this many times shorter.
    pub fn faster(by: u32) -> Timings {
        let real = Timings::REAL;
        Timings { push_again: real.push_again / by, beat: real.beat / by, greet_again: real.greet_again / by }
    }
}

/// One recognition at the terminal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Face {
    /// What the roster download gave as `customId`: the worker id.
    pub custom_id: String,
    pub id_number: Option<String>,
    pub name: String,
    /// `entr`, `exit`, or nothing on a camera.
    pub direction: Option<String>,
    pub photo: Option<Vec<u8>>,
}

impl Face {
    /// A worker known by this id, going in.
    pub fn of(custom_id: &str) -> Face {
        Face { custom_id: custom_id.to_owned(), direction: Some("entr".to_owned()), ..Face::default() }
    }

    /// With a picture.
    pub fn with_photo(mut self, jpeg: &[u8]) -> Face {
        self.photo = Some(jpeg.to_vec());
        self
    }

    /// Going out.
    pub fn leaving(mut self) -> Face {
        self.direction = Some("exit".to_owned());
        self
    }
}

struct InFlight {
    number: u64,
    deadline: UnixMs,
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub topic: String,
    pub payload: String,
}

/// One face terminal.
pub struct FaceTerminal {
    serial: String,
    prefix: String,
    timings: Timings,
    /// Record numbers are written as JSON numbers.
    pub numeric_ids: bool,
    /// Which spelling of `SetSysTime` this firmware understands.
    pub time_form: (&'static str, char),
    /// How far its clock is ahead.
    pub clock_ahead_ms: i64,
    /// `ResumefromBreakpoint`: records wait for their acknowledgement and survive a lost link.
    pub resume: bool,
    store: Store,
    /// Numbers to push, oldest first; `true` when asked for by `ManualPushRecords`.
    to_push: VecDeque<(u64, bool)>,
    in_flight: Option<InFlight>,
    connected: bool,
    greeted: bool,
    greet_at: Option<UnixMs>,
    beat_at: Option<UnixMs>,
    /// Records lost because `resume` was off.
    pub lost: usize,
    /// Texts shown when the gate was opened from afar.
    pub opened: Vec<String>,
    /// Operators of the commands received, in order.
    pub heard: Vec<String>,
    out: VecDeque<Outgoing>,
}

impl FaceTerminal {
    /// A terminal set up as it should be.
    pub fn new(serial: &str, timings: Timings) -> FaceTerminal {
        FaceTerminal {
            serial: serial.to_owned(),
            prefix: "mqtt/face".to_owned(),
            timings,
            numeric_ids: false,
            time_form: ("SysTime", 'T'),
            clock_ahead_ms: 0,
            resume: true,
            store: Store::default(),
            to_push: VecDeque::new(),
            in_flight: None,
            connected: false,
            greeted: false,
            greet_at: None,
            beat_at: None,
            lost: 0,
            opened: Vec::new(),
            heard: Vec::new(),
            out: VecDeque::new(),
        }
    }

    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Where it listens.
    pub fn command_topic(&self) -> String {
        format!("{}/{}", self.prefix, self.serial)
    }

    /// Topic and payload of its last will.
    pub fn will(&self) -> Outgoing {
        Outgoing { topic: format!("{}/basic", self.prefix), payload: up::offline(&self.serial, None) }
    }

    /// Numbers of the records in its store that were acknowledged.
    pub fn acknowledged(&self) -> Vec<u64> {
        self.store.iter().filter(|made| made.acknowledged).map(|made| made.number).collect()
    }

    /// Records that wait for their acknowledgement.
    pub fn waiting(&self) -> usize {
        self.store.waiting().count()
    }

    /// From now on the store holds this many records and those that nobody has acknowledged.
    pub fn set_capacity(&mut self, records: usize) {
        self.store.capacity = records;
    }

    /// What survives when it is switched off.
    pub fn kept(&self) -> Kept {
        self.store.kept()
    }

    /// Changes with every change of what survives.
    pub fn revision(&self) -> u64 {
        self.store.revision()
    }

    /// Goes on from what survived; to be called before it is connected.
    pub fn restore(&mut self, kept: Kept) {
        self.store.restore(kept);
        self.to_push = self.store.waiting().map(|made| (made.number, false)).collect();
    }

    /// Somebody is recognised. Returns the record's number.
    pub fn punch(&mut self, now: UnixMs, face: Face) -> u64 {
        let number = self.store.add(face, self.shown(now), false);
        if !self.resume && !self.connected {
            self.lost += 1;
            return number;
        }
        self.to_push.push_back((number, false));
        self.push_next(now);
        number
    }

    /// A record number is skipped, as if a record had been erased.
    pub fn skip_number(&mut self, now: UnixMs) {
        self.store.add(Face::default(), self.shown(now), true);
    }

    /// Pushes its last record once more, as if the acknowledgement had been lost on the way.
    pub fn lose_last_acknowledgement(&mut self, now: UnixMs) {
        let last = self.store.iter().rev().find(|made| made.acknowledged && !made.face.custom_id.is_empty());
        let Some(number) = last.map(|made| made.number) else { return };
        self.store.acknowledge(number, false);
        self.to_push.push_back((number, false));
        self.push_next(now);
    }

    /// Connected and subscribed.
    pub fn handle_link_up(&mut self, now: UnixMs) {
        self.connected = true;
        self.greeted = false;
        self.greet(now);
        self.beat_at = Some(now.plus_ms(self.timings.beat.as_millis() as i64));
        self.push_next(now);
    }

    /// The link broke: what was in flight is pushed again later.
    pub fn handle_link_lost(&mut self) {
        self.connected = false;
        self.greet_at = None;
        self.beat_at = None;
        self.out.clear();
        if let Some(InFlight { number, .. }) = self.in_flight.take() {
            self.to_push.push_front((number, false));
        }
    }

    /// A message from the gateway.
    pub fn handle_message(&mut self, now: UnixMs, payload: &str) {
        let Ok(message) = Message::decode(payload) else { return };
        remember(&mut self.heard, message.operator.clone());
        match message.operator.as_str() {
            "Online-Ack" => {
                self.greeted = true;
                self.greet_at = None;
            }
            "PushAck" => self.handle_push_ack(now, &message),
            "SetSysTime" => self.handle_set_time(now, &message),
            "GetSysTime" => {
                let time = wall_text(self.shown(now), jiff::tz::offset(8), self.time_form.1);
                self.answer(&message, None, &[(self.time_form.0, json_text(&time))]);
            }
            "GetMQTTconfig" => self.answer(&message, None, &self.config()),
            "UpMQTTconfig" => {
                self.resume = message.info.number("ResumefromBreakpoint") == Some(1);
                self.answer(&message, None, &[]);
            }
            "Unlock" => {
                remember(&mut self.opened, message.info.text("showInfo").unwrap_or_default());
                self.answer(&message, None, &[]);
            }
            "ManualPushRecords" => self.handle_manual_push(now, &message),
            _ => self.answer(&message, Some(("414", "unknown operator")), &[]),
        }
    }

    /// Releases the record only when the id has the type that this firmware writes.
    fn handle_push_ack(&mut self, now: UnixMs, message: &Message<'_>) {
        let Some(in_flight) = &self.in_flight else { return };
        let expected = self.id_of(in_flight.number);
        let kind = message.info.number("PushAckType");
        let right = message.info.echo("SnapOrRecordID").is_some_and(|id| id.raw().get() == expected.raw().get());
        if !right || kind != Some(PushKind::Record as i64) {
            return;
        }
        let number = in_flight.number;
        self.in_flight = None;
        self.store.acknowledge(number, true);
        self.push_next(now);
    }

    fn handle_set_time(&mut self, now: UnixMs, message: &Message<'_>) {
        let (key, separator) = self.time_form;
        let text = message.info.text(key).filter(|text| text.as_bytes().get(10) == Some(&(separator as u8)));
        if let Some(time) = text.and_then(|text| wall_time(&text, jiff::tz::offset(8))) {
            self.clock_ahead_ms = time.since(now);
        }
        self.answer(message, None, &[]);
    }

    fn handle_manual_push(&mut self, now: UnixMs, message: &Message<'_>) {
        let time = |key| message.info.text(key).filter(|text| text.contains('T'));
        let span = time("TimeS").zip(time("TimeE"));
        let span = span.and_then(|(from, to)| {
            Some((wall_time(&from, jiff::tz::offset(8))?, wall_time(&to, jiff::tz::offset(8))?))
        });
        let Some((from, to)) = span else { return self.answer(message, Some(("464", "time")), &[]) };
        let again = self.store.iter().filter(|made| made.time >= from && made.time <= to && made.acknowledged);
        let again = again.filter(|made| !made.face.custom_id.is_empty()).map(|made| (made.number, true));
        self.to_push.extend(again);
        self.answer(message, None, &[]);
        self.push_next(now);
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<UnixMs> {
        let again = self.in_flight.as_ref().map(|in_flight| in_flight.deadline);
        [again, self.greet_at, self.beat_at].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: UnixMs) {
        if self.greet_at.is_some_and(|at| now >= at) {
            self.greet(now);
        }
        if self.beat_at.is_some_and(|at| now >= at) {
            let beat = up::heartbeat(&self.serial, &self.time_text(now));
            self.publish("heartbeat", beat);
            self.beat_at = Some(now.plus_ms(self.timings.beat.as_millis() as i64));
        }
        if let Some(in_flight) = self.in_flight.take_if(|in_flight| now >= in_flight.deadline) {
            self.push(now, in_flight.number, false);
        }
    }

    pub fn poll_transmit(&mut self) -> Option<Outgoing> {
        self.out.pop_front()
    }

    fn greet(&mut self, now: UnixMs) {
        let name = format!("Gate {}", self.serial);
        let online = up::online(&self.serial, &name, &self.time_text(now), None);
        self.publish("basic", online);
        self.greet_at = Some(now.plus_ms(self.timings.greet_again.as_millis() as i64));
    }

    /// The next record, if none is in flight.
    fn push_next(&mut self, now: UnixMs) {
        if !self.connected || self.in_flight.is_some() {
            return;
        }
        if let Some((number, asked)) = self.to_push.pop_front() {
            self.push(now, number, asked);
        }
    }

    fn push(&mut self, now: UnixMs, number: u64, asked: bool) {
        let Some(made) = self.store.push(number) else { return };
        let prompt = self.shown(now).since(made.time) <= 10_000;
        let record = Record {
            id: Some(self.id_of(number)),
            custom_id: Some(made.face.custom_id.clone()),
            person_id: Some("22".to_owned()),
            id_card: made.face.id_number.clone(),
            name: Some(made.face.name.clone()),
            verify_status: Some("1".to_owned()),
            similarity: Some(91.4),
            in_time: Some(!made.pushed && prompt && !asked),
            direction: made.face.direction.clone(),
            time: Some(wall_text(made.time, jiff::tz::offset(8), ' ')),
            push_type: Some(if asked { 2 } else { 0 }),
            photo: made.face.photo.clone(),
            ..Record::default()
        };
        let payload = record.encode(&self.serial);
        let topic = format!("{}/Rec", self.serial);
        self.publish(&topic, payload);
        if self.resume {
            let deadline = now.plus_ms(self.timings.push_again.as_millis() as i64);
            self.in_flight = Some(InFlight { number, deadline });
        } else {
            self.push_next(now);
        }
    }

    fn answer(&mut self, message: &Message<'_>, refused: Option<(&str, &str)>, info: &[(&str, String)]) {
        let answer = up::answer(&self.serial, &message.operator, message.message_id.as_ref(), refused, info);
        let topic = format!("{}/Ack", self.serial);
        self.publish(&topic, answer);
    }

    fn config(&self) -> [(&'static str, String); 7] {
        [
            ("StrangerUploadType", "1".to_owned()),
            ("RecordUploadType", "1".to_owned()),
            ("KeepAliveInterval", self.timings.beat.as_secs().max(1).to_string()),
            ("OnlineTopic", json_text(&format!("{}/basic", self.prefix))),
            ("HeartbeatTopic", json_text(&format!("{}/heartbeat", self.prefix))),
            ("ResumefromBreakpoint", u8::from(self.resume).to_string()),
            ("BeginTime", json_text("2026-05-01 00:00:00")),
        ]
    }

    fn publish(&mut self, rest: &str, payload: String) {
        if self.connected {
            self.out.push_back(Outgoing { topic: format!("{}/{rest}", self.prefix), payload });
        }
    }

    fn id_of(&self, number: u64) -> EchoId {
        if self.numeric_ids { EchoId::from_number(number) } else { EchoId::from_text(&number.to_string()) }
    }

    /// What its clock shows.
    fn shown(&self, now: UnixMs) -> UnixMs {
        now.plus_ms(self.clock_ahead_ms)
    }

    fn time_text(&self, now: UnixMs) -> String {
        wall_text(self.shown(now), jiff::tz::offset(8), ' ')
    }
}

/// The older half gives way.
fn remember(kept: &mut Vec<String>, new: String) {
    if kept.len() == REMEMBERED {
        kept.drain(..REMEMBERED / 2);
    }
    kept.push(new);
}

/// A picture of about this many bytes that begins and ends as a JPEG does.
pub fn big_photo(bytes: usize) -> Vec<u8> {
    let mut jpeg = FACE_JPEG.to_vec();
    let end = jpeg.split_off(jpeg.len() - 2);
    let noise = (0..bytes.saturating_sub(FACE_JPEG.len())).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8);
    jpeg.extend(noise.map(|byte| if byte == 0xFF { 0 } else { byte }));
    jpeg.extend(end);
    debug_assert!(photo::decode(&photo::encode(&jpeg)).is_ok());
    jpeg
}
