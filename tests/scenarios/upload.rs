//! A platform's courier with the real store and the reference platform, over HTTP.

use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::{AesKey, Employer, MissingWorkerFields, Platform, ProfileKind, Secret};
use gateway::ops::Ops;
use gateway::ops::alarms::Kind;
use gateway::ops::board::CourierState;
use gateway::punch::{
    Credential, Direction, DirectionSource, Fact, Judgement, Method, PlatformName, Punch, PunchId, Seq, Step, Subject,
    TeamKey, TerminalSays, TimeSource, UnixMs, UploadState, UploadStep, Verdict, Worker, WorkerId,
};
use gateway::store::{Store, StoreOptions};
use gateway::upload;
use harness::faults::Faults;
use harness::platform::{Misbehaviour, Options, ReferencePlatform};
use jiff::civil::date;
use jiff::tz::Offset;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const GENERAL: &str = "91650000MA0000000K";
const LABOUR: &str = "91650000MA0000001H";
const SECRET: &str = "0123456789abcdef0123456789ABCDEF";

/// Store, platform and courier.
struct Site {
    // Dropped last.
    _dir: tempfile::TempDir,
    platform: ReferencePlatform,
    store: Store,
    clock: Clock,
    ops: Ops,
    courier: JoinSet<()>,
    stop: CancellationToken,
    next_record: u32,
}

impl Site {
    async fn start() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let options = Options { min_interval: INTERVAL, job_delay: Duration::from_millis(30), ..Options::default() };
        let platform = ReferencePlatform::start(options).await.unwrap();
        let store_options = StoreOptions::new(dir.path().to_owned(), vec![(name(), None)]);
        let opened = tokio::task::spawn_blocking({
            let clock = clock.clone();
            move || Store::open(store_options, clock)
        });
        let store = opened.await.unwrap().unwrap();
        let ops = Ops::new(clock.clone());
        let (courier, stop) = (JoinSet::new(), CancellationToken::new());
        let mut site = Site { _dir: dir, platform, store, clock, ops, courier, stop, next_record: 1 };
        site.start_courier();
        site
    }

    fn start_courier(&mut self) {
        self.stop = CancellationToken::new();
        let task = upload::Task {
            platform: settings(self.platform.endpoint()),
            employers: vec![employer("总包", GENERAL, "009"), employer("劳务", LABOUR, "006")],
            utc_offset: Offset::constant(8),
            store: self.store.clone(),
            clock: self.clock.clone(),
            ops: self.ops.clone(),
        };
        let stop = self.stop.clone();
        self.courier.spawn(async move {
            let Ok(()) = upload::run(task, stop).await;
        });
    }

    /// The courier ends in the middle of whatever it does, and a new one starts.
    async fn kill_and_restart(&mut self) {
        self.courier.shutdown().await;
        self.start_courier();
    }

    async fn import(&self, workers: std::ops::RangeInclusive<u32>) {
        let photo = self.store.put_photo(include_bytes!("../fixtures/platform/face_tiny.jpg").as_slice().into());
        let photo = photo.await.unwrap();
        let rows = workers.map(|number| Fact::Worker(Worker { photo: Some(photo), ..worker(number) })).collect();
        self.store.append(rows).await.unwrap();
    }

    /// A verified punch, a second after the one before.
    async fn punch(&mut self, number: u32) -> PunchId {
        let record = self.next_record;
        self.next_record += 1;
        let time = UnixMs(self.clock.now().0 - 3_600_000 + i64::from(record) * 1_000);
        let id = PunchId::derive("1306612", &record.to_string(), "", "");
        let direction = if record % 2 == 1 { Direction::In } else { Direction::Out };
        let punch = Punch {
            id,
            terminal: "north-in".into(),
            serial: "1306612".to_owned(),
            record: Some(record.to_string()),
            time,
            time_text: String::new(),
            time_source: TimeSource::Terminal,
            received_at: time,
            live: Some(true),
            skew_ms: None,
            direction,
            direction_source: DirectionSource::Configured,
            method: Method::Face,
            credentials: vec![Credential::CustomId(format!("W{number:04}"))],
            says: TerminalSays::Allowed,
            similarity: None,
            photo: None,
            raw: Vec::new(),
        };
        let judgement = Judgement {
            punch: id,
            at: time,
            verdict: Verdict::Verified,
            rule_version: 1,
            worker: Some(WorkerId(format!("W{number:04}"))),
            direction,
            direction_inferred: false,
            duplicate_of: None,
        };
        self.store.append(vec![Fact::Punch(punch), Fact::Judgement(judgement)]).await.unwrap();
        id
    }

    async fn open(&self) -> u64 {
        self.store.read(|view| view.depth(&name()).open).await
    }

    /// Waits until no punch is without a receipt.
    async fn drained(&self, limit: Duration) {
        let drained = async {
            while self.open().await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(limit, drained).await.is_err() {
            let stuck = self.store.read(|view| view.outbox(&name(), Seq(0), 5)).await;
            panic!("{} without a receipt: {stuck:#?}; {:?}", self.open().await, self.platform.book().violations);
        }
    }

    async fn until(&self, what: &str, condition: impl Fn(&Site) -> bool) {
        let reached = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), reached).await.is_ok(), "never: {what}");
    }

    async fn state(&self, subject: Subject) -> Option<UploadState> {
        self.store.read(move |view| view.upload(&name(), &subject)).await.map(|row| row.state)
    }

    fn has_alarm(&self, kind: Kind) -> bool {
        self.ops.alarms.list().iter().any(|alarm| alarm.kind == kind)
    }

    fn courier_state(&self) -> CourierState {
        self.ops.board.platforms()[0].state
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.courier.join_next().await.is_some() {}
        self.store.close().await;
        self.platform.stop().await;
    }
}

