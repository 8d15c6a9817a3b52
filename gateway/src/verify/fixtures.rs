//! A worker and a punch about which nothing is wrong, for the tests of this module.

use std::time::Duration;

use jiff::civil::date;
use jiff::tz::Offset;

use crate::config::Verify;
use crate::punch::*;
use crate::store::Presence;

/// 2026-03-02 07:01:05 at the site.
pub const MORNING: UnixMs = UnixMs(1_772_406_065_000);
pub const SECOND: i64 = 1_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

pub fn rules() -> Verify {
    Verify {
        min_similarity: 80.0,
        duplicate_window: Duration::from_secs(60),
        clock_suspect: Duration::from_secs(60),
        utc_offset: Offset::constant(8),
    }
}

pub fn worker(id: &str, badge: u32) -> Worker {
    Worker {
        worker_id: id.into(),
        name: "张三".to_owned(),
        id_number: "11010519491231002X".to_owned(),
        team: TeamKey { employer: "昌建总承包".to_owned(), name: "钢筋一班".to_owned() },
        trade: "020".to_owned(),
        badge: Some(BadgeOnRoster::Full(Badge(badge))),
        phone: None,
        bank_card: None,
        entered_on: Some(date(2026, 3, 1)),
        left_on: None,
        leader: false,
        gender: None,
        birth: None,
        nation: None,
        address: None,
        issuer: None,
        valid_from: None,
        valid_to: None,
        politics: None,
        education: None,
        photo: None,
    }
}

/// A badge at `terminal`, `time` being the terminal's own.
pub fn punch(record: u32, badge: u32, direction: Direction, time: UnixMs) -> Punch {
    Punch {
        id: PunchId::derive("R0001", &record.to_string(), "", &badge.to_string()),
        terminal: "north-in".into(),
        serial: "R0001".to_owned(),
        record: Some(record.to_string()),
        time,
        time_text: String::new(),
        time_source: TimeSource::Terminal,
        received_at: time.plus_ms(SECOND),
        live: Some(true),
        skew_ms: Some(0),
        direction,
        direction_source: DirectionSource::Configured,
        method: Method::Card,
        credentials: vec![Credential::Badge(Badge(badge))],
        says: TerminalSays::Allowed,
        similarity: None,
        photo: None,
        raw: Vec::new(),
    }
}

pub fn presence(of: &Punch, worker: &str, direction: Direction) -> Presence {
    Presence { worker: worker.into(), punch: of.id, terminal: of.terminal.clone(), time: of.time, direction }
}
