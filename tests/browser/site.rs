//! A running console over a real store with invented facts.

use std::net::SocketAddr;
use std::sync::Arc;

use gateway::clock::Clock;
use gateway::config::{Config, Secret};
use gateway::console::{self, Context};
use gateway::ops::Ops;
use gateway::ops::alarms::{Kind, Severity};
use gateway::ops::board::{CourierState, PlatformStatus, TerminalStatus};
use gateway::punch::*;
use gateway::store::{Store, StoreOptions};
use gateway::terminals::hub::Hub;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "an-invented-token-for-tests";

/// 2026-05-06T07:30:00+08:00
const MORNING: UnixMs = UnixMs(1_778_023_800_000);
const CONFIG: &str = r#"
data_dir = "data"
[site]
name = "北区1号楼"
project_code = "3300000000000001"
[console]
open_overview = true
[[platform]]
name = "national"
profile = "mohurd"
endpoint = "http://127.0.0.1:9/open.api"
appid = "demo-app"
secret_file = "key"
"#;

/// The site; its console can be stopped and started while the facts stay.
pub struct Site {
    context: Context,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    punches: u32,
    _dir: tempfile::TempDir,
}

impl Site {
    /// Three workers, of whom one has come in; two terminals and one that waits; a platform that does not answer.
    pub async fn open() -> Site {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "0123456789abcdef0123456789abcdef").unwrap();
        let config = Config::parse(CONFIG, &dir.path().join("gateway.toml")).unwrap();
        let clock = Clock::manual(MORNING);
        let platforms = config.platforms.iter().map(|platform| (platform.name.clone(), None)).collect();
        let options = StoreOptions::new(config.data_dir.clone(), platforms);
        let store = Store::open(options, clock.clone()).unwrap();
        let ops = Ops::new(clock.clone());
        ops.board.set_intake_open(true);
        let hub = Arc::new(Hub::default());
        let context = Context { config, store, hub, clock, ops, token: Secret(TOKEN.to_owned()) };
        let address = "127.0.0.1:0".parse().unwrap();
        let (stop, tasks) = (CancellationToken::new(), JoinSet::new());
        let mut site = Site { context, address, stop, tasks, punches: 0, _dir: dir };
        site.fill().await;
        site.start().await;
        site
    }

    async fn fill(&mut self) {
        let names = [("W0001", "张建国"), ("W0002", "李秀英"), ("W0003", "阿卜杜拉")];
        let workers = names.iter().map(|(id, name)| Fact::Worker(worker(id, name))).collect();
        self.context.store.append(workers).await.unwrap();
        let board = &self.context.ops.board;
        board.set_terminal(terminal("north-in", "1306612", true, false));
        board.set_terminal(terminal("south-in-gate-beside-the-material-store", "R0001", false, false));
        board.set_terminal(terminal("1306699", "1306699", true, true));
        board.set_platform(PlatformStatus {
            name: "national".into(),
            profile: "mohurd".to_owned(),
            state: CourierState::Unreachable,
            note: Some("no answer for 3 minutes; tried again in 30 s".to_owned()),
            last_answer: None,
        });
        let text = "no answer from http://platform.example/open.api for 3 minutes: punches wait, check the uplink";
        self.context.ops.alarms.raise(Severity::Warning, Kind::PlatformDown, "national", text);
        self.punch("W0001", Verdict::Verified).await;
        self.punch("W0001", Verdict::Rejected(RejectedReason::Duplicate)).await;
        self.punch("W0009", Verdict::Held(HeldReason::UnknownWorker)).await;
    }

    /// Starts the console, again on the same address when it has run before.
    pub async fn start(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.stop = CancellationToken::new();
        let (context, stop) = (self.context.clone(), self.stop.clone());
        self.tasks.spawn(async move { console::serve(listener, context, stop).await.unwrap() });
    }

    /// Stops the console.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    pub async fn close(mut self) {
        self.stop().await;
        self.context.store.close().await;
    }

    /// An address on the console.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// One more punch with its verdict; returns its id.
    pub async fn punch(&mut self, who: &str, verdict: Verdict) -> PunchId {
        self.punches += 1;
        let punch = punch(self.punches);
        let judgement = Judgement {
            punch: punch.id,
            at: punch.received_at,
            verdict,
            rule_version: 1,
            worker: Some(who.into()).filter(|_| !matches!(verdict, Verdict::Held(_))),
            direction: Direction::In,
            direction_inferred: false,
            duplicate_of: None,
        };
        let id = punch.id;
        self.context.store.append(vec![Fact::Punch(punch), Fact::Judgement(judgement)]).await.unwrap();
        id
    }
}

fn punch(number: u32) -> Punch {
    let time = MORNING.plus_ms(i64::from(number) * 1000 - 600_000);
    Punch {
        id: PunchId::derive("1306612", &number.to_string(), "", ""),
        terminal: "north-in".into(),
        serial: "1306612".to_owned(),
        record: Some(number.to_string()),
        time,
        time_text: String::new(),
        time_source: TimeSource::Terminal,
        received_at: time,
        live: Some(true),
        skew_ms: None,
        direction: Direction::In,
        direction_source: DirectionSource::Configured,
        method: Method::Face,
        credentials: Vec::new(),
        says: TerminalSays::Allowed,
        similarity: None,
        photo: None,
        raw: b"{}".to_vec(),
    }
}

fn worker(id: &str, name: &str) -> Worker {
    Worker {
        worker_id: id.into(),
        name: name.to_owned(),
        // Wrong check digits: nobody has these numbers.
        id_number: format!("11010119900307{}", &id[1..]),
        team: TeamKey { employer: "昌建总承包".to_owned(), name: "木工班".to_owned() },
        trade: "020".to_owned(),
        badge: None,
        phone: None,
        bank_card: None,
        entered_on: None,
        left_on: None,
        leader: false,
        gender: None,
        birth: None,
        nation: None,
        address: None,
        issuer: None,
        valid_from: None,
        valid_to: None,
        politics: None,
        education: None,
        photo: None,
    }
}

fn terminal(id: &str, serial: &str, online: bool, pending: bool) -> TerminalStatus {
    TerminalStatus {
        id: id.into(),
        serial: serial.to_owned(),
        protocol: "mqtt-face".to_owned(),
        direction: "in".to_owned(),
        via: "192.0.2.9".to_owned(),
        online,
        pending,
        last_seen: Some(MORNING),
        last_punch: None,
        skew_ms: Some(400),
        health: Default::default(),
    }
}
