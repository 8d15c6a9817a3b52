//! Links that replace each other and tasks that meet at one session, with a real store.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::task::{Context as TaskContext, Waker};

use super::super::super::topics::OwnKind;
use super::*;
use crate::clock::Clock;
use crate::config::DirectionRule;
use crate::ops::Ops;
use crate::punch::{Direction, DirectionSource, Epoch, Fact, Method, Punch, PunchId, TerminalSays, TimeSource, UnixMs};
use crate::store::{Store, StoreOptions};
use crate::terminals::hub::Hub;

const SERIAL: &str = "1306612";
const PREFIX: &str = "mqtt/face";
/// 2026-05-06 12:00:00 at the site.
const NOON: UnixMs = UnixMs(1_778_040_000_000);

#[tokio::test]
async fn what_a_replaced_link_still_had_to_say_is_neither_taken_nor_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path()).await;
    let ((first, _), (second, _)) = (link(), link());
    let cut = first.cut.clone();
    let first = site.desk.connect(SERIAL, first).unwrap();
    let second = site.desk.connect(SERIAL, second).unwrap();
    assert!(cut.is_cancelled());
    let said = record(1);
    assert_eq!(site.desk.take(SERIAL, first, records(), said.as_bytes()).await, Taken::Gone);
    assert_eq!(site.store.counters().facts, 0);
    assert_eq!(site.desk.take(SERIAL, second, records(), said.as_bytes()).await, Taken::Settled);
    assert_eq!(site.store.counters().facts, 1);
    site.desk.disconnect(SERIAL, second);
    assert_eq!(site.desk.take(SERIAL, second, records(), said.as_bytes()).await, Taken::Gone);
    assert_eq!(site.desk.take("7777777", second, records(), said.as_bytes()).await, Taken::Gone);
}

#[tokio::test]
async fn a_record_whose_link_is_replaced_while_it_is_stored_is_acknowledged_after_that_on_the_new_link() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path()).await;
    let ((first, mut to_first), (second, mut to_second)) = (link(), link());
    let first = site.desk.connect(SERIAL, first).unwrap();
    let said = record(1);
    let mut taking = Box::pin(site.desk.take(SERIAL, first, records(), said.as_bytes()));
    let begun = taking.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    assert!(begun.is_pending(), "it is on its way to the disk");
    site.desk.connect(SERIAL, second).unwrap();
    assert!(to_second.try_recv().is_err(), "nothing is durable");
    assert_eq!(taking.await, Taken::Settled);
    assert_eq!(site.store.counters().facts, 1);
    let acknowledged = String::from_utf8(to_second.try_recv().unwrap().payload.to_vec()).unwrap();
    assert!(acknowledged.contains("PushAck"), "{acknowledged}");
    assert!(to_first.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_at_the_same_time_makes_no_refused_record_look_stored() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path()).await;
    let (link, _arrived) = link();
    let number = site.desk.connect(SERIAL, link).unwrap();
    site.store.clone().close().await;
    let over = Arc::new(AtomicBool::new(false));
    let (ticking, ended) = (site.desk.clone(), over.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while !ended.load(Ordering::Relaxed) {
            ticking.tick().await;
        }
    });
    let mut outcomes = Vec::new();
    for round in 0..20_000 {
        outcomes.push(site.desk.take(SERIAL, number, records(), record(round).as_bytes()).await);
    }
    over.store(true, Ordering::Relaxed);
    tasks.join_next().await.unwrap().unwrap();
    assert!(outcomes.iter().all(|taken| *taken == Taken::Refused));
}

#[tokio::test]
async fn holes_around_a_restart_become_gaps_and_are_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path()).await;
    site.hear(&[1, 2, 5]).await;
    let site = site.restart(SERIAL).await;
    site.hear(&[7]).await;
    site.desk.recall().await;
    // The acknowledgement of 2 was lost on the way, and 5 is asked for by somebody else.
    site.hear(&[2, 5, 8]).await;
    site.let_time_pass().await;
    let told = ["terminal 1306612 records 3 to 4", "terminal 1306612 records 6 to 6"];
    assert_eq!(site.gaps().await, told);

    let site = site.restart(SERIAL).await;
    site.desk.recall().await;
    site.hear(&[9]).await;
    site.let_time_pass().await;
    assert_eq!(site.gaps().await, told);
}

#[tokio::test]
async fn a_terminal_that_takes_the_place_of_another_has_no_past() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path()).await;
    site.hear(&[1, 2, 3]).await;
    let site = site.restart("7777777").await;
    site.desk.recall().await;
    site.hear(&[20, 21]).await;
    let site = site.restart("7777777").await;
    site.desk.recall().await;
    site.hear(&[23]).await;
    site.let_time_pass().await;
    assert_eq!(site.gaps().await, ["terminal 7777777 records 22 to 22"]);
}

#[tokio::test]
async fn a_quiet_terminal_is_remembered_behind_many_punches_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path()).await;
    site.hear(&[1]).await;
    // More than is looked back at once.
    for batch in 0..10 {
        let punches = (0..1_000).map(|number| punch_of_another(batch * 1_000 + number));
        site.store.append(punches.collect()).await.unwrap();
    }
    let site = site.restart(SERIAL).await;
    site.desk.recall().await;
    site.hear(&[3]).await;
    site.let_time_pass().await;
    assert_eq!(site.gaps().await, ["terminal 1306612 records 2 to 2"]);
}

