//! A platform that checks what real ones check, and misbehaves from a seed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::Offset;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::wire::{self, Body, Ending, Lists, number};
use crate::config::Employer;
use crate::punch::TeamKey;
use crate::upload::profiles::{Attendance, Method, Move, MoveKind, PunchKey, Request, Whom};

/// What goes wrong, each with its probability.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// The answer is lost; whether the work was taken says [`ModelPlatform::takes_lost`].
    pub lost: f64,
    /// HTTP 500 or "Internal Error".
    pub stumble: f64,
    pub too_fast: f64,
    /// A job ends with "Internal Error", half of the time after the work was done.
    pub job_stumble: f64,
    /// A job fails as a whole, without a reason.
    pub job_fails: f64,
    /// Code 0 and nothing in it.
    pub hollow: f64,
    /// A list has no rows, whatever its total says.
    pub empty_lists: f64,
}

/// The platform.
pub struct ModelPlatform {
    pub rng: StdRng,
    pub trouble: Trouble,
    /// How probably the work of a request was taken whose answer is lost, a stumble or hollow.
    pub takes_lost: f64,
    /// Methods whose answers are always lost.
    pub loses: BTreeSet<Method>,
    pub down: bool,
    pub bad_key: bool,
    /// ID numbers whose items are refused, with the text; `{i}` is the item's index.
    pub refuses: BTreeMap<String, String>,
    /// Days of entries and exits that the platform does not take.
    pub refuses_days: BTreeSet<Date>,
    pub employers: BTreeSet<String>,
    pub teams: BTreeMap<(String, String), String>,
    pub workers: BTreeMap<String, String>,
    /// Per worker, in the order of their arrival.
    pub moves: BTreeMap<String, Vec<(Date, MoveKind)>>,
    pub exits: Vec<(String, i64)>,
    /// Accepted attendance in order, with the team.
    pub book: Vec<(PunchKey, String)>,
    jobs: BTreeMap<String, (i64, Request)>,
    done: BTreeMap<String, Ending>,
    last_request: BTreeMap<Method, i64>,
    pub violations: Vec<String>,
    pub requests: u64,
    pub received: BTreeMap<Method, u32>,
    pub lists: Lists,
    /// Lists that the platform does not give to this site.
    pub denies: BTreeSet<Method>,
    /// An update with another team is done, and changes no team.
    pub keeps_teams: bool,
    /// A bad item is named twice.
    pub names_items_twice: bool,
    /// A batch with a bad item is taken up to that item.
    pub takes_parts: bool,
}

/// How a request ended.
pub enum Heard {
    Answer(Body),
    NotSent,
    Lost,
}

