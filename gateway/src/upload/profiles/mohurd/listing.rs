//! Lists that the platform gives, read leniently and never as shorter than they are.
//!
//! Code 0 without a list says nothing of what is there. A row that cannot be understood may be the one that is looked for,
//! so it is counted and not passed over.

use jiff::civil::{Date, DateTime};
use serde_json::Value;

use super::answer::{integer, text_of};
use super::dictionary::{ID_CARD, direction_of, move_kind_of};
use super::{Mohurd, civil};
use crate::punch::UnixMs;
use crate::upload::profiles::{Answer, EmployerRow, MoveRow, Page, PunchKey, Request, Rows, TeamRow, WorkerRow};

/// Numbers up to here are no times in milliseconds of this age.
const SECONDS: i64 = 100_000_000_000;

/// Whether a list answers the request.
pub fn is_asked_by(request: &Request) -> bool {
    match request {
        Request::QueryEmployers { .. }
        | Request::QueryTeams { .. }
        | Request::QueryWorkers { .. }
        | Request::QueryMoves { .. }
        | Request::QueryAttendance { .. } => true,
        Request::QueryJob { .. }
        | Request::AddEmployer { .. }
        | Request::AddTeam { .. }
        | Request::AddWorkers { .. }
        | Request::UpdateWorker { .. }
        | Request::AddMoves { .. }
        | Request::AddAttendance { .. } => false,
    }
}

/// The list in the `data` of an answer with code 0.
pub fn read(profile: &Mohurd, request: &Request, data: &Value) -> Answer {
    let list = match request {
        Request::QueryEmployers { .. } => rows(data, employer_row).map(Answer::Employers),
        Request::QueryTeams { .. } => rows(data, team_row).map(Answer::Teams),
        Request::QueryWorkers { .. } => rows(data, |row| worker_row(profile, row)).map(Answer::Workers),
        Request::QueryMoves { .. } => rows(data, |row| move_row(profile, row)).map(Answer::Moves),
        Request::QueryAttendance { .. } => rows(data, |row| punch_row(profile, row)).map(Answer::Attendance),
        Request::QueryJob { .. }
        | Request::AddEmployer { .. }
        | Request::AddTeam { .. }
        | Request::AddWorkers { .. }
        | Request::UpdateWorker { .. }
        | Request::AddMoves { .. }
        | Request::AddAttendance { .. } => None,
    };
    list.unwrap_or(Answer::NoList { text: "code 0 without a list".to_owned() })
}

/// `{rows:[…],totalCount}`, or the bare array. `None` when neither is there.
fn rows<T>(data: &Value, row: impl Fn(&Value) -> Option<T>) -> Option<Rows<T>> {
    let list = data.as_array().or_else(|| data.get("rows")?.as_array())?;
    let ours: Vec<&Value> = list.iter().filter(|row| !is_of_another_card(row)).collect();
    let rows: Vec<T> = ours.iter().filter_map(|value| row(value)).collect();
    let page = Page {
        count: list.len() as u64,
        unread: (ours.len() - rows.len()) as u64,
        total: data.get("totalCount").and_then(integer).and_then(|total| u64::try_from(total).ok()),
    };
    Some(Rows { rows, page })
}

/// Somebody whom another program has registered with a passport, say: nobody of ours.
fn is_of_another_card(row: &Value) -> bool {
    let card = row.get("idCardType").and_then(text_of);
    card.is_some_and(|card| !card.is_empty() && card.trim_start_matches('0') != ID_CARD.trim_start_matches('0'))
}

fn employer_row(row: &Value) -> Option<EmployerRow> {
    Some(EmployerRow { corp_code: row.get("corpCode").and_then(text_of)? })
}

fn team_row(row: &Value) -> Option<TeamRow> {
    Some(TeamRow {
        name: row.get("teamName").and_then(text_of)?,
        corp_code: row.get("corpCode").and_then(text_of),
        number: row.get("teamSysNo").and_then(text_of)?,
    })
}

