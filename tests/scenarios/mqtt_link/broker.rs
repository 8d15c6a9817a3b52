//! Face terminals behind mosquitto, and behind a broker that does what the story says.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::BytesMut;
use gateway::config::MqttTransport;
use gateway::ops::alarms::Kind;
use gateway::terminals::hub::Order;
use harness::broker::Mosquitto;
use harness::client::Client;
use harness::face::link::{FaceLink, Login};
use harness::face::{Face, FaceTerminal, Timings, big_photo};
use rumqttc::{Publish, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::site::{LIMIT, NEVER, Site, known, numbered, record};

/// False, with a word about it, where the broker is not installed.
fn broker_is_there() -> bool {
    let there = Mosquitto::is_installed();
    if !there {
        println!("SKIP: mosquitto is not installed");
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn punches_pass_an_external_broker_that_forgets_and_links_that_break() {
    if !broker_is_there() {
        return;
    }
    let mut broker = Mosquitto::start().await.unwrap();
    let serials = ["1306612", "1306613"];
    let site = Site::brokered(&broker, serials.iter().map(|serial| known(serial, None)).collect()).await;
    let start = |serial: &&str, qos| {
        let login = Login { address: broker.address(), password: None, qos };
        FaceLink::start(FaceTerminal::new(serial, Timings::faster(20)), login)
    };
    let links: Vec<FaceLink> = serials.iter().zip([0, 1]).map(|(serial, qos)| start(serial, qos)).collect();
    for round in 0..15 {
        for link in &links {
            link.punch(Face::of(&format!("W{round:04}")));
        }
        match round {
            3 | 9 => links[0].cut_link().await,
            6 => broker.restart().await.unwrap(),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for link in &links {
        assert!(link.wait_delivered(LIMIT).await, "{:?}", link.acknowledged());
    }
    site.stored(30).await;
    let expected: Vec<(String, u64)> =
        serials.iter().flat_map(|serial| (1..=15).map(move |n| (format!("gate-{serial}"), n))).collect();
    assert_eq!(site.book().await, expected);
    for link in links {
        link.stop().await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_of_a_megabyte_passes_an_external_broker() {
    if !broker_is_there() {
        return;
    }
    let broker = Mosquitto::start().await.unwrap();
    let site = Site::brokered(&broker, vec![known("1306612", None)]).await;
    let link = FaceLink::start(FaceTerminal::new("1306612", Timings::faster(4)), Login::at(broker.address()));
    link.punch(Face::of("W0001").with_photo(&big_photo(1_000_000)));
    link.punch(Face::of("W0002"));
    assert!(link.wait_delivered(LIMIT).await);
    site.stored(2).await;
    link.stop().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_terminal_behind_a_broker_waits_for_its_approval() {
    if !broker_is_there() {
        return;
    }
    let broker = Mosquitto::start().await.unwrap();
    let site = Site::brokered(&broker, vec![]).await;
    let link = FaceLink::start(FaceTerminal::new("1306612", Timings::faster(20)), Login::at(broker.address()));
    link.punch(Face::of("W0001"));
    site.wait_for("the pending terminal", |site| site.alarmed(Kind::TerminalPending)).await;
    tokio::time::sleep(NEVER).await;
    assert!(link.with(|terminal| terminal.heard.is_empty()));
    site.context.hub.adopt(known("1306612", None));
    site.context.hub.order("1306612", Order::Adopted).await.unwrap();
    assert!(link.wait_delivered(LIMIT).await);
    link.stop().await;
    site.stop().await;
}

/// A broker sends no more than so many publications before the first of them is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_terminal_behind_a_broker_holds_nobody_back() {
    if !broker_is_there() {
        return;
    }
    let broker = Mosquitto::start().await.unwrap();
    let site = Site::brokered(&broker, vec![known("1306612", None)]).await;
    let login = Login { address: broker.address(), password: None, qos: 1 };
    let link = FaceLink::start(FaceTerminal::new("1306612", Timings::faster(20)), login);
    assert!(link.wait_until(LIMIT, |terminal| terminal.heard.contains(&"Online-Ack".to_owned())).await);
    let mut unknown = Client::new(broker.address(), "9999999", None);
    unknown.connect().await.unwrap();
    for _ in 0..60 {
        assert!(unknown.publish("mqtt/face/9999999/Rec", &record("9999999")).await, "the broker has it");
    }
    link.punch(Face::of("W0001"));
    assert!(link.wait_delivered(LIMIT).await);
    link.stop().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_stored_is_not_acknowledged_to_the_broker_and_comes_again() {
    if !broker_is_there() {
        return;
    }
    let broker = Mosquitto::start().await.unwrap();
    let first = Site::brokered(&broker, vec![known("1306612", None)]).await;
    let mut client = Client::new(broker.address(), "1306612", None);
    client.connect().await.unwrap();
    // A greeting that comes before the gateway has subscribed reaches nobody.
    while !first.context.ops.board.terminals().iter().any(|terminal| terminal.online) {
        client.publish("mqtt/face/basic", r#"{"operator":"Online","info":{"facesluiceId":"1306612"}}"#).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.context.store.clone().close().await;
    assert!(client.publish("mqtt/face/1306612/Rec", &record("1306612")).await, "the broker has it");
    tokio::time::sleep(NEVER).await;
    first.stop().await;
    let second = Site::brokered(&broker, vec![known("1306612", None)]).await;
    second.stored(1).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_an_alarm_until_it_comes() {
    if !broker_is_there() {
        return;
    }
    let mut broker = Mosquitto::start().await.unwrap();
    broker.kill().await.unwrap();
    let site = Site::brokered(&broker, vec![known("1306612", None)]).await;
    site.wait_for("the alarm", |site| site.alarmed(Kind::BrokerDown)).await;
    broker.restart().await.unwrap();
    site.wait_for("the end of the alarm", |site| !site.alarmed(Kind::BrokerDown)).await;
    site.stop().await;
}

/// The broker counts its packet ids from 1 again, and they are those of other publications now.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_on_an_earlier_connection_is_never_acknowledged_on_the_next() {
    let broker = Scripted::start().await;
    let site = Site::start(broker.transport(), vec![known("1306612", None)]).await;
    let records = |numbers: std::ops::Range<u64>| numbers.map(|number| (number as u16, numbered("1306612", number)));

    // The last words of a connection: stored or not, their time is over.
    let mut first = broker.accept().await;
    first.publish(records(1..4), NONSENSE).await;
    let mut second = broker.accept().await;
    assert!(!second.is_acknowledged().await);
    second.publish(records(1..4), &[]).await;
    for _ in 1..4 {
        assert!(second.is_acknowledged().await, "they come again, and are acknowledged where they came");
    }
    site.stored(3).await;

    // One that the store refuses is tried again and again, and the connection breaks between two tries.
    site.context.store.clone().close().await;
    second.publish(records(4..6), &[]).await;
    assert!(!second.is_acknowledged().await);
    drop(second);
    let mut third = broker.accept().await;
    third.publish(records(6..8), &[]).await;
    for _ in 0..3 {
        assert!(!third.is_acknowledged().await, "nothing of this is durable");
    }
    site.stop().await;
}

/// A broker that does what the story says.
struct Scripted(TcpListener);

/// One connection of the gateway to it.
struct Served(TcpStream);

impl Scripted {
    async fn start() -> Scripted {
        Scripted(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
    }

    fn transport(&self) -> MqttTransport {
        let url = format!("mqtt://{}", self.0.local_addr().unwrap());
        MqttTransport::Broker { url, client_id: "anxin-gateway".to_owned(), username: None, password: None }
    }

    /// The gateway's next connection, accepted and without a session.
    async fn accept(&self) -> Served {
        let (socket, _) = tokio::time::timeout(LIMIT, self.0.accept()).await.expect("the gateway connects").unwrap();
        let mut served = Served(socket);
        assert_eq!(served.next().await, Some(CONNECT));
        served.0.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        assert_eq!(served.next().await, Some(SUBSCRIBE));
        served
    }
}

const CONNECT: u8 = 1;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;
/// A packet of a type that does not exist: whoever reads it ends the connection.
const NONSENSE: &[u8] = &[0xF0, 0];

impl Served {
    /// All in one segment with what follows.
    async fn publish(&mut self, records: impl Iterator<Item = (u16, String)>, rest: &[u8]) {
        let mut bytes = Vec::new();
        for (packet_id, record) in records {
            let mut publish = Publish::new("mqtt/face/1306612/Rec", QoS::AtLeastOnce, record);
            publish.pkid = packet_id;
            let mut packet = BytesMut::new();
            publish.write(&mut packet).unwrap();
            bytes.extend(packet);
        }
        bytes.extend(rest);
        self.0.write_all(&bytes).await.unwrap();
    }

    /// Whether a PUBACK comes.
    async fn is_acknowledged(&mut self) -> bool {
        let found = async {
            while let Some(kind) = self.next().await {
                if kind == PUBACK {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(NEVER, found).await.unwrap_or(false)
    }

    /// The type of the next packet; `None` when the connection ends.
    async fn next(&mut self) -> Option<u8> {
        let kind = self.0.read_u8().await.ok()? >> 4;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.0.read_u8().await.ok()?;
            length |= u32::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        self.0.read_exact(&mut vec![0; length as usize]).await.ok()?;
        Some(kind)
    }
}
