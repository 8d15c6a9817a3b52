use std::collections::BTreeMap;

use super::*;
use crate::console::pages::Overview;
use crate::console::pages::Page;
use crate::console::pages::live::{Rendered, rendered};
use crate::console::pages::snapshot::HeadCount;
use crate::ops::alarms::Kind;
use crate::ops::board::PlatformStatus;
use crate::punch::*;
use crate::store::{Depth, PunchRow, UploadRow};

const NOW: &str = "2026-05-06T07:30:00+08:00";

#[test]
fn every_section_says_what_the_snapshot_holds_in_both_languages() {
    let snapshot = snapshot();
    let zh = |section: Section| section.render(&snapshot, Variant { language: Language::Zh, member: false });
    let en = |section: Section| section.render(&snapshot, Variant { language: Language::En, member: false });
    holds(&zh(Section::OnSite), &["当前在场", ">137<", "钢筋一班", "昌建总承包", ">61<"]);
    holds(&en(Section::OnSite), &["On site now", ">137<", "Employer"]);
    let punches = zh(Section::Punches);
    holds(
        &punches,
        &[
            "07:29:58",
            "class=\"chip good\"",
            "张*",
            ">进<",
            "north-in",
            "有效",
            "已回执",
            "暂存：未登记人员",
            "不计：重复打卡",
        ],
    );
    holds(&en(Section::Punches), &["verified", "confirmed", "held: not on the roster", "refused", "no such team"]);
    holds(&zh(Section::Terminals), &["north-in", "在线", "离线", "待批准", "+0.4 s", "05-05 18:02"]);
    holds(
        &en(Section::Platforms),
        &["national", "running", ">1284<", "city", "unreachable", "no answer for 3 minutes"],
    );
    holds(&zh(Section::Alarms), &["平台连接不上", "city", "critical"]);
}

#[test]
fn only_members_are_offered_to_approve_a_terminal() {
    let snapshot = snapshot();
    let terminals = |member| Section::Terminals.render(&snapshot, Variant { language: Language::Zh, member });
    holds(&terminals(true), &["/approve?serial=T%2F%3Cb%3E&amp;lang=zh"]);
    assert!(!terminals(false).contains("/approve"));
}

#[test]
fn what_terminals_and_platforms_say_cannot_become_markup() {
    let snapshot = snapshot();
    for variant in Variant::all() {
        for section in SECTIONS {
            let html = section.render(&snapshot, variant);
            assert!(!html.contains("<b>") && !html.contains("<script"), "{html}");
        }
    }
}

#[test]
fn a_full_or_failing_store_stands_above_everything() {
    let member = Variant { language: Language::En, member: true };
    let mut snapshot = snapshot();
    assert!(!Section::Alarms.render(&snapshot, member).contains("class=\"trouble\""));
    snapshot.intake_open = false;
    holds(&Section::Alarms.render(&snapshot, member), &["trouble", "punches are not taken yet"]);
    snapshot.store = StoreHealth::Full { since: UnixMs(0), free_bytes: 0 };
    holds(&Section::Alarms.render(&snapshot, member), &["trouble", "The disk is full"]);
}

#[test]
fn sections_that_look_the_same_are_not_sent_again() {
    let before = rendered(&snapshot(), &Rendered::default());
    let mut later = snapshot();
    later.now = later.now.plus_ms(1000);
    let same = rendered(&later, &before);
    later.head_count.total += 1;
    let changed = rendered(&later, &same);
    for variant in Variant::all() {
        let versions =
            |rendered: &Rendered| rendered.sections(variant).iter().map(|one| one.version()).collect::<Vec<_>>();
        assert_eq!(versions(&before), [1; 5]);
        assert_eq!(versions(&same), [1; 5]);
        assert_eq!(versions(&changed), [1, 2, 1, 1, 1]);
    }
}

#[test]
fn the_whole_page_names_its_language_and_nothing_from_elsewhere() {
    let fragments = rendered(&snapshot(), &Rendered::default());
    for language in Language::ALL {
        let variant = Variant { language, member: true };
        let page = Page {
            t: language,
            site: "北区<1>号楼".to_owned(),
            member: true,
            build: "b",
            serial: None,
            ledger_key: String::new(),
        };
        let html = Overview { page, sections: fragments.sections(variant) }.render().unwrap();
        holds(&html, &[&format!("<html lang=\"{}\">", language.tag()), "北区&#60;1&#62;号楼", "aria-live"]);
        assert!(!html.contains("http") && !html.contains("style=") && !html.contains("onclick"), "{html}");
    }
}

