//! The shell of serial lines on real ptys with a real store: ports that come and go, a gateway that restarts, orders.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::{DirectionRule, Key128, Line, LineProtocol, LineTerminal};
use gateway::ops::Ops;
use gateway::ops::alarms::Kind;
use gateway::punch::{Credential, Fact, HeldReason, Judgement, PunchId, Verdict};
use gateway::store::{PunchFilter, Store, StoreHealth, StoreOptions};
use gateway::terminals::hub::{Hub, Order, OrderError};
use gateway::terminals::{Context, line};
use harness::disk::SmallDisk;
use harness::faults::Faults;
use harness::reader::{RdmModule, ReaderLine, Setup, WireFaults};
use protocol::{Signal, StartCause};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A machine with other work needs a while.
const PATIENCE: Duration = Duration::from_secs(30);
const KEYS: [[u8; 16]; 4] = [[1; 16], [2; 16], [3; 16], [4; 16]];

/// The gateway's part behind a line, and the directory of this test.
struct Desk {
    dir: tempfile::TempDir,
    store: Store,
    context: Context,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn badges_of_four_readers_on_a_bad_line_are_stored_once_over_restarts_and_power_cuts() {
    let faults = Faults::from_env("serial port", 21);
    let mut desk = Desk::new();
    let path = desk.path("line0");
    let wire = WireFaults { faults: faults.fork("wire"), damaged: 0.1, lost: 0.1 };
    let readers = ReaderLine::start(&path, &setups(), wire).unwrap();
    desk.serve(reader_line(&path));
    let mut swiped = Vec::new();
    for round in 0..6_u32 {
        for reader in 0..4 {
            for card in 0..3 {
                let badge = round << 16 | reader << 8 | card;
                assert!(readers.reader(reader as usize).swipe(badge));
                swiped.push(badge);
            }
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
        readers.reader(round as usize % 4).reset();
        if round % 2 == 1 {
            desk.stop().await;
            desk.serve(reader_line(&path));
        }
    }
    until(|| async { (0..4).all(|index| readers.reader(index).journal_fill() == 0) }).await;

    swiped.sort();
    assert_eq!(desk.badges().await, swiped);
    // A green lamp is for what is durable, and is shown once.
    let mut stored: Vec<u32> = (0..4).flat_map(|index| readers.reader(index).stored()).collect();
    stored.sort();
    let shown = stored.len();
    stored.dedup();
    assert_eq!(stored.len(), shown);
    assert!(stored.iter().all(|badge| swiped.contains(badge)));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_goes_and_comes_back_is_an_alarm_in_between_and_costs_no_punch() {
    let mut desk = Desk::new();
    let path = desk.path("line0");
    desk.serve(reader_line(&path));
    until(|| async { desk.alarm(Kind::LineDown) }).await;

    let readers = ReaderLine::start(&path, &setups(), WireFaults::none()).unwrap();
    readers.reader(0).swipe(0xE308_6CED);
    until(|| async { desk.badges().await == [0xE308_6CED] }).await;
    assert!(!desk.alarm(Kind::LineDown));

    drop(readers);
    until(|| async { desk.alarm(Kind::LineDown) }).await;
    until(|| async { desk.context.ops.board.terminals().iter().all(|terminal| !terminal.online) }).await;
    // Another adapter behind the same link, and readers whose journals were not empty.
    let readers = ReaderLine::start(&path, &setups(), WireFaults::none()).unwrap();
    readers.reader(1).swipe(7);
    until(|| async { desk.badges().await == [7, 0xE308_6CED] }).await;
    until(|| async { readers.reader(1).stored() == [7] }).await;
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_board_shows_the_readers_and_orders_reach_them() {
    let mut desk = Desk::new();
    let path = desk.path("line0");
    let readers = ReaderLine::start(&path, &setups(), WireFaults::none()).unwrap();
    readers.reader(2).set_health(11_900, true);
    readers.reader(2).set_start(StartCause::Watchdog);
    desk.serve(reader_line(&path));
    let board = desk.context.ops.board.clone();
    until(|| async { board.terminals().iter().filter(|terminal| terminal.online).count() == 4 }).await;

    let health: BTreeMap<String, String> = board.terminals()[2].health.clone();
    assert_eq!(health["supply"], "11900 mV");
    assert_eq!(health["journal"], "0 of 256");
    assert!(desk.alarm(Kind::ReaderTamper));
    until(|| async { desk.alarm(Kind::ReaderHung) }).await;
    assert_eq!(board.terminals()[2].health["started by"], "watchdog");
    readers.reader(2).reset();
    until(|| async { !desk.alarm(Kind::ReaderHung) }).await;

    let hub = desk.context.hub.clone();
    assert_eq!(hub.order("R3", Order::Open { text: String::new() }).await, Ok(()));
    until(|| async { readers.reader(2).lamps().relay }).await;
    assert!(!readers.reader(1).lamps().relay);
    assert_eq!(hub.order("R3", Order::SetTime).await, Ok(()));
    assert!(matches!(hub.order("R3", Order::Adopted).await, Err(OrderError::Unsupported(_))));
    desk.stop().await;
    assert!(matches!(hub.order("R3", Order::SetTime).await, Err(OrderError::Offline(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_badge_that_nobody_knows_blinks_red_after_its_green() {
    let mut desk = Desk::new();
    let path = desk.path("line0");
    let readers = ReaderLine::start(&path, &setups(), WireFaults::none()).unwrap();
    desk.serve(reader_line(&path));
    readers.reader(0).swipe(5);
    until(|| async { desk.badges().await == [5] }).await;
    let id = desk.store.read(|view| view.latest(1)[0].id).await;
    desk.judge(id, Verdict::Held(HeldReason::UnknownWorker)).await;
    let both = [(5, Signal::Stored), (5, Signal::Unknown)];
    until(|| async { readers.reader(0).signals() == both }).await;
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unkeyed_reader_is_asked_only_where_the_line_says_so_and_then_loudly() {
    let mut desk = Desk::new();
    let (strict, open) = (desk.path("strict"), desk.path("open"));
    let unkeyed = [Setup { address: 1, key: None }];
    let refused = ReaderLine::start(&strict, &unkeyed, WireFaults::none()).unwrap();
    let accepted = ReaderLine::start(&open, &unkeyed, WireFaults::none()).unwrap();
    let line_of = |path: &Path, serial: &str, accept_unkeyed| Line {
        terminals: vec![LineTerminal { id: serial.into(), key: None, serial: serial.to_owned(), ..terminal(1) }],
        accept_unkeyed,
        ..reader_line(path)
    };
    desk.serve(line_of(&strict, "U1", false));
    desk.serve(line_of(&open, "U2", true));
    refused.reader(0).swipe(1);
    accepted.reader(0).swipe(2);
    until(|| async { desk.badges().await == [2] }).await;
    assert!(desk.alarm(Kind::LineUnkeyed) && desk.alarm(Kind::ReaderSilent));
    assert_eq!((refused.frames(), refused.reader(0).journal_fill()), (0, 1));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_module_is_read_through_a_reopened_port() {
    let mut desk = Desk::new();
    let path = desk.path("module");
    desk.serve(module_line(&path));
    for badge in [0xE308_6CED, 0x1234_5678] {
        let module = RdmModule::start(&path).unwrap();
        until(|| async { desk.context.ops.board.terminals().iter().any(|terminal| terminal.online) }).await;
        module.swipe(badge);
        module.swipe(badge);
        until(|| async { desk.badges().await.contains(&badge) }).await;
        drop(module);
        until(|| async { desk.alarm(Kind::LineDown) }).await;
    }
    assert_eq!(desk.badges().await, [0x1234_5678, 0xE308_6CED]);
    desk.stop().await;
}

/// The module has no copy: what the store refused is offered again, whatever becomes of the port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swipe_that_the_store_refused_is_stored_when_there_is_space_though_the_port_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("data")) else {
        println!("SKIP: this account may not mount a small file system");
        return;
    };
    let mut desk = Desk::within(dir);
    // Goes before the directory that it lies in.
    let disk = disk;
    let path = desk.path("module");
    desk.serve(module_line(&path));
    let module = RdmModule::start(&path).unwrap();
    until(|| async { desk.context.ops.board.terminals().iter().any(|terminal| terminal.online) }).await;
    disk.fill();
    until(|| async { matches!(desk.store.health(), StoreHealth::Full { .. }) }).await;
    module.swipe(0xE308_6CED);
    // Long enough to be read and refused.
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(module);
    until(|| async { desk.alarm(Kind::LineDown) }).await;
    assert_eq!(desk.badges().await, Vec::<u32>::new());
    disk.free();
    until(|| async { desk.badges().await == [0xE308_6CED] }).await;
    desk.stop().await;
}

fn setups() -> [Setup; 4] {
    [1, 2, 3, 4].map(|address: u8| Setup { address, key: Some(KEYS[usize::from(address) - 1]) })
}

fn terminal(address: u8) -> LineTerminal {
    LineTerminal {
        id: format!("gate-{address}").as_str().into(),
        address: Some(address),
        serial: format!("R{address}"),
        direction: DirectionRule::In,
        key: Some(Key128(KEYS[usize::from(address) - 1])),
    }
}

fn reader_line(path: &Path) -> Line {
    Line {
        path: path.to_owned(),
        baud: 115_200,
        protocol: LineProtocol::Reader,
        terminals: [1, 2, 3, 4].map(terminal).to_vec(),
        accept_unkeyed: false,
    }
}

fn module_line(path: &Path) -> Line {
    Line {
        path: path.to_owned(),
        baud: 9_600,
        protocol: LineProtocol::Rdm6300,
        terminals: vec![LineTerminal { address: None, key: None, ..terminal(1) }],
        accept_unkeyed: false,
    }
}

/// Asks again until it is so.
async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    let asked = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it never became so");
}

impl Desk {
    fn new() -> Desk {
        Desk::within(tempfile::tempdir().unwrap())
    }

    fn within(dir: tempfile::TempDir) -> Desk {
        let clock = Clock::system();
        let options = StoreOptions::new(dir.path().join("data"), Vec::new());
        let store = Store::open(options, clock.clone()).unwrap();
        let context = Context {
            store: store.clone(),
            hub: Arc::new(Hub::new([])),
            ops: Ops::new(clock.clone()),
            clock,
            utc_offset: jiff::tz::Offset::constant(8),
        };
        Desk { dir, store, context, tasks: JoinSet::new(), stop: CancellationToken::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn serve(&mut self, line: Line) {
        let (context, stop) = (self.context.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let Ok(()) = line::run(line, context, stop).await;
        });
    }

    /// Ends the lines' tasks; the store stays.
    async fn stop(&mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some_and(|ended| ended.is_ok()) {} };
        tokio::time::timeout(Duration::from_secs(3), ended).await.expect("a line does not end");
        assert!(self.tasks.is_empty(), "a line's task panicked");
        self.stop = CancellationToken::new();
    }

    fn alarm(&self, kind: Kind) -> bool {
        self.context.ops.alarms.list().iter().any(|alarm| alarm.kind == kind)
    }

    /// The badges in the store, sorted, as often as they stand there.
    async fn badges(&self) -> Vec<u32> {
        let stories = self.store.read(|view| {
            let ids: Vec<PunchId> =
                view.punches(&PunchFilter::default(), None, 1_000).items.iter().map(|row| row.id).collect();
            ids.into_iter().map(|id| view.story(id).unwrap().punch).collect::<Vec<_>>()
        });
        let badge = |credentials: &[Credential]| match credentials {
            [Credential::Badge(badge)] => badge.0,
            other => panic!("one badge, not {other:?}"),
        };
        let mut badges: Vec<u32> = stories.await.iter().map(|punch| badge(&punch.credentials)).collect();
        badges.sort();
        badges
    }

    async fn judge(&self, punch: PunchId, verdict: Verdict) {
        let judgement = Judgement {
            punch,
            at: self.context.clock.now(),
            verdict,
            rule_version: 1,
            worker: None,
            direction: gateway::punch::Direction::In,
            direction_inferred: false,
            duplicate_of: None,
        };
        self.store.append(vec![Fact::Judgement(judgement)]).await.unwrap();
    }
}
