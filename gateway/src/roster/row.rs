//! One row of the roster file: takes its cells and collects what is wrong with them.

use jiff::civil::Date;

use super::id_number::IdNumber;
use super::{RowProblem, badge, half_width, trade};
use crate::config::Employer;
use crate::mask;
use crate::punch::BadgeOnRoster;

/// On an identity card: valid for life.
const FOR_LIFE: &str = "长期";

/// One row with the names of its columns.
pub struct Row<'r> {
    columns: &'r [String],
    cells: &'r csv::StringRecord,
    /// From 1, the header.
    pub line: u64,
    pub problems: Vec<RowProblem>,
}

impl<'r> Row<'r> {
    pub fn new(columns: &'r [String], cells: &'r csv::StringRecord, line: u64) -> Row<'r> {
        Row { columns, cells, line, problems: Vec::new() }
    }

    /// The cell of a column, trimmed; `None` when it is empty or the file has no such column.
    pub fn cell(&self, column: &str) -> Option<&'r str> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.cells.get(at).map(str::trim).filter(|cell| !cell.is_empty())
    }

    /// Adds a problem of the row, or of one column.
    pub fn problem(&mut self, column: Option<&str>, value: Option<String>, reason: String) {
        let worker_id = self.cell("worker_id").map(|id| shown("worker_id", id));
        let column = column.map(str::to_owned);
        self.problems.push(RowProblem { line: Some(self.line), worker_id, column, value, reason });
    }

    /// Adds a problem of the value in `column`.
    pub fn cell_problem(&mut self, column: &str, reason: impl Into<String>) {
        let value = self.cell(column).map(|cell| shown(column, cell));
        self.problem(Some(column), value, reason.into());
    }

    /// Text that must be there.
    pub fn required(&mut self, column: &str, most: usize) -> Option<String> {
        if self.cell(column).is_none() {
            self.problem(Some(column), None, "is missing".to_owned());
            return None;
        }
        self.optional(column, most)
    }

    /// Text that may be there, of at most `most` characters.
    pub fn optional(&mut self, column: &str, most: usize) -> Option<String> {
        let text = self.cell(column)?;
        if text.chars().any(char::is_control) {
            self.cell_problem(column, "has a line break or another invisible character in it");
            return None;
        }
        if text.chars().count() > most {
            self.cell_problem(column, format!("is longer than {most} characters"));
            return None;
        }
        Some(text.to_owned())
    }

    /// A worker's id is shown everywhere and goes to terminals as `customId`, which takes 48 characters.
    pub fn worker_id(&mut self) -> Option<String> {
        let id = self.required("worker_id", 48)?;
        if !id.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
            self.cell_problem("worker_id", "may have letters, digits, - _ and . only");
            return None;
        }
        if IdNumber::recognise(&id).is_ok() {
            let reason =
                "is an identity number, which would be shown everywhere; use a number of the site, for example W0001";
            self.cell_problem("worker_id", reason);
            return None;
        }
        Some(id)
    }

    pub fn id_number(&mut self) -> Option<IdNumber> {
        let text = self.required("id_number", 60)?;
        if self.is_mangled("id_number") {
            return None;
        }
        match IdNumber::parse(&text) {
            Ok(number) => Some(number),
            Err(fault) => {
                self.cell_problem("id_number", fault.to_string());
                None
            }
        }
    }

    pub fn employer(&mut self, employers: &[Employer]) -> Option<String> {
        let name = self.required("employer", 100)?;
        if !employers.iter().any(|employer| employer.name == name) {
            let known = employers.iter().map(|employer| employer.name.as_str()).collect::<Vec<_>>().join(", ");
            let reason = match known.is_empty() {
                true => "is not configured: add an [[employer]] section to the gateway's configuration".to_owned(),
                false => format!("is not configured; configured are: {known}"),
            };
            self.cell_problem("employer", reason);
            return None;
        }
        Some(name)
    }

    pub fn trade(&mut self) -> Option<String> {
        let text = self.required("trade", 20)?;
        let code = trade::code(half_width(&text).trim());
        if code.is_none() {
            self.cell_problem(
                "trade",
                "is no national workType code and none of its Chinese names, for example 020 or 钢筋工",
            );
        }
        code.map(str::to_owned)
    }

    pub fn badge(&mut self) -> Option<BadgeOnRoster> {
        let text = self.cell("badge")?;
        if self.is_mangled("badge") {
            return None;
        }
        match badge::parse(text) {
            Ok(badge) => Some(badge),
            Err(fault) => {
                self.cell_problem("badge", fault.to_string());
                None
            }
        }
    }

    pub fn phone(&mut self) -> Option<String> {
        let text: String = half_width(self.cell("phone")?).chars().filter(|c| !c.is_whitespace()).collect();
        if self.is_mangled("phone") {
            return None;
        }
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        if !(5..=15).contains(&digits) || !text.chars().all(|c| c.is_ascii_digit() || "+-".contains(c)) {
            self.cell_problem("phone", "is no telephone number");
            return None;
        }
        Some(text)
    }

    pub fn bank_card(&mut self) -> Option<String> {
        let text: String = half_width(self.cell("bank_card")?).chars().filter(|c| !c.is_whitespace()).collect();
        if self.is_mangled("bank_card") {
            return None;
        }
        if !(8..=32).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_digit()) {
            self.cell_problem("bank_card", "is no bank card or account number (8 to 32 digits)");
            return None;
        }
        Some(text)
    }

    /// First and last day on the site, both inclusive.
    pub fn stay(&mut self) -> (Option<Date>, Option<Date>) {
        let (entered_on, left_on) = (self.date("entered_on"), self.date("left_on"));
        if let (Some(entered), Some(left)) = (entered_on, left_on)
            && left < entered
        {
            self.cell_problem("left_on", format!("lies before entered_on ({entered})"));
        }
        (entered_on, left_on)
    }

    pub fn birth(&mut self, id_number: Option<&IdNumber>) -> Option<Date> {
        let birth = self.date("birth")?;
        if id_number.is_some_and(|number| number.birth() != birth) {
            self.cell_problem("birth", "is not the date of birth in id_number: one of the two is wrong");
        }
        Some(birth)
    }

    /// `长期` is the last day of the calendar.
    pub fn valid_to(&mut self) -> Option<Date> {
        match self.cell("valid_to") {
            Some(FOR_LIFE) => Some(Date::MAX),
            Some(_) | None => self.date("valid_to"),
        }
    }

    /// `2026-03-01`, or as spreadsheets write it: `2026/3/1`.
    pub fn date(&mut self, column: &str) -> Option<Date> {
        let text = half_width(self.cell(column)?);
        let mut numbers = text.split(['-', '/']).map(|part| part.parse::<i16>().ok());
        let date = match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(year @ 1900..)), Some(Some(month)), Some(Some(day)), None) => {
                let (month, day) = (i8::try_from(month).unwrap_or(0), i8::try_from(day).unwrap_or(0));
                Date::new(year, month, day).ok()
            }
            _ => None,
        };
        if date.is_none() {
            self.cell_problem(column, "is not a day of the calendar, for example 2026-03-01");
        }
        date
    }

    /// `1` or `0`; empty is `0`.
    pub fn flag(&mut self, column: &str) -> bool {
        match self.cell(column).map(half_width).as_deref() {
            Some("1") => true,
            Some("0") | None => false,
            Some(_) => {
                self.cell_problem(column, "must be 1 or 0");
                false
            }
        }
    }

    pub fn one_of(&mut self, column: &str, values: &[&str]) -> Option<String> {
        let text = self.cell(column)?;
        if !values.contains(&text) {
            self.cell_problem(column, format!("must be one of {}", values.join(", ")));
        }
        Some(text.to_owned())
    }

    /// A national code, by code or Chinese name.
    pub fn code(&mut self, column: &str, find: impl Fn(&str) -> Option<&'static str>) -> Option<String> {
        let code = find(half_width(self.cell(column)?).trim());
        if code.is_none() {
            self.cell_problem(column, "is no national code and none of its Chinese names");
        }
        code.map(str::to_owned)
    }

    /// Whether a spreadsheet has turned a long number into `1.10105E+17`; then its last digits are lost.
    fn is_mangled(&mut self, column: &str) -> bool {
        let text = self.cell(column).unwrap_or_default();
        let mangled = text.contains('.') && text.contains(['E', 'e']) && text.contains('+');
        if mangled {
            let reason =
                "was turned into a rounded number by the spreadsheet: format the column as text and enter it again";
            self.cell_problem(column, reason);
        }
        mangled
    }
}

/// A value as it may stand in a message.
fn shown(column: &str, value: &str) -> String {
    match column {
        "name" => mask::name(value),
        "id_number" => mask::id_number(value),
        // Somebody may have put the identity number here.
        "worker_id" if value.chars().count() >= 15 => mask::id_number(value),
        "badge" => mask::badge(value),
        "phone" => mask::phone(value),
        "bank_card" => mask::bank_card(value),
        "birth" | "address" => mask::text(value),
        "photo" => shortened(value, 40),
        _ => value.chars().take(60).collect(),
    }
}

/// The beginning of a long value, and how long it is.
fn shortened(value: &str, most: usize) -> String {
    match value.chars().count() {
        count if count <= most => value.to_owned(),
        count => format!("{}… ({count} characters)", value.chars().take(most).collect::<String>()),
    }
}
