//! Takes keys out of a TOML table and collects what is wrong with them.
//!
//! Reading never stops: a value that cannot be used is reported and replaced by its default, and the caller goes on. The
//! values of secrets and of unknown keys (which may be misspelt secrets) are never repeated in a problem.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Date;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Problem, Secret};

/// Files named by the configuration hold one line; anything larger is the wrong file.
const LARGEST_SECRET_BYTES: u64 = 16 * 1024;

/// One file being read: where it is, and everything wrong with it so far.
pub struct Report<'t> {
    file: &'t Path,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Report<'t> {
    /// Nothing is wrong yet.
    pub fn new(file: &'t Path, text: &'t str) -> Report<'t> {
        Report { file, text, problems: RefCell::default() }
    }

    /// All problems, in the order of the file.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    /// The line, from 1, in which the byte at `offset` stands.
    pub fn line_at(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    /// A path as written in the file: relative ones are relative to the file.
    pub fn resolve(&self, path: &str) -> PathBuf {
        match self.file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.join(path),
            Some(_) | None => PathBuf::from(path),
        }
    }

    /// Adds a problem at a line of this file.
    pub fn add(&self, line: Option<usize>, key: String, value: Option<String>, problem: String, remedy: String) {
        let file = self.file.to_owned();
        self.problems.borrow_mut().push(Problem { file, line, key, value, problem, remedy });
    }
}

/// One table: the root, a `[section]` or one of several `[[section]]`.
pub struct Section<'r> {
    report: &'r Report<'r>,
    /// Dotted, empty at the root; several of a kind are counted from 1.
    path: String,
    line: Option<usize>,
    table: Option<&'r DeTable<'r>>,
    /// Every key that was asked for; any other key in the table is unknown.
    known: BTreeSet<&'static str>,
}