const INTERVAL: Duration = Duration::from_millis(40);

fn name() -> PlatformName {
    "national".into()
}

fn settings(endpoint: String) -> Platform {
    Platform {
        name: name(),
        profile: ProfileKind::Mohurd,
        endpoint,
        appid: "demo-app".to_owned(),
        secret: Secret(SECRET.to_owned()),
        project_code: "3300000000000001".to_owned(),
        min_interval: INTERVAL,
        request_timeout: Duration::from_millis(600),
        poll_interval: Duration::from_millis(50),
        reconcile_after: Duration::from_millis(1_000),
        job_timeout: Duration::from_secs(60),
        item_attempts: 5,
        batch: 20,
        batch_wait: Duration::from_millis(50),
        image_limit_kib: 50,
        send_images: true,
        image_data_url: false,
        aes_key: AesKey::Full,
        missing_worker_fields: MissingWorkerFields::Wait,
        upload_from: None,
        corp_key: None,
    }
}

fn employer(name: &str, credit_code: &str, corp_type: &str) -> Employer {
    Employer { name: name.to_owned(), credit_code: credit_code.to_owned(), corp_type: corp_type.to_owned() }
}

fn worker(number: u32) -> Worker {
    let employer = if number.is_multiple_of(2) { "劳务" } else { "总包" };
    Worker {
        worker_id: WorkerId(format!("W{number:04}")),
        name: format!("工人{number}"),
        id_number: id_number(number),
        team: TeamKey { employer: employer.to_owned(), name: format!("{}班", number % 3) },
        trade: "020".to_owned(),
        badge: None,
        phone: Some("13800000000".to_owned()),
        bank_card: None,
        entered_on: Some(date(2026, 1, 1)),
        left_on: None,
        leader: number <= 3,
        gender: None,
        birth: None,
        nation: Some("汉".to_owned()),
        address: Some("某地".to_owned()),
        issuer: Some("某局".to_owned()),
        valid_from: None,
        valid_to: None,
        politics: Some("群众".to_owned()),
        education: Some("初中".to_owned()),
        photo: None,
    }
}

