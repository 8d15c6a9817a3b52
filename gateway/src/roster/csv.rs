//! The roster file: CSV to workers and their pictures, all rows or none.
//!
//! Every bad row is reported with its line, column, value (masked where personal) and reason; as long as there is one,
//! there are no workers. Columns come in any order; `worker_id`, `name`, `id_number`, `employer`, `team` and `trade` must
//! be there, the others may be missing.

use std::collections::HashMap;

use super::badge::{low_24_bits, may_be_the_same};
use super::photo::{NamedPhoto, Photo};
use super::row::Row;
use super::{RosterFile, RowProblem, half_width};
use crate::config::Employer;
use crate::punch::{BadgeOnRoster, TeamKey, Worker, WorkerId};

/// Columns that a file must have.
const REQUIRED: [&str; 6] = ["worker_id", "name", "id_number", "employer", "team", "trade"];
/// Columns that it may have.
const OPTIONAL: [&str; 16] = [
    "badge",
    "phone",
    "bank_card",
    "entered_on",
    "left_on",
    "leader",
    "gender",
    "birth",
    "nation",
    "address",
    "issuer",
    "valid_from",
    "valid_to",
    "politics",
    "education",
    "photo",
];

/// Reads a roster file. On failure every problem of every row, in the order of the file.
pub fn parse(csv: &[u8], employers: &[Employer]) -> Result<RosterFile, Vec<RowProblem>> {
    let text = decode(csv).map_err(|reason| vec![whole_file(reason)])?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut records = reader.records();
    let Some(header) = records.next() else { return Err(vec![whole_file("the file is empty".to_owned())]) };
    let columns = header.map_err(|error| vec![unreadable(&error)]).and_then(|header| columns(&header))?;
    let mut file = File { employers, seen: Seen::default(), good: RosterFile::default(), problems: Vec::new() };
    for record in records {
        match record {
            Ok(record) => file.take(&columns, &record, line_of(text, &record)),
            Err(error) => file.problems.push(unreadable(&error)),
        }
    }
    match file.problems.is_empty() {
        true => Ok(file.good),
        false => Err(file.problems),
    }
}

