//! MQTT clients that are not the terminal they claim to be, against the real gateway: none injects a punch for a terminal,
//! reads or forges its commands, takes it off the line, or keeps the gateway from serving the others.

use std::time::Duration;

use gateway::clock::Clock;
use harness::client::Client;
use harness::face::link::{FaceLink, Login};
use harness::face::{Face, FaceTerminal, Timings};
use harness::gateway::{GatewayProcess, Setup};
use rumqttc::{ConnectReturnCode, Incoming, LastWill, QoS, SubscribeReasonCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(60);
/// How long it takes to believe that nothing comes.
const NEVER: Duration = Duration::from_millis(500);
/// A client has ten seconds to say who it is.
const LOGIN_LIMIT: Duration = Duration::from_secs(15);

/// The terminal that is attacked, and one whose box was opened: its password is known.
const HONEST: &str = "1306612";
const STOLEN: &str = "1306613";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_the_password_is_nobody_and_disturbs_nobody() {
    let gateway = with_passwords("intruder-password").await;
    let honest = honest(&gateway).await;
    let refused = Err(ConnectReturnCode::NotAuthorized);
    for (client_id, login) in [
        (HONEST, Some((HONEST, "guess"))),
        (HONEST, Some((HONEST, ""))),
        (HONEST, Some((HONEST, "stolen"))),
        (HONEST, Some((STOLEN, "stolen"))),
        (HONEST, Some(("admin", "honest"))),
        (HONEST, None),
        (STOLEN, Some((HONEST, "honest"))),
    ] {
        let mut client = Client::new(gateway.mqtt_address(), client_id, login);
        assert_eq!(client.connect().await, refused, "{client_id} {login:?}");
    }
    for client_id in ["", "#", "+", "1306612/Rec", "a b"] {
        let outcome = Client::new(gateway.mqtt_address(), client_id, Some(("admin", "guess"))).connect().await;
        assert_eq!(outcome, Err(ConnectReturnCode::BadClientId), "{client_id:?}");
    }
    let alarms = gateway.wait_for("alarms", LIMIT, |answer| has_alarm(answer, "login-refused", HONEST)).await;
    assert!(!alarms.to_string().contains("guess"), "a password is shown: {alarms:#}");
    assert_eq!(honest.with(|terminal| terminal.heard.iter().filter(|one| *one == "Online-Ack").count()), 1);
    still_served(&gateway, &honest, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_was_stolen_speaks_and_hears_for_itself_alone() {
    let gateway = with_passwords("intruder-stolen").await;
    let honest = honest(&gateway).await;
    let mut thief = Client::new(gateway.mqtt_address(), STOLEN, Some((STOLEN, "stolen")));
    thief.connect().await.expect("it has its own password");
    attack(&gateway, &mut thief, &honest).await;

    // What it may: its own punches, under its own name.
    assert!(thief.publish(&topic(STOLEN, "Rec"), &record(STOLEN)).await);
    gateway.wait_for("punches", LIMIT, |answer| terminals(answer) == ["north-out"]).await;
    still_served(&gateway, &honest, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_client_on_a_trusted_machine_reaches_nothing() {
    let setup = Setup::new("intruder-unknown").face("north-in", HONEST, "in").face("north-out", STOLEN, "out");
    let gateway = setup.start().await;
    let honest = honest(&gateway).await;
    let mut stranger = Client::new(gateway.mqtt_address(), "9999999", None);
    stranger.connect().await.expect("it waits for an approval");
    attack(&gateway, &mut stranger, &honest).await;
    stranger.publish(&topic("9999999", "Rec"), &record("9999999")).await;
    assert_eq!(terminals(&gateway.get_json("punches").await), Vec::<String>::new());
    still_served(&gateway, &honest, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_will_reaches_no_further_than_its_client() {
    let gateway = with_passwords("intruder-will").await;
    let honest = honest(&gateway).await;
    let offline = json!({"operator": "Offline", "info": {"facesluiceId": HONEST}}).to_string();
    for (topic, payload) in [
        (topic(HONEST, "Rec"), record(HONEST)),
        (format!("mqtt/face/{HONEST}"), unlock()),
        ("mqtt/face/basic".to_owned(), offline),
    ] {
        let mut thief = Client::new(gateway.mqtt_address(), STOLEN, Some((STOLEN, "stolen")));
        thief.options(|options| {
            options.set_last_will(LastWill::new(topic.clone(), payload.clone(), QoS::AtLeastOnce, true));
        });
        thief.connect().await.expect("it has its own password");
        // Gone without a farewell.
        drop(thief);
    }
    tokio::time::sleep(NEVER).await;
    untouched(&gateway, &honest).await;
    assert_eq!(terminals(&gateway.get_json("punches").await), Vec::<String>::new(), "not even in its own name");
    still_served(&gateway, &honest, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_are_too_large_or_never_end_cost_their_sender_the_connection() {
    let gateway = with_passwords("intruder-packets").await;
    let honest = honest(&gateway).await;
    let before = gateway.vitals().rss_kib;

    let mut thief = Client::new(gateway.mqtt_address(), STOLEN, Some((STOLEN, "stolen")));
    thief.connect().await.expect("it has its own password");
    let oversized = "x".repeat(9 << 20);
    assert!(!thief.publish(&topic(STOLEN, "Rec"), &oversized).await, "beyond max_packet_kib");

    // A CONNECT that announces 200 MiB, garbage, and half a CONNECT followed by silence.
    let endless = [&[0x10, 0xFF, 0xFF, 0xFF, 0x7F][..], &[0x41; 64 * 1024]].concat();
    assert!(is_cut(raw(&gateway, &endless).await, LIMIT).await);
    assert!(is_cut(raw(&gateway, b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n").await, LIMIT).await);
    let half = raw(&gateway, b"\x10\x20\x00\x04MQTT\x04\x02").await;
    let silent = raw(&gateway, b"").await;
    for worker in 1..=10 {
        still_served(&gateway, &honest, worker).await;
    }
    assert!(is_cut(half, LOGIN_LIMIT).await, "half a CONNECT is not waited for");
    assert!(is_cut(silent, LOGIN_LIMIT).await, "silence is not waited for");
    let grown = gateway.vitals().rss_kib.saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more");
    untouched(&gateway, &honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_idle_connections_leave_room_for_the_terminals() {
    let gateway = with_passwords("intruder-idle").await;
    let honest = honest(&gateway).await;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(raw(&gateway, b"\x10").await);
    }
    still_served(&gateway, &honest, 1).await;
    let login = Login { address: gateway.mqtt_address(), password: Some("stolen".to_owned()), qos: 1 };
    let second = FaceLink::start(FaceTerminal::new(STOLEN, Timings::faster(20)), login);
    second.punch(Face::of("W00002"));
    assert!(second.wait_delivered(LIMIT).await, "a terminal that comes later is served too");
    let longest = idle.pop().expect("five hundred");
    assert!(is_cut(longest, LOGIN_LIMIT).await, "an idle connection is not kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_unknown_clients_fills_neither_the_pending_list_nor_the_gateway() {
    let gateway = Setup::new("intruder-crowd").face("north-in", HONEST, "in").start().await;
    let honest = honest(&gateway).await;
    let mut crowd = Vec::new();
    let mut turned_away = 0;
    for number in 0..60 {
        let mut client = Client::new(gateway.mqtt_address(), &format!("77{number:05}"), None);
        match client.connect().await {
            Ok(()) => crowd.push(client),
            Err(ConnectReturnCode::ServiceUnavailable) => turned_away += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(turned_away > 0 && crowd.len() < 60, "{turned_away} turned away, {} in", crowd.len());
    let board = gateway.get_json("terminals").await;
    let pending = board["terminals"].as_array().expect("a list").iter().filter(|one| one["state"] == "pending").count();
    assert!(pending <= 32, "{pending} on the pending list");
    still_served(&gateway, &honest, 1).await;
}

/// Everything that a client may try against another terminal; none of it has an effect.
async fn attack(gateway: &GatewayProcess, thief: &mut Client, honest: &FaceLink) {
    let own = format!("mqtt/face/{HONEST}");
    for filter in
        [&own, "mqtt/face/+", "mqtt/face/#", "#", "+/+/+", "mqtt/face/+/Rec", "$SYS/#", "$share/g/mqtt/face/+"]
    {
        assert_eq!(thief.subscribe(filter).await, SubscribeReasonCode::Failure, "{filter}");
    }
    let shared = |operator: &str| json!({"operator": operator, "info": {"facesluiceId": HONEST}}).to_string();
    for (topic, payload) in [
        (topic(HONEST, "Rec"), record(HONEST)),
        (topic(HONEST, "Ack"), shared("GetMQTTconfig-Ack")),
        (topic(HONEST, "Snap"), shared("StrSnapPush")),
        (own.clone(), unlock()),
        ("mqtt/face/basic".to_owned(), shared("Online")),
        ("mqtt/face/basic".to_owned(), shared("Offline")),
        ("mqtt/face/basic".to_owned(), record(HONEST)),
        ("mqtt/face/heartbeat".to_owned(), shared("HeartBeat")),
        ("$SYS/broker".to_owned(), unlock()),
        ("elsewhere".to_owned(), record(HONEST)),
    ] {
        thief.publish(&topic, &payload).await;
        thief.publish_retained(&topic, &payload).await;
    }
    // Commands go to the terminal and to nobody else.
    let (status, text) = gateway.post_json("terminals/north-in/open", &json!({"text": "请通行"})).await;
    assert!(status.is_success(), "{text}");
    assert_eq!(honest.with(|terminal| terminal.opened.clone()), ["请通行"]);
    let heard = thief.next(|packet| matches!(packet, Incoming::Publish(_))).await;
    assert!(heard.is_none(), "it reads another's commands: {heard:?}");
    honest.with(|terminal| terminal.opened.clear());
    untouched(gateway, honest).await;
    let (_, metrics) = gateway.get("/metrics").await;
    assert!(
        metrics.lines().any(|line| line.contains("foreign") && !line.starts_with('#') && !line.ends_with(" 0")),
        "{metrics}"
    );
}

/// The honest terminal is online, has opened for nobody, and nothing is stored in its name.
async fn untouched(gateway: &GatewayProcess, honest: &FaceLink) {
    assert_eq!(honest.with(|terminal| terminal.opened.clone()), Vec::<String>::new(), "somebody opened the gate");
    let board = gateway.get_json("terminals").await;
    let state = board["terminals"].as_array().expect("a list").iter().find(|one| one["serial"] == HONEST);
    assert_eq!(state.expect("configured")["state"], "online", "{board:#}");
    let stored = gateway.get_json("punches?terminal=north-in").await;
    let records: Vec<&str> =
        stored["punches"].as_array().expect("a list").iter().filter_map(|punch| punch["record"].as_str()).collect();
    let made: Vec<String> = honest.acknowledged().iter().map(u64::to_string).collect();
    assert_eq!(records, made, "something is stored in its name");
}

/// Another punch of the honest terminal is stored; it is its `number`th.
async fn still_served(gateway: &GatewayProcess, honest: &FaceLink, number: usize) {
    honest.punch(Face::of(&format!("W{number:05}")));
    assert!(honest.wait_delivered(LIMIT).await);
    let so_many = |answer: &Value| terminals(answer).len() == number;
    gateway.wait_for("punches?terminal=north-in", LIMIT, so_many).await;
    untouched(gateway, honest).await;
}

async fn with_passwords(story: &str) -> GatewayProcess {
    let setup = Setup::new(story)
        .mqtt("trust_client_id = false")
        .face_with_password("north-in", HONEST, "in", "honest")
        .face_with_password("north-out", STOLEN, "out", "stolen");
    setup.start().await
}

/// The honest terminal, greeted.
async fn honest(gateway: &GatewayProcess) -> FaceLink {
    let login = Login { address: gateway.mqtt_address(), password: Some("honest".to_owned()), qos: 0 };
    let link = FaceLink::start(FaceTerminal::new(HONEST, Timings::faster(20)), login);
    let greeted = |terminal: &FaceTerminal| terminal.heard.iter().any(|operator| operator == "GetMQTTconfig");
    assert!(link.wait_until(LIMIT, greeted).await, "the honest terminal is not greeted");
    link
}

fn topic(serial: &str, kind: &str) -> String {
    format!("mqtt/face/{serial}/{kind}")
}

/// A record as this terminal would push it, with a number that it has not come to.
fn record(serial: &str) -> String {
    let mut terminal = FaceTerminal::new(serial, Timings::REAL);
    let now = Clock::system().now();
    for _ in 0..500 {
        terminal.skip_number(now);
    }
    terminal.handle_link_up(now);
    terminal.punch(now, Face::of("W00009"));
    let mut sent = std::iter::from_fn(|| terminal.poll_transmit());
    sent.find(|outgoing| outgoing.topic.ends_with("/Rec")).expect("a record").payload
}

fn unlock() -> String {
    json!({"operator": "Unlock", "messageId": "1", "info": {"facesluiceId": HONEST, "openDoor": "1", "showInfo": "forged"}})
        .to_string()
}

fn terminals(answer: &Value) -> Vec<String> {
    let punches = answer["punches"].as_array().expect("a list of punches").iter();
    punches.map(|punch| punch["terminal"].as_str().expect("an id").to_owned()).collect()
}

fn has_alarm(answer: &Value, kind: &str, subject: &str) -> bool {
    let mut alarms = answer["alarms"].as_array().expect("a list of alarms").iter();
    alarms.any(|alarm| alarm["kind"] == kind && alarm["subject"] == subject)
}

/// A socket on which these bytes were sent.
async fn raw(gateway: &GatewayProcess, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.mqtt_address()).await.expect("the endpoint listens");
    // It may be cut while it is still sending.
    let _ = socket.write_all(bytes).await;
    socket
}

/// Whether the gateway ends the connection in time.
async fn is_cut(mut socket: TcpStream, limit: Duration) -> bool {
    let mut answer = [0; 256];
    let ended = async { while matches!(socket.read(&mut answer).await, Ok(read) if read > 0) {} };
    tokio::time::timeout(limit, ended).await.is_ok()
}
