//! A ledger and a platform in memory, and a virtual clock: what the courier's stories are played on.
//!
//! The platform checks what real ones check (order of registration, rate, batch limits) and, when told to, misbehaves from
//! a seed. The ledger keeps only what was stored, so a courier can be killed at any step and built again from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::civil::date;
use jiff::tz::Offset;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::clock::Clock;
use crate::config::{AesKey, ProfileKind, Secret};
use crate::punch::{
    Direction, Method as PunchMethod, PlatformName, PunchId, Seq, TeamKey, UploadState, Worker, WorkerId,
};
use crate::store::{Outgoing, UploadRow};
use crate::upload::profiles::{ItemError, PunchKey, Rows, TeamRow, WorkerRow};

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

/// Every step that was stored, and the view of it.
#[derive(Default)]
pub struct Ledger {
    pub steps: Vec<UploadStep>,
    pub rows: BTreeMap<Subject, UploadRow>,
    pub workers: BTreeMap<WorkerId, Worker>,
    pub punches: BTreeMap<Seq, Outgoing>,
    places: BTreeMap<PunchId, Seq>,
    last_job: u64,
}

impl Ledger {
    pub fn store(&mut self, step: UploadStep) {
        self.last_job = self.last_job.max(step.job.0);
        for subject in &step.subjects {
            let row = self.rows.entry(subject.clone()).or_insert_with(queued);
            row.changed_at = step.at;
            row.serial = None;
            (row.state, row.reason) = match &step.step {
                Step::Waiting { reason } => (UploadState::Waiting, Some(reason.clone())),
                Step::Sending { .. } => {
                    row.attempts += 1;
                    row.job = Some((step.job, step.method.clone()));
                    (UploadState::Sending, None)
                }
                Step::Accepted { serial } => {
                    row.serial = Some(serial.clone());
                    (UploadState::Accepted, None)
                }
                Step::Confirmed { external, .. } => {
                    row.external = external.clone();
                    (UploadState::Confirmed, None)
                }
                Step::Refused { reason } => (UploadState::Refused, Some(reason.clone())),
                Step::Requeued { reason } => (UploadState::Queued, Some(reason.clone())),
                Step::Unknown { reason } => (UploadState::Unknown, Some(reason.clone())),
            };
        }
        self.steps.push(step);
    }

    pub fn row(&self, punch: PunchId) -> UploadRow {
        self.rows.get(&Subject::Punch(punch)).cloned().unwrap_or_else(queued)
    }

    fn outbox(&self, after: Seq, limit: usize) -> Vec<(Outgoing, UploadRow)> {
        let open = self.punches.range(Seq(after.0 + 1)..).map(|(_, out)| (out.clone(), self.row(out.punch)));
        open.filter(|(_, row)| !row.state.is_settled()).take(limit).collect()
    }

    pub fn open(&self) -> usize {
        self.outbox(Seq(0), usize::MAX).len()
    }

    fn restored(&self) -> Restored {
        let registrations = self.rows.iter().filter(|(subject, _)| !matches!(subject, Subject::Punch(_)));
        let in_flight = self.outbox(Seq(0), usize::MAX).into_iter().filter(|(_, row)| {
            matches!(row.state, UploadState::Sending | UploadState::Accepted | UploadState::Unknown)
        });
        Restored {
            workers: self.workers.values().cloned().collect(),
            registrations: registrations.map(|(subject, row)| (subject.clone(), row.clone())).collect(),
            in_flight: in_flight.collect(),
            last_job: self.last_job,
            refused_punches: 0,
        }
    }
}

fn queued() -> UploadRow {
    UploadRow {
        state: UploadState::Queued,
        attempts: 0,
        job: None,
        serial: None,
        external: None,
        reason: None,
        changed_at: UnixMs(0),
    }
}

