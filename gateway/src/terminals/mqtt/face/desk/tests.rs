//! Links that replace each other and tasks that meet at one session, with a real store.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::task::{Context as TaskContext, Waker};

use super::super::super::topics::OwnKind;
use super::*;
use crate::clock::Clock;
use crate::config::DirectionRule;
use crate::ops::Ops;
use crate::store::{Store, StoreOptions};
use crate::terminals::hub::Hub;

const SERIAL: &str = "1306612";
const PREFIX: &str = "mqtt/face";

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

/// Where the terminal's records are published.
fn records() -> Topic<'static> {
    Topic::Own { prefix: PREFIX, id: SERIAL, kind: OwnKind::Rec }
}

/// A desk with a real store and one known terminal.
struct Site {
    desk: Arc<Desk>,
    store: Store,
}

impl Site {
    async fn new(dir: &Path) -> Site {
        let clock = Clock::system();
        let options = StoreOptions { dir: dir.to_owned(), platforms: Vec::new() };
        let opening = clock.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(options, opening)).await.unwrap().unwrap();
        let terminal = Terminal {
            id: "north-in".into(),
            protocol: "mqtt-face".to_owned(),
            serial: SERIAL.to_owned(),
            direction: DirectionRule::In,
            password: None,
        };
        let ops = Ops::new(clock.clone());
        let hub = Arc::new(Hub::new([terminal]));
        let context = Context { store: store.clone(), hub, clock, ops, utc_offset: jiff::tz::offset(8) };
        let (desk, _) = Desk::new(context, Topics::new(&[PREFIX.to_owned()]));
        Site { desk, store }
    }
}

/// A link and where what is sent on it arrives.
fn link() -> (Link, mpsc::Receiver<Transmit>) {
    let (outbound, arrived) = mpsc::channel(64);
    let cut = CancellationToken::new();
    (Link { outbound, cut, via: "127.0.0.1:40000".to_owned(), vouched: true }, arrived)
}

/// What the terminal publishes as its record of this number.
fn record(number: u64) -> String {
    format!(
        r#"{{"operator":"RecPush","info":{{"facesluiceId":"{SERIAL}","RecordID":"{number}","VerifyStatus":"1","customId":"W0001","time":"2026-05-06 06:58:01"}}}}"#
    )
}
