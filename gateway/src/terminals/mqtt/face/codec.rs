//! Messages of the family, both ways: the gateway's end decodes what goes up and encodes what goes down; a simulated
//! terminal, or a platform that speaks the same protocol upwards, uses the other halves.
//!
//! Reading is lenient and never panics. Evidence is the payload as received with pictures cut out.

use std::borrow::Cow;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::lenient::{EchoId, Fields};

/// Longest value kept in the evidence; anything longer is a picture or a template.
const LONGEST_VALUE: usize = 2048;
/// Longest evidence; a record without its pictures has under 1.5 KiB.
const LONGEST_EVIDENCE: usize = 16 * 1024;

/// A payload as text: without byte-order mark and trailing NULs, and with control characters blanked where they break
/// the JSON (firmware writes names without escaping).
pub fn readable(payload: &[u8]) -> Cow<'_, str> {
    let text = match String::from_utf8_lossy(payload) {
        Cow::Borrowed(text) => Cow::Borrowed(trim(text)),
        Cow::Owned(text) => Cow::Owned(trim(&text).to_owned()),
    };
    let is_json = serde_json::from_str::<&RawValue>(&text).is_ok();
    if is_json || !text.bytes().any(|b| b < 0x20) {
        return text;
    }
    Cow::Owned(text.chars().map(|c| if c.is_ascii_control() { ' ' } else { c }).collect())
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0' || c == '\u{feff}')
}

/// One message in either direction.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    payload: &'a str,
    top: Fields<'a>,
    /// What it is, for example `RecPush`.
    pub operator: String,
    pub message_id: Option<EchoId>,
    /// Its content; empty when `info` is missing or no object.
    pub info: Fields<'a>,
}

/// The payload is no message of this family.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("no operator")]
    NoOperator,
}

impl<'a> Message<'a> {
    /// Reads text that went through [`readable`].
    pub fn decode(payload: &'a str) -> Result<Message<'a>, DecodeError> {
        let top = Fields::of(payload)?;
        let operator = top.text("operator").ok_or(DecodeError::NoOperator)?;
        let info = top.raw("info").and_then(|info| Fields::of(info.get()).ok()).unwrap_or_default();
        Ok(Message { payload, operator, message_id: top.echo("messageId"), info, top })
    }

    /// The terminal it names: in `info`, or at the top level on odd firmware.
    pub fn terminal(&self) -> Option<String> {
        self.info.text("facesluiceId").or_else(|| self.top.text("facesluiceId"))
    }

    /// The answer in it, if it is one.
    pub fn answer(&self) -> Option<Answer<'a>> {
        let command = self.operator.strip_suffix("-Ack")?.to_owned();
        let code = self.top.text("code");
        let result = self.info.text("result");
        let ok = code.as_deref().is_none_or(|code| code == "200")
            && result.as_deref().is_none_or(|result| result.eq_ignore_ascii_case("ok"));
        let detail = self.info.text("detail").or(result).unwrap_or_default();
        let reason = match code {
            Some(code) if detail.is_empty() => code,
            Some(code) => format!("{code} {detail}"),
            None => detail,
        };
        let message_id = self.message_id.as_ref().map(|id| id.text().to_owned());
        Some(Answer { command, message_id, ok, reason, info: self.info.clone() })
    }

    /// The payload as received, with pictures and other long values cut out.
    pub fn evidence(&self) -> Vec<u8> {
        let start = self.payload.as_ptr() as usize;
        let mut cuts: Vec<(usize, &RawValue)> = self
            .top
            .iter()
            .filter(|(key, _)| *key != "info")
            .chain(self.info.iter())
            .filter(|(key, value)| is_picture(key, value))
            .map(|(_, value)| (value.get().as_ptr() as usize - start, value))
            .collect();
        cuts.sort_by_key(|(at, _)| *at);
        let mut evidence = String::new();
        let mut done = 0;
        for (at, value) in cuts {
            evidence.push_str(&self.payload[done..at]);
            let digest = hex::encode(Sha256::digest(value.get()));
            evidence.push_str(&format!("\"(cut: {} bytes, sha256 {digest})\"", value.get().len()));
            done = at + value.get().len();
        }
        evidence.push_str(&self.payload[done..]);
        shorten(evidence)
    }
}

