//! What a job does, and what is answered.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use gateway::clock::Clock;
use serde_json::{Value, json};

use super::Options;
use super::book::{Attendance, Book, Keeper, Line, Move, Team, Worker};
use super::cipher;
use super::memory::{Nonces, Results};
use super::misbehaviour::JobFault;

/// Code, message and data of an answer.
pub type Answer = (String, String, Value);

/// Everything that one platform knows.
pub struct Platform {
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) book: Book,
    keeper: Keeper,
    pub(super) nonces: Nonces,
    jobs: VecDeque<Job>,
    results: Results,
    next_job: u64,
    pub rejects_key: bool,
    /// ID numbers whose items fail, and how.
    pub refusals: HashMap<String, String>,
}

struct Job {
    serial: String,
    ready_at: Instant,
    method: String,
    data: Value,
    fault: Option<JobFault>,
}

impl Platform {
    pub fn open(options: Options) -> std::io::Result<Platform> {
        let mut book = Book::default();
        let keeper = Keeper::open(options.book_file.as_deref(), options.remembered, &mut book)?;
        let clock = Clock::system();
        // Serial codes of an earlier run must not come again.
        let next_job = clock.now().0.unsigned_abs();
        Ok(Platform {
            options,
            clock,
            book,
            keeper,
            nonces: Nonces::default(),
            jobs: VecDeque::new(),
            results: Results::default(),
            next_job,
            rejects_key: false,
            refusals: HashMap::new(),
        })
    }

    pub fn book(&self) -> &Book {
        &self.book
    }

    pub fn now_and_interval(&self) -> (Instant, Duration) {
        (self.clock.instant(), self.options.min_interval)
    }

    pub fn violation(&mut self, text: String) {
        self.book.add_violation(text);
    }

    /// Answers a request. Writing requests only get a serial code; `fault` is what will happen to their job.
    pub fn handle(&mut self, params: &HashMap<String, String>, fault: Option<JobFault>) -> Answer {
        self.book.requests += 1;
        self.work_on_jobs();
        if self.rejects_key {
            return error("-2", "签名校验错误");
        }
        let (method, data) = match self.check_envelope(params) {
            Ok(checked) => checked,
            Err((code, text)) => {
                self.violation(text.clone());
                return error(code, &text);
            }
        };
        match method.as_str() {
            "AsyncHandleResult.Query" => self.job_result(&data),
            "ProjectSubContractor.Query" => self.list_employers(&data),
            "Team.Query" => self.list_teams(&data),
            "ProjectWorker.Query" => self.list_workers(&data),
            "WorkerEntryExit.Query" => self.list_moves(&data),
            "WorkerAttendance.Query" => self.list_attendance(&data),
            _ => self.take_job(method, data, fault),
        }
    }

    fn take_job(&mut self, method: String, data: Value, fault: Option<JobFault>) -> Answer {
        if let Err(text) = self.check_shape(&method, &data) {
            self.violation(format!("{method}: {text}"));
            return error("-1", &text);
        }
        self.next_job += 1;
        let serial = format!("{}-{}", method.to_lowercase().replace('.', "-"), self.next_job);
        let ready_at = self.clock.instant() + self.options.job_delay;
        self.jobs.push_back(Job { serial: serial.clone(), ready_at, method, data, fault });
        ok(json!({ "requestSerialCode": serial }))
    }

    pub(super) fn id_number(&self, row: &Value) -> Option<String> {
        cipher::open(&self.options.secret, row.get("idCardNumber")?.as_str()?)
    }

    /// Works on every job whose time has come, in the order of their arrival.
    pub fn work_on_jobs(&mut self) {
        let now = self.clock.instant();
        while self.jobs.front().is_some_and(|job| job.ready_at <= now) {
            let Some(job) = self.jobs.pop_front() else { break };
            let result = self.work(&job);
            self.results.keep(job.serial, result);
        }
    }

