//! Stories of one connection, bytes in and bytes out, with the library's own client at the other end.

use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::Version;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::Event as MqttEvent;
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, Qos, SubEntry, SubOpts, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, SubackReturnCode};
use mqtt_protocol_core::mqtt::role;

use super::connection::{Connection, Event};
use super::packets::{Login, Publication, Receipt, Refusal};
use crate::clock::Clock;
use crate::punch::UnixMs;
use crate::terminals::mqtt::topics::Topics;

const SERIAL: &str = "1306612";
const MAX_PACKET: u32 = 256 * 1024;
const PUBREC: u8 = 5;

/// A client and the endpoint's end of its connection.
struct Wire {
    now: Instant,
    client: mqtt::Connection<role::Client>,
    server: Connection,
    /// What the client received.
    received: Vec<Packet>,
    /// The type of each packet to the client, also of one that it did not expect.
    types: Vec<u8>,
    logins: Vec<Login>,
    publications: Vec<Publication>,
    foreign: usize,
    closed: Option<&'static str>,
}

impl Wire {
    fn new(version: Version) -> Wire {
        let now = Clock::manual(UnixMs(0)).instant();
        let topics = Topics::new(&["mqtt/face".to_owned()]);
        Wire {
            now,
            client: mqtt::Connection::new(version),
            server: Connection::new(now, topics, MAX_PACKET),
            received: vec![],
            types: vec![],
            logins: vec![],
            publications: vec![],
            foreign: 0,
            closed: None,
        }
    }

    /// Logged in and admitted.
    fn admitted() -> Wire {
        let mut wire = Wire::new(Version::V3_1_1);
        wire.send(connect(60).into());
        wire.server.admit(wire.now, SERIAL);
        wire.settle();
        wire.received.clear();
        wire.types.clear();
        wire
    }

    fn send(&mut self, packet: Packet) {
        for event in self.client.send(packet) {
            match event {
                MqttEvent::RequestSendPacket { packet, .. } => self.feed(&packet.to_continuous_buffer()),
                MqttEvent::NotifyError(error) => panic!("the client does not send this: {error:?}"),
                _ => {}
            }
        }
    }

    /// Raw bytes to the endpoint, in pieces of 700.
    fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(700) {
            self.server.handle_bytes(self.now, piece);
        }
        self.settle();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        while self.closed.is_none() && self.server.poll_timeout() <= self.now {
            self.server.handle_timeout(self.now);
            self.settle();
        }
    }

    fn settle(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::Login(login) => self.logins.push(login),
                Event::Publication(publication) => self.publications.push(publication),
                Event::ForeignSubscription => self.foreign += 1,
                Event::Close(why) => self.closed = Some(why),
            }
        }
        while let Some(bytes) = self.server.poll_transmit() {
            self.types.push(bytes[0] >> 4);
            let mut cursor = Cursor::new(&bytes[..]);
            for event in self.client.recv(&mut cursor) {
                if let MqttEvent::NotifyPacketReceived(packet) = event {
                    self.received.push(packet);
                }
            }
        }
    }

    fn packet_id(&mut self) -> u16 {
        self.client.acquire_packet_id().unwrap()
    }

    fn publish(&mut self, topic: &str, payload: &[u8], qos: Qos) {
        let builder = v3_1_1::Publish::builder().topic_name(topic).unwrap().qos(qos).payload(payload);
        let packet = match qos {
            Qos::AtMostOnce => builder.build(),
            Qos::AtLeastOnce | Qos::ExactlyOnce => {
                let id = self.packet_id();
                builder.packet_id(id).build()
            }
        };
        self.send(packet.unwrap().into());
    }

    /// A record that the client publishes with this quality, and may repeat.
    fn waiting_for_a_receipt(&mut self, qos: Qos) -> Vec<u8> {
        let id = self.packet_id();
        let builder = v3_1_1::Publish::builder().topic_name("mqtt/face/1306612/Rec").unwrap().qos(qos).packet_id(id);
        builder.payload(b"x").build().unwrap().to_continuous_buffer()
    }

    fn exactly_once(&mut self) -> Vec<u8> {
        self.waiting_for_a_receipt(Qos::ExactlyOnce)
    }

    fn subscribe(&mut self, filters: &[&str]) -> Vec<SubackReturnCode> {
        let id = self.packet_id();
        let entries: Vec<SubEntry> =
            filters.iter().map(|filter| SubEntry::new(*filter, SubOpts::new()).unwrap()).collect();
        self.send(v3_1_1::Subscribe::builder().packet_id(id).entries(entries).build().unwrap().into());
        match self.received.pop() {
            Some(Packet::V3_1_1Suback(ack)) => ack.return_codes(),
            other => panic!("no SUBACK but {other:?}"),
        }
    }
}