impl<'r> Section<'r> {
    /// The whole file.
    pub fn root(report: &'r Report<'r>, table: &'r DeTable<'r>) -> Section<'r> {
        Section { report, path: String::new(), line: None, table: Some(table), known: BTreeSet::new() }
    }

    /// `[key]`; empty when the file has none.
    pub fn section(&mut self, key: &'static str) -> Section<'r> {
        let path = self.dotted(key);
        let value = self.take(key);
        let line = value.map(|value| self.report.line_at(value.span().start));
        let table = value.and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => {
                self.wrong_type(key, other, &format!("a section; write [{path}] on a line of its own"));
                None
            }
        });
        Section { report: self.report, path, line, table, known: BTreeSet::new() }
    }

    /// Every `[[key]]`, or every table of `key = [ {…} ]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'r>> {
        let path = self.dotted(key);
        let remedy = format!("a list of tables; write [[{path}]] on a line of its own");
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value.get_ref(), &remedy);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let DeValue::Table(table) = item.get_ref() else {
                self.wrong_type(key, item.get_ref(), &remedy);
                continue;
            };
            let path = format!("{path}[{}]", index + 1);
            let line = Some(self.report.line_at(item.span().start));
            sections.push(Section { report: self.report, path, line, table: Some(table), known: BTreeSet::new() });
        }
        sections
    }

    /// Whether the table has this key.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.take(key).is_some()
    }

    /// Text, trimmed. Empty text counts as missing.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value.get_ref(), "text in double quotes");
            return None;
        };
        let text = text.trim();
        if text.is_empty() {
            self.problem(key, None, "is empty", &format!("write a value, or leave `{key}` out"));
            return None;
        }
        Some(text.to_owned())
    }

    /// Text that must be there.
    pub fn required(&mut self, key: &'static str, example: &str) -> Option<String> {
        if !self.has(key) {
            self.missing(key, example);
            return None;
        }
        self.text(key)
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str, default: &[&str]) -> Vec<String> {
        let default = || default.iter().map(|text| (*text).to_owned()).collect();
        let Some(value) = self.take(key) else { return default() };
        let wanted = "a list of texts, for example [\"one\", \"two\"]";
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value.get_ref(), wanted);
            return default();
        };
        let mut texts = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(text.trim().to_owned()),
                None => self.wrong_type(key, item.get_ref(), wanted),
            }
        }
        texts
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(key, value.get_ref(), "true or false, without quotes");
        }
        flag
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(key)?;
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value.get_ref(), &wanted);
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number));
        if number.is_none() {
            self.problem(key, Some(integer.to_string()), "is out of range", &format!("write {wanted}"));
        }
        number
    }

    /// A number within `range`, with or without a fraction.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<f32>) -> Option<f32> {
        let value = self.take(key)?;
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        let text = match value.get_ref() {
            DeValue::Integer(integer) => integer.to_string(),
            DeValue::Float(float) => float.to_string(),
            other => {
                self.wrong_type(key, other, &wanted);
                return None;
            }
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.problem(key, Some(text), "is out of range", &format!("write {wanted}"));
        }
        number
    }

    /// A duration in whole seconds; the key ends in `_s`.
    pub fn seconds(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> Duration {
        Duration::from_secs(self.integer(key, range).unwrap_or(default).into())
    }

    /// A duration in whole milliseconds; the key ends in `_ms`.
    pub fn millis(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> Duration {
        Duration::from_millis(self.integer(key, range).unwrap_or(default).into())
    }

    /// One of `choices` by name. A name in `later` is known and not built yet.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)], later: &[&str]) -> Option<T> {
        let name = self.text(key)?;
        if let Some((_, choice)) = choices.iter().find(|(known, _)| *known == name) {
            return Some(*choice);
        }
        let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | ");
        let problem = match later.contains(&name.as_str()) {
            true => "is not supported by this version",
            false => "is not a known name",
        };
        self.problem(key, Some(name), problem, &format!("write one of {names}"));
        None
    }

    /// An address and port to listen on.
    pub fn socket(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        let Some(text) = self.text(key) else { return default };
        text.parse().unwrap_or_else(|_| {
            let remedy = format!("write an IP address and a port, for example \"{default}\"");
            self.problem(key, Some(text), "is no address to listen on", &remedy);
            default
        })
    }

    /// A calendar day, quoted or as a TOML date.
    pub fn date(&mut self, key: &'static str) -> Option<Date> {
        let value = self.take(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.trim().to_owned(),
            DeValue::Datetime(date) => date.to_string(),
            other => {
                self.wrong_type(key, other, "a day, for example 2026-03-01");
                return None;
            }
        };
        let date = text.parse().ok().filter(|_| text.len() == "2026-03-01".len());
        if date.is_none() {
            self.problem(key, Some(text), "is not a day of the calendar", "write a day, for example 2026-03-01");
        }
        date
    }

    /// The contents of the file that `key` names, trimmed.
    pub fn secret_file(&mut self, key: &'static str) -> Option<Secret> {
        let name = self.text(key)?;
        let path = self.report.resolve(&name);
        match read_secret(&path) {
            Ok(secret) => Some(secret),
            Err(cause) => {
                // Somebody may have written the secret itself here; only what looks like a path is repeated.
                let shown = name.contains(['.', '/']).then_some(name);
                let remedy =
                    "name a readable file that holds the secret alone; relative paths start at this file's directory";
                self.problem(key, shown, &format!("cannot be used as a file: {cause}"), remedy);
                None
            }
        }
    }

    /// Reports a key that must be there and is not.
    pub fn missing(&mut self, key: &'static str, example: &str) {
        self.known.insert(key);
        self.report.add(self.line, self.dotted(key), None, "is missing".to_owned(), format!("write {key} = {example}"));
    }

    /// Reports what is wrong with `key`, at its line when the table has it.
    pub fn problem(&self, key: &str, value: Option<String>, problem: &str, remedy: &str) {
        let line = self.table.and_then(|table| table.get_key_value(key));
        let line = line.map(|(key, _)| self.report.line_at(key.span().start)).or(self.line);
        self.report.add(line, self.dotted(key), value, problem.to_owned(), remedy.to_owned());
    }

    /// The path of `key` from the root.
    pub fn dotted(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// A path as written in the file.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.report.resolve(path)
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name = key.get_ref().as_ref();
            if !self.known.contains(name) {
                self.problem(name, None, "is not a known key", &self.remedy_for_unknown(name));
            }
        }
    }

    fn remedy_for_unknown(&self, name: &str) -> String {
        let with_file = format!("{name}_file");
        if self.known.contains(with_file.as_str()) {
            return format!("secrets are not written here: put it into a file and write {with_file} = \"the file\"");
        }
        let nearest = self.known.iter().map(|known| (strsim::jaro_winkler(known, name), *known));
        match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((likeness, known)) if likeness > 0.75 => format!("did you mean `{known}`? Otherwise remove it"),
            Some(_) | None => {
                let known = self.known.iter().copied().collect::<Vec<_>>().join(", ");
                format!("remove it; known here: {known}")
            }
        }
    }

    fn wrong_type(&self, key: &str, seen: &DeValue<'_>, wanted: &str) {
        self.problem(key, None, &format!("is a TOML {}", seen.type_str()), &format!("write {wanted}"));
    }

    fn take(&mut self, key: &'static str) -> Option<&'r Spanned<DeValue<'r>>> {
        self.known.insert(key);
        self.table?.get(key)
    }
}

fn read_secret(path: &Path) -> Result<Secret, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LARGEST_SECRET_BYTES {
        return Err(format!("it is {size} bytes long, which is no secret"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        secret => Ok(Secret(secret.to_owned())),
    }
}