fn is_picture(key: &str, value: &RawValue) -> bool {
    let blank = value.get().len() <= 4;
    value.get().len() > LONGEST_VALUE || (matches!(key, "pic" | "scene") && !blank)
}

/// The evidence of a payload that is no message: long runs of Base64 cut out.
pub fn evidence_of_noise(text: &str) -> Vec<u8> {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '\\');
    let mut evidence = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c| !is_base64(c)).unwrap_or(rest.len());
        match run {
            0 => {
                let next = rest.find(is_base64).unwrap_or(rest.len());
                evidence.push_str(&rest[..next]);
                rest = &rest[next..];
            }
            1..512 => {
                evidence.push_str(&rest[..run]);
                rest = &rest[run..];
            }
            _ => {
                evidence.push_str(&format!("(cut: {run} bytes)"));
                rest = &rest[run..];
            }
        }
    }
    shorten(evidence)
}

fn shorten(mut evidence: String) -> Vec<u8> {
    if evidence.len() > LONGEST_EVIDENCE {
        evidence.truncate(evidence.floor_char_boundary(LONGEST_EVIDENCE));
        evidence.push_str("(cut)");
    }
    evidence.into_bytes()
}

/// Looks for `"key": value` in text that is no JSON, so that a damaged record can be acknowledged.
pub fn scan_id(text: &str, key: &str) -> Option<EchoId> {
    let quoted = format!("\"{key}\"");
    let after = &text[text.find(&quoted)? + quoted.len()..];
    let value = after.trim_start().strip_prefix(':')?.trim_start();
    let end = match value.strip_prefix('"') {
        Some(inner) => inner.find('"')? + 2,
        None => value.find(|c: char| !c.is_ascii_digit())?,
    };
    EchoId::of(serde_json::from_str(&value[..end]).ok()?)
}

/// A terminal's answer to a command.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// The command's operator.
    pub command: String,
    pub message_id: Option<String>,
    /// Code 200 (or none) and result `ok` (or none).
    pub ok: bool,
    /// Code and detail, for people.
    pub reason: String,
    pub info: Fields<'a>,
}

/// What kind of push is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// `StrSnapPush`, by its `SnapID`.
    Snap = 1,
    /// `RecPush`, by its `RecordID`.
    Record = 2,
}

/// A message from the gateway to a terminal.
#[derive(Clone, Debug)]
pub enum Down {
    /// Stops the terminal from repeating `Online` and starts delivery.
    OnlineAck {
        message_id: Option<EchoId>,
    },
    /// Releases a record or snapshot on the terminal.
    PushAck {
        kind: PushKind,
        id: EchoId,
    },
    /// The key's spelling differs between firmware.
    SetSysTime {
        key: &'static str,
        time: String,
    },
    GetSysTime,
    GetMqttConfig,
    /// The whole configuration as read, changed.
    UpMqttConfig {
        fields: Vec<(String, Box<RawValue>)>,
    },
    Unlock {
        text: String,
    },
    /// Times with `T` between date and time.
    ManualPushRecords {
        from: String,
        to: String,
    },
}

