//! What a terminal pushes: recognition records and strangers' pictures, from their fields to facts.
//!
//! Knows nothing about the roster: every credential the terminal gave is handed on, best first.

use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::Now;
use super::codec::{Message, Object};
use super::lenient::{EchoId, string_of};
use crate::config::DirectionRule;
use crate::photo;
use crate::punch::{
    Badge, Credential, Direction, DirectionSource, Method, Punch, PunchId, Stranger, TerminalSays, TimeSource, UnixMs,
};
use crate::terminals::hub::Terminal;

/// Fields of `RecPush` and `StrSnapPush` seen in the field; others are reported, because they may matter.
const KNOWN: &[&str] = &[
    "customId",
    "personId",
    "RecordID",
    "SnapID",
    "VerifyStatus",
    "PersonType",
    "similarity1",
    "similarity2",
    "Sendintime",
    "direction",
    "otype",
    "persionName",
    "personName",
    "facesluiceId",
    "facesluiceName",
    "idCard",
    "telnum",
    "left",
    "top",
    "right",
    "bottom",
    "targetPosInScene",
    "time",
    "PushType",
    "OpendoorWay",
    "cardNum2",
    "RFIDCard",
    "szQrCodeData",
    "isNoMask",
    "temperature",
    "temperatureAlarm",
    "temperatureMode",
    "dwFileIndex",
    "dwFilePos",
    "pic",
    "scene",
    "uniqueId",
    "liveDetect",
];

/// The keys of a push that this module does not know.
pub fn unknown_keys(message: &Message<'_>) -> Vec<String> {
    message.info.iter().map(|(key, _)| key).filter(|key| !KNOWN.contains(key)).map(str::to_owned).collect()
}

/// A `RecPush`, fields as the terminal wrote them.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub id: Option<EchoId>,
    pub custom_id: Option<String>,
    pub person_id: Option<String>,
    pub id_card: Option<String>,
    pub name: Option<String>,
    pub verify_status: Option<String>,
    pub similarity: Option<f32>,
    /// Sent within 10 s of the capture.
    pub in_time: Option<bool>,
    pub direction: Option<String>,
    pub verify_type: Option<String>,
    pub door_way: Option<String>,
    pub cards: Vec<String>,
    pub qr: Option<String>,
    pub time: Option<String>,
    /// 2: an answer to `ManualPushRecords`.
    pub push_type: Option<i64>,
    pub photo: Option<Vec<u8>>,
}

impl Record {
    /// Reads the fields of a `RecPush`.
    pub fn of(message: &Message<'_>) -> Record {
        let info = &message.info;
        let cards = ["RFIDCard", "cardNum2"].into_iter().filter_map(|key| info.text(key));
        Record {
            id: info.echo("RecordID"),
            custom_id: info.text("customId"),
            person_id: info.text("personId"),
            id_card: info.text("idCard"),
            name: info.text("persionName").or_else(|| info.text("personName")),
            verify_status: info.text("VerifyStatus"),
            similarity: info.float("similarity1"),
            in_time: info.number("Sendintime").map(|sent| sent == 1),
            direction: info.text("direction"),
            verify_type: info.text("otype"),
            door_way: info.text("OpendoorWay"),
            cards: cards.filter(|card| card.bytes().any(|b| b != b'0')).collect(),
            qr: info.text("szQrCodeData"),
            time: info.text("time"),
            push_type: info.number("PushType"),
            photo: info.raw("pic").and_then(string_of).and_then(|text| photo::decode(&text).ok()),
        }
    }