fn worker_row(profile: &Mohurd, row: &Value) -> Option<WorkerRow> {
    Some(WorkerRow { id_number: plain_id(profile, row)?, team_number: row.get("teamSysNo").and_then(text_of) })
}

fn move_row(profile: &Mohurd, row: &Value) -> Option<MoveRow> {
    Some(MoveRow {
        id_number: plain_id(profile, row)?,
        date: day(profile, row.get("date")?)?,
        kind: move_kind_of(&row.get("type").and_then(text_of)?)?,
    })
}

fn punch_row(profile: &Mohurd, row: &Value) -> Option<PunchKey> {
    Some(PunchKey {
        id_number: plain_id(profile, row)?,
        date: date_text(profile, row.get("date")?)?,
        direction: direction_of(&row.get("direction").and_then(text_of)?)?,
    })
}

/// Decrypted, or as it is when the platform gives it plain. A masked or foreign cipher text is no number.
fn plain_id(profile: &Mohurd, row: &Value) -> Option<String> {
    let text = row.get("idCardNumber").and_then(text_of)?;
    let number = profile.cipher.decrypt(&text).unwrap_or(text).to_uppercase();
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_plain.then_some(number)
}

/// `yyyy-MM-dd HH:mm:ss`: a fraction is cut off, a `T` replaced, a large number taken for milliseconds.
fn date_text(profile: &Mohurd, value: &Value) -> Option<String> {
    if let Some(ms) = value.as_i64() {
        let text = civil(UnixMs(ms), profile.offset).strftime("%Y-%m-%d %H:%M:%S").to_string();
        return (ms > SECONDS).then_some(text);
    }
    let text = value.as_str()?.trim().replace('T', " ");
    let (time, rest) = (text.get(..19)?, text.get(19..)?);
    let fraction = rest.strip_prefix('.').unwrap_or(rest);
    let is_local = rest.is_empty() || rest.starts_with('.') && fraction.bytes().all(|byte| byte.is_ascii_digit());
    DateTime::strptime("%Y-%m-%d %H:%M:%S", time).ok().filter(|_| is_local).map(|_| time.to_owned())
}

