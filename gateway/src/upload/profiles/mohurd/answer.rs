//! What the platform's answers mean.
//!
//! Numbers may come as strings, `data` as text that holds JSON, messages in two languages: everything is read leniently.
//! What cannot be understood is never taken for a yes or a no: its outcome is unknown, and the platform is asked.

use serde_json::Value;

use super::{Mohurd, listing};
use crate::mask;
use crate::upload::profiles::{Answer, Ending, ItemError, Request};

/// Longest text kept of an answer.
const TEXT_LIMIT: usize = 300;

/// Understands an HTTP answer to `request`.
pub fn read(profile: &Mohurd, request: &Request, status: u16, body: &[u8]) -> Answer {
    match Envelope::parse(body) {
        Some(envelope) => match read_envelope(profile, request, &envelope) {
            // Whoever stumbled over the request may have worked on it first.
            Answer::Ended(Ending::Failed { text, names_field: false }) if status >= 500 => {
                Answer::Ended(Ending::Unclear { text })
            }
            answer => answer,
        },
        None => read_status(status, body),
    }
}

/// `{"code":"0","message":"","data":{…}}`
struct Envelope {
    code: i64,
    message: String,
    data: Value,
}

impl Envelope {
    fn parse(body: &[u8]) -> Option<Envelope> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let code = integer(value.get("code")?)?;
        let message = ["message", "msg"].iter().find_map(|key| value.get(key)?.as_str()).unwrap_or_default();
        let data = unwrapped(value.get("data").unwrap_or(&Value::Null));
        Some(Envelope { code, message: message.to_owned(), data })
    }
}

/// An answer without an envelope comes from something before the platform.
fn read_status(status: u16, body: &[u8]) -> Answer {
    let text = format!("HTTP {status}: {}", shortened(&String::from_utf8_lossy(body)));
    match status {
        401 | 403 => Answer::Stop { text },
        413 => Answer::Ended(Ending::Failed { text, names_field: false }),
        429 => Answer::TryLater { text, slow_down: true },
        300..=499 | 503 => Answer::TryLater { text, slow_down: false },
        _ => Answer::Garbled { text },
    }
}

fn read_envelope(profile: &Mohurd, request: &Request, envelope: &Envelope) -> Answer {
    let text = || format!("{}: {}", envelope.code, shortened(&envelope.message));
    match envelope.code {
        0 => read_data(profile, request, &envelope.data),
        // Permission is given by method; that this list is not given says nothing of the rest.
        -3 if listing::is_asked_by(request) => Answer::Ended(Ending::Failed { text: text(), names_field: false }),
        -4..=-2 => Answer::Stop { text: text() },
        -5 => Answer::TryLater { text: text(), slow_down: true },
        _ if envelope.message.contains("频繁") => Answer::TryLater { text: text(), slow_down: true },
        _ if envelope.message.to_lowercase().contains("appid") => Answer::Stop { text: text() },
        _ => Answer::Ended(ending_of(&envelope.message)),
    }
}

/// The `data` of an answer with code 0.
fn read_data(profile: &Mohurd, request: &Request, data: &Value) -> Answer {
    match request {
        Request::QueryJob { .. } => read_job(data),
        Request::QueryEmployers { .. }
        | Request::QueryTeams { .. }
        | Request::QueryWorkers { .. }
        | Request::QueryMoves { .. }
        | Request::QueryAttendance { .. } => listing::read(profile, request, data),
        Request::AddTeam { .. } => match team_number(data).filter(|_| serial_code(data).is_none()) {
            Some(number) => Answer::Ended(Ending::Done { external: Some(number) }),
            None => read_serial(data),
        },
        Request::AddEmployer { .. }
        | Request::AddWorkers { .. }
        | Request::UpdateWorker { .. }
        | Request::AddMoves { .. }
        | Request::AddAttendance { .. } => read_serial(data),
    }
}

/// Writing requests are answered by a serial code. Code 0 without one says neither that the work is done nor that it will be.
fn read_serial(data: &Value) -> Answer {
    match serial_code(data) {
        Some(serial) => Answer::Accepted { serial },
        None => Answer::Ended(Ending::Unclear { text: "code 0 without a serial code".to_owned() }),
    }
}

fn serial_code(data: &Value) -> Option<String> {
    data.get("requestSerialCode").and_then(text_of).filter(|serial| !serial.is_empty())
}

/// `{requestSerialCode,status,result}`: 0 waiting, 10 failed, 20 done.
fn read_job(data: &Value) -> Answer {
    let result = unwrapped(data.get("result").unwrap_or(&Value::Null));
    match data.get("status").and_then(integer) {
        Some(20) => Answer::JobEnded(Ending::Done { external: team_number(&result) }),
        Some(10) => Answer::JobEnded(ending_of(&error_text(data, &result))),
        Some(_) => Answer::JobPending,
        None => Answer::Ended(Ending::Unclear { text: "a job without a status".to_owned() }),
    }
}