    fn work(&mut self, job: &Job) -> Value {
        let done = |result: Result<Value, String>| match result {
            Ok(result) => json!({ "status": 20, "result": result }),
            Err(text) => json!({ "status": "10", "result": text }),
        };
        match job.fault {
            Some(JobFault::Internal { works }) => {
                if works {
                    // What the work says is lost in the stumble.
                    let _ = self.apply(&job.method, &job.data);
                }
                done(Err("Internal Error".to_owned()))
            }
            Some(JobFault::Batch) => done(Err("处理失败".to_owned())),
            Some(JobFault::Item { pick }) => match list_of(&job.data) {
                Some((name, rows)) if !rows.is_empty() => {
                    // Whoever finds one thing wrong with an item may find another.
                    let item = format!("[{name}][{}]", pick % rows.len());
                    done(Err(format!("{item}[date]值无效!;{item}[idCardNumber]值无效!")))
                }
                _ => done(self.apply(&job.method, &job.data)),
            },
            None => done(self.apply(&job.method, &job.data)),
        }
    }

    /// Does a job's work: all of it or, with a text, nothing.
    fn apply(&mut self, method: &str, data: &Value) -> Result<Value, String> {
        if let Some(refusal) = self.refusal(data) {
            return Err(refusal);
        }
        match method {
            "ProjectSubContractor.Add" => self.add_employer(data),
            "Team.Add" => self.add_team(data),
            "ProjectWorker.Add" => self.add_workers(data),
            "ProjectWorker.Update" => self.update_worker(data),
            "WorkerEntryExit.Add" => self.add_moves(data),
            _ => self.add_attendance(data),
        }
    }

    fn refusal(&self, data: &Value) -> Option<String> {
        let (name, rows) = list_of(data)?;
        rows.iter().enumerate().find_map(|(index, row)| {
            let text = self.refusals.get(&self.id_number(row)?)?;
            Some(text.replace("{list}", name).replace("{i}", &index.to_string()))
        })
    }

    fn add_employer(&mut self, data: &Value) -> Result<Value, String> {
        let code = text(data, "corpCode").to_owned();
        if self.book.employers.contains(&code) || code == self.options.general_contractor {
            return Err(format!("项目中已存在企业:{code}"));
        }
        self.accept(Line::Employer(code));
        Ok(Value::Null)
    }

    fn add_team(&mut self, data: &Value) -> Result<Value, String> {
        let (corp_code, name) = (text(data, "corpCode").to_owned(), text(data, "teamName").to_owned());
        if !self.book.employers.contains(&corp_code) && corp_code != self.options.general_contractor {
            self.violation(format!("Team.Add: {corp_code} is not registered"));
            return Err("[corpCode]不存在".to_owned());
        }
        if self.book.teams.iter().any(|team| team.corp_code == corp_code && team.name == name) {
            return Err(format!("项目中已存在班组:{name}"));
        }
        let number = 1_700_000_001 + self.book.teams.len() as u64;
        self.accept(Line::Team(Team { number, corp_code, name }));
        Ok(json!({ "teamSysNo": number }))
    }

    fn add_workers(&mut self, data: &Value) -> Result<Value, String> {
        let team_number = self.known_team("ProjectWorker.Add", data)?;
        let mut workers = Vec::new();
        for row in rows_of(data) {
            let id_number = self.id_number(row).unwrap_or_default();
            if self.book.worker(&id_number).is_some() {
                return Err(format!("项目中已存在身份证为：{id_number}的工人!"));
            }
            workers.push(Worker { id_number, name: text(row, "workerName").to_owned(), team_number });
        }
        workers.into_iter().for_each(|worker| self.accept(Line::Worker(worker)));
        Ok(Value::Null)
    }

    fn update_worker(&mut self, data: &Value) -> Result<Value, String> {
        let team_number = self.known_team("ProjectWorker.Update", data)?;
        let id_number = self.id_number(data).unwrap_or_default();
        if self.book.worker(&id_number).is_none() {
            self.violation("ProjectWorker.Update: the worker is not registered".to_owned());
            return Err("[idCardNumber]工人不存在".to_owned());
        }
        self.accept(Line::Worker(Worker { id_number, name: text(data, "workerName").to_owned(), team_number }));
        Ok(Value::Null)
    }

