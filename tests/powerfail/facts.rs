//! What the workloads store. Every fact follows from a number, so that whoever checks an image knows what it must say.
//! Nobody real.

use gateway::punch::*;
use gateway::store::{Retention, StoreOptions};
use std::path::Path;

/// Monday, 2 March 2026, 07:00 in China.
pub const MORNING: UnixMs = UnixMs(1_772_406_000_000);
pub const DAY_MS: i64 = 86_400_000;
/// Punches numbered from here on are those with which an image is tried.
pub const TRIAL: u32 = 1_000_000;

/// Few, so that what is older lies in several files of the history.
const RECENT_PUNCHES: usize = 128;
const TERMINALS: u32 = 8;
pub const WORKERS: u32 = 40;

pub fn national() -> PlatformName {
    PlatformName::from("national")
}

/// Wants no punches of the first minute.
pub fn provincial() -> PlatformName {
    PlatformName::from("provincial")
}

/// A store as the gateway would open it.
pub fn options(dir: &Path) -> StoreOptions {
    let platforms = vec![(national(), None), (provincial(), Some(MORNING.plus_ms(60_000)))];
    // The punches are of a March long ago: by the rule their photos would go.
    let retention = Retention { photo_days: None, photos_make_room: false, budget: None };
    StoreOptions { recent_punches: RECENT_PUNCHES, retention, ..StoreOptions::new(dir.to_owned(), platforms) }
}

pub fn worker_id(n: u32) -> WorkerId {
    WorkerId(format!("W{:04}", n % WORKERS))
}

pub fn terminal(n: u32) -> TerminalId {
    TerminalId(format!("gate-{}", n % TERMINALS))
}

/// Punch `n`; every sixteenth has a photo.
pub fn punch(n: u32) -> Punch {
    let serial = format!("AX-{:04}", n % TERMINALS);
    let record = n.to_string();
    let worker = worker_id(n / 3);
    let time = MORNING.plus_ms(i64::from(n) * 1_000);
    Punch {
        id: PunchId::derive(&serial, &record, "t", worker.as_str()),
        terminal: terminal(n),
        serial,
        time,
        time_text: "t".to_owned(),
        time_source: TimeSource::Terminal,
        received_at: time.plus_ms(500),
        live: Some(!n.is_multiple_of(5)),
        skew_ms: Some(i64::from(n % 100)),
        direction: if n.is_multiple_of(2) { Direction::In } else { Direction::Out },
        direction_source: DirectionSource::Configured,
        method: Method::Face,
        credentials: vec![Credential::CustomId(worker.0)],
        says: TerminalSays::Allowed,
        similarity: Some(93.5),
        photo: has_photo(n).then(|| PhotoHash::of(&photo(n))),
        // Long enough now and then for a frame to lie across sectors and pages.
        raw: format!("{{\"RecordID\":\"{record}\"}}").repeat(1 + n as usize % 60).into_bytes(),
        record: Some(record),
    }
}

pub fn has_photo(n: u32) -> bool {
    n.is_multiple_of(16)
}

/// 4 to 20 KiB that begin as a JPEG does.
pub fn photo(n: u32) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8];
    let mut state = u64::from(n) | 1;
    let size = 4_096 + n as usize * 37 % 16_384;
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes
}

/// The first judgement of punch `n`.
pub fn judgement(n: u32) -> Fact {
    let verdict = match n % 11 {
        9 => Verdict::Held(HeldReason::UnknownWorker),
        10 => Verdict::Rejected(RejectedReason::LowSimilarity),
        _ => Verdict::Verified,
    };
    judged(n, verdict)
}

/// Punch `n` is verified at last.
pub fn second_judgement(n: u32) -> Fact {
    judged(n, Verdict::Verified)
}

fn judged(n: u32, verdict: Verdict) -> Fact {
    let punch = punch(n);
    Fact::Judgement(Judgement {
        punch: punch.id,
        at: punch.received_at.plus_ms(10),
        verdict,
        rule_version: 1,
        worker: Some(worker_id(n / 3)),
        direction: punch.direction,
        direction_inferred: false,
        duplicate_of: None,
    })
}

/// Worker `n` as the roster has it for the `version`th time.
pub fn worker(n: u32, version: u32) -> Fact {
    Fact::Worker(Worker {
        worker_id: worker_id(n),
        name: format!("工人{n}"),
        id_number: format!("65312119900307{:04}", n % WORKERS),
        team: TeamKey { employer: "示例建筑".to_owned(), name: format!("木工{}班", version % 3) },
        trade: "010".to_owned(),
        badge: Some(BadgeOnRoster::Full(Badge(0x0100_0000 + n % WORKERS))),
        phone: Some(format!("1390000{version:04}")),
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
    })
}

/// A step of job `job` for these subjects.
pub fn step(platform: PlatformName, job: JobId, subjects: Vec<Subject>, step: Step) -> Fact {
    Fact::Upload(UploadStep {
        platform,
        job,
        method: "WorkerAttendance.Add".to_owned(),
        at: MORNING.plus_ms(job.0 as i64 * 1_000),
        subjects,
        step,
    })
}