/// A desk with a real store and one known terminal.
struct Site {
    dir: PathBuf,
    clock: Clock,
    desk: Arc<Desk>,
    store: Store,
    serial: &'static str,
    link: LinkNo,
    arrived: Mutex<mpsc::Receiver<Transmit>>,
}

impl Site {
    async fn new(dir: &Path) -> Site {
        Site::open(dir.to_owned(), Clock::manual(NOON), SERIAL).await
    }

    async fn open(dir: PathBuf, clock: Clock, serial: &'static str) -> Site {
        let options = StoreOptions::new(dir.clone(), Vec::new());
        let opening = clock.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(options, opening)).await.unwrap().unwrap();
        let terminal = Terminal {
            id: "north-in".into(),
            protocol: PROTOCOL.to_owned(),
            serial: serial.to_owned(),
            direction: DirectionRule::In,
            password: None,
        };
        let (ops, hub) = (Ops::new(clock.clone()), Arc::new(Hub::new([terminal])));
        let context = Context { store: store.clone(), hub, clock: clock.clone(), ops, utc_offset: jiff::tz::offset(8) };
        let (desk, _) = Desk::new(context, Topics::new(&[PREFIX.to_owned()]));
        let (link, arrived) = link();
        let link = desk.connect(serial, link).unwrap();
        Site { dir, clock, desk, store, serial, link, arrived: Mutex::new(arrived) }
    }

    /// The gateway stops and starts, with this terminal in the configuration.
    async fn restart(self, serial: &'static str) -> Site {
        self.store.close().await;
        Site::open(self.dir, self.clock, serial).await
    }

    /// Records of the terminal, each stored before the next.
    async fn hear(&self, numbers: &[u64]) {
        for number in numbers {
            self.publish(OwnKind::Rec, &record(*number)).await;
        }
    }

    async fn publish(&self, kind: OwnKind, payload: &str) {
        let topic = Topic::Own { prefix: PREFIX, id: self.serial, kind };
        assert_eq!(self.desk.take(self.serial, self.link, topic, payload.as_bytes()).await, Taken::Settled);
    }

    /// Long enough for everything that is asked for; the terminal answers that it will push, and pushes nothing.
    async fn let_time_pass(&self) {
        for _ in 0..12 {
            self.clock.advance(Duration::from_secs(600));
            self.publish(OwnKind::Ack, r#"{"operator":"HeartBeat","info":{}}"#).await;
            let asked: Vec<Transmit> = std::iter::from_fn(|| self.arrived.lock().unwrap().try_recv().ok()).collect();
            for Transmit { payload, .. } in asked {
                let command: serde_json::Value = serde_json::from_slice(&payload).unwrap();
                let operator = format!("{}-Ack", command["operator"].as_str().unwrap());
                let answer = serde_json::json!({"messageId": command["messageId"], "operator": operator, "info": {"result": "ok"}});
                self.publish(OwnKind::Ack, &answer.to_string()).await;
            }
        }
    }

    /// What the gaps name, oldest first.
    async fn gaps(&self) -> Vec<String> {
        let epoch = Epoch {
            at: self.clock.now(),
            version: String::new(),
            config_hash: [0; 32],
            utc_offset_s: 0,
            rule_version: 0,
        };
        let last = self.store.append(vec![Fact::Epoch(epoch)]).await.unwrap();
        self.store.applied(last[0].seq).await;
        let gaps = self.store.read(|view| view.gaps(100)).await;
        gaps.into_iter().rev().map(|(_, gap)| gap.detail.split(':').next().unwrap().to_owned()).collect()
    }
}

/// A link and where what is sent on it arrives.
fn link() -> (Link, mpsc::Receiver<Transmit>) {
    let (outbound, arrived) = mpsc::channel(64);
    let cut = CancellationToken::new();
    (Link { outbound, cut, via: "127.0.0.1:40000".to_owned(), vouched: true }, arrived)
}

/// Where the terminal's records are published.
fn records() -> Topic<'static> {
    Topic::Own { prefix: PREFIX, id: SERIAL, kind: OwnKind::Rec }
}

/// What the terminal publishes as its record of this number, made in this minute of the day.
fn record(number: u64) -> String {
    let (hour, minute) = (number / 60 % 24, number % 60);
    let time = format!("2026-05-06 {hour:02}:{minute:02}:00");
    let info = serde_json::json!({"RecordID": number, "VerifyStatus": "1", "customId": "W0001", "time": time});
    serde_json::json!({"operator": "RecPush", "info": info}).to_string()
}

fn punch_of_another(number: u64) -> Fact {
    let record = number.to_string();
    Fact::Punch(Punch {
        id: PunchId::derive("9999999", &record, "", ""),
        terminal: "south-in".into(),
        serial: "9999999".to_owned(),
        record: Some(record),
        time: NOON,
        time_text: String::new(),
        time_source: TimeSource::Terminal,
        received_at: NOON,
        live: None,
        skew_ms: None,
        direction: Direction::In,
        direction_source: DirectionSource::Configured,
        method: Method::Face,
        credentials: Vec::new(),
        says: TerminalSays::Allowed,
        similarity: None,
        photo: None,
        raw: Vec::new(),
    })
}