impl ModelPlatform {
    pub fn new(seed: u64) -> ModelPlatform {
        ModelPlatform {
            rng: StdRng::seed_from_u64(seed),
            trouble: Trouble::default(),
            takes_lost: 0.5,
            loses: BTreeSet::new(),
            down: false,
            bad_key: false,
            refuses: BTreeMap::new(),
            refuses_days: BTreeSet::new(),
            employers: BTreeSet::new(),
            teams: BTreeMap::new(),
            workers: BTreeMap::new(),
            moves: BTreeMap::new(),
            exits: Vec::new(),
            book: Vec::new(),
            jobs: BTreeMap::new(),
            done: BTreeMap::new(),
            last_request: BTreeMap::new(),
            violations: Vec::new(),
            requests: 0,
            received: BTreeMap::new(),
            lists: Lists::Whole,
            denies: BTreeSet::new(),
            keeps_teams: false,
            names_items_twice: false,
            takes_parts: false,
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
        *self.received.entry(method).or_default() += 1;
        self.finish_jobs(now);
        if self.bad_key {
            return Heard::Answer(wire::error(-2, "签名校验错误"));
        }
        if self.denies.contains(&method) {
            return Heard::Answer(wire::error(-3, "无API访问权限"));
        }
        let trouble = self.trouble;
        if self.rng.random_bool(trouble.too_fast) {
            return Heard::Answer(wire::error(-5, "访问超过限制"));
        }
        let lost = self.loses.contains(&method) || self.rng.random_bool(trouble.lost);
        let stumbles = self.rng.random_bool(trouble.stumble);
        let is_hollow = self.rng.random_bool(trouble.hollow);
        let works = !(lost || stumbles || is_hollow) || self.rng.random_bool(self.takes_lost);
        let answer = works.then(|| self.serve(now, request));
        match answer {
            _ if lost => Heard::Lost,
            _ if stumbles && self.rng.random_bool(0.5) => Heard::Answer((500, "oops".to_owned())),
            Some(answer) if !(stumbles || is_hollow) => Heard::Answer(answer),
            _ if is_hollow => Heard::Answer(wire::ok(json!({}))),
            _ => Heard::Answer(wire::error(-1, "Internal Error")),
        }
    }

    fn serve(&mut self, now: i64, request: &Request) -> Body {
        let lists = if self.rng.random_bool(self.trouble.empty_lists) { Lists::Empty } else { self.lists };
        match request {
            Request::QueryJob { serial } => match self.done.get(serial) {
                Some(ending) => wire::job(ending),
                None if self.jobs.contains_key(serial) => wire::ok(json!({ "status": 0, "result": null })),
                None => wire::error(-1, "no such serial code"),
            },
            Request::QueryEmployers { employer, page } => {
                let codes = self.employers.iter().filter(|code| **code == employer.credit_code);
                wire::page(codes.map(|code| json!({ "corpCode": code })).collect(), *page, lists)
            }
            Request::QueryTeams { team, page, .. } => {
                let all = self.teams.iter().filter(|((_, name), _)| *name == team.name);
                let rows = all.map(
                    |((code, name), given)| json!({ "teamName": name, "corpCode": code, "teamSysNo": number(given) }),
                );
                wire::page(rows.collect(), *page, lists)
            }
            Request::QueryWorkers { whom, page } => {
                let is_asked_for = |(id, team): &(&String, &String)| match whom {
                    Whom::Team(number) => *team == number,
                    Whom::Worker(number) => *id == number,
                };
                let asked_for = self.workers.iter().filter(is_asked_for);
                let rows = asked_for.map(|(id, team)| json!({ "idCardNumber": id, "teamSysNo": number(team) }));
                wire::page(rows.collect(), *page, lists)
            }
            Request::QueryMoves { team_number, page } => {
                let here = self.moves.iter().filter(|(id, _)| self.workers.get(*id) == Some(team_number));
                let moves = here.flat_map(|(id, moves)| moves.iter().map(move |(date, kind)| (id, *date, *kind)));
                wire::page(moves.map(|(id, date, kind)| wire::move_row(id, date, kind)).collect(), *page, lists)
            }
            Request::QueryAttendance { team_number, date, page } => {
                let day = date.to_string();
                let rows = self.book.iter().filter(|(key, team)| team == team_number && key.date.starts_with(&day));
                wire::page(rows.map(|(key, team)| wire::punch_row(key, team)).collect(), *page, lists)
            }
            Request::AddEmployer { .. }
            | Request::AddTeam { .. }
            | Request::AddWorkers { .. }
            | Request::UpdateWorker { .. }
            | Request::AddMoves { .. }
            | Request::AddAttendance { .. } => {
                let serial = format!("job-{}", self.jobs.len() + 1);
                // Jobs are worked on in the order of their arrival.
                let last = self.jobs.values().map(|(ready, _)| *ready).max().unwrap_or(0);
                let ready = (now + self.rng.random_range(500..6_000)).max(last + 1);
                self.jobs.insert(serial.clone(), (ready, request.clone()));
                wire::ok(json!({ "requestSerialCode": serial }))
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
                Err("处理失败".to_owned())
            } else if self.rng.random_bool(trouble.job_stumble) {
                if self.rng.random_bool(0.5) {
                    // What the work says is lost in the stumble.
                    let _ = self.work(&request);
                }
                Err("Internal Error".to_owned())
            } else {
                self.work(&request)
            };
            self.done.insert(serial, ending);
        }
    }

    fn work(&mut self, request: &Request) -> Ending {
        match request {
            Request::AddEmployer { employer } => match self.employers.insert(employer.credit_code.clone()) {
                true => Ok(Value::Null),
                false => exists(),
            },
            Request::AddTeam { employer, team, .. } => self.add_team(employer, team),
            Request::AddWorkers { place, workers } => {
                assert!(workers.len() <= 5);
                let ids: Vec<&String> = workers.iter().map(|worker| &worker.id_number).collect();
                if let Some((_, text)) = self.refusal(&ids) {
                    return Err(text);
                }
                if ids.iter().any(|id| self.workers.contains_key(*id)) {
                    return exists();
                }
                for id in ids {
                    self.workers.insert(id.clone(), place.number.clone());
                }
                Ok(Value::Null)
            }
            Request::UpdateWorker { place, worker } => self.update_worker(&place.number, &worker.id_number),
            Request::AddMoves { moves, .. } => self.add_moves(moves),
            Request::AddAttendance { team_number, punches, .. } => self.add_attendance(team_number, punches),
            Request::QueryJob { .. }
            | Request::QueryEmployers { .. }
            | Request::QueryTeams { .. }
            | Request::QueryWorkers { .. }
            | Request::QueryMoves { .. }
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
        let given = format!("{}", 1_700_000_001 + self.teams.len());
        self.teams.insert(key, given.clone());
        Ok(json!({ "teamSysNo": number(&given) }))
    }

    fn update_worker(&mut self, team_number: &str, id_number: &str) -> Ending {
        if let Some((_, text)) = self.refusal(&[&id_number.to_owned()]) {
            return Err(text);
        }
        let Some(number) = self.workers.get_mut(id_number) else { return Err("工人不存在".to_owned()) };
        if !self.keeps_teams {
            team_number.clone_into(number);
        }
        Ok(Value::Null)
    }

    fn add_moves(&mut self, moves: &[Move]) -> Ending {
        let mut wrong = Vec::new();
        for (index, one) in moves.iter().enumerate() {
            let id = &one.worker.id_number;
            self.expect(self.workers.contains_key(id), "a move before its worker");
            if self.refuses_days.contains(&one.date) {
                wrong.push(format!("[workerList][{index}][date]值无效!"));
                continue;
            }
            let before = self.moves.get(id).cloned().unwrap_or_default();
            if before.contains(&(one.date, one.kind)) {
                wrong.push(format!("[workerList][{index}][date]进退场记录已存在"));
                continue;
            }
            let last = before.last().copied();
            let is_on_site = last.is_some_and(|(_, kind)| kind == MoveKind::Entry);
            self.expect(last.is_none_or(|(date, _)| date <= one.date), "a move before an earlier one");
            self.expect(is_on_site == (one.kind == MoveKind::Exit), "two entries or two exits in a row");
        }
        if !wrong.is_empty() {
            return Err(wrong.join(";"));
        }
        for one in moves {
            let id = one.worker.id_number.clone();
            if one.kind == MoveKind::Exit {
                self.exits.push((id.clone(), self.book.len() as i64));
            }
            self.moves.entry(id).or_default().push((one.date, one.kind));
        }
        Ok(Value::Null)
    }

    fn is_on_site(&self, id_number: &str) -> bool {
        let last = self.moves.get(id_number).and_then(|moves| moves.last());
        last.is_some_and(|(_, kind)| *kind == MoveKind::Entry)
    }

    fn add_attendance(&mut self, team_number: &str, punches: &[Attendance]) -> Ending {
        assert!(punches.len() <= 20);
        let ids: Vec<&String> = punches.iter().map(|punch| &punch.id_number).collect();
        let refusal = self.refusal(&ids);
        let taken = match &refusal {
            Some((index, _)) if self.takes_parts => *index,
            Some((_, text)) => return Err(text.clone()),
            None => punches.len(),
        };
        for punch in &punches[..taken] {
            self.expect(self.is_on_site(&punch.id_number), "attendance of somebody who is not on site");
            let at_home = self.workers.get(&punch.id_number).is_some_and(|number| number == team_number);
            self.expect(at_home, "attendance in a foreign team");
            let timestamp = jiff::Timestamp::from_millisecond(punch.out.time.0).unwrap();
            let date = Offset::constant(8).to_datetime(timestamp).strftime("%Y-%m-%d %H:%M:%S").to_string();
            let key = PunchKey { id_number: punch.id_number.clone(), date, direction: punch.out.direction };
            self.book.push((key, team_number.to_owned()));
        }
        refusal.map_or(Ok(Value::Null), |(_, text)| Err(text))
    }

    /// The first bad item, and what is said of it.
    fn refusal(&self, ids: &[&String]) -> Option<(usize, String)> {
        let bad = ids.iter().enumerate().find_map(|(index, id)| Some((index, self.refuses.get(*id)?)));
        let (index, text) = bad?;
        let text = text.replace("{i}", &index.to_string());
        Some((index, if self.names_items_twice { format!("{text};{text}") } else { text }))
    }

    fn expect(&mut self, holds: bool, violation: &str) {
        if !holds {
            self.violations.push(violation.to_owned());
        }
    }
}

fn exists() -> Ending {
    Err("已存在".to_owned())
}
