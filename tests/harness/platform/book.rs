//! What the platform has accepted: registrations, attendance, and what broke the interface text.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One accepted punch, decrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attendance {
    pub id_number: String,
    /// `yyyy-MM-dd HH:mm:ss`, as sent.
    pub date: String,
    /// `01` in, `02` out.
    pub direction: String,
    pub team_number: u64,
    pub attend_type: String,
    pub has_image: bool,
    /// How often it was accepted; more than once is a copy.
    pub times: u32,
}

impl Attendance {
    /// What makes two punches the same.
    fn key(&self) -> (String, String, String) {
        (self.id_number.clone(), self.date.clone(), self.direction.clone())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    pub number: u64,
    pub corp_code: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    pub id_number: String,
    pub name: String,
    pub team_number: u64,
}

/// An entry (`1`) or exit (`0`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub id_number: String,
    pub date: String,
    pub kind: String,
}

impl Move {
    /// Whether it can come after this one: entries and exits take turns, and the days go on.
    pub(super) fn may_follow(&self, last: &Move) -> bool {
        self.kind != last.kind && self.date >= last.date
    }
}

/// More of them say nothing new.
const MOST_VIOLATIONS: usize = 1_000;

/// Everything that was accepted, in order.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Credit codes, the general contractor not among them.
    pub employers: Vec<String>,
    pub teams: Vec<Team>,
    pub workers: Vec<Worker>,
    pub moves: Vec<Move>,
    pub attendance: Vec<Attendance>,
    /// Requests that broke the interface text; the first thousands at most.
    pub violations: Vec<String>,
    /// Requests that arrived.
    pub requests: u64,
    places: HashMap<(String, String, String), usize>,
}

/// One accepted thing, as a line of the book's file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Line {
    Employer(String),
    Team(Team),
    Worker(Worker),
    Move(Move),
    Attendance(Attendance),
}

impl Book {
    /// Punches that were accepted more than once.
    pub fn copies(&self) -> usize {
        self.attendance.iter().filter(|punch| punch.times > 1).count()
    }

    /// Whether this punch was accepted.
    pub fn has(&self, id_number: &str, date: &str, direction: &str) -> bool {
        self.places.contains_key(&(id_number.to_owned(), date.to_owned(), direction.to_owned()))
    }

    pub(super) fn team(&self, number: u64) -> Option<&Team> {
        self.teams.iter().find(|team| team.number == number)
    }

    pub(super) fn worker(&self, id_number: &str) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.id_number == id_number)
    }

    pub(super) fn last_move(&self, id_number: &str) -> Option<Move> {
        self.moves.iter().rev().find(|one| one.id_number == id_number).cloned()
    }

    /// Whether the worker's last move was an entry.
    pub(super) fn is_on_site(&self, id_number: &str) -> bool {
        self.last_move(id_number).is_some_and(|one| one.kind == "1")
    }

    pub(super) fn add_violation(&mut self, text: String) {
        if self.violations.len() < MOST_VIOLATIONS {
            self.violations.push(text);
        }
    }

    /// Forgets the oldest punches when there are twice as many as these.
    pub(super) fn forget_beyond(&mut self, remembered: usize) {
        if self.attendance.len() < remembered.saturating_mul(2).max(1) {
            return;
        }
        self.attendance.drain(..self.attendance.len() - remembered);
        let place = |(place, punch): (usize, &Attendance)| (punch.key(), place);
        self.places = self.attendance.iter().enumerate().map(place).collect();
    }

    pub(super) fn add(&mut self, line: Line) {
        match line {
            Line::Employer(code) => self.employers.push(code),
            Line::Team(team) => self.teams.push(team),
            Line::Worker(worker) => match self.workers.iter_mut().find(|other| other.id_number == worker.id_number) {
                Some(known) => *known = worker,
                None => self.workers.push(worker),
            },
            Line::Move(one) => self.moves.push(one),
            Line::Attendance(punch) => {
                let key = punch.key();
                match self.places.get(&key) {
                    Some(place) => self.attendance[*place].times += 1,
                    None => {
                        self.places.insert(key, self.attendance.len());
                        self.attendance.push(punch);
                    }
                }
            }
        }
    }
}

/// The book's file: one JSON line per accepted thing.
pub(super) struct Keeper(Option<File>);

impl Keeper {
    /// Reads what is there, and goes on behind it. A line that was cut off is forgotten.
    pub(super) fn open(path: Option<&Path>, remembered: usize, book: &mut Book) -> io::Result<Keeper> {
        let Some(path) = path else { return Ok(Keeper(None)) };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let lines = BufReader::new(&file).lines().map_while(Result::ok);
        for line in lines.filter_map(|text| serde_json::from_str(&text).ok()) {
            book.add(line);
            book.forget_beyond(remembered);
        }
        file.write_all(b"\n")?;
        Ok(Keeper(Some(file)))
    }

    pub(super) fn write(&mut self, line: &Line) {
        let Some(file) = &mut self.0 else { return };
        let mut text = serde_json::to_vec(line).expect("plain data serialises");
        text.push(b'\n');
        file.write_all(&text).expect("the book's file takes a line");
    }
}
