//! What the model platform says, as bytes: the courier hears it through the profile, as it hears a real platform.

use jiff::civil::Date;
use serde_json::{Value, json};

use crate::punch::Direction;
use crate::upload::profiles::{MoveKind, PunchKey};

/// HTTP status and body.
pub type Body = (u16, String);

/// How the platform writes its lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lists {
    #[default]
    Whole,
    /// Code 0, and no list.
    Missing,
    /// The total says that there are rows, and no page has one.
    Empty,
    /// Every page is the first.
    FirstPageOnly,
    /// Rows whose fields nobody understands.
    Unreadable,
}

/// What came of a job: its result, or why it failed.
pub type Ending = Result<Value, String>;

pub fn ok(data: Value) -> Body {
    (200, json!({ "code": "0", "message": "", "data": data }).to_string())
}

pub fn error(code: i32, message: &str) -> Body {
    (200, json!({ "code": code, "message": message, "data": null }).to_string())
}

pub fn job(ending: &Ending) -> Body {
    ok(match ending {
        Ok(result) => json!({ "status": 20, "result": result }),
        Err(text) => json!({ "status": 10, "result": text }),
    })
}

/// A page of a list, 50 rows long as the courier asks for it.
pub fn page(rows: Vec<Value>, number: u32, lists: Lists) -> Body {
    let total = rows.len();
    let page = |number: u32| -> Vec<Value> { rows.iter().skip(number as usize * 50).take(50).cloned().collect() };
    let rows = match lists {
        Lists::Whole => page(number),
        Lists::Missing => return ok(json!({ "pageIndex": number })),
        Lists::Empty => Vec::new(),
        Lists::FirstPageOnly => page(0),
        Lists::Unreadable => page(number).into_iter().map(|_| json!({ "id": "?" })).collect(),
    };
    ok(json!({ "pageIndex": number, "totalCount": total, "rows": rows }))
}

pub fn punch_row(key: &PunchKey, team_number: &str) -> Value {
    let direction = match key.direction {
        Direction::In => "01",
        Direction::Out | Direction::Unknown => "02",
    };
    json!({
        "teamSysNo": number(team_number),
        "idCardNumber": key.id_number,
        "date": format!("{}.000", key.date),
        "direction": direction,
    })
}

pub fn move_row(id_number: &str, date: Date, kind: MoveKind) -> Value {
    let kind = match kind {
        MoveKind::Entry => 1,
        MoveKind::Exit => 0,
    };
    json!({ "idCardNumber": id_number, "date": date.to_string(), "type": kind })
}

/// Team numbers are integers on the wire.
pub fn number(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from)
}