    fn add_moves(&mut self, data: &Value) -> Result<Value, String> {
        self.known_team("WorkerEntryExit.Add", data)?;
        let (mut moves, mut wrong) = (Vec::new(), Vec::new());
        for (index, row) in rows_of(data).iter().enumerate() {
            let id_number = self.id_number(row).unwrap_or_default();
            let one = Move { date: text(row, "date").to_owned(), kind: text(row, "type").to_owned(), id_number };
            if self.book.worker(&one.id_number).is_none() {
                self.violation("WorkerEntryExit.Add: the worker is not registered".to_owned());
                wrong.push(format!("[workerList][{index}][idCardNumber]工人不存在"));
            } else if self.book.moves.contains(&one) {
                wrong.push(format!("[workerList][{index}][date]进退场记录已存在"));
            } else if let Some(last) = self.book.last_move(&one.id_number).filter(|last| !one.may_follow(last)) {
                let text = format!("WorkerEntryExit.Add: {} of {} after that of {}", one.kind, one.date, last.date);
                self.violation(text);
                wrong.push(format!("[workerList][{index}][date]不能小于历史进退场时间!"));
            } else {
                moves.push(one);
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.join(";"));
        }
        moves.into_iter().for_each(|one| self.accept(Line::Move(one)));
        Ok(Value::Null)
    }

    fn add_attendance(&mut self, data: &Value) -> Result<Value, String> {
        let team_number = self.known_team("WorkerAttendance.Add", data)?;
        let mut punches = Vec::new();
        for (index, row) in rows_of(data).iter().enumerate() {
            let id_number = self.id_number(row).unwrap_or_default();
            let at_home = self.book.worker(&id_number).is_some_and(|worker| worker.team_number == team_number);
            if !at_home || !self.book.is_on_site(&id_number) {
                self.violation(format!("WorkerAttendance.Add: worker {index} is not registered here or not entered"));
                return Err(format!("[dataList][{index}][idCardNumber]工人未进场"));
            }
            punches.push(Attendance {
                id_number,
                date: text(row, "date").to_owned(),
                direction: text(row, "direction").to_owned(),
                team_number,
                attend_type: text(row, "attendType").to_owned(),
                has_image: row.get("image").is_some(),
                times: 1,
            });
        }
        punches.into_iter().for_each(|punch| self.accept(Line::Attendance(punch)));
        self.book.forget_beyond(self.options.remembered);
        Ok(Value::Null)
    }

    fn known_team(&mut self, method: &str, data: &Value) -> Result<u64, String> {
        let number = data["teamSysNo"].as_u64().unwrap_or_default();
        if self.book.team(number).is_some() {
            return Ok(number);
        }
        self.violation(format!("{method}: team {number} is not registered"));
        Err("[teamSysNo]值超出范围或无效!".to_owned())
    }

    fn accept(&mut self, line: Line) {
        self.keeper.write(&line);
        self.book.add(line);
    }

    fn job_result(&self, data: &Value) -> Answer {
        let serial = text(data, "requestSerialCode");
        if let Some(result) = self.results.get(serial) {
            let mut result = result.clone();
            result["requestSerialCode"] = json!(serial);
            return ok(result);
        }
        if self.jobs.iter().any(|job| job.serial == serial) {
            return ok(json!({ "requestSerialCode": serial, "status": 0, "result": null }));
        }
        error("-1", "请求序列码不存在")
    }
}

pub(super) fn ok(data: Value) -> Answer {
    ("0".to_owned(), String::new(), data)
}

pub(super) fn error(code: &str, message: &str) -> Answer {
    (code.to_owned(), message.to_owned(), Value::Null)
}

pub(super) fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list_of(data: &Value) -> Option<(&'static str, &Vec<Value>)> {
    ["dataList", "workerList"].into_iter().find_map(|name| Some((name, data.get(name)?.as_array()?)))
}

fn rows_of(data: &Value) -> &[Value] {
    list_of(data).map_or(&[], |(_, rows)| rows)
}