fn error_text(data: &Value, result: &Value) -> String {
    let text = match result {
        Value::String(text) => text.clone(),
        Value::Null => data.get("message").and_then(text_of).unwrap_or_default(),
        other => other.get("message").and_then(text_of).unwrap_or_else(|| other.to_string()),
    };
    if text.is_empty() { "处理失败".to_owned() } else { text }
}

/// What a refusal means, from its text alone.
pub fn ending_of(message: &str) -> Ending {
    let text = shortened(message);
    let items = item_errors(message);
    if !items.is_empty() {
        return Ending::Items(items);
    }
    if says_exists(message) {
        return Ending::Exists { text };
    }
    let lower = message.to_lowercase();
    if UNCLEAR.iter().any(|sign| lower.contains(sign)) {
        return Ending::Unclear { text };
    }
    match field_name(message) {
        Some("teamSysNo" | "projectCode" | "corpCode") => Ending::Depends { text },
        Some(_) => Ending::Failed { text, names_field: true },
        None => Ending::Failed { text, names_field: false },
    }
}

/// Texts of a platform that stumbled: the work may be done or not.
const UNCLEAR: [&str; 9] = [
    "internal error",
    "internal server",
    "系统异常",
    "系统错误",
    "系统繁忙",
    "内部错误",
    "服务异常",
    "超时",
    "timeout",
];

fn says_exists(text: &str) -> bool {
    let lower = text.to_lowercase();
    ["已存在", "重复上传", "重复数据", "already exist"].iter().any(|sign| lower.contains(sign))
}

/// Every `[list][index][field]text` of a message; several are joined by `;`.
fn item_errors(message: &str) -> Vec<ItemError> {
    message.split([';', '；', '\n']).filter_map(item_error).collect()
}

fn item_error(part: &str) -> Option<ItemError> {
    let (_list, rest) = bracket(part.trim())?;
    let (index, _) = bracket(rest)?;
    Some(ItemError { index: index.parse().ok()?, text: shortened(part.trim()), exists: says_exists(part) })
}

/// The first `[name]` that begins a part of the message.
fn field_name(message: &str) -> Option<&str> {
    message.split([';', '；', '\n']).find_map(|part| bracket(part.trim()).map(|(name, _)| name))
}

/// `[inside]rest`
fn bracket(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.split_once(']')
}

/// `teamSysNo` of a result that is an object or an array with one.
fn team_number(result: &Value) -> Option<String> {
    let object = result.as_array().and_then(|list| list.first()).unwrap_or(result);
    object.get("teamSysNo").and_then(text_of).filter(|number| !number.is_empty())
}

/// JSON that was sent as text.
fn unwrapped(value: &Value) -> Value {
    match value {
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        other => other.clone(),
    }
}

pub fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