/// UTF-8 text, or what to do to get it.
fn decode(csv: &[u8]) -> Result<&str, String> {
    if csv.starts_with(&[0xFF, 0xFE]) || csv.starts_with(&[0xFE, 0xFF]) {
        return Err("the file is UTF-16 (\"Unicode text\"); save it as \"CSV UTF-8\"".to_owned());
    }
    let text = std::str::from_utf8(csv).map_err(|error| {
        let line = csv[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!(
            "line {line} is not UTF-8; spreadsheets save plain CSV as GB18030 (GBK): save it as \"CSV UTF-8\" \
             (另存为 → CSV UTF-8)"
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The column names, checked.
fn columns(header: &csv::StringRecord) -> Result<Vec<String>, Vec<RowProblem>> {
    let names: Vec<String> = header.iter().map(|name| half_width(name).trim().to_lowercase()).collect();
    if let [only] = names.as_slice()
        && let Some(separator) = only.chars().find(|c| ";\t".contains(*c))
    {
        let reason = format!("columns are separated by {separator:?}; separate them by commas");
        return Err(vec![in_header(only, &reason)]);
    }
    let known = |name: &str| REQUIRED.contains(&name) || OPTIONAL.contains(&name);
    let mut problems = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if !known(name) {
            let all = REQUIRED.iter().chain(&OPTIONAL).copied().collect::<Vec<_>>().join(", ");
            problems.push(in_header(name, &format!("is not a known column; known are {all}")));
        } else if names[..at].contains(name) {
            problems.push(in_header(name, "stands twice in the header"));
        }
    }
    for name in REQUIRED.iter().filter(|name| !names.iter().any(|n| n == *name)) {
        problems.push(in_header(name, "is missing in the header, which is the first line of the file"));
    }
    match problems.is_empty() {
        true => Ok(names),
        false => Err(problems),
    }
}

/// What was read so far.
struct File<'e> {
    employers: &'e [Employer],
    seen: Seen,
    good: RosterFile,
    problems: Vec<RowProblem>,
}

impl File<'_> {
    fn take(&mut self, columns: &[String], record: &csv::StringRecord, line: u64) {
        if record.iter().all(|cell| cell.trim().is_empty()) {
            return;
        }
        let mut row = Row::new(columns, record, line);
        if record.len() != columns.len() {
            let reason = format!(
                "has {} columns instead of {}; a value with a comma in it stands in double quotes",
                record.len(),
                columns.len()
            );
            row.problem(None, None, reason);
        }
        if let Some((worker, photo)) = worker(&mut row, self.employers) {
            self.seen.check(&worker, &mut row);
            self.keep(worker, photo, line);
        }
        self.problems.append(&mut row.problems);
    }

    fn keep(&mut self, worker: Worker, photo: Option<Photo>, line: u64) {
        match photo {
            Some(Photo::Named(hash)) => {
                self.good.named.push(NamedPhoto { line: Some(line), worker: worker.worker_id.clone(), hash });
            }
            Some(Photo::Brought(hash, jpeg)) => {
                self.good.pictures.insert(hash, jpeg);
            }
            None => {}
        }
        self.good.workers.push(worker);
    }
}

fn worker(row: &mut Row<'_>, employers: &[Employer]) -> Option<(Worker, Option<Photo>)> {
    let worker_id = row.worker_id();
    let name = row.required("name", 50);
    let id_number = row.id_number();
    let employer = row.employer(employers);
    let team = row.required("team", 50);
    let trade = row.trade();
    let (entered_on, left_on) = row.stay();
    let badge = row.badge();
    let phone = row.phone();
    let bank_card = row.bank_card();
    let leader = row.flag("leader");
    let gender = row.one_of("gender", &["男", "女"]);
    let birth = row.birth(id_number.as_ref());
    let nation = row.optional("nation", 20);
    let address = row.optional("address", 200);
    let issuer = row.optional("issuer", 100);
    let valid_from = row.date("valid_from");
    let valid_to = row.valid_to();
    let politics = row.code("politics", super::codes::politics);
    let education = row.code("education", super::codes::education);
    let photo = row.photo();
    let worker = Worker {
        worker_id: WorkerId(worker_id?),
        name: name?,
        id_number: id_number?.as_str().to_owned(),
        team: TeamKey { employer: employer?, name: team? },
        trade: trade?,
        badge,
        phone,
        bank_card,
        entered_on,
        left_on,
        leader,
        gender,
        birth,
        nation,
        address,
        issuer,
        valid_from,
        valid_to,
        politics,
        education,
        photo: photo.as_ref().map(Photo::hash),
    };
    Some((worker, photo))
}

/// What must stand in one row only, and the line where it stood first.
#[derive(Default)]
struct Seen {
    worker_ids: HashMap<String, u64>,
    id_numbers: HashMap<String, u64>,
    /// By the bits that every written form has.
    badges: HashMap<u32, Vec<(BadgeOnRoster, u64)>>,
}

impl Seen {
    fn check(&mut self, worker: &Worker, row: &mut Row<'_>) {
        let line = row.line;
        if let Some(first) = insert(&mut self.worker_ids, worker.worker_id.as_str(), line) {
            row.cell_problem("worker_id", format!("stands in line {first} too"));
        }
        if let Some(first) = insert(&mut self.id_numbers, &worker.id_number, line) {
            row.cell_problem("id_number", format!("stands in line {first} too; one person has one row"));
        }
        let Some(badge) = worker.badge else { return };
        let alike = self.badges.entry(low_24_bits(badge)).or_default();
        if let Some((_, first)) = alike.iter().find(|(other, _)| may_be_the_same(*other, badge)) {
            row.cell_problem(
                "badge",
                format!("is, or may be, the same card as in line {first}; one card has one worker"),
            );
        }
        alike.push((badge, line));
    }
}

fn insert(seen: &mut HashMap<String, u64>, value: &str, line: u64) -> Option<u64> {
    let first = seen.get(value).copied();
    seen.entry(value.to_owned()).or_insert(line);
    first
}

/// The line in which a record's first character stands. The parser's own position lies before the empty lines that it
/// skips.
fn line_of(text: &str, record: &csv::StringRecord) -> u64 {
    let Some(position) = record.position() else { return 0 };
    let rest = text.as_bytes().get(position.byte() as usize..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).filter(|byte| **byte == b'\n').count();
    position.line() + skipped as u64
}

fn whole_file(reason: String) -> RowProblem {
    RowProblem { reason, ..RowProblem::default() }
}

fn in_header(column: &str, reason: &str) -> RowProblem {
    let column = Some(column.chars().take(60).collect());
    RowProblem { line: Some(1), column, reason: reason.to_owned(), ..RowProblem::default() }
}

/// Text that is UTF-8 and whose rows may have any length is always readable; this is for what the parser may add.
fn unreadable(error: &csv::Error) -> RowProblem {
    let line = error.position().map(csv::Position::line);
    RowProblem { line, reason: format!("cannot be read as CSV: {error}"), ..RowProblem::default() }
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
