//! A platform that checks what real ones check, and misbehaves from a seed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::Offset;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::config::Employer;
use crate::punch::TeamKey;
use crate::upload::profiles::{
    Answer, Attendance, Ending, ItemError, Method, MoveKind, PunchKey, Request, Rows, TeamRow, WorkerRow,
};

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
pub struct ModelPlatform {
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

/// How a request ended.
pub enum Heard {
    Answer(Answer),
    NotSent,
    Lost,
}

impl ModelPlatform {
    pub fn new(seed: u64) -> ModelPlatform {
        ModelPlatform {
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

    pub fn hear(&mut self, now: i64, request: &Request) -> Heard {
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

    fn add_attendance(&mut self, team_number: &str, punches: &[Attendance]) -> Ending {
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
