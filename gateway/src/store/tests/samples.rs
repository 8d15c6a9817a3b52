//! Facts to test with; nobody real.

use crate::punch::*;
use crate::store::tests::{MORNING, national};

pub fn punch(n: u32) -> Punch {
    let serial = "AX-1001";
    let record = n.to_string();
    let time = MORNING.plus_ms(i64::from(n) * 1_000);
    Punch {
        id: PunchId::derive(serial, &record, "t", "W0001"),
        terminal: TerminalId::from("north-in"),
        serial: serial.to_owned(),
        record: Some(record),
        time,
        time_text: "t".to_owned(),
        time_source: TimeSource::Terminal,
        received_at: time.plus_ms(500),
        live: Some(true),
        skew_ms: Some(-20),
        direction: Direction::In,
        direction_source: DirectionSource::Configured,
        method: Method::Face,
        credentials: vec![Credential::CustomId("W0001".to_owned())],
        says: TerminalSays::Allowed,
        similarity: Some(93.5),
        photo: None,
        raw: format!("{{\"RecordID\":\"{n}\"}}").into_bytes(),
    }
}

pub fn judgement(punch: PunchId, verdict: Verdict, worker: &str) -> Judgement {
    Judgement {
        punch,
        at: MORNING,
        verdict,
        rule_version: 1,
        worker: Some(WorkerId::from(worker)),
        direction: Direction::In,
        direction_inferred: false,
        duplicate_of: None,
    }
}

pub fn verified(punch: PunchId) -> Fact {
    Fact::Judgement(judgement(punch, Verdict::Verified, "W0001"))
}

pub fn worker(n: u32) -> Worker {
    Worker {
        worker_id: WorkerId(format!("W{n:04}")),
        name: format!("工人{n}"),
        id_number: format!("65312119900307{n:04}"),
        team: TeamKey { employer: "示例建筑".to_owned(), name: "木工一班".to_owned() },
        trade: "010".to_owned(),
        badge: Some(BadgeOnRoster::Full(Badge(0x0100_0000 + n))),
        phone: None,
        bank_card: None,
        entered_on: Some(jiff::civil::date(2026, 3, 1)),
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

pub fn step(job: u64, subjects: Vec<Subject>, step: Step) -> UploadStep {
    UploadStep {
        platform: national(),
        job: JobId(job),
        method: "WorkerAttendance.Add".to_owned(),
        at: MORNING.plus_ms(job as i64),
        subjects,
        step,
    }
}
