//! A ledger and a platform in memory, and a virtual clock: what the courier's stories are played on.
//!
//! The platform checks what real ones check (order of registration, rate, batch limits) and, when told to, misbehaves from
//! a seed. The ledger keeps only what was stored, so a courier can be killed at any step and built again from it.

mod ledger;
mod platform;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::civil::date;
use jiff::tz::Offset;
use rand::Rng;

use self::ledger::Ledger;
pub use self::platform::Trouble;
use self::platform::{Heard, ModelPlatform};
pub use self::wire::Lists;
use super::{CallId, Courier, Now, Order, Outcome, Read, Settings};
use crate::clock::Clock;
use crate::config::{AesKey, Employer, MissingWorkerFields, Platform, ProfileKind, Secret};
use crate::punch::{
    Direction, JobId, Method, PlatformName, PunchId, Seq, Step, Subject, TeamKey, UnixMs, UploadStep, Worker, WorkerId,
};
use crate::store::{Forerunner, Outgoing, UploadRow};
use crate::upload::profiles::{Move, MoveKind, Profile, Request, TeamPlace};

/// 2026-03-02 12:00:00 at +08:00.
pub const NOON: UnixMs = UnixMs(1_772_424_000_000);
pub const DAY_MS: i64 = 86_400_000;

pub fn settings() -> Settings {
    let platform = Platform {
        name: PlatformName("national".to_owned()),
        profile: ProfileKind::Mohurd,
        endpoint: String::new(),
        appid: "demo-app".to_owned(),
        secret: Secret("1234567890abcdef".to_owned()),
        project_code: "P1".to_owned(),
        min_interval: Duration::from_secs(1),
        request_timeout: Duration::from_secs(30),
        poll_interval: Duration::from_secs(3),
        reconcile_after: Duration::from_secs(60),
        job_timeout: Duration::from_secs(86_400),
        item_attempts: 5,
        batch: 20,
        batch_wait: Duration::from_secs(2),
        image_limit_kib: 50,
        send_images: false,
        image_data_url: false,
        aes_key: AesKey::Full,
        missing_worker_fields: MissingWorkerFields::Wait,
        upload_from: None,
        corp_key: None,
    };
    let employer = |name: &str, credit_code: &str, corp_type: &str| Employer {
        name: name.to_owned(),
        credit_code: credit_code.to_owned(),
        corp_type: corp_type.to_owned(),
    };
    Settings {
        platform,
        employers: vec![employer("总包", "C009", "009"), employer("劳务", "C006", "006")],
        utc_offset: Offset::constant(8),
        seed: 7,
    }
}

/// A complete roster row. Odd numbers work for the general contractor.
pub fn worker(number: u32) -> Worker {
    let employer = if number.is_multiple_of(2) { "劳务" } else { "总包" };
    Worker {
        worker_id: WorkerId(format!("W{number:04}")),
        name: format!("工人{number}"),
        id_number: format!("1101011949{number:08}"),
        team: TeamKey { employer: employer.to_owned(), name: format!("{employer}{}班", number % 3) },
        trade: "020".to_owned(),
        badge: None,
        phone: Some("13800000000".to_owned()),
        bank_card: None,
        entered_on: Some(date(2026, 1, 1)),
        left_on: None,
        leader: false,
        gender: None,
        birth: None,
        nation: Some("汉".to_owned()),
        address: Some("某地".to_owned()),
        issuer: Some("某局".to_owned()),
        valid_from: None,
        valid_to: None,
        politics: Some("群众".to_owned()),
        education: Some("初中".to_owned()),
        photo: Some(crate::punch::PhotoHash([1; 32])),
    }
}

/// Ledger, platform, clock and the courier between them.
pub struct World {
    pub settings: Settings,
    profile: Profile,
    pub ledger: Ledger,
    pub platform: ModelPlatform,
    pub courier: Courier,
    /// Probability of a crash at each opportunity.
    pub crashes: f64,
    pub crashed: u32,
    origin: Instant,
    ms: i64,
    answers: VecDeque<(i64, CallId, Outcome)>,
    next_seq: u64,
    pub largest_window: usize,
}