    /// The record as a terminal of the usual variant writes it.
    pub fn encode(&self, serial: &str) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| " ".to_owned());
        let number = |value: i64| value.to_string();
        let info = Object::new()
            .text("customId", self.custom_id.as_deref().unwrap_or(""))
            .text("personId", &text(&self.person_id))
            .optional("RecordID", self.id.as_ref().map(|id| id.raw().get().to_owned()))
            .text("VerifyStatus", &text(&self.verify_status))
            .text("PersonType", "0")
            .text("similarity1", &format!("{:.6}", self.similarity.unwrap_or(0.0)))
            .json("Sendintime", &number(self.in_time.unwrap_or(false).into()))
            .text("direction", self.direction.as_deref().unwrap_or("unknown"))
            .text("otype", self.verify_type.as_deref().unwrap_or("1"))
            .text("persionName", &text(&self.name))
            .text("facesluiceId", serial)
            .text("idCard", &text(&self.id_card))
            .text("telnum", " ")
            .text("time", &text(&self.time))
            .json("PushType", &number(self.push_type.unwrap_or(0)))
            .text("OpendoorWay", self.door_way.as_deref().unwrap_or("0"))
            .text("RFIDCard", self.cards.first().map_or("0", String::as_str))
            .text("szQrCodeData", self.qr.as_deref().unwrap_or(""))
            .text("isNoMask", "0")
            .optional("pic", self.photo.as_deref().map(|jpeg| super::codec::json_text(&photo::encode(jpeg))));
        Object::new().text("operator", "RecPush").json("info", &info.end()).end()
    }

    /// The fact; on failure, what is wrong with the record.
    pub fn to_punch(&self, context: &RecordContext<'_>, raw: Vec<u8>) -> Result<Punch, String> {
        let serial = context.terminal.serial.as_str();
        let record = self.id.as_ref().map(|id| id.text().to_owned());
        let time_text = self.time.clone().ok_or("no time")?;
        let time = wall_time(&time_text, context.offset).ok_or_else(|| format!("unreadable time {time_text:?}"))?;
        let says = self.says()?;
        let person = self.custom_id.as_deref().or(self.person_id.as_deref()).unwrap_or("");
        let (direction, direction_source) = self.direction(context.terminal.direction);
        let method = self.method();
        Ok(Punch {
            id: PunchId::derive(serial, record.as_deref().unwrap_or(""), &time_text, person),
            terminal: context.terminal.id.clone(),
            serial: serial.to_owned(),
            record,
            time,
            time_text,
            time_source: TimeSource::Terminal,
            received_at: context.now.wall,
            live: self.is_live(),
            skew_ms: context.skew_ms,
            direction,
            direction_source,
            method,
            credentials: self.credentials(),
            says,
            similarity: self.similarity.filter(|_| method == Method::Face),
            photo: None,
            raw,
        })
    }

    /// Whether the terminal sent it at once; a replay on demand is never live.
    pub fn is_live(&self) -> Option<bool> {
        if self.push_type == Some(2) { Some(false) } else { self.in_time }
    }

    fn says(&self) -> Result<TerminalSays, String> {
        let status = self.verify_status.as_deref().ok_or("no VerifyStatus")?;
        Ok(match status {
            "1" => TerminalSays::Allowed,
            "0" | "3" => TerminalSays::NotEnrolled,
            code => TerminalSays::Refused(code.to_owned()),
        })
    }

    fn direction(&self, rule: DirectionRule) -> (Direction, DirectionSource) {
        match rule {
            DirectionRule::In => (Direction::In, DirectionSource::Configured),
            DirectionRule::Out => (Direction::Out, DirectionSource::Configured),
            DirectionRule::Alternate => (Direction::Unknown, DirectionSource::Alternate),
            DirectionRule::Terminal => (self.said_direction(), DirectionSource::Terminal),
        }
    }

    fn said_direction(&self) -> Direction {
        match self.direction.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("entr" | "enter" | "entrance" | "in") => Direction::In,
            Some("exit" | "out") => Direction::Out,
            _ => Direction::Unknown,
        }
    }

    fn method(&self) -> Method {
        let by_face = matches!(self.door_way.as_deref(), None | Some("0"));
        match self.verify_type.as_deref() {
            Some("1") => Method::Face,
            _ if by_face => Method::Face,
            _ if !self.cards.is_empty() => Method::Card,
            _ if self.qr.is_some() => Method::Qr,
            _ => Method::Other,
        }
    }

    fn credentials(&self) -> Vec<Credential> {
        let custom = self.custom_id.clone().map(Credential::CustomId);
        let id_number = self.id_card.as_deref().map(|id| Credential::IdNumber(id.to_ascii_uppercase()));
        let cards = self.cards.iter().map(|card| match card.parse::<u32>() {
            Ok(number) => Credential::Badge(Badge(number)),
            Err(_) => Credential::Text(card.clone()),
        });
        let person = self.person_id.clone().map(Credential::TerminalPerson);
        let mut credentials: Vec<Credential> = Vec::new();
        for credential in custom.into_iter().chain(id_number).chain(cards).chain(person) {
            if !credentials.contains(&credential) {
                credentials.push(credential);
            }
        }
        credentials
    }
}