/// What goes wrong, each with its probability.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// The answer is lost, half of the time after the work was taken.
    pub lost: f64,
    /// HTTP 500 or "Internal Error", half of the time after the work was taken.
    pub stumble: f64,
    pub too_fast: f64,
    /// A job ends with "Internal Error", half of the time after the work was done.
    pub job_stumble: f64,
    /// A job fails as a whole, without a reason.
    pub job_fails: f64,
}

/// The platform.
pub struct Platform_ {
    pub rng: StdRng,
    pub trouble: Trouble,
    pub down: bool,
    pub bad_key: bool,
    /// ID numbers whose items are refused, with the text; `{i}` is the item's index.
    pub refuses: BTreeMap<String, String>,
    pub employers: BTreeSet<String>,
    pub teams: BTreeMap<(String, String), String>,
    pub workers: BTreeMap<String, String>,
    /// Per worker: on site or not.
    pub entered: BTreeMap<String, bool>,
    pub exits: Vec<(String, i64)>,
    /// Accepted attendance in order, with the team.
    pub book: Vec<(PunchKey, String)>,
    jobs: BTreeMap<String, (i64, Request)>,
    done: BTreeMap<String, Ending>,
    last_request: BTreeMap<Method, i64>,
    pub violations: Vec<String>,
    pub requests: u64,
    pub lists_teams: bool,
}

enum Heard {
    Answer(Answer),
    NotSent,
    Lost,
}

impl Platform_ {
    fn new(seed: u64) -> Platform_ {
        Platform_ {
            rng: StdRng::seed_from_u64(seed),
            trouble: Trouble::default(),
            down: false,
            bad_key: false,
            refuses: BTreeMap::new(),
            employers: BTreeSet::new(),
            teams: BTreeMap::new(),
            workers: BTreeMap::new(),
            entered: BTreeMap::new(),
            exits: Vec::new(),
            book: Vec::new(),
            jobs: BTreeMap::new(),
            done: BTreeMap::new(),
            last_request: BTreeMap::new(),
            violations: Vec::new(),
            requests: 0,
            lists_teams: true,
        }
    }

    /// Copies of accepted punches.
    pub fn copies(&self) -> usize {
        let different: BTreeSet<&PunchKey> = self.book.iter().map(|(key, _)| key).collect();
        self.book.len() - different.len()
    }

    fn hear(&mut self, now: i64, request: &Request) -> Heard {
        if self.down {
            return Heard::NotSent;
        }
        self.requests += 1;
        let method = request.method();
        if self.last_request.get(&method).is_some_and(|last| now - last < 1_000) {
            self.violations.push(format!("{method:?} came {} ms after the last", now - self.last_request[&method]));
        }
        self.last_request.insert(method, now);
        self.finish_jobs(now);
        if self.bad_key {
            return Heard::Answer(Answer::Stop { text: "-2: 签名校验错误".to_owned() });
        }
        let trouble = self.trouble;
        if self.rng.random_bool(trouble.too_fast) {
            return Heard::Answer(Answer::TryLater { text: "-5".to_owned(), slow_down: true });
        }
        let lost = self.rng.random_bool(trouble.lost);
        let stumbles = self.rng.random_bool(trouble.stumble);
        let works = !(lost || stumbles) || self.rng.random_bool(0.5);
        let answer = works.then(|| self.serve(now, request));
        match answer {
            _ if lost => Heard::Lost,
            _ if stumbles && self.rng.random_bool(0.5) => {
                Heard::Answer(Answer::Garbled { text: "HTTP 500".to_owned() })
            }
            Some(answer) if !stumbles => Heard::Answer(answer),
            _ => Heard::Answer(Answer::Ended(Ending::Unclear { text: "Internal Error".to_owned() })),
        }
    }