/// An invented number with a good check digit.
fn id_number(number: u32) -> String {
    let body = format!("1101011949{:07}", number * 10 + 1_231_000);
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = body.bytes().zip(weights).map(|(byte, weight)| u32::from(byte - b'0') * weight).sum();
    format!("{body}{}", char::from(b"10X98765432"[(sum % 11) as usize]))
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_and_punches_reach_the_platforms_book() {
    let mut site = Site::start().await;
    site.import(1..=12).await;
    for _ in 0..10 {
        for number in 1..=12 {
            site.punch(number).await;
        }
    }
    site.drained(Duration::from_secs(40)).await;
    let book = site.platform.book();
    assert_eq!(book.violations, Vec::<String>::new());
    assert_eq!((book.attendance.len(), book.copies()), (120, 0));
    assert_eq!((book.workers.len(), book.moves.len(), book.teams.len()), (12, 12, 6));
    assert_eq!(book.employers, [LABOUR]);
    assert!(book.attendance.iter().all(|punch| punch.attend_type == "001"));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_fails_a_third_of_its_answers_gets_every_punch_once_from_a_courier_that_is_killed() {
    let mut faults = Faults::from_env("upload to a bad platform", 11);
    let mut site = Site::start().await;
    site.import(1..=10).await;
    site.platform.set_faults(Misbehaviour::third(faults.fork("platform")));
    let mut punches = Vec::new();
    for round in 0..12 {
        for number in 1..=10 {
            punches.push(site.punch(number).await);
        }
        tokio::time::sleep(Duration::from_millis(faults.pick(50..500))).await;
        if round % 2 == 1 {
            site.kill_and_restart().await;
        }
    }
    site.drained(Duration::from_secs(150)).await;
    let book = site.platform.book();
    let mut refused = 0;
    for punch in &punches {
        refused += usize::from(site.state(Subject::Punch(*punch)).await == Some(UploadState::Refused));
    }
    assert_eq!(book.copies(), 0, "a punch was sent twice");
    assert_eq!(book.attendance.len() + refused, punches.len());
    assert_eq!(book.violations, Vec::<String>::new());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_goes_down_is_an_alarm_until_it_comes_back() {
    let mut site = Site::start().await;
    site.import(1..=1).await;
    site.punch(1).await;
    site.drained(Duration::from_secs(20)).await;
    site.platform.go_down();
    site.punch(1).await;
    site.until("an alarm", |site| site.has_alarm(Kind::PlatformDown)).await;
    assert_eq!(site.courier_state(), CourierState::Unreachable);
    site.platform.come_back();
    site.drained(Duration::from_secs(30)).await;
    site.until("the end of the alarm", |site| !site.has_alarm(Kind::PlatformDown)).await;
    assert_eq!(site.platform.book().copies(), 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_key_stops_the_courier_until_somebody_orders_a_retry() {
    let mut site = Site::start().await;
    site.platform.reject_key(true);
    site.import(1..=2).await;
    site.punch(1).await;
    site.until("an alarm", |site| site.has_alarm(Kind::PlatformStopped)).await;
    assert_eq!(site.courier_state(), CourierState::Stopped);
    let before = site.platform.book().requests;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(site.platform.book().requests, before, "a stopped courier went on");

    site.platform.reject_key(false);
    let order = UploadStep {
        platform: name(),
        job: site.store.read(|view| view.last_job(&name())).await,
        method: "retry".to_owned(),
        at: site.clock.now(),
        subjects: vec![Subject::Worker("W0001".into())],
        step: Step::Requeued { reason: "ordered at the console".to_owned() },
    };
    site.store.append(vec![Fact::Upload(order)]).await.unwrap();
    site.drained(Duration::from_secs(20)).await;
    assert!(!site.has_alarm(Kind::PlatformStopped));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_item_does_not_take_its_batch_with_it_and_a_retry_repairs_it() {
    let mut site = Site::start().await;
    site.import(1..=6).await;
    site.punch(1).await;
    site.drained(Duration::from_secs(20)).await;
    site.until("six entries", |site| site.platform.book().moves.len() == 6).await;
    site.platform.refuse(&id_number(2), "[{list}][{i}][date]值无效!");
    let bad = site.punch(2).await;
    for number in [4, 6, 1, 3, 5] {
        site.punch(number).await;
    }
    site.drained(Duration::from_secs(20)).await;
    assert_eq!(site.state(Subject::Punch(bad)).await, Some(UploadState::Refused));
    assert_eq!(site.platform.book().attendance.len(), 6);
    site.until("an alarm", |site| site.has_alarm(Kind::PlatformRefuses)).await;

    site.platform.refuse_nobody();
    let order = UploadStep {
        platform: name(),
        job: site.store.read(|view| view.last_job(&name())).await,
        method: "retry".to_owned(),
        at: site.clock.now(),
        subjects: vec![Subject::Punch(bad)],
        step: Step::Requeued { reason: "ordered at the console".to_owned() },
    };
    site.store.append(vec![Fact::Upload(order)]).await.unwrap();
    site.until("all seven", |site| site.platform.book().attendance.len() == 7).await;
    site.drained(Duration::from_secs(20)).await;
    site.until("the end of the alarm", |site| !site.has_alarm(Kind::PlatformRefuses)).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_usable_photo_waits_and_the_others_do_not() {
    let mut site = Site::start().await;
    site.import(1..=1).await;
    let no_picture = site.store.put_photo(b"not a picture".as_slice().into()).await.unwrap();
    site.store.append(vec![Fact::Worker(Worker { photo: Some(no_picture), ..worker(7) })]).await.unwrap();
    site.punch(1).await;
    let held = site.punch(7).await;
    site.until("the other one's punch", |site| site.platform.book().attendance.len() == 1).await;
    while site.open().await > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(site.state(Subject::Punch(held)).await, Some(UploadState::Waiting));
    let row = site.store.read(|view| view.upload(&name(), &Subject::Worker("W0007".into()))).await.unwrap();
    assert_eq!(row.state, UploadState::Waiting);
    assert!(row.reason.unwrap().contains("photo"));

    site.import(7..=7).await;
    site.drained(Duration::from_secs(20)).await;
    assert_eq!(site.state(Subject::Punch(held)).await, Some(UploadState::Confirmed));
    assert_eq!(site.platform.book().violations, Vec::<String>::new());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_request_is_refused_and_noted() {
    let platform = ReferencePlatform::start(Options::default()).await.unwrap();
    let forged =
        "method=Team.Add&version=1.0&appid=demo-app&format=json&timestamp=20260302180500&nonce=1&sign=00&data=%7B%7D";
    let answer = bare_post(&platform.endpoint(), forged).await;
    assert!(answer.contains("\"-2\""), "{answer}");
    assert_eq!(platform.book().violations.len(), 1);
    platform.stop().await;
}

/// A bare HTTP POST, so that the platform is also asked by somebody who is not the gateway.
async fn bare_post(endpoint: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = endpoint.trim_start_matches("http://").split('/').next().unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /open.api HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