/// What a record needs besides its fields.
pub struct RecordContext<'a> {
    pub terminal: &'a Terminal,
    pub offset: Offset,
    pub now: Now,
    /// How far the terminal's clock is ahead, as last measured.
    pub skew_ms: Option<i64>,
}

/// A `StrSnapPush`.
pub struct Snap {
    pub id: Option<EchoId>,
    time: Option<String>,
    pub photo: Option<Vec<u8>>,
}

impl Snap {
    /// Reads the fields of a `StrSnapPush`.
    pub fn of(message: &Message<'_>) -> Snap {
        Snap {
            id: message.info.echo("SnapID"),
            time: message.info.text("time"),
            photo: message.info.raw("pic").and_then(string_of).and_then(|text| photo::decode(&text).ok()),
        }
    }

    /// The fact; on failure, what is wrong with the message.
    pub fn to_stranger(&self, context: &RecordContext<'_>, raw: Vec<u8>) -> Result<Stranger, String> {
        let time_text = self.time.clone().ok_or("no time")?;
        let time = wall_time(&time_text, context.offset).ok_or_else(|| format!("unreadable time {time_text:?}"))?;
        Ok(Stranger {
            terminal: context.terminal.id.clone(),
            serial: context.terminal.serial.clone(),
            record: self.id.as_ref().map(|id| id.text().to_owned()),
            time,
            time_text,
            received_at: context.now.wall,
            photo: None,
            raw,
        })
    }
}

/// The moment that a terminal's wall-clock text means: `2026-05-06 06:58:01`, also with `T` or `/`.
pub fn wall_time(text: &str, offset: Offset) -> Option<UnixMs> {
    let civil: DateTime = text.trim().replace('/', "-").parse().ok()?;
    let at = offset.to_timestamp(civil).ok()?;
    Some(UnixMs(at.as_millisecond()))
}

/// A moment as the terminal's wall clock shows it, with `separator` between date and time.
pub fn wall_text(at: UnixMs, offset: Offset, separator: char) -> String {
    let Ok(timestamp) = jiff::Timestamp::from_millisecond(at.0) else { return String::new() };
    let civil = offset.to_datetime(timestamp);
    civil.strftime(if separator == 'T' { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_are_local_to_the_site() {
        let offset = jiff::tz::offset(8);
        let at = wall_time("2026-05-06 06:58:01", offset).unwrap();
        assert_eq!(at, UnixMs(1_778_021_881_000));
        assert_eq!(wall_text(at, offset, ' '), "2026-05-06 06:58:01");
        assert_eq!(wall_text(at, offset, 'T'), "2026-05-06T06:58:01");
        for same in ["2026-05-06T06:58:01", "2026/05/06 06:58:01", " 2026-05-06 06:58:01 "] {
            assert_eq!(wall_time(same, offset), Some(at), "{same}");
        }
        for wrong in ["", "0000-00-00 00:00:00", "2026-13-01 00:00:00", "yesterday", "1778021881"] {
            assert_eq!(wall_time(wrong, offset), None, "{wrong}");
        }
    }
}