    fn serve(&mut self, now: i64, request: &Request) -> Answer {
        match request {
            Request::QueryJob { serial } => match self.done.get(serial) {
                Some(ending) => Answer::JobEnded(ending.clone()),
                None if self.jobs.contains_key(serial) => Answer::JobPending,
                None => Answer::Ended(failed("no such serial code")),
            },
            Request::QueryTeams { team, .. } => {
                let all = self.teams.iter().filter(|_| self.lists_teams).filter(|((_, name), _)| *name == team.name);
                let row = |((code, name), number): (&(String, String), &String)| TeamRow {
                    name: name.clone(),
                    corp_code: Some(code.clone()),
                    number: number.clone(),
                };
                Answer::Teams(page(all.map(row).collect(), 0))
            }
            Request::QueryWorkers { id_number, .. } => {
                let row =
                    |number: &String| WorkerRow { id_number: id_number.clone(), team_number: Some(number.clone()) };
                Answer::Workers(page(self.workers.get(id_number).map(row).into_iter().collect(), 0))
            }
            Request::QueryAttendance { team_number, date, page: number } => {
                let day = date.to_string();
                let rows = self.book.iter().filter(|(key, team)| team == team_number && key.date.starts_with(&day));
                Answer::Attendance(page(rows.map(|(key, _)| key.clone()).collect(), *number))
            }
            Request::AddEmployer { .. }
            | Request::AddTeam { .. }
            | Request::AddWorkers { .. }
            | Request::AddMoves { .. }
            | Request::AddAttendance { .. } => {
                let serial = format!("job-{}", self.jobs.len() + 1);
                // Jobs are worked on in the order of their arrival.
                let last = self.jobs.values().map(|(ready, _)| *ready).max().unwrap_or(0);
                let ready = (now + self.rng.random_range(500..6_000)).max(last + 1);
                self.jobs.insert(serial.clone(), (ready, request.clone()));
                Answer::Accepted { serial }
            }
        }
    }

    fn finish_jobs(&mut self, now: i64) {
        let due = self.jobs.iter().filter(|(serial, (ready, _))| *ready <= now && !self.done.contains_key(*serial));
        let mut due: Vec<(i64, String, Request)> =
            due.map(|(serial, (ready, request))| (*ready, serial.clone(), request.clone())).collect();
        due.sort_by_key(|(ready, ..)| *ready);
        for (_, serial, request) in due {
            let trouble = self.trouble;
            let ending = if self.rng.random_bool(trouble.job_fails) {
                failed("处理失败")
            } else if self.rng.random_bool(trouble.job_stumble) {
                if self.rng.random_bool(0.5) {
                    self.work(&request);
                }
                Ending::Unclear { text: "Internal Error".to_owned() }
            } else {
                self.work(&request)
            };
            self.done.insert(serial, ending);
        }
    }

    fn work(&mut self, request: &Request) -> Ending {
        match request {
            Request::AddEmployer { employer } => match self.employers.insert(employer.credit_code.clone()) {
                true => Ending::Done { external: None },
                false => exists(),
            },
            Request::AddTeam { employer, team, .. } => self.add_team(employer, team),
            Request::AddWorkers { place, workers } => {
                assert!(workers.len() <= 5);
                let ids: Vec<&String> = workers.iter().map(|worker| &worker.id_number).collect();
                if let Some(refusal) = self.refusal(&ids) {
                    return refusal;
                }
                if ids.iter().any(|id| self.workers.contains_key(*id)) {
                    return exists();
                }
                for id in ids {
                    self.workers.insert(id.clone(), place.number.clone());
                }
                Ending::Done { external: None }
            }
            Request::AddMoves { moves, .. } => {
                for one in moves {
                    let id = one.worker.id_number.clone();
                    self.expect(self.workers.contains_key(&id), "a move before its worker");
                    self.entered.insert(id.clone(), one.kind == MoveKind::Entry);
                    if one.kind == MoveKind::Exit {
                        self.exits.push((id, self.book.len() as i64));
                    }
                }
                Ending::Done { external: None }
            }
            Request::AddAttendance { team_number, punches, .. } => self.add_attendance(team_number, punches),
            Request::QueryJob { .. }
            | Request::QueryTeams { .. }
            | Request::QueryWorkers { .. }
            | Request::QueryAttendance { .. } => unreachable!("queries make no jobs"),
        }
    }