/// `yyyy-MM-dd`, with or without a time behind it.
fn day(profile: &Mohurd, value: &Value) -> Option<Date> {
    if value.is_number() {
        return date_text(profile, value)?.get(..10)?.parse().ok();
    }
    value.as_str()?.trim().get(..10)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::super::vectors::profile;
    use super::*;
    use crate::config::AesKey;
    use crate::punch::Direction;
    use crate::upload::profiles::{MoveKind, Whom};

    fn attendance() -> Request {
        Request::QueryAttendance { team_number: "1".to_owned(), date: date(2026, 3, 2), page: 0 }
    }

    fn moves() -> Request {
        Request::QueryMoves { team_number: "1".to_owned(), page: 0 }
    }

    fn answer(request: Request, body: &str) -> Answer {
        profile("1234567890abcdef", AesKey::Full, None).read(&request, 200, body.as_bytes())
    }

    #[test]
    fn rows_are_read_leniently() {
        let body = r#"{"code":"0","data":{"pageIndex":0,"totalCount":"2","rows":[
            {"idCardNumber":"vfZVB38nTPqdzosEZPwwUV5EICiSzI+pTABKWabEwqI=","date":"2026-03-02T07:01:05.000","direction":"01"},
            {"idCardNumber":"11010119491231018x","date":1772445820000,"direction":2}]}}"#;
        let Answer::Attendance(rows) = answer(attendance(), body) else { panic!("no rows") };
        assert_eq!(rows.page, Page { count: 2, unread: 0, total: Some(2) });
        let key =
            |id: &str, date: &str, direction| PunchKey { id_number: id.to_owned(), date: date.to_owned(), direction };
        assert_eq!(rows.rows[0], key("110101194912310016", "2026-03-02 07:01:05", Direction::In));
        assert_eq!(rows.rows[1], key("11010119491231018X", "2026-03-02 18:03:40", Direction::Out));
    }

    #[test]
    fn an_answer_without_a_list_is_not_an_empty_list() {
        let without = [
            r#"{"code":0}"#,
            r#"{"code":0,"data":{}}"#,
            r#"{"code":0,"data":"ok"}"#,
            r#"{"code":0,"data":{"totalCount":0,"rows":null}}"#,
        ];
        let queries: [fn() -> Request; 3] = [attendance, moves, || Request::QueryWorkers {
            whom: Whom::Worker("110101194912310016".to_owned()),
            page: 0,
        }];
        for query in queries {
            for body in without {
                assert!(matches!(answer(query(), body), Answer::NoList { .. }), "{body}");
            }
        }
        let Answer::Attendance(empty) = answer(attendance(), r#"{"code":0,"data":{"totalCount":0,"rows":[]}}"#) else {
            panic!("an empty list is a list")
        };
        assert_eq!(empty.page, Page { count: 0, unread: 0, total: Some(0) });
    }

    #[test]
    fn a_row_that_nobody_understands_is_counted() {
        let id = r#""idCardNumber":"vfZVB38nTPqdzosEZPwwUV5EICiSzI+pTABKWabEwqI=""#;
        let unread = [
            r#"{"idCardNumber":"110101********0016","date":"2026-03-02 07:01:05","direction":"01"}"#.to_owned(),
            r#"{"idCardNumber":"AAAAAAAAAAAAAAAAAAAAAA==","date":"2026-03-02 07:01:05","direction":"01"}"#.to_owned(),
            format!(r#"{{{id},"date":"2026-03-02 07:01:05","direction":"in"}}"#),
            format!(r#"{{{id},"date":"2026-03-02 07:01","direction":"01"}}"#),
            format!(r#"{{{id},"date":"2026-03-01T23:01:05Z","direction":"01"}}"#),
            format!(r#"{{{id},"date":1772445820,"direction":"01"}}"#),
            format!(r#"{{{id},"direction":"01"}}"#),
            r#""a row""#.to_owned(),
        ];
        for row in unread {
            let body = format!(r#"{{"code":0,"data":{{"totalCount":1,"rows":[{row}]}}}}"#);
            let Answer::Attendance(rows) = answer(attendance(), &body) else { panic!("no rows") };
            assert_eq!((rows.rows.len(), rows.page.count, rows.page.unread), (0, 1, 1), "{row}");
        }
        let passport = r#"{"code":0,"data":{"rows":[{"idCardType":"08","idCardNumber":"护-1","direction":"?"}]}}"#;
        let Answer::Attendance(rows) = answer(attendance(), passport) else { panic!("no rows") };
        assert_eq!((rows.page.count, rows.page.unread), (1, 0), "a row of nobody of ours hides nothing");
    }

    #[test]
    fn entries_and_exits_are_read() {
        let body = r#"{"code":0,"data":{"rows":[
            {"idCardNumber":"110101194912310016","date":"2026-03-02","type":1},
            {"idCardNumber":"110101194912310016","date":"2026-03-09 00:00:00","type":"0"}]}}"#;
        let Answer::Moves(rows) = answer(moves(), body) else { panic!("no rows") };
        let kinds: Vec<(Date, MoveKind)> = rows.rows.iter().map(|row| (row.date, row.kind)).collect();
        assert_eq!(kinds, [(date(2026, 3, 2), MoveKind::Entry), (date(2026, 3, 9), MoveKind::Exit)]);
    }

    #[test]
    fn a_list_that_the_site_may_not_have_does_not_stop_everything() {
        let body = r#"{"code":-3,"message":"无API访问权限"}"#;
        assert!(matches!(answer(moves(), body), Answer::Ended(_)));
    }
}