impl World {
    pub fn new(seed: u64, settings: Settings) -> World {
        let origin = Clock::manual(NOON).instant();
        let now = Now { wall: NOON, instant: origin };
        let courier = build(now, &settings, &Ledger::default());
        World {
            profile: Profile::of(&settings.platform, settings.utc_offset).unwrap(),
            settings,
            ledger: Ledger::default(),
            platform: ModelPlatform::new(seed),
            courier,
            crashes: 0.0,
            crashed: 0,
            origin,
            ms: 0,
            answers: VecDeque::new(),
            next_seq: 1,
            largest_window: 0,
        }
    }

    pub fn now(&self) -> Now {
        Now { wall: NOON.plus_ms(self.ms), instant: self.origin + Duration::from_millis(self.ms as u64) }
    }

    /// A new or changed roster row.
    pub fn import(&mut self, worker: Worker) {
        self.ledger.workers.insert(worker.worker_id.clone(), worker.clone());
        self.courier.handle_worker(self.now(), worker);
    }

    /// A verified punch of a worker.
    pub fn punch(&mut self, number: u32, time: UnixMs) -> PunchId {
        let out = Outgoing {
            seq: Seq(self.next_seq),
            punch: PunchId::derive("S", &self.next_seq.to_string(), "", ""),
            worker: WorkerId(format!("W{number:04}")),
            terminal: "north-in".into(),
            time,
            direction: if self.next_seq % 2 == 1 { Direction::In } else { Direction::Out },
            method: Method::Face,
            photo: None,
        };
        self.next_seq += 1;
        let id = out.punch;
        self.ledger.places.insert(id, out.seq);
        self.ledger.punches.insert(out.seq, out);
        self.courier.handle_verified(id);
        id
    }

    /// The gateway is killed and started again.
    pub fn restart(&mut self) {
        self.crashed += 1;
        self.answers.clear();
        self.courier = build(self.now(), &self.settings, &self.ledger);
    }

    /// The gateway is off for so long.
    pub fn off(&mut self, time: Duration) {
        self.ms += time.as_millis() as i64;
        self.restart();
    }

    /// The ledger is made from a backup on another box.
    pub fn restore(&mut self, backup: Ledger) {
        self.ledger = backup;
        self.ledger.forerunner = Some(Forerunner { seq: Seq(self.next_seq), at: self.now().wall });
        self.restart();
    }

    fn crash_happens(&mut self) -> bool {
        let happens = self.crashes > 0.0 && self.platform.rng.random_bool(self.crashes);
        if happens {
            self.restart();
        }
        happens
    }

    /// Somebody at the console orders another try.
    pub fn retry(&mut self, subjects: &[Subject]) {
        let reason = "ordered at the console".to_owned();
        let step = UploadStep {
            platform: self.settings.platform.name.clone(),
            job: JobId(0),
            method: String::new(),
            at: self.now().wall,
            subjects: subjects.to_vec(),
            step: Step::Requeued { reason },
        };
        self.ledger.store(step);
        self.courier.handle_requeued(self.now(), subjects);
    }