fn holds(html: &str, texts: &[&str]) {
    for text in texts {
        assert!(html.contains(text), "{text} is missing in\n{html}");
    }
}

fn at(text: &str) -> UnixMs {
    UnixMs(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn snapshot() -> Snapshot {
    let team = |name: &str| TeamKey { employer: "昌建总承包".to_owned(), name: name.to_owned() };
    Snapshot {
        now: at(NOW),
        site: Offset::from_hours(8).unwrap(),
        intake_open: true,
        store: StoreHealth::Open,
        head_count: HeadCount {
            total: 137,
            teams: vec![(team("钢筋一班"), 61), (team("木工班"), 44), (team("架子工班"), 32)],
        },
        punches: punches(),
        terminals: terminals(),
        platforms: platforms(),
        alarms: vec![Alarm {
            kind: Kind::PlatformDown,
            subject: "city".to_owned(),
            severity: Severity::Critical,
            since: at("2026-05-06T07:27:00+08:00"),
            text: "<script>no answer</script>: punches wait in the outbox; check the uplink".to_owned(),
        }],
    }
}

fn punches() -> Vec<PunchLine> {
    let seconds = |seconds: i64| at(NOW).plus_ms(-seconds * 1000);
    let upload = |state, reason: Option<&str>| UploadRow {
        state,
        attempts: 1,
        job: None,
        serial: None,
        external: None,
        reason: reason.map(str::to_owned),
        changed_at: at(NOW),
    };
    let both = |first, second| vec![("national".into(), first), ("city".into(), second)];
    let line = |number: u8, seconds_ago, verdict, name: Option<&str>, uploads| {
        let id = PunchId([number; 16]);
        let judgement = Judgement {
            punch: id,
            at: at(NOW),
            verdict,
            rule_version: 1,
            worker: name.map(|_| "W0001".into()),
            direction: Direction::In,
            direction_inferred: false,
            duplicate_of: None,
        };
        let row = PunchRow {
            id,
            seq: Seq(number.into()),
            terminal: "north-in".into(),
            record: None,
            time: seconds(seconds_ago),
            received_at: seconds(seconds_ago),
            direction: Direction::In,
            method: Method::Face,
            photo: None,
            judgement: Some(judgement),
        };
        PunchLine { row, name: name.map(str::to_owned), uploads }
    };
    let held = Verdict::Held(HeldReason::UnknownWorker);
    let duplicate = Verdict::Rejected(RejectedReason::Duplicate);
    let confirmed = upload(UploadState::Confirmed, None);
    vec![
        line(1, 2, Verdict::Verified, Some("张*"), both(confirmed.clone(), upload(UploadState::Queued, None))),
        line(2, 9, held, None, Vec::new()),
        line(3, 15, duplicate, Some("李*"), Vec::new()),
        line(
            4,
            31,
            Verdict::Verified,
            Some("阿*"),
            both(confirmed, upload(UploadState::Refused, Some("no such team"))),
        ),
    ]
}

fn terminals() -> Vec<TerminalStatus> {
    let terminal = |id: &str, serial: &str, online, pending, last_seen: &str, skew_ms| TerminalStatus {
        id: id.into(),
        serial: serial.to_owned(),
        protocol: "mqtt-face".to_owned(),
        direction: "in".to_owned(),
        via: "192.0.2.9".to_owned(),
        online,
        pending,
        last_seen: Some(at(last_seen)),
        last_punch: None,
        skew_ms,
        health: BTreeMap::new(),
    };
    vec![
        terminal("north-in", "1306612", true, false, "2026-05-06T07:29:58+08:00", Some(400)),
        terminal("south-in", "R0001", false, false, "2026-05-05T18:02:11+08:00", Some(-200_000)),
        terminal("T/<b>", "T/<b>", true, true, "2026-05-06T07:29:00+08:00", None),
    ]
}

fn platforms() -> Vec<PlatformLine> {
    let line = |name: &str, open, state, note: Option<&str>| PlatformLine {
        name: name.into(),
        depth: Depth { open, oldest: Some(at("2026-05-06T07:01:00+08:00")), confirmed: 1284, refused: 2 },
        status: Some(PlatformStatus {
            name: name.into(),
            profile: "mohurd".to_owned(),
            state,
            note: note.map(str::to_owned),
            last_answer: None,
        }),
    };
    vec![
        line("national", 3, CourierState::Running, None),
        line("city", 212, CourierState::Unreachable, Some("no answer for 3 minutes; next attempt at 07:31:10 <b>")),
    ]
}