fn connect(keep_alive: u16) -> v3_1_1::Connect {
    let builder = v3_1_1::Connect::builder().client_id(SERIAL).unwrap().keep_alive(keep_alive).clean_session(true);
    let builder = builder.user_name(SERIAL).unwrap().password(b"secret".to_vec()).unwrap();
    let will = builder.will_message("mqtt/face/basic", b"farewell".to_vec(), Qos::AtMostOnce, false);
    will.unwrap().build().unwrap()
}

#[test]
fn a_login_is_handed_out_and_answered() {
    let mut wire = Wire::new(Version::V3_1_1);
    wire.send(connect(60).into());
    let login = &wire.logins[0];
    assert_eq!((login.client_id.as_str(), login.user_name.as_deref()), (SERIAL, Some(SERIAL)));
    assert_eq!(login.password.as_deref(), Some(&b"secret"[..]));
    assert!(wire.received.is_empty(), "nobody has admitted it yet");
    wire.server.admit(wire.now, SERIAL);
    wire.settle();
    let [Packet::V3_1_1Connack(ack)] = wire.received.as_slice() else { panic!("no CONNACK") };
    assert_eq!((ack.return_code(), ack.session_present()), (ConnectReturnCode::Accepted, false));
}

#[test]
fn a_refused_client_is_told_and_closed_and_leaves_no_will() {
    let mut wire = Wire::new(Version::V3_1_1);
    wire.send(connect(60).into());
    wire.server.refuse(wire.now, Refusal::Credentials);
    wire.settle();
    let [Packet::V3_1_1Connack(ack)] = wire.received.as_slice() else { panic!("no CONNACK") };
    assert_eq!(ack.return_code(), ConnectReturnCode::NotAuthorized);
    assert!(wire.closed.is_some());
}

#[test]
fn what_is_sent_before_the_login_is_answered_waits() {
    let mut wire = Wire::new(Version::V3_1_1);
    let publish = v3_1_1::Publish::builder().topic_name("mqtt/face/basic").unwrap().payload(b"early").build().unwrap();
    let mut bytes = connect(60).to_continuous_buffer();
    bytes.extend(publish.to_continuous_buffer());
    wire.feed(&bytes);
    assert!(wire.publications.is_empty());
    wire.server.admit(wire.now, SERIAL);
    wire.settle();
    assert_eq!(wire.publications.len(), 1);
}

#[test]
fn a_puback_is_made_by_settling_and_by_nothing_else() {
    let mut wire = Wire::admitted();
    wire.publish("mqtt/face/1306612/Rec", b"x", Qos::AtLeastOnce);
    wire.wait(Duration::from_secs(5));
    assert!(wire.received.is_empty());
    let receipt = wire.publications[0].receipt;
    wire.server.settle(wire.now, receipt);
    wire.settle();
    assert!(matches!(wire.received.as_slice(), [Packet::V3_1_1Puback(_)]));
}

#[test]
fn quality_two_is_acknowledged_in_two_steps() {
    let mut wire = Wire::admitted();
    wire.publish("mqtt/face/1306612/Rec", b"x", Qos::ExactlyOnce);
    let receipt = wire.publications[0].receipt;
    wire.server.settle(wire.now, receipt);
    wire.settle();
    let [Packet::V3_1_1Pubrec(rec)] = wire.received.as_slice() else { panic!("no PUBREC") };
    let id = rec.packet_id();
    wire.send(v3_1_1::Pubrel::builder().packet_id(id).build().unwrap().into());
    assert!(matches!(wire.received.as_slice(), [_, Packet::V3_1_1Pubcomp(_)]));
}