    /// Lets virtual time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.ms + time.as_millis() as i64;
        self.run_until(end, |_| false);
    }

    /// Lets time pass until every punch has its receipt; panics when that takes longer than `limit`.
    pub fn run_dry(&mut self, limit: Duration) {
        let end = self.ms + limit.as_millis() as i64;
        self.run_until(end, |world| world.ledger.open() == 0);
        assert_eq!(self.ledger.open(), 0, "punches without a receipt: {:#?}", self.stuck());
    }

    fn stuck(&self) -> Vec<(Outgoing, UploadRow)> {
        self.ledger.outbox(Seq(0), 5)
    }

    fn run_until(&mut self, end: i64, done: impl Fn(&World) -> bool) {
        while self.ms < end && !done(self) {
            self.turn();
            let now = self.now();
            let timeout = self.courier.poll_timeout(now).duration_since(self.origin).as_millis() as i64;
            let answer = self.answers.iter().map(|(at, ..)| *at).min().unwrap_or(i64::MAX);
            self.ms = timeout.min(answer).max(self.ms + 1).min(end);
        }
    }

    /// Everything that happens at this millisecond.
    fn turn(&mut self) {
        let now = self.now();
        while let Some(place) = self.answers.iter().position(|(at, ..)| *at <= self.ms) {
            let Some((_, call, outcome)) = self.answers.remove(place) else { break };
            self.courier.handle_outcome(now, call, outcome);
            if self.crash_happens() {
                return;
            }
        }
        self.store_steps();
        while let Some(read) = self.courier.poll_read(now) {
            let rows = self.read(&read);
            self.courier.handle_rows(now, &read, rows);
            self.store_steps();
        }
        self.largest_window = self.largest_window.max(self.courier.window.len());
        let mut orders = Vec::new();
        while let Some(order) = self.courier.poll_transmit(now) {
            orders.push(order);
        }
        self.store_steps();
        for order in orders {
            if let Some(step) = order.sending.clone() {
                self.ledger.store(step);
            }
            if self.crash_happens() {
                return;
            }
            self.send(now, order);
            if self.crash_happens() {
                return;
            }
        }
    }

    fn store_steps(&mut self) {
        while let Some(step) = self.courier.poll_step() {
            self.ledger.store(step);
        }
    }

    fn read(&self, read: &Read) -> Vec<(Outgoing, UploadRow)> {
        match read {
            Read::Outbox { after, limit, .. } => self.ledger.outbox(*after, *limit),
            Read::Punches(punches) => {
                let outs = punches.iter().map(|punch| &self.ledger.punches[&self.ledger.places[punch]]);
                outs.map(|out| (out.clone(), self.ledger.row(out.punch))).collect()
            }
        }
    }

    fn send(&mut self, now: Now, order: Order) {
        let sent = now.instant;
        self.check_against_roster(&order.request);
        let (delay, outcome) = match self.platform.hear(self.ms, &order.request) {
            Heard::Answer((status, body)) => {
                let answer = self.profile.read(&order.request, status, body.as_bytes());
                (self.platform.rng.random_range(5..300), Outcome::Answered { answer, sent })
            }
            Heard::NotSent => (5, Outcome::NotSent { text: "connection refused".to_owned() }),
            Heard::Lost => (30_000, Outcome::Lost { text: "no answer in time".to_owned(), sent }),
        };
        self.answers.push_back((self.ms + delay, order.call, outcome));
    }

    /// What leaves is what the roster says at that moment.
    fn check_against_roster(&mut self, request: &Request) {
        let roster = &self.ledger.workers;
        let (mut moves, mut workers): (&[Move], Vec<(&TeamPlace, &Worker)>) = (&[], Vec::new());
        match request {
            Request::AddMoves { moves: sent, .. } => moves = sent,
            Request::AddWorkers { place, workers: sent } => workers = sent.iter().map(|one| (place, one)).collect(),
            Request::UpdateWorker { place, worker } => workers.push((place, worker.as_ref())),
            _ => {}
        }
        let date_of = |one: &Move| match (roster.get(&one.worker.worker_id), one.kind) {
            (Some(worker), MoveKind::Entry) => worker.entered_on,
            (Some(worker), MoveKind::Exit) => worker.left_on,
            (None, _) => None,
        };
        let is_stale = moves.iter().any(|one| date_of(one) != Some(one.date));
        let is_misplaced =
            workers.iter().any(|(place, one)| roster.get(&one.worker_id).map(|now| &now.team) != Some(&place.team));
        if is_stale || is_misplaced {
            self.platform.violations.push(format!("the roster says otherwise: {request:?}"));
        }
    }
}

fn build(now: Now, settings: &Settings, ledger: &Ledger) -> Courier {
    let profile = Profile::of(&settings.platform, settings.utc_offset).unwrap();
    Courier::new(now, settings.clone(), Arc::new(profile), ledger.restored())
}
