//! How facts look in the API: times with the site's offset, words instead of variants, personal numbers masked.

use jiff::civil::Date;
use jiff::tz::Offset;
use serde::Serialize;
use serde_json::{Value, json};

use crate::mask;
use crate::ops::alarms::Alarm;
use crate::ops::board::{PlatformStatus, TerminalStatus};
use crate::punch::*;
use crate::store::{Depth, PunchRow, UploadRow};

/// RFC 3339 with the site's offset; fractions only where there are some.
pub fn time(at: UnixMs, site: Offset) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(at) => at.display_with_offset(site).to_string(),
        Err(_) => at.0.to_string(),
    }
}

/// One punch with where it stands, as in every listing.
#[derive(Clone, Debug, Serialize)]
pub struct Punch {
    pub id: String,
    pub seq: u64,
    pub terminal: String,
    pub record: Option<String>,
    pub time: String,
    pub received_at: String,
    pub direction: &'static str,
    pub method: &'static str,
    pub worker_id: Option<String>,
    /// Absent until the punch is judged.
    pub verdict: Option<Verdict>,
    pub uploads: Vec<Upload>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub kind: &'static str,
    pub reason: Option<&'static str>,
    pub rule_version: u16,
}

#[derive(Clone, Debug, Serialize)]
pub struct Upload {
    pub platform: String,
    pub state: &'static str,
    pub reason: Option<String>,
    pub attempts: u32,
}

impl Punch {
    /// The row, and how it stands with each platform that wants it.
    pub fn of(row: &PunchRow, uploads: &[(PlatformName, UploadRow)], site: Offset) -> Punch {
        let judgement = row.judgement.as_ref();
        Punch {
            id: row.id.to_string(),
            seq: row.seq.0,
            terminal: row.terminal.0.clone(),
            record: row.record.clone(),
            time: time(row.time, site),
            received_at: time(row.received_at, site),
            direction: judgement.map_or(row.direction, |judgement| judgement.direction).as_str(),
            method: row.method.as_str(),
            worker_id: judgement.and_then(|judgement| Some(judgement.worker.as_ref()?.0.clone())),
            verdict: judgement.map(Verdict::of),
            uploads: uploads.iter().map(|(platform, upload)| Upload::of(platform, upload)).collect(),
        }
    }
}

impl Verdict {
    pub fn of(judgement: &Judgement) -> Verdict {
        let verdict = judgement.verdict;
        Verdict { kind: verdict.kind(), reason: verdict.reason(), rule_version: judgement.rule_version }
    }
}

impl Upload {
    fn of(platform: &PlatformName, row: &UploadRow) -> Upload {
        Upload {
            platform: platform.0.clone(),
            state: row.state.as_str(),
            reason: row.reason.clone(),
            attempts: row.attempts,
        }
    }
}

/// A worker with the roster CSV's column names.
pub fn worker(worker: &Worker, reveal: bool) -> Value {
    let hide = |text: &str, mask: fn(&str) -> String| if reveal { text.to_owned() } else { mask(text) };
    let date = |date: Option<Date>| date.map(|date| date.to_string());
    json!({
        "worker_id": worker.worker_id.0,
        "name": worker.name,
        "id_number": hide(&worker.id_number, mask::id_number),
        "employer": worker.team.employer,
        "team": worker.team.name,
        "trade": worker.trade,
        "badge": worker.badge.map(|badge| badge.to_string()),
        "phone": worker.phone.as_deref().map(|phone| hide(phone, mask::phone)),
        "bank_card": worker.bank_card.as_deref().map(|card| hide(card, mask::bank_card)),
        "entered_on": date(worker.entered_on),
        "left_on": date(worker.left_on),
        "leader": worker.leader,
        "gender": worker.gender,
        "birth": if reveal { date(worker.birth) } else { worker.birth.map(|birth| format!("{}-**-**", birth.year())) },
        "nation": worker.nation,
        "address": worker.address.as_deref().map(|address| hide(address, mask::text)),
        "issuer": worker.issuer,
        "valid_from": date(worker.valid_from),
        "valid_to": date(worker.valid_to),
        "politics": worker.politics,
        "education": worker.education,
        "photo": worker.photo.map(|photo| photo.to_string()),
    })
}

/// A terminal as on the board.
pub fn terminal(status: &TerminalStatus, site: Offset) -> Value {
    json!({
        "id": status.id.0,
        "serial": status.serial,
        "protocol": status.protocol,
        "direction": status.direction,
        "via": status.via,
        "state": terminal_state(status),
        "last_seen": status.last_seen.map(|at| time(at, site)),
        "last_punch": status.last_punch.map(|at| time(at, site)),
        "skew_ms": status.skew_ms,
        "health": status.health,
    })
}

