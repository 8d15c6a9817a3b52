//! The console through its door: a real store with invented facts behind the real router.

mod api;
mod doors;
mod listening;
mod roster;
mod streams;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::punch::*;
use crate::store::StoreOptions;

const TOKEN: &str = "an-invented-token-for-tests";
const NOW: &str = "2026-05-06T07:30:00+08:00";

/// A console with a store in a temporary directory.
struct Rig {
    console: Shared,
    router: Router,
    clock: Clock,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

/// An answer, read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }

    /// The answer as a problem with this status.
    #[track_caller]
    fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.text);
        assert_eq!(self.json()["status"], status);
        self.json()
    }

    #[track_caller]
    fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        self.json()
    }
}

/// A request from outside, with what it shows of itself.
#[derive(Clone, Default)]
struct Caller {
    headers: Vec<(&'static str, String)>,
}

impl Caller {
    fn bearer() -> Caller {
        Caller::default().with("authorization", &format!("Bearer {TOKEN}"))
    }

    fn with(mut self, name: &'static str, value: &str) -> Caller {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Rig {
    async fn start() -> Rig {
        Rig::with_config("").await
    }

    /// With further lines in the configuration.
    async fn with_config(more: &str) -> Rig {
        Rig::within(tempfile::tempdir().unwrap(), more).await
    }

    async fn within(dir: tempfile::TempDir, more: &str) -> Rig {
        std::fs::write(dir.path().join("key"), "0123456789abcdef0123456789abcdef").unwrap();
        let text = format!(
            r#"
            data_dir = "data"
            {more}
            [site]
            name = "北区1号楼"
            project_code = "3300000000000001"
            [[employer]]
            name = "昌建总承包"
            credit_code = "{}"
            corp_type = "009"
            [[platform]]
            name = "national"
            profile = "mohurd"
            endpoint = "http://127.0.0.1:9/open.api"
            appid = "demo-app"
            secret_file = "key"
            "#,
            credit_code(),
        );
        let config =
            Config::parse(&text, &dir.path().join("gateway.toml")).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
        let clock = Clock::manual(at(NOW));
        let platforms = config.platforms.iter().map(|platform| (platform.name.clone(), None)).collect();
        let store = Store::open(StoreOptions::new(config.data_dir.clone(), platforms), clock.clone()).unwrap();
        let ops = Ops::new(clock.clone());
        ops.board.set_intake_open(true);
        let token = Secret(TOKEN.to_owned());
        let hub = Arc::new(Hub::default());
        let context = Context { config, store, hub, clock: clock.clone(), ops, token };
        let stop = CancellationToken::new();
        let (live, renderer) = pages::live::new(context.clone());
        let console = Console::new(context, live, stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(renderer.run(stop.clone()));
        Rig { router: router(console.clone()), console, clock, stop, tasks, _dir: dir }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.console.context.store.clone().close().await;
    }

    async fn send(&self, method: &str, path: &str, caller: &Caller, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "gate.lan:8080");
        for (name, value) in &caller.headers {
            request = request.header(*name, value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.into()).unwrap() }
    }

    /// A question by the bearer of the token.
    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &Caller::bearer(), Body::empty()).await
    }

    /// A JSON body by the bearer of the token.
    async fn post(&self, path: &str, body: Value) -> Answer {
        let caller = Caller::bearer().with("content-type", "application/json");
        self.send("POST", path, &caller, body.to_string()).await
    }

    /// Facts, durable and visible.
    async fn append(&self, facts: Vec<Fact>) -> Seq {
        let seq = self.console.context.store.append(facts).await.unwrap().last().unwrap().seq;
        self.console.context.store.applied(seq).await;
        seq
    }
}

/// A credit code with a right check digit (GB 32100), so that the configuration takes it.
fn credit_code() -> String {
    const DIGITS: &str = "0123456789ABCDEFGHJKLMNPQRTUWXY";
    let body = "91650000MA0000000";
    let weighted = body.chars().enumerate().map(|(place, digit)| {
        let weight = (0..place).fold(1, |weight, _| weight * 3 % 31);
        DIGITS.find(digit).unwrap() * weight
    });
    let check = (31 - weighted.sum::<usize>() % 31) % 31;
    format!("{body}{}", &DIGITS[check..=check])
}

fn at(text: &str) -> UnixMs {
    UnixMs(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

/// A worker whose numbers are invented.
pub(super) fn worker(id: &str, name: &str, id_number: &str) -> Worker {
    Worker {
        worker_id: id.into(),
        name: name.to_owned(),
        id_number: id_number.to_owned(),
        team: TeamKey { employer: "昌建总承包".to_owned(), name: "木工班".to_owned() },
        trade: "020".to_owned(),
        badge: None,
        phone: Some("13800000001".to_owned()),
        bank_card: Some("6222020000000000000".to_owned()),
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

/// A face punch as a terminal of the field sends it, `record` minutes after six.
fn punch(record: u32, terminal: &str) -> Punch {
    let time = at("2026-05-06T06:00:00+08:00").plus_ms(i64::from(record) * 60_000);
    let raw = format!(r#"{{"operator":"RecPush","info":{{"RecordID":"{record}","idCard":"110101199003070070"}}}}"#);
    Punch {
        id: PunchId::derive("1306612", &record.to_string(), "text", "W0001"),
        terminal: terminal.into(),
        serial: "1306612".to_owned(),
        record: Some(record.to_string()),
        time,
        time_text: "2026-05-06 06:00:00".to_owned(),
        time_source: TimeSource::Terminal,
        received_at: time.plus_ms(300),
        live: Some(true),
        skew_ms: Some(400),
        direction: Direction::In,
        direction_source: DirectionSource::Configured,
        method: Method::Face,
        credentials: vec![
            Credential::CustomId("W0001".to_owned()),
            Credential::IdNumber("110101199003070070".to_owned()),
        ],
        says: TerminalSays::Allowed,
        similarity: Some(91.4),
        photo: None,
        raw: raw.into_bytes(),
    }
}

fn judged(punch: &Punch, verdict: Verdict, worker: Option<&str>) -> Judgement {
    Judgement {
        punch: punch.id,
        at: punch.received_at,
        verdict,
        rule_version: 1,
        worker: worker.map(WorkerId::from),
        direction: punch.direction,
        direction_inferred: false,
        duplicate_of: None,
    }
}

fn step(job: u64, subjects: Vec<Subject>, step: Step) -> Fact {
    Fact::Upload(UploadStep {
        platform: "national".into(),
        job: JobId(job),
        method: "WorkerAttendance.Add".to_owned(),
        at: at(NOW),
        subjects,
        step,
    })
}
