//! One client's connection to the embedded endpoint: MQTT itself, and what this client may do.
//!
//! Sans-I/O. A publication is given out once and its PUBACK or PUBREC made only by `settle`. A client sends again what has
//! not been answered only on a new connection, so one whose publication is given up is cut. Before the login is answered
//! nothing else is read. A subscription reaches the client's own commands or nothing.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event as MqttEvent, TimerKind};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet};
use mqtt_protocol_core::mqtt::role;

use super::super::topics::Topics;
use super::packets::{Login, Publication, Receipt, Received, Refusal, Reply, acknowledged};

/// A client says who it is within this time.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Nobody needs more than this to say it, the last will included.
const LOGIN_BYTES: usize = 16 * 1024;
/// A client without keep-alive is cut after this silence; terminals beat every minute.
const SILENCE: Duration = Duration::from_secs(600);
/// Publications of QoS 1 and 2 that may wait for their acknowledgement at once.
const IN_FLIGHT: u16 = 16;
/// A client whose publication was given up is cut after this, so that one that is back at once does not spin.
const GIVEN_UP_PAUSE: Duration = Duration::from_secs(1);

/// Something for the shell.
pub enum Event {
    /// The client waits to be admitted or refused.
    Login(Login),
    Publication(Publication),
    /// Subscriptions refused because they reach beyond the client's own commands.
    ForeignSubscription,
    /// Close the socket once everything is written.
    Close(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No CONNECT yet.
    Silent,
    /// CONNECT is there, the answer is not.
    Asked,
    Admitted,
    /// A publication was given up: nothing more is read.
    GivenUp,
    Closed,
}

/// The connection of one client.
pub struct Connection {
    mqtt: mqtt::Connection<role::Server>,
    topics: Topics,
    phase: Phase,
    serial: String,
    will: Option<(String, Vec<u8>)>,
    subscribed: BTreeSet<String>,
    /// Packet ids of QoS 2 that are not settled: the library answers their repetitions by itself, and must not.
    unsettled: BTreeSet<u16>,
    unread: BytesMut,
    before_login: usize,
    deadline: Instant,
    keep_alive: Option<Instant>,
    out: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

impl Connection {
    /// A socket that has just been accepted.
    pub fn new(now: Instant, topics: Topics, max_packet: u32) -> Connection {
        let options = ConnectionOptions::new()
            .maximum_packet_size_recv(max_packet.max(LOGIN_BYTES as u32))
            .receive_maximum(IN_FLIGHT);
        let mut mqtt = mqtt::Connection::with_options(mqtt::Version::Undetermined, options);
        mqtt.set_auto_ping_response(true);
        Connection {
            mqtt,
            topics,
            phase: Phase::Silent,
            serial: String::new(),
            will: None,
            subscribed: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            unread: BytesMut::new(),
            before_login: 0,
            deadline: now + LOGIN_TIMEOUT,
            keep_alive: None,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Bytes came from the socket.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        if matches!(self.phase, Phase::GivenUp | Phase::Closed) {
            return;
        }
        self.unread.extend_from_slice(bytes);
        self.before_login = self.before_login.saturating_add(bytes.len());
        self.read(now);
        if self.phase == Phase::Silent && self.before_login > LOGIN_BYTES {
            self.close("too much before CONNECT");
        }
    }

    /// The login is good; the client is the terminal `serial`.
    pub fn admit(&mut self, now: Instant, serial: &str) {
        if self.phase != Phase::Asked {
            return;
        }
        self.phase = Phase::Admitted;
        self.serial = serial.to_owned();
        self.deadline = now + SILENCE;
        self.reply(now, Reply::Connack(Ok(())));
        self.read(now);
    }

    /// The login is not good.
    pub fn refuse(&mut self, now: Instant, refusal: Refusal) {
        self.reply(now, Reply::Connack(Err(refusal)));
        self.close("login refused");
    }

    /// What was published has been dealt with for good.
    pub fn settle(&mut self, now: Instant, receipt: Receipt) {
        match receipt {
            Receipt::None => {}
            Receipt::Ack(packet_id) => self.reply(now, Reply::Puback { packet_id }),
            Receipt::Rec(packet_id) => {
                self.unsettled.remove(&packet_id);
                self.reply(now, Reply::Pubrec { packet_id });
            }
        }
    }

    /// What was published is nowhere but with the client: if it waits for a receipt, the connection ends without one.
    pub fn give_up(&mut self, now: Instant, receipt: Receipt) {
        if receipt == Receipt::None || self.phase != Phase::Admitted {
            return;
        }
        self.phase = Phase::GivenUp;
        self.deadline = now + GIVEN_UP_PAUSE;
        self.unread.clear();
        // The terminal is still there; its will would say that it is not.
        self.will = None;
    }

    /// Publishes to the client, if it has subscribed to the topic.
    pub fn publish(&mut self, now: Instant, topic: &str, payload: &[u8]) {
        if self.phase == Phase::Admitted && self.subscribed.contains(topic) {
            self.reply(now, Reply::Publish { topic: topic.to_owned(), payload: payload.to_vec() });
        }
    }

    /// The last will, once, if the client has not said farewell.
    pub fn take_will(&mut self) -> Option<(String, Vec<u8>)> {
        self.will.take()
    }

    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn poll_timeout(&self) -> Instant {
        self.keep_alive.map_or(self.deadline, |at| at.min(self.deadline))
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Silent && now >= self.deadline {
            self.close("no CONNECT in time");
        } else if self.keep_alive.is_some_and(|at| now >= at) {
            self.keep_alive = None;
            let events = self.mqtt.notify_timer_fired(TimerKind::PingreqRecv);
            self.follow(now, events);
            self.close("keep-alive missed");
        } else if now >= self.deadline {
            let given_up = self.phase == Phase::GivenUp;
            self.close(if given_up { "its publication was not taken" } else { "silent for too long" });
        }
    }

    fn read(&mut self, now: Instant) {
        while matches!(self.phase, Phase::Silent | Phase::Admitted) && !self.unread.is_empty() {
            if self.phase == Phase::Admitted {
                self.deadline = now + SILENCE;
            }
            let (events, used) = {
                let mut cursor = Cursor::new(&self.unread[..]);
                let events = self.mqtt.recv(&mut cursor);
                (events, cursor.position() as usize)
            };
            self.unread.advance(used);
            self.follow(now, events);
            if used == 0 {
                break;
            }
        }
    }

    fn follow(&mut self, now: Instant, events: Vec<MqttEvent>) {
        for event in events {
            match event {
                MqttEvent::NotifyPacketReceived(packet) => self.receive(now, Received::of(packet)),
                MqttEvent::RequestSendPacket { packet, .. } if self.is_too_early(&packet) => {}
                MqttEvent::RequestSendPacket { packet, .. } => {
                    self.out.push_back(Bytes::from(packet.to_continuous_buffer()));
                }
                MqttEvent::RequestTimerReset { kind: TimerKind::PingreqRecv, duration_ms } => {
                    self.keep_alive = Some(now + Duration::from_millis(duration_ms));
                }
                MqttEvent::RequestTimerCancel(TimerKind::PingreqRecv) => self.keep_alive = None,
                MqttEvent::RequestTimerReset { .. } | MqttEvent::RequestTimerCancel(_) => {}
                MqttEvent::NotifyPacketIdReleased(_) => {}
                MqttEvent::NotifyError(error) => {
                    tracing::debug!(serial = self.serial, ?error, "MQTT error");
                    self.close("it does not speak MQTT properly");
                }
                MqttEvent::RequestClose => self.close("MQTT ended"),
            }
        }
    }

    /// Whether the packet acknowledges what is not settled.
    fn is_too_early(&self, packet: &Packet) -> bool {
        acknowledged(packet).is_some_and(|packet_id| self.unsettled.contains(&packet_id))
    }

    fn receive(&mut self, now: Instant, packet: Received) {
        match (self.phase, packet) {
            (Phase::Silent, Received::Connect(mut login)) => {
                self.phase = Phase::Asked;
                self.will = login.will.take();
                self.events.push_back(Event::Login(login));
            }
            (Phase::Admitted, Received::Publish(publication)) => {
                if let Receipt::Rec(packet_id) = publication.receipt {
                    self.unsettled.insert(packet_id);
                }
                self.events.push_back(Event::Publication(publication));
            }
            (Phase::Admitted, Received::Subscribe { packet_id, filters }) => self.subscribe(now, packet_id, filters),
            (Phase::Admitted, Received::Unsubscribe { packet_id, filters }) => {
                for filter in &filters {
                    self.subscribed.remove(filter);
                }
                self.reply(now, Reply::Unsuback { packet_id, count: filters.len() });
            }
            (Phase::Admitted, Received::Pubrel { packet_id }) if self.unsettled.contains(&packet_id) => {
                self.close("PUBREL before its PUBREC");
            }
            (Phase::Admitted, Received::Pubrel { packet_id }) => self.reply(now, Reply::Pubcomp { packet_id }),
            (_, Received::Disconnect) => {
                self.will = None;
                self.close("disconnected");
            }
            (Phase::Admitted, Received::Other) => {}
            _ => self.close("not logged in"),
        }
    }

    fn subscribe(&mut self, now: Instant, packet_id: u16, filters: Vec<String>) {
        let granted: Vec<bool> =
            filters.iter().map(|filter| self.topics.is_own_subscription(filter, &self.serial)).collect();
        if granted.contains(&false) {
            self.events.push_back(Event::ForeignSubscription);
        }
        self.subscribed.extend(filters.into_iter().zip(&granted).filter(|(_, own)| **own).map(|(filter, _)| filter));
        self.reply(now, Reply::Suback { packet_id, granted });
    }

    fn reply(&mut self, now: Instant, reply: Reply) {
        if self.phase == Phase::Closed {
            return;
        }
        match reply.packet(self.mqtt.get_protocol_version()) {
            Ok(packet) => {
                let events = self.mqtt.send(packet);
                self.follow(now, events);
            }
            Err(error) => tracing::warn!(serial = self.serial, ?error, "MQTT packet cannot be built"),
        }
    }

    fn close(&mut self, why: &'static str) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.unread.clear();
            self.events.push_back(Event::Close(why));
        }
    }
}
