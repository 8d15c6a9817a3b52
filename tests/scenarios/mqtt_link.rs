//! Face terminals and other MQTT clients against the real intake: over TCP to the embedded endpoint, and through a
//! broker.

mod broker;
mod site;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gateway::config::{MqttTransport, Secret};
use gateway::ops::alarms::Kind;
use gateway::terminals::hub::{Order, OrderError};
use harness::client::Client;
use harness::face::link::FaceLink;
use harness::face::{Face, FaceTerminal, big_photo};
use harness::faults::Faults;
use rumqttc::{ConnectReturnCode, Incoming, QoS, SubscribeReasonCode};
use tokio::task::JoinSet;

use self::site::{LIMIT, NEVER, Site, known, record};

#[tokio::test(flavor = "multi_thread")]
async fn punches_pass_the_endpoint_with_links_cut_and_each_is_stored_once() {
    let mut faults = Faults::from_env("punches_pass_the_endpoint", 7);
    let serials = ["1306612", "1306613", "1306614"];
    let site = Site::embedded(serials.iter().map(|serial| known(serial, None)).collect()).await;
    let links: Vec<FaceLink> = serials.iter().map(|serial| site.link(serial)).collect();
    for round in 0..20 {
        for link in &links {
            link.punch(Face::of(&format!("W{round:04}")));
        }
        if faults.happens(0.4) {
            links[faults.pick(0..3) as usize].cut_link().await;
        }
        tokio::time::sleep(Duration::from_millis(faults.pick(0..60))).await;
    }
    for link in &links {
        assert!(link.wait_delivered(LIMIT).await, "{:?}", link.acknowledged());
    }
    site.stored(60).await;
    let expected: Vec<(String, u64)> =
        serials.iter().flat_map(|serial| (1..=20).map(move |n| (format!("gate-{serial}"), n))).collect();
    assert_eq!(site.book().await, expected);
    for link in links {
        link.stop().await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_of_a_megabyte_passes_the_endpoint() {
    let site = Site::embedded(vec![known("1306612", None)]).await;
    let link = site.link("1306612");
    link.punch(Face::of("W0001").with_photo(&big_photo(1_000_000)));
    assert!(link.wait_delivered(LIMIT).await);
    site.stored(1).await;
    assert!(site.context.store.read(|view| view.latest(1)).await[0].photo.is_some());
    link.stop().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_terminal_waits_and_delivers_after_its_approval() {
    let site = Site::embedded(vec![]).await;
    let link = site.link("1306612");
    link.punch(Face::of("W0001"));
    site.wait_for("the pending terminal", |site| site.alarmed(Kind::TerminalPending)).await;
    tokio::time::sleep(NEVER).await;
    assert!(link.with(|terminal| terminal.heard.is_empty()));
    assert_eq!(site.book().await, vec![]);
    let status = site.context.ops.board.terminals().remove(0);
    assert!(status.pending && status.serial == "1306612");

    site.context.hub.adopt(known("1306612", None));
    site.context.hub.order("1306612", Order::Adopted).await.unwrap();
    assert!(link.wait_delivered(LIMIT).await);
    site.stored(1).await;
    assert!(!site.alarmed(Kind::TerminalPending));
    assert!(!site.context.ops.board.terminals()[0].pending);
    link.stop().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_injects_a_punch_for_another_terminal_or_reads_its_commands() {
    let site = Site::embedded(vec![known("1306612", None), known("1306613", None)]).await;
    let mut thief = Client::new(site.address(), "1306613", None);
    thief.connect().await.unwrap();
    for topic in ["mqtt/face/1306612", "mqtt/face/+", "mqtt/face/#", "#", "mqtt/face/1306612/Rec", "$SYS/#"] {
        assert_eq!(thief.subscribe(topic).await, SubscribeReasonCode::Failure, "{topic}");
    }
    let forged = record("1306612");
    for topic in ["mqtt/face/1306612/Rec", "mqtt/face/1306612", "mqtt/face/basic/Rec", "elsewhere"] {
        thief.publish(topic, &forged).await;
    }
    let greeting = r#"{"operator":"Online","info":{"facesluiceId":"1306612"}}"#;
    thief.publish("mqtt/face/basic", greeting).await;
    let refused = site.context.ops.metrics.mqtt_foreign_topics.get();
    assert_eq!(refused, 6 + 4 + 1);
    assert_eq!(site.book().await, vec![]);
    let honest = site.context.ops.board.terminals().into_iter().find(|status| status.serial == "1306612").unwrap();
    assert!(!honest.online);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_client_stores_nothing_and_reads_nothing() {
    let site = Site::embedded(vec![]).await;
    let mut client = Client::new(site.address(), "9999999", None);
    client.connect().await.unwrap();
    assert!(matches!(client.subscribe("mqtt/face/9999999").await, SubscribeReasonCode::Success(_)));
    client.publish("mqtt/face/9999999/Rec", &record("9999999")).await;
    client.publish("mqtt/face/basic", r#"{"operator":"Online","info":{"facesluiceId":"9999999"}}"#).await;
    assert!(client.next(|packet| matches!(packet, Incoming::Publish(_))).await.is_none());
    assert_eq!(site.book().await, vec![]);
    site.stop().await;
}

/// A PUBACK is no record acknowledgement, but firmware with `PushAck` switched off may take it for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_terminal_gets_no_puback_for_a_record_until_it_is_approved() {
    let site = Site::embedded(vec![]).await;
    let mut client = Client::new(site.address(), "1306612", None);
    client.connect().await.unwrap();
    let greeting = r#"{"operator":"Online","info":{"facesluiceId":"1306612"}}"#;
    assert!(client.publish("mqtt/face/basic", greeting).await, "a greeting is no record");
    assert!(!client.publish("mqtt/face/1306612/Rec", &record("1306612")).await);
    client.ended().await;

    site.context.hub.adopt(known("1306612", None));
    let mut client = Client::new(site.address(), "1306612", None);
    client.connect().await.unwrap();
    assert!(client.publish("mqtt/face/1306612/Rec", &record("1306612")).await);
    site.stored(1).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_puback_for_noise_means_that_it_is_kept() {
    let site = Site::embedded(vec![known("1306612", None)]).await;
    let mut client = Client::new(site.address(), "1306612", None);
    client.connect().await.unwrap();
    assert!(client.publish("mqtt/face/1306612/Rec", "{one").await);
    assert!(!client.publish("mqtt/face/1306612/Rec", "{two").await, "one is kept in ten seconds");
    client.ended().await;
    assert_eq!(site.context.store.read(|view| view.totals().quarantined).await, 1);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for_where_they_are_set() {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let password = Some(Secret("shared".to_owned()));
    let transport = MqttTransport::Embedded { listen, trust_client_id: false, password };
    let site = Site::start(transport, vec![known("1306612", Some("own")), known("1306613", None)]).await;
    let connect = async |id: &str, login| Client::new(site.address(), id, login).connect().await;
    let refused = Err(ConnectReturnCode::NotAuthorized);
    assert_eq!(connect("1306612", Some(("1306612", "own"))).await, Ok(()));
    assert_eq!(connect("1306613", Some(("1306613", "shared"))).await, Ok(()));
    assert_eq!(connect("1306612", Some(("1306612", "shared"))).await, refused);
    assert!(site.alarmed(Kind::LoginRefused));
    assert_eq!(connect("1306612", None).await, refused);
    assert_eq!(connect("1306613", Some(("1306612", "own"))).await, refused);
    assert_eq!(connect("7777777", Some(("7777777", "guess"))).await, refused);
    assert_eq!(connect("a/b", Some(("a/b", "shared"))).await, Err(ConnectReturnCode::BadClientId));
    assert_eq!(site.context.ops.metrics.mqtt_refused.get(), 5);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_does_not_make_a_nameless_client_the_terminal() {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let transport = MqttTransport::Embedded { listen, trust_client_id: false, password: None };
    let site = Site::start(transport, vec![]).await;
    let mut client = Client::new(site.address(), "1306612", None);
    client.connect().await.unwrap();
    client.subscribe("mqtt/face/1306612").await;
    site.context.hub.adopt(known("1306612", Some("own")));
    let outcome = site.context.hub.order("1306612", Order::Adopted).await;
    assert!(matches!(outcome, Err(OrderError::Refused { .. })), "{outcome:?}");
    client.publish("mqtt/face/1306612/Rec", &record("1306612")).await;
    assert!(client.next(|packet| matches!(packet, Incoming::Publish(_))).await.is_none());
    assert_eq!(site.book().await, vec![]);

    let mut terminal = Client::new(site.address(), "1306612", Some(("1306612", "own")));
    terminal.connect().await.unwrap();
    assert!(terminal.publish("mqtt/face/1306612/Rec", &record("1306612")).await);
    site.stored(1).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_the_same_terminal_closes_the_first() {
    let site = Site::embedded(vec![known("1306612", None)]).await;
    let mut first = Client::new(site.address(), "1306612", None);
    first.connect().await.unwrap();
    let mut others = Vec::new();
    for _ in 0..6 {
        let mut next = Client::new(site.address(), "1306612", None);
        next.connect().await.unwrap();
        others.push(next);
    }
    first.ended().await;
    site.wait_for("the clash", |site| site.alarmed(Kind::TerminalCloned)).await;
    let mut last = others.pop().unwrap();
    assert!(last.publish("mqtt/face/1306612/Rec", &record("1306612")).await);
    site.stored(1).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mad_clients_do_not_delay_the_others() {
    let site = Site::embedded(vec![known("1306612", None), known("1306613", None)]).await;
    let mut mad = Vec::new();
    for _ in 0..20 {
        let mut socket = tokio::net::TcpStream::connect(site.address()).await.unwrap();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, &[0x30, 0xFF, 0xFF, 0x7F]).await;
        mad.push(socket);
    }
    let mut flood = Client::new(site.address(), "1306613", None);
    flood.connect().await.unwrap();
    let mut flooding = JoinSet::new();
    flooding.spawn(async move { flood.flood("mqtt/face/1306613/Rec", &[b'['; 100_000]).await });
    let link = site.link("1306612");
    for worker in 0..10 {
        link.punch(Face::of(&format!("W{worker:04}")));
    }
    assert!(link.wait_delivered(LIMIT).await);
    flooding.shutdown().await;
    link.stop().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_executes_the_will() {
    let site = Site::embedded(vec![known("1306612", None)]).await;
    let link = site.link("1306612");
    site.wait_for("online", |site| site.context.ops.board.terminals().iter().any(|terminal| terminal.online)).await;
    link.stop().await;
    site.wait_for("the alarm", |site| site.alarmed(Kind::TerminalOffline)).await;
    site.wait_for("offline", |site| site.context.ops.board.terminals().iter().all(|terminal| !terminal.online)).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_means_no_puback_and_no_push_ack() {
    let site = Site::embedded(vec![known("1306612", None)]).await;
    let mut client = Client::new(site.address(), "1306612", None);
    client.connect().await.unwrap();
    client.subscribe("mqtt/face/1306612").await;
    assert!(client.publish("mqtt/face/1306612/Rec", &record("1306612")).await);
    site.context.store.clone().close().await;
    client.send("mqtt/face/1306612/Rec", record("1306612"), QoS::AtLeastOnce).await;
    let acknowledged = |packet: &Incoming| matches!(packet, Incoming::PubAck(_) | Incoming::Publish(_));
    let late = client.next(acknowledged).await;
    assert!(!matches!(late, Some(Incoming::PubAck(_))), "{late:?}");
    assert!(client.next(acknowledged).await.is_none(), "the first record's PushAck at most");
    client.ended().await;

    let mut careful = Client::new(site.address(), "1306612", None);
    careful.connect().await.unwrap();
    careful.send("mqtt/face/1306612/Rec", record("1306612"), QoS::ExactlyOnce).await;
    assert!(careful.next(|packet| matches!(packet, Incoming::PubRec(_))).await.is_none());
    careful.ended().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_reaches_the_gate_and_its_outcome_comes_back() {
    let site = Site::embedded(vec![known("1306612", None)]).await;
    assert!(site.context.hub.order("1306612", Order::SetTime).await.is_err(), "nobody is connected");
    let link = site.link("1306612");
    let shaped = |terminal: &FaceTerminal| terminal.heard.contains(&"GetMQTTconfig".to_owned());
    assert!(link.wait_until(LIMIT, shaped).await);
    site.context.hub.order("1306612", Order::Open { text: "请通行".to_owned() }).await.unwrap();
    assert_eq!(link.with(|terminal| terminal.opened.clone()), ["请通行"]);
    site.context.hub.order("1306612", Order::SetTime).await.unwrap();
    link.stop().await;
    site.stop().await;
}
