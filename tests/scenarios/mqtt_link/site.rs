//! The intake and the store of the link stories.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::{DirectionRule, Mqtt, MqttTransport, Secret};
use gateway::ops::Ops;
use gateway::ops::alarms::Kind;
use gateway::punch::TerminalId;
use gateway::store::{Store, StoreOptions};
use gateway::terminals::hub::{Hub, Terminal};
use gateway::terminals::{Context, mqtt};
use harness::broker::Mosquitto;
use harness::face::link::{FaceLink, Login};
use harness::face::{Face, FaceTerminal, Timings};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; nothing waits for it when all is well.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long it takes to believe that something does not happen.
pub const NEVER: Duration = Duration::from_millis(700);

/// A real intake with a real store.
pub struct Site {
    pub context: Context,
    address: Option<SocketAddr>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

/// A terminal of the configuration.
pub fn known(serial: &str, password: Option<&str>) -> Terminal {
    Terminal {
        id: TerminalId(format!("gate-{serial}")),
        protocol: "mqtt-face".to_owned(),
        serial: serial.to_owned(),
        direction: DirectionRule::Terminal,
        password: password.map(|password| Secret(password.to_owned())),
    }
}

impl Site {
    pub async fn start(transport: MqttTransport, terminals: Vec<Terminal>) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let options = StoreOptions::new(dir.path().to_owned(), vec![]);
        let opening = clock.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(options, opening)).await.unwrap().unwrap();
        let ops = Ops::new(clock.clone());
        let hub = Arc::new(Hub::new(terminals));
        let context = Context { store, hub, clock, ops, utc_offset: jiff::tz::offset(8) };
        let config = Mqtt { transport, topic_prefixes: vec!["mqtt/face".to_owned()], max_packet_kib: 8192 };
        let intake = mqtt::bind(&config, context.clone()).await.unwrap();
        let address = intake.local_addr();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let stop = shutdown.clone();
        tasks.spawn(async move {
            let Ok(()) = intake.run(stop).await;
        });
        Site { context, address, tasks, shutdown, _dir: dir }
    }

    pub async fn embedded(terminals: Vec<Terminal>) -> Site {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Site::start(MqttTransport::Embedded { listen, trust_client_id: true, password: None }, terminals).await
    }

    pub async fn brokered(broker: &Mosquitto, terminals: Vec<Terminal>) -> Site {
        let transport = MqttTransport::Broker {
            url: broker.url(),
            client_id: "anxin-gateway".to_owned(),
            username: None,
            password: None,
        };
        Site::start(transport, terminals).await
    }

    pub fn address(&self) -> SocketAddr {
        self.address.expect("an embedded endpoint")
    }

    pub fn link(&self, serial: &str) -> FaceLink {
        FaceLink::start(FaceTerminal::new(serial, Timings::faster(20)), Login::at(self.address()))
    }

    /// Terminal and record of every punch stored, sorted.
    pub async fn book(&self) -> Vec<(String, u64)> {
        let rows = self.context.store.read(|view| view.latest(10_000)).await;
        let mut book: Vec<(String, u64)> =
            rows.into_iter().map(|row| (row.terminal.0, row.record.unwrap().parse().unwrap())).collect();
        book.sort();
        book
    }

    /// Waits until the view shows this many punches.
    pub async fn stored(&self, punches: u64) {
        let reached = async {
            while self.context.store.read(|view| view.totals().punches).await < punches {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.expect("the view follows the ledger");
    }

    pub fn alarmed(&self, kind: Kind) -> bool {
        self.context.ops.alarms.list().iter().any(|alarm| alarm.kind == kind)
    }

    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&Site) -> bool) {
        let reached = async {
            while !wanted(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("{what} did not happen"));
    }

    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(3), ended).await.expect("intake stops within 3 s");
        self.context.store.clone().close().await;
    }
}

/// The first record of a terminal, as it publishes it.
pub fn record(serial: &str) -> String {
    numbered(serial, 1)
}

/// The record with this number.
pub fn numbered(serial: &str, number: u64) -> String {
    let mut terminal = FaceTerminal::new(serial, Timings::REAL);
    let now = Clock::system().now();
    (1..number).for_each(|_| terminal.skip_number(now));
    terminal.handle_link_up(now);
    terminal.punch(now, Face::of("W0001"));
    let mut sent = std::iter::from_fn(|| terminal.poll_transmit());
    sent.find(|outgoing| outgoing.topic.ends_with("/Rec")).expect("a record").payload
}
