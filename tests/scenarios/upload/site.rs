//! A platform's courier with a real store and a reference platform.

use std::path::PathBuf;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::{AesKey, Employer, MissingWorkerFields, Platform, ProfileKind, Secret};
use gateway::ops::Ops;
use gateway::ops::alarms::Kind;
use gateway::ops::board::CourierState;
use gateway::punch::{
    Credential, Direction, DirectionSource, Fact, Judgement, Method, PhotoHash, PlatformName, Punch, PunchId, Seq,
    Subject, TeamKey, TerminalSays, TimeSource, UnixMs, UploadState, Verdict, Worker, WorkerId,
};
use gateway::store::{Store, StoreOptions};
use gateway::upload;
use harness::platform::{Options, ReferencePlatform};
use jiff::civil::date;
use jiff::tz::Offset;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const GENERAL: &str = "91650000MA0000000K";
pub const LABOUR: &str = "91650000MA0000001H";
const SECRET: &str = "0123456789abcdef0123456789ABCDEF";

/// Store, platform and courier.
pub struct Site {
    // Dropped last.
    dir: tempfile::TempDir,
    pub platform: ReferencePlatform,
    pub store: Store,
    pub clock: Clock,
    pub ops: Ops,
    courier: JoinSet<()>,
    stop: CancellationToken,
    next_record: u32,
}

impl Site {
    pub async fn start() -> Site {
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
        let mut site = Site { dir, platform, store, clock, ops, courier, stop, next_record: 1 };
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
    pub async fn kill_and_restart(&mut self) {
        self.courier.shutdown().await;
        self.start_courier();
    }

    pub async fn import(&self, workers: std::ops::RangeInclusive<u32>) {
        let photo = self.photo().await;
        let rows = workers.map(|number| Fact::Worker(Worker { photo: Some(photo), ..worker(number) })).collect();
        self.store.append(rows).await.unwrap();
    }

    /// Stores the picture of everybody.
    pub async fn photo(&self) -> PhotoHash {
        let jpeg = include_bytes!("../../fixtures/platform/face_tiny.jpg").as_slice();
        self.store.put_photo(jpeg.into()).await.unwrap()
    }

    /// Where a photo is kept.
    pub fn photo_file(&self, photo: PhotoHash) -> PathBuf {
        let name = photo.to_string();
        self.dir.path().join("photos").join(&name[..2]).join(format!("{name}.sealed"))
    }

    /// A verified punch, a second after the one before.
    pub async fn punch(&mut self, number: u32) -> PunchId {
        self.punch_with(number, None).await
    }

    pub async fn punch_with(&mut self, number: u32, photo: Option<PhotoHash>) -> PunchId {
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
            photo,
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
        let appended = self.store.append(vec![Fact::Punch(punch), Fact::Judgement(judgement)]).await.unwrap();
        // Only then is it in the outbox, whose end the stories wait for.
        self.store.applied(appended[1].seq).await;
        id
    }

    pub async fn open(&self) -> u64 {
        self.store.read(|view| view.depth(&name()).open).await
    }

    /// Waits until no punch is without a receipt.
    pub async fn drained(&self, limit: Duration) {
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

    pub async fn until(&self, what: &str, condition: impl Fn(&Site) -> bool) {
        let reached = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), reached).await.is_ok(), "never: {what}");
    }

    /// Waits until a subject is in a state.
    pub async fn reaches(&self, subject: Subject, state: UploadState) {
        let reached = async {
            while self.state(subject.clone()).await != Some(state) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let is_reached = tokio::time::timeout(Duration::from_secs(20), reached).await.is_ok();
        assert!(is_reached, "never {state:?}: {:?}", self.state(subject).await);
    }

    pub async fn state(&self, subject: Subject) -> Option<UploadState> {
        self.store.read(move |view| view.upload(&name(), &subject)).await.map(|row| row.state)
    }

    pub fn has_alarm(&self, kind: Kind) -> bool {
        self.ops.alarms.list().iter().any(|alarm| alarm.kind == kind)
    }

    pub fn courier_state(&self) -> CourierState {
        self.ops.board.platforms()[0].state
    }

    pub async fn end(mut self) {
        self.stop.cancel();
        while self.courier.join_next().await.is_some() {}
        self.store.close().await;
        self.platform.stop().await;
    }
}

const INTERVAL: Duration = Duration::from_millis(40);

pub fn name() -> PlatformName {
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

pub fn worker(number: u32) -> Worker {
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
pub fn id_number(number: u32) -> String {
    let body = format!("1101011949{:07}", number * 10 + 1_231_000);
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = body.bytes().zip(weights).map(|(byte, weight)| u32::from(byte - b'0') * weight).sum();
    format!("{body}{}", char::from(b"10X98765432"[(sum % 11) as usize]))
}