impl Down {
    /// The operator on the wire.
    pub fn operator(&self) -> &'static str {
        match self {
            Down::OnlineAck { .. } => "Online-Ack",
            Down::PushAck { .. } => "PushAck",
            Down::SetSysTime { .. } => "SetSysTime",
            Down::GetSysTime => "GetSysTime",
            Down::GetMqttConfig => "GetMQTTconfig",
            Down::UpMqttConfig { .. } => "UpMQTTconfig",
            Down::Unlock { .. } => "Unlock",
            Down::ManualPushRecords { .. } => "ManualPushRecords",
        }
    }

    /// The payload for the terminal `serial`. Acknowledgements bring their own message id.
    pub fn encode(&self, serial: &str, message_id: Option<&str>) -> String {
        let mut info = Object::new().text("facesluiceId", serial);
        let mut own_id = None;
        match self {
            Down::OnlineAck { message_id } => {
                own_id = message_id.as_ref().map(|id| id.raw().get().to_owned());
                info = info.text("result", "ok");
            }
            Down::PushAck { kind, id } => {
                let mark = if *kind == PushKind::Snap { "s" } else { "" };
                own_id = Some(json_text(&format!("ack-{mark}{}", id.text())));
                info = info.json("PushAckType", &(*kind as u8).to_string()).json("SnapOrRecordID", id.raw().get());
            }
            Down::SetSysTime { key, time } => info = info.text(key, time),
            Down::GetSysTime | Down::GetMqttConfig => {}
            Down::UpMqttConfig { fields } => {
                for (key, value) in fields {
                    info = info.json(key, value.get());
                }
            }
            Down::Unlock { text } => info = info.json("openDoor", "1").text("showInfo", text),
            Down::ManualPushRecords { from, to } => info = info.text("TimeS", from).text("TimeE", to),
        }
        let id = own_id.or_else(|| message_id.map(json_text));
        Object::new().optional("messageId", id).text("operator", self.operator()).json("info", &info.end()).end()
    }
}

/// Messages from a terminal, for those who play one.
pub mod up {
    use super::{EchoId, Object};

    /// The greeting, repeated until `Online-Ack`.
    pub fn online(serial: &str, name: &str, time: &str, message_id: Option<&str>) -> String {
        let info = Object::new()
            .text("facesluiceId", serial)
            .text("username", "admin")
            .text("time", time)
            .text("ip", "192.168.1.202")
            .text("facesname", name);
        let id = message_id.map(super::json_text);
        Object::new().text("operator", "Online").optional("messageId", id).json("info", &info.end()).end()
    }

    /// A sign of life.
    pub fn heartbeat(serial: &str, time: &str) -> String {
        let info = Object::new().text("facesluiceId", serial).text("time", time);
        Object::new().text("operator", "HeartBeat").json("info", &info.end()).end()
    }

    /// The farewell; as a last will it has no time.
    pub fn offline(serial: &str, time: Option<&str>) -> String {
        let info = Object::new().text("facesluiceId", serial).optional("time", time.map(super::json_text));
        Object::new().text("operator", "Offline").json("info", &info.end()).end()
    }

    /// The answer to a command. `info` holds further members as JSON.
    pub fn answer(
        serial: &str,
        command: &str,
        message_id: Option<&EchoId>,
        refused: Option<(&str, &str)>,
        info: &[(&str, String)],
    ) -> String {
        let mut members = Object::new().text("facesluiceId", serial);
        for (key, value) in info {
            members = members.json(key, value);
        }
        let (code, members) = match refused {
            None => ("200", members.text("result", "ok")),
            Some((code, detail)) => (code, members.text("result", "fail").text("detail", detail)),
        };
        Object::new()
            .optional("messageId", message_id.map(|id| id.raw().get().to_owned()))
            .text("operator", &format!("{command}-Ack"))
            .text("code", code)
            .json("info", &members.end())
            .end()
    }
}

/// Text as JSON.
pub fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("text always has a JSON form")
}

/// Writes one JSON object whose values may be taken over exactly as received.
#[derive(Default)]
pub struct Object(String);

impl Object {
    pub fn new() -> Object {
        Object::default()
    }

    /// A text member.
    pub fn text(self, key: &str, value: &str) -> Object {
        self.json(key, &json_text(value))
    }

    /// A member whose value is JSON already.
    pub fn json(mut self, key: &str, value: &str) -> Object {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&json_text(key));
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    /// A member whose value is JSON already, when there is one.
    pub fn optional(self, key: &str, value: Option<String>) -> Object {
        match value {
            Some(value) => self.json(key, &value),
            None => self,
        }
    }

    /// The whole object.
    pub fn end(self) -> String {
        format!("{{{}}}", self.0)
    }
}
