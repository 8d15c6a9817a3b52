//! `GET punches/{id}`: everything the ledger says about one punch, and its place in the hash chain.

use axum::extract::{Path, State};
use jiff::tz::Offset;
use serde_json::{Value, json};

use super::super::Here;
use super::super::problem::Problem;
use super::punches::uploads_of;
use super::shape::{self, time};
use crate::mask;
use crate::punch::*;
use crate::store::Story;

/// The whole story of one punch.
pub async fn tell(State(console): Here, Path(id): Path<String>) -> Result<axum::Json<Value>, Problem> {
    let wanted = punch_id(&id)?;
    let platforms = console.platforms();
    let found = console
        .context
        .store
        .read(move |view| {
            let story = view.story(wanted)?;
            let uploads = uploads_of(view, &story.row, &platforms);
            Some((story, uploads))
        })
        .await;
    let (story, uploads) = found.ok_or_else(|| Problem::not_found(format!("there is no punch {id}")))?;
    let site = console.context.config.site.utc_offset;
    let punch = shape::Punch::of(&story.row, &uploads, site);
    Ok(axum::Json(whole(&story, punch, site)))
}

/// A punch's id in an address.
pub fn punch_id(text: &str) -> Result<PunchId, Problem> {
    let wrong = |_| Problem::parameter("id", format!("a punch's id is 32 hexadecimal digits, not `{text}`"));
    text.parse().map_err(wrong)
}

fn whole(story: &Story, summary: shape::Punch, site: Offset) -> Value {
    let mut whole = serde_json::to_value(summary).expect("a punch has only text and numbers");
    let fields = whole.as_object_mut().expect("a punch is an object");
    let Value::Object(more) = json!({
        "presented": presented(&story.punch),
        "evidence": evidence(&story.punch.raw),
        "verdicts": story.judgements.iter().map(|(seq, judgement)| verdict(*seq, judgement, site)).collect::<Vec<_>>(),
        "attempts": story.uploads.iter().map(|(seq, step)| attempt(*seq, step, site)).collect::<Vec<_>>(),
        "proof": {
            "segment": story.place.segment,
            "offset": story.place.offset,
            "seq": story.place.seq.0,
            "hash": hex::encode(story.place.hash),
            "previous_hash": hex::encode(story.place.previous_hash),
        },
    }) else {
        unreachable!("an object literal is an object")
    };
    fields.extend(more);
    whole
}

/// What the terminal said of it.
fn presented(punch: &Punch) -> Value {
    json!({
        "serial": punch.serial,
        "time_text": punch.time_text,
        "time_source": match punch.time_source {
            TimeSource::Terminal => json!({"kind": "terminal"}),
            TimeSource::Uptime { uncertainty_ms } => json!({"kind": "uptime", "uncertainty_ms": uncertainty_ms}),
            TimeSource::Gateway => json!({"kind": "gateway"}),
        },
        "live": punch.live,
        "skew_ms": punch.skew_ms,
        "direction": punch.direction.as_str(),
        "direction_source": match punch.direction_source {
            DirectionSource::Configured => "configured",
            DirectionSource::Terminal => "terminal",
            DirectionSource::Alternate => "alternate",
        },
        "credentials": punch.credentials.iter().map(credential).collect::<Vec<_>>(),
        "says": match &punch.says {
            TerminalSays::Allowed => json!({"kind": "allowed"}),
            TerminalSays::Refused(code) => json!({"kind": "refused", "code": code}),
            TerminalSays::NotEnrolled => json!({"kind": "not-enrolled"}),
            TerminalSays::Nothing => json!({"kind": "nothing"}),
        },
        "similarity": punch.similarity,
        "photo": punch.photo.map(|photo| photo.to_string()),
    })
}

fn credential(credential: &Credential) -> Value {
    let masked = |text: &str| mask::numbers(text).into_owned();
    let (kind, value) = match credential {
        Credential::CustomId(id) => ("custom-id", masked(id)),
        Credential::IdNumber(number) => ("id-number", mask::id_number(number)),
        Credential::Badge(badge) => ("badge", badge.to_string()),
        Credential::Badge24(low) => ("badge-24", BadgeOnRoster::Low24(*low).to_string()),
        Credential::TerminalPerson(row) => ("terminal-person", row.clone()),
        Credential::Text(text) => ("text", masked(text)),
    };
    json!({"kind": kind, "value": value})
}