pub fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Personal numbers are masked, because this text goes to logs and pages.
fn shortened(text: &str) -> String {
    mask::numbers(text).chars().take(TEXT_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::super::vectors::profile;
    use super::*;
    use crate::config::{AesKey, Employer};
    use crate::punch::TeamKey;

    fn add() -> Request {
        Request::AddAttendance { team_number: "1".to_owned(), punches: Vec::new(), images: false }
    }

    fn job() -> Request {
        Request::QueryJob { serial: "s".to_owned() }
    }

    fn answer(request: Request, status: u16, body: &str) -> Answer {
        read(&profile("1234567890abcdef", AesKey::Full, None), &request, status, body.as_bytes())
    }

    #[test]
    fn a_server_error_in_an_envelope_is_neither_yes_nor_no() {
        let body = r#"{"code":504,"message":"upstream request timed out"}"#;
        assert!(matches!(answer(add(), 504, body), Answer::Ended(Ending::Unclear { .. })));
        let item = r#"{"code":"-1","message":"[dataList][0][date]不能大于当天!"}"#;
        assert!(matches!(answer(add(), 500, item), Answer::Ended(Ending::Items(_))));
    }

    #[test]
    fn a_serial_code_is_no_receipt() {
        let body = r#"{"code":"0","message":"","data":{"requestSerialCode":"workderattendance-add-1"}}"#;
        assert_eq!(answer(add(), 200, body), Answer::Accepted { serial: "workderattendance-add-1".to_owned() });
        let as_text = r#"{"code":0,"data":"{\"requestSerialCode\":\"x-1\"}"}"#;
        assert_eq!(answer(add(), 200, as_text), Answer::Accepted { serial: "x-1".to_owned() });
    }

    #[test]
    fn key_permission_and_address_stop() {
        for code in ["-2", "-3", "-4"] {
            let body = format!(r#"{{"code":"{code}","message":"签名校验错误"}}"#);
            assert!(matches!(answer(add(), 200, &body), Answer::Stop { .. }), "{code}");
        }
        let unknown_appid = r#"{"code":-1,"message":"请求参数无效:appid无效!"}"#;
        assert!(matches!(answer(add(), 200, unknown_appid), Answer::Stop { .. }));
        assert!(matches!(answer(add(), 403, "no"), Answer::Stop { .. }));
    }

    #[test]
    fn too_many_requests_slow_down() {
        for body in [r#"{"code":-5,"message":"访问超过限制"}"#, r#"{"code":"-1","message":"请求过于频繁"}"#]
        {
            assert!(matches!(answer(add(), 200, body), Answer::TryLater { slow_down: true, .. }));
        }
        assert!(matches!(answer(add(), 429, ""), Answer::TryLater { slow_down: true, .. }));
        assert!(matches!(answer(add(), 503, "busy"), Answer::TryLater { slow_down: false, .. }));
    }

    #[test]
    fn item_errors_name_their_items() {
        let body = r#"{"code":-1,"message":"[dataList][3][date]不能大于当天!;[dataList][5][idCardNumber]已存在"}"#;
        let Answer::Ended(Ending::Items(items)) = answer(add(), 200, body) else { panic!("no items") };
        assert_eq!(items.iter().map(|item| (item.index, item.exists)).collect::<Vec<_>>(), [(3, false), (5, true)]);
    }

    #[test]
    fn a_job_is_pending_done_or_failed() {
        let pending = r#"{"code":"0","data":{"requestSerialCode":"s","status":"0","result":null}}"#;
        assert_eq!(answer(job(), 200, pending), Answer::JobPending);
        let done = r#"{"code":"0","data":{"status":20,"result":{"teamSysNo":1700000001}}}"#;
        let external = Some("1700000001".to_owned());
        assert_eq!(answer(job(), 200, done), Answer::JobEnded(Ending::Done { external: external.clone() }));
        let as_text = r#"{"code":"0","data":{"status":20,"result":"{\"teamSysNo\":\"1700000001\"}"}}"#;
        assert_eq!(answer(job(), 200, as_text), Answer::JobEnded(Ending::Done { external }));
        let failed = r#"{"code":"0","data":{"status":10,"result":"[workerList][0][headImage]大小超过限制50KB!"}}"#;
        assert!(matches!(answer(job(), 200, failed), Answer::JobEnded(Ending::Items(_))));
        let internal = r#"{"code":"0","data":{"status":10,"result":"Internal Error"}}"#;
        assert!(matches!(answer(job(), 200, internal), Answer::JobEnded(Ending::Unclear { .. })));
    }

    #[test]
    fn the_texts_of_the_field_have_their_classes() {
        assert!(matches!(ending_of("[teamSysNo]值超出范围或无效!"), Ending::Depends { .. }));
        assert!(matches!(ending_of("[headImage]大小超过限制50KB!"), Ending::Failed { names_field: true, .. }));
        assert!(matches!(ending_of("处理失败"), Ending::Failed { names_field: false, .. }));
        assert!(matches!(ending_of("Internal Error"), Ending::Unclear { .. }));
        let Ending::Exists { text } = ending_of("项目中已存在身份证为：110101194912310016的工人!") else {
            panic!("not recognised as existing")
        };
        assert!(!text.contains("110101194912310016"), "an ID number would go to the log: {text}");
    }

    #[test]
    fn what_no_platform_said_is_unclear_and_never_a_no() {
        assert!(matches!(answer(add(), 200, "<html>login</html>"), Answer::Garbled { .. }));
        assert!(matches!(answer(add(), 500, "oops"), Answer::Garbled { .. }));
        assert!(matches!(answer(add(), 502, ""), Answer::Garbled { .. }));
        assert!(matches!(answer(job(), 200, r#"{"code":0}"#), Answer::Ended(Ending::Unclear { .. })));
    }

    #[test]
    fn code_0_without_a_serial_code_is_no_receipt() {
        for body in [r#"{"code":0}"#, r#"{"code":0,"data":{}}"#, r#"{"code":0,"data":{"requestSerialCode":""}}"#] {
            assert!(matches!(answer(add(), 200, body), Answer::Ended(Ending::Unclear { .. })), "{body}");
        }
        let employer =
            Employer { name: "总包".to_owned(), credit_code: "C009".to_owned(), corp_type: "009".to_owned() };
        let team = TeamKey { employer: "总包".to_owned(), name: "一班".to_owned() };
        let add_team = || Request::AddTeam { employer: employer.clone(), team: team.clone(), leader: None };
        let number = answer(add_team(), 200, r#"{"code":0,"data":{"teamSysNo":1700000001}}"#);
        assert_eq!(number, Answer::Ended(Ending::Done { external: Some("1700000001".to_owned()) }));
        assert!(matches!(answer(add_team(), 200, r#"{"code":0}"#), Answer::Ended(Ending::Unclear { .. })));
    }
}