/// `online`, `offline` or `pending`.
pub fn terminal_state(status: &TerminalStatus) -> &'static str {
    match status {
        TerminalStatus { pending: true, .. } => "pending",
        TerminalStatus { online: true, .. } => "online",
        TerminalStatus { .. } => "offline",
    }
}

/// A platform's courier; `depth` where it is asked for.
pub fn platform(name: &PlatformName, profile: &str, status: Option<&PlatformStatus>, site: Offset) -> Value {
    json!({
        "name": name.0,
        "profile": profile,
        "state": status.map(|status| status.state),
        "note": status.and_then(|status| status.note.clone()),
        "last_answer": status.and_then(|status| status.last_answer).map(|at| time(at, site)),
    })
}

/// How much waits for a platform.
pub fn depth(depth: &Depth, site: Offset) -> Value {
    json!({
        "open": depth.open,
        "oldest": depth.oldest.map(|at| time(at, site)),
        "confirmed": depth.confirmed,
        "refused": depth.refused,
    })
}

/// One alarm.
pub fn alarm(alarm: &Alarm, site: Offset) -> Value {
    json!({
        "kind": alarm.kind,
        "subject": alarm.subject,
        "severity": alarm.severity,
        "since": time(alarm.since, site),
        "text": alarm.text,
    })
}

/// What an upload is about.
pub fn subject(subject: &Subject) -> Value {
    match subject {
        Subject::Employer(name) => json!({"kind": "employer", "name": name}),
        Subject::Team(team) => json!({"kind": "team", "employer": team.employer, "name": team.name}),
        Subject::Worker(id) => json!({"kind": "worker", "worker_id": id.0}),
        Subject::Entry(id, date) => json!({"kind": "entry", "worker_id": id.0, "date": date.to_string()}),
        Subject::Exit(id, date) => json!({"kind": "exit", "worker_id": id.0, "date": date.to_string()}),
        Subject::Punch(id) => json!({"kind": "punch", "id": id.to_string()}),
    }
}

/// Where one subject stands with one platform.
pub fn upload(platform: &PlatformName, about: &Subject, row: &UploadRow, site: Offset) -> Value {
    json!({
        "platform": platform.0,
        "subject": subject(about),
        "state": row.state.as_str(),
        "attempts": row.attempts,
        "job": row.job.as_ref().map(|(job, _)| job.0),
        "method": row.job.as_ref().map(|(_, method)| method),
        "serial": row.serial,
        "external": row.external,
        "reason": row.reason,
        "changed_at": time(row.changed_at, site),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_carry_the_sites_offset_and_fractions_only_where_there_are_some() {
        let urumqi = Offset::from_hours(8).unwrap();
        let at = "2026-03-02T07:01:05+08:00".parse::<jiff::Timestamp>().unwrap();
        let at = UnixMs(at.as_millisecond());
        assert_eq!(time(at, urumqi), "2026-03-02T07:01:05+08:00");
        assert_eq!(time(at.plus_ms(40), urumqi), "2026-03-02T07:01:05.04+08:00");
        assert_eq!(time(at, Offset::UTC), "2026-03-01T23:01:05+00:00");
        assert_eq!(time(UnixMs(i64::MAX), urumqi), i64::MAX.to_string());
    }

    #[test]
    fn a_punch_looks_exactly_as_the_design_says() {
        let id = PunchId::derive("1306612", "389", "2026-03-02 07:01:05", "W0001");
        let at = UnixMs("2026-03-02T07:01:05+08:00".parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let row = PunchRow {
            id,
            seq: Seq(17),
            terminal: "north-in".into(),
            record: Some("389".to_owned()),
            time: at,
            received_at: at,
            direction: Direction::Unknown,
            method: Method::Face,
            photo: None,
            judgement: Some(Judgement {
                punch: id,
                at,
                verdict: crate::punch::Verdict::Verified,
                rule_version: 1,
                worker: Some("W0001".into()),
                direction: Direction::In,
                direction_inferred: false,
                duplicate_of: None,
            }),
        };
        let upload = UploadRow {
            state: UploadState::Confirmed,
            attempts: 1,
            job: None,
            serial: None,
            external: None,
            reason: None,
            changed_at: at,
        };
        let shape = Punch::of(&row, &[("national".into(), upload)], Offset::from_hours(8).unwrap());
        let expected = format!(
            "{}{id}{}",
            r#"{"id":""#,
            concat!(
                r#"","seq":17,"terminal":"north-in","record":"389","time":"2026-03-02T07:01:05+08:00","#,
                r#""received_at":"2026-03-02T07:01:05+08:00","direction":"in","method":"face","worker_id":"W0001","#,
                r#""verdict":{"kind":"verified","reason":null,"rule_version":1},"#,
                r#""uploads":[{"platform":"national","state":"confirmed","reason":null,"attempts":1}]}"#
            )
        );
        assert_eq!(serde_json::to_string(&shape).unwrap(), expected);
    }
}