/// The record as it came: JSON as JSON, anything else as hexadecimal digits. Personal numbers are masked, so it is not
/// this text that the proof covers but the record in the ledger.
fn evidence(raw: &[u8]) -> Value {
    match serde_json::from_slice::<Value>(raw) {
        Ok(mut record) if record.is_object() || record.is_array() => {
            mask::evidence_json(&mut record);
            json!({"kind": "json", "value": record})
        }
        Ok(_) | Err(_) => json!({"kind": "hex", "value": hex::encode(mask::evidence(raw))}),
    }
}

fn verdict(seq: Seq, judgement: &Judgement, site: Offset) -> Value {
    json!({
        "seq": seq.0,
        "at": time(judgement.at, site),
        "kind": judgement.verdict.kind(),
        "reason": judgement.verdict.reason(),
        "rule_version": judgement.rule_version,
        "worker_id": judgement.worker.as_ref().map(WorkerId::as_str),
        "direction": judgement.direction.as_str(),
        "direction_inferred": judgement.direction_inferred,
        "duplicate_of": judgement.duplicate_of.map(|id| id.to_string()),
    })
}

fn attempt(seq: Seq, upload: &UploadStep, site: Offset) -> Value {
    let mut attempt = json!({
        "seq": seq.0,
        "platform": upload.platform.0,
        "job": upload.job.0,
        "method": upload.method,
        "at": time(upload.at, site),
        "subjects": upload.subjects.len(),
    });
    let (outcome, more) = outcome(&upload.step);
    attempt["outcome"] = json!(outcome);
    for (name, value) in more {
        attempt[name] = value;
    }
    attempt
}

/// A step's name, and what it carries.
fn outcome(step: &Step) -> (&'static str, Vec<(&'static str, Value)>) {
    match step {
        Step::Waiting { reason } => ("waiting", vec![("reason", json!(reason))]),
        Step::Sending { request_hash } => ("sending", vec![("request_hash", json!(hex::encode(request_hash)))]),
        Step::Accepted { serial } => ("accepted", vec![("serial", json!(serial))]),
        Step::Confirmed { external, note } => {
            ("confirmed", vec![("receipt", json!({"external": external, "note": note}))])
        }
        Step::Refused { reason } => ("refused", vec![("reason", json!(reason))]),
        Step::Requeued { reason } => ("requeued", vec![("reason", json!(reason))]),
        Step::Unknown { reason } => ("unknown", vec![("reason", json!(reason))]),
        Step::Withdrawn { reason } => ("withdrawn", vec![("reason", json!(reason))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_json_where_it_is_json_and_hex_elsewhere_and_never_an_id_number() {
        let record = br#"{"operator":"RecPush","info":{"idCard":"110101199003070011","RecordID":"389"}}"#;
        let shown = evidence(record);
        assert_eq!(shown["value"]["info"]["idCard"], "110101********0011");
        assert_eq!(shown["value"]["info"]["RecordID"], "389");
        let badge = evidence(b"\x020A004D3C5E\x03");
        assert_eq!(badge, json!({"kind": "hex", "value": "023041303034443343354503"}));
        let line = evidence(b"110101199003070011\r\n");
        assert_eq!(hex::decode(line["value"].as_str().unwrap()).unwrap(), b"110101********0011\r\n");
    }

    #[test]
    fn each_step_names_its_outcome_and_carries_its_answer() {
        let step = |step| UploadStep {
            platform: "national".into(),
            job: JobId(4),
            method: "WorkerAttendance.Add".to_owned(),
            at: UnixMs(0),
            subjects: vec![Subject::Worker("W0001".into())],
            step,
        };
        let shown = |one| attempt(Seq(9), &step(one), Offset::UTC);
        let receipt = shown(Step::Confirmed { external: Some("77".to_owned()), note: None });
        assert_eq!(receipt["outcome"], "confirmed");
        assert_eq!(receipt["receipt"]["external"], "77");
        assert_eq!(receipt["method"], "WorkerAttendance.Add");
        assert_eq!(shown(Step::Refused { reason: "no such team".to_owned() })["reason"], "no such team");
        assert_eq!(shown(Step::Sending { request_hash: [0xAB; 32] })["request_hash"], "ab".repeat(32));
        assert_eq!(shown(Step::Accepted { serial: "S1".to_owned() })["serial"], "S1");
    }
}