    fn add_team(&mut self, employer: &Employer, team: &TeamKey) -> Ending {
        let known = employer.corp_type == "009" || self.employers.contains(&employer.credit_code);
        self.expect(known, "a team before its employer");
        let key = (employer.credit_code.clone(), team.name.clone());
        if self.teams.contains_key(&key) {
            return exists();
        }
        let number = format!("{}", 1_700_000_001 + self.teams.len());
        self.teams.insert(key, number.clone());
        Ending::Done { external: Some(number) }
    }

    fn add_attendance(&mut self, team_number: &str, punches: &[crate::upload::profiles::Attendance]) -> Ending {
        assert!(punches.len() <= 20);
        let ids: Vec<&String> = punches.iter().map(|punch| &punch.id_number).collect();
        if let Some(refusal) = self.refusal(&ids) {
            return refusal;
        }
        for punch in punches {
            self.expect(self.entered.get(&punch.id_number) == Some(&true), "attendance before entry");
            let at_home = self.workers.get(&punch.id_number).is_some_and(|number| number == team_number);
            self.expect(at_home, "attendance in a foreign team");
            let timestamp = jiff::Timestamp::from_millisecond(punch.out.time.0).unwrap();
            let date = Offset::constant(8).to_datetime(timestamp).strftime("%Y-%m-%d %H:%M:%S").to_string();
            let key = PunchKey { id_number: punch.id_number.clone(), date, direction: punch.out.direction };
            self.book.push((key, team_number.to_owned()));
        }
        Ending::Done { external: None }
    }

    fn refusal(&self, ids: &[&String]) -> Option<Ending> {
        let bad = ids.iter().enumerate().find_map(|(index, id)| Some((index, self.refuses.get(*id)?)));
        let (index, text) = bad?;
        let text = text.replace("{i}", &index.to_string());
        Some(match text.contains("][") {
            true => Ending::Items(vec![ItemError { index, text, exists: false }]),
            false => failed(&text),
        })
    }

    fn expect(&mut self, holds: bool, violation: &str) {
        if !holds {
            self.violations.push(violation.to_owned());
        }
    }
}

fn failed(text: &str) -> Ending {
    Ending::Failed { text: text.to_owned(), names_field: false }
}

fn exists() -> Ending {
    Ending::Exists { text: "已存在".to_owned() }
}

fn page<T: Clone>(rows: Vec<T>, number: u32) -> Rows<T> {
    let total = Some(rows.len() as u64);
    let rows: Vec<T> = rows.into_iter().skip(number as usize * 50).take(50).collect();
    Rows { count: rows.len() as u64, rows, total }
}

/// Ledger, platform, clock and the courier between them.
pub struct World {
    pub settings: Settings,
    pub ledger: Ledger,
    pub platform: Platform_,
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
            settings,
            ledger: Ledger::default(),
            platform: Platform_::new(seed),
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
            method: PunchMethod::Face,
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
        let (delay, outcome) = match self.platform.hear(self.ms, &order.request) {
            Heard::Answer(answer) => (self.platform.rng.random_range(5..300), Outcome::Answered { answer, sent }),
            Heard::NotSent => (5, Outcome::NotSent { text: "connection refused".to_owned() }),
            Heard::Lost => (30_000, Outcome::Lost { text: "no answer in time".to_owned(), sent }),
        };
        self.answers.push_back((self.ms + delay, order.call, outcome));
    }
}

fn build(now: Now, settings: &Settings, ledger: &Ledger) -> Courier {
    let profile = Profile::of(&settings.platform, settings.utc_offset).unwrap();
    Courier::new(now, settings.clone(), Arc::new(profile), ledger.restored())
}