/// The library answers a repeated packet id of quality 2 by itself.
#[test]
fn a_repetition_is_not_answered_before_the_first_is_settled() {
    let mut wire = Wire::admitted();
    let publish = wire.exactly_once();
    wire.feed(&[publish.clone(), publish.clone()].concat());
    wire.feed(&publish);
    assert_eq!((wire.types.as_slice(), wire.publications.len()), (&[][..], 1));
    let receipt = wire.publications[0].receipt;
    wire.server.settle(wire.now, receipt);
    wire.feed(&publish);
    assert_eq!(wire.types, [PUBREC, PUBREC]);
    assert_eq!((wire.publications.len(), wire.closed), (1, None));
}

#[test]
fn a_release_before_the_first_step_is_not_answered_and_ends_the_connection() {
    let mut wire = Wire::admitted();
    let publish = wire.exactly_once();
    wire.feed(&publish);
    let Receipt::Rec(id) = wire.publications[0].receipt else { panic!("quality 2") };
    wire.feed(&v3_1_1::Pubrel::builder().packet_id(id).build().unwrap().to_continuous_buffer());
    assert_eq!(wire.types, [0; 0]);
    assert!(wire.closed.is_some());
}

#[test]
fn what_was_not_taken_ends_the_connection_unanswered_and_comes_again_on_the_next() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut wire = Wire::admitted();
        let publish = wire.waiting_for_a_receipt(qos);
        wire.feed(&publish);
        let receipt = wire.publications[0].receipt;
        wire.server.give_up(wire.now, receipt);
        wire.settle();
        wire.feed(&publish);
        assert_eq!((wire.publications.len(), wire.closed), (1, None), "a client that is back at once would spin");
        wire.wait(Duration::from_secs(1));
        assert_eq!((wire.types.as_slice(), wire.closed.is_some()), (&[][..], true), "{qos:?}");
        assert_eq!(wire.server.take_will(), None, "the terminal is still there");
    }
    let mut wire = Wire::admitted();
    wire.publish("mqtt/face/1306612/Rec", b"x", Qos::AtMostOnce);
    let receipt = wire.publications[0].receipt;
    wire.server.give_up(wire.now, receipt);
    wire.wait(Duration::from_secs(1));
    assert_eq!(wire.closed, None, "nobody waits for an answer");
}

#[test]
fn subscriptions_reach_the_clients_own_commands_and_no_others() {
    let mut wire = Wire::admitted();
    let granted =
        wire.subscribe(&["mqtt/face/1306612", "mqtt/face/1306613", "mqtt/face/+", "#", "mqtt/face/1306612/#"]);
    use SubackReturnCode::{Failure, SuccessMaximumQos0};
    assert_eq!(granted, [SuccessMaximumQos0, Failure, Failure, Failure, Failure]);
    assert_eq!(wire.foreign, 1);
    wire.server.publish(wire.now, "mqtt/face/1306613", b"not for you");
    wire.server.publish(wire.now, "mqtt/face/1306612", b"for you");
    wire.settle();
    let [Packet::V3_1_1Publish(publish)] = wire.received.as_slice() else { panic!("{:?}", wire.received) };
    assert_eq!(publish.payload().as_slice(), b"for you");
}

#[test]
fn without_a_subscription_nothing_is_sent() {
    let mut wire = Wire::admitted();
    wire.server.publish(wire.now, "mqtt/face/1306612", b"x");
    wire.settle();
    assert!(wire.received.is_empty());
}

#[test]
fn a_client_that_says_nothing_is_cut_after_ten_seconds() {
    let mut wire = Wire::new(Version::V3_1_1);
    wire.wait(Duration::from_millis(9_999));
    assert_eq!(wire.closed, None);
    wire.wait(Duration::from_millis(1));
    assert_eq!(wire.closed, Some("no CONNECT in time"));
}

#[test]
fn keep_alive_is_enforced_at_one_and_a_half() {
    let mut wire = Wire::admitted();
    wire.wait(Duration::from_secs(80));
    wire.send(v3_1_1::Pingreq::builder().build().unwrap().into());
    assert!(matches!(wire.received.as_slice(), [Packet::V3_1_1Pingresp(_)]));
    wire.wait(Duration::from_millis(89_999));
    assert_eq!(wire.closed, None);
    wire.wait(Duration::from_millis(1));
    assert!(wire.closed.is_some());
    assert!(wire.server.take_will().is_some());
}

#[test]
fn a_farewell_takes_the_will_back() {
    let mut wire = Wire::admitted();
    wire.send(v3_1_1::Disconnect::builder().build().unwrap().into());
    assert!(wire.closed.is_some());
    assert_eq!(wire.server.take_will(), None);
}

#[test]
fn a_packet_beyond_the_limit_is_refused_by_its_header() {
    let mut wire = Wire::admitted();
    let header = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
    wire.feed(&header);
    assert!(wire.closed.is_some());
}

#[test]
fn a_large_photo_passes() {
    let mut wire = Wire::admitted();
    let payload = vec![b'x'; MAX_PACKET as usize - 100];
    wire.publish("mqtt/face/1306612/Rec", &payload, Qos::AtMostOnce);
    assert_eq!(wire.publications[0].payload.as_slice().len(), payload.len());
}

#[test]
fn noise_is_closed_and_a_second_connect_too() {
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 40], &[0xFF; 40], &[0x10, 0x02, 0, 0], &[0x30, 0x03, 0, 1, b'a']]
    {
        let mut wire = Wire::new(Version::V3_1_1);
        wire.feed(noise);
        wire.wait(Duration::from_secs(10));
        assert!(wire.closed.is_some(), "{noise:?}");
        assert!(wire.logins.is_empty() && wire.publications.is_empty());
    }
    let mut wire = Wire::admitted();
    wire.feed(&connect(60).to_continuous_buffer());
    assert!(wire.closed.is_some());
}

#[test]
fn more_unacknowledged_publications_than_agreed_end_the_connection() {
    let mut wire = Wire::admitted();
    for _ in 0..17 {
        wire.publish("mqtt/face/1306612/Rec", b"x", Qos::AtLeastOnce);
    }
    assert_eq!(wire.publications.len(), 16);
    assert!(wire.closed.is_some());
}

#[test]
fn a_client_of_version_five_is_served_too() {
    let mut wire = Wire::new(Version::V5_0);
    let connect = v5_0::Connect::builder().client_id(SERIAL).unwrap().clean_start(true).build().unwrap();
    wire.send(connect.into());
    wire.server.admit(wire.now, SERIAL);
    wire.settle();
    assert!(matches!(wire.received.as_slice(), [Packet::V5_0Connack(_)]));
    let id = wire.packet_id();
    let entries = vec![SubEntry::new("mqtt/face/1306612", SubOpts::new()).unwrap()];
    wire.send(v5_0::Subscribe::builder().packet_id(id).entries(entries).build().unwrap().into());
    let id = wire.packet_id();
    let publish = v5_0::Publish::builder().topic_name("mqtt/face/1306612/Rec").unwrap();
    wire.send(publish.qos(Qos::AtLeastOnce).packet_id(id).payload(b"x").build().unwrap().into());
    let receipt = wire.publications[0].receipt;
    wire.server.settle(wire.now, receipt);
    wire.server.publish(wire.now, "mqtt/face/1306612", b"y");
    wire.settle();
    let answers = &wire.received[1..];
    assert!(matches!(answers, [Packet::V5_0Suback(_), Packet::V5_0Puback(_), Packet::V5_0Publish(_)]), "{answers:?}");
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let mut wire = Wire::new(Version::V3_1_1);
        wire.feed(&bytes);
        let mut wire = Wire::admitted();
        wire.feed(&bytes);
        wire.wait(Duration::from_secs(1000));
    }

    #[test]
    fn damaged_packets_never_panic(at in 0usize..80, byte in proptest::num::u8::ANY, five: bool) {
        let mut bytes = match five {
            true => v5_0::Connect::builder().client_id(SERIAL).unwrap().build().unwrap().to_continuous_buffer(),
            false => connect(60).to_continuous_buffer(),
        };
        let at = at % bytes.len();
        bytes[at] = byte;
        let mut wire = Wire::new(Version::V3_1_1);
        wire.feed(&bytes);
        wire.server.admit(wire.now, SERIAL);
        wire.feed(&bytes);
    }
}
