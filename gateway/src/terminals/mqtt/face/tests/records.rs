//! Records: what becomes of them, and when they are acknowledged.

use serde_json::json;

use super::super::super::topics::OwnKind;
use super::super::session::Disposal;
use super::{Bench, fixture, terminal};
use crate::config::DirectionRule;
use crate::ops::alarms::Kind;
use crate::punch::{
    Badge, Credential, Direction, DirectionSource, Fact, Method, Punch, PunchId, TerminalSays, TimeSource, UnixMs,
};

fn punch_of(name: &str) -> Punch {
    let mut bench = Bench::new();
    bench.hear(OwnKind::Rec, &fixture(name));
    bench.only_punch().clone()
}

fn record(changes: serde_json::Value) -> String {
    let mut message: serde_json::Value = serde_json::from_str(&fixture("rec_recpush_terminal")).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        message["info"][key] = value.clone();
    }
    message["info"].as_object_mut().unwrap().retain(|_, value| *value != json!("absent"));
    message.to_string()
}

fn punch_with(changes: serde_json::Value) -> Punch {
    let mut bench = Bench::new();
    bench.hear(OwnKind::Rec, &record(changes));
    bench.only_punch().clone()
}

#[test]
fn a_terminals_record_becomes_a_punch_with_all_it_says() {
    let punch = punch_of("rec_recpush_terminal");
    let id_number = "110101199003070011".to_owned();
    assert_eq!(punch.id, PunchId::derive("1306612", "389", "2026-05-06 06:58:01", &id_number));
    assert_eq!(punch.terminal.as_str(), "north-in");
    assert_eq!(punch.record.as_deref(), Some("389"));
    assert_eq!(punch.time, UnixMs(1_778_021_881_000));
    assert_eq!((punch.time_text.as_str(), punch.time_source), ("2026-05-06 06:58:01", TimeSource::Terminal));
    assert_eq!((punch.live, punch.skew_ms), (Some(true), Some(-1000)));
    assert_eq!((punch.direction, punch.direction_source), (Direction::In, DirectionSource::Terminal));
    assert_eq!((punch.method, punch.says.clone()), (Method::Face, TerminalSays::Allowed));
    assert_eq!(punch.similarity, Some(91.4));
    let credentials = [
        Credential::CustomId(id_number.clone()),
        Credential::IdNumber(id_number),
        Credential::Badge(Badge(1)),
        Credential::TerminalPerson("22".to_owned()),
    ];
    assert_eq!(punch.credentials, credentials);
    let raw = String::from_utf8(punch.raw).unwrap();
    assert!(raw.contains("\"RecordID\": \"389\"") && !raw.contains("/9j/"), "{raw}");
}

#[test]
fn every_record_fixture_is_a_punch() {
    let camera = punch_of("rec_recpush_camera_v125");
    assert_eq!((camera.direction, camera.similarity), (Direction::Unknown, Some(94.0)));
    assert!(!String::from_utf8(camera.raw).unwrap().contains("/9j/"), "the scene is cut out too");

    let late = punch_of("rec_recpush_offline_resend");
    assert_eq!((late.live, late.skew_ms, late.direction), (Some(false), None, Direction::Out));

    let replayed = punch_of("rec_recpush_manual_replay");
    assert_eq!(replayed.live, Some(false));
    assert_eq!(replayed.id, punch_of("rec_recpush_terminal").id, "a replay is the same punch");

    let refused = punch_of("rec_recpush_refused_blacklist");
    assert_eq!(refused.says, TerminalSays::Refused("2".to_owned()));

    let local = punch_of("rec_recpush_quirks_empty_custom_id");
    assert_eq!(local.credentials, [Credential::TerminalPerson("22".to_owned())]);
    assert_eq!(local.id, PunchId::derive("1306612", "390", "2026-05-06 06:58:31", "22"));

    assert_eq!(punch_of("rec_recpush_hdr_temperature").record.as_deref(), Some("392"));
}

#[test]
fn types_and_spellings_do_not_change_the_punch() {
    let usual = punch_of("rec_recpush_terminal");
    let odd = punch_with(json!({
        "RecordID": 389, "VerifyStatus": 1, "similarity1": 91.400002, "Sendintime": "1", "PushType": "0",
        "customId": " 110101199003070011 ", "time": " 2026-05-06 06:58:01", "personId": 22, "direction": "ENTER",
        "persionName": "absent", "personName": "张建国", "cardNum2": 1, "RFIDCard": 0, "otype": 1,
    }));
    assert_eq!(Punch { raw: vec![], ..odd }, Punch { raw: vec![], ..usual });
}

#[test]
fn only_verify_status_one_is_admission() {
    let says = |status: serde_json::Value| punch_with(json!({ "VerifyStatus": status })).says;
    assert_eq!(says(json!(1)), TerminalSays::Allowed);
    assert_eq!(says(json!("3")), TerminalSays::NotEnrolled);
    assert_eq!(says(json!("0")), TerminalSays::NotEnrolled);
    assert_eq!(says(json!(2)), TerminalSays::Refused("2".to_owned()));
    assert_eq!(says(json!("22")), TerminalSays::Refused("22".to_owned()));
}

#[test]
fn the_configured_direction_wins_over_the_terminals() {
    let direction = |rule, said: &str| {
        let mut bench = Bench::with(Some(terminal(rule)), super::NOON);
        bench.hear(OwnKind::Rec, &record(json!({ "direction": said })));
        (bench.only_punch().direction, bench.only_punch().direction_source)
    };
    assert_eq!(direction(DirectionRule::In, "exit"), (Direction::In, DirectionSource::Configured));
    assert_eq!(direction(DirectionRule::Out, "entr"), (Direction::Out, DirectionSource::Configured));
    assert_eq!(direction(DirectionRule::Alternate, "entr"), (Direction::Unknown, DirectionSource::Alternate));
    for (said, meant) in [("entr", Direction::In), ("enter", Direction::In), ("exit", Direction::Out)] {
        assert_eq!(direction(DirectionRule::Terminal, said), (meant, DirectionSource::Terminal));
    }
    for said in ["unknown", "absent", " ", "sideways"] {
        assert_eq!(direction(DirectionRule::Terminal, said), (Direction::Unknown, DirectionSource::Terminal));
    }
}

#[test]
fn a_card_at_the_terminal_is_a_badge() {
    let punch = punch_with(json!({
        "customId": "", "idCard": " ", "personId": "", "otype": "2", "OpendoorWay": "1", "RFIDCard": "3808980205",
        "cardNum2": "0",
    }));
    assert_eq!(punch.credentials, [Credential::Badge(Badge(3_808_980_205))]);
    assert_eq!((punch.method, punch.similarity), (Method::Card, None));
}

#[test]
fn nothing_is_acknowledged_before_the_commit() {
    let mut bench = Bench::new();
    bench.hear(OwnKind::Rec, &fixture("rec_recpush_terminal"));
    assert!(bench.wanted[0].photo.is_some());
    assert_eq!(bench.sent(), Vec::<serde_json::Value>::new());
    bench.wait(std::time::Duration::from_secs(9));
    assert_eq!(bench.sent(), Vec::<serde_json::Value>::new());
    bench.commit();
    let ack: serde_json::Value = serde_json::from_str(&fixture("down_pushack_rec")).unwrap();
    assert_eq!(bench.sent(), [ack]);
}

#[test]
fn a_store_that_refuses_means_no_acknowledgement_and_the_repetition_is_taken() {
    let mut bench = Bench::new();
    bench.hear(OwnKind::Rec, &fixture("rec_recpush_terminal"));
    bench.refuse();
    assert_eq!(bench.operators(), Vec::<String>::new());
    bench.hear(OwnKind::Rec, &fixture("rec_recpush_terminal"));
    bench.commit();
    assert_eq!(bench.operators(), ["PushAck"]);
}

#[test]
fn a_redelivered_record_is_the_same_punch_and_is_acknowledged_again() {
    let mut bench = Bench::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        bench.hear(OwnKind::Rec, &record(json!({ "Sendintime": ids.len() })));
        ids.push(bench.only_punch().id);
        bench.commit();
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(bench.operators(), ["PushAck", "PushAck"]);
}

#[test]
fn the_acknowledgement_has_the_type_of_the_id() {
    let mut bench = Bench::new();
    for id in [json!(389), json!("389"), json!("0389")] {
        bench.hear(OwnKind::Rec, &record(json!({ "RecordID": id })));
        bench.commit();
        let sent = bench.sent();
        assert_eq!(sent[0]["info"]["SnapOrRecordID"], id);
        assert_eq!(sent[0]["info"]["PushAckType"], json!(2));
    }
}

#[test]
fn a_bad_record_does_not_block_those_behind_it() {
    let mut bench = Bench::new();
    let bad = [json!({ "time": "absent" }), json!({ "time": "0000-00-00 00:00:00" }), json!({ "VerifyStatus": " " })];
    for changes in bad {
        bench.hear(OwnKind::Rec, &record(changes));
        let facts = bench.commit();
        let [Fact::Quarantine(kept)] = facts.as_slice() else { panic!("not quarantined: {facts:?}") };
        assert_eq!((kept.record.as_deref(), kept.serial.as_str()), (Some("389"), "1306612"));
        assert!(!kept.raw.is_empty());
        assert_eq!(bench.operators(), ["PushAck"]);
        assert!(bench.alarmed(Kind::RecordUnreadable));
    }
    bench.hear(OwnKind::Rec, &record(json!({ "RecordID": "390" })));
    assert_eq!(bench.only_punch().record.as_deref(), Some("390"));
    assert!(!bench.alarmed(Kind::RecordUnreadable));
}

#[test]
fn a_damaged_record_is_kept_and_acknowledged_by_its_number() {
    let mut bench = Bench::new();
    let whole = fixture("rec_recpush_terminal");
    bench.hear(OwnKind::Rec, &whole[..whole.len() - 40]);
    let facts = bench.commit();
    let [Fact::Quarantine(kept)] = facts.as_slice() else { panic!("not quarantined: {facts:?}") };
    let raw = String::from_utf8(kept.raw.clone()).unwrap();
    assert!(raw.contains("RecPush") && !raw.contains("/9j/"), "{raw}");
    assert_eq!(bench.sent()[0]["info"]["SnapOrRecordID"], json!("389"));
}

#[test]
fn what_has_no_number_is_kept_and_not_acknowledged() {
    let mut bench = Bench::new();
    for payload in ["", "{", "[1,2]", "{\"operator\":\"RecPush\",\"info\":{}}", "{\"operator\":\"RecPush\"}"] {
        bench.hear(OwnKind::Rec, payload);
        let facts = bench.commit();
        assert!(matches!(facts.as_slice(), [Fact::Quarantine(_)]), "{payload}: {facts:?}");
        assert_eq!(bench.operators(), Vec::<String>::new(), "{payload}");
        bench.wait(std::time::Duration::from_secs(10));
    }
    assert!(bench.alarmed(Kind::RecordUnreadable));
}

#[test]
fn noise_without_end_fills_no_disk() {
    let mut bench = Bench::new();
    for noise in 0..1000 {
        bench.hear(OwnKind::Rec, &format!("noise {noise}"));
    }
    assert_eq!(bench.commit().len(), 1);
}

#[test]
fn noise_that_is_not_kept_stays_with_its_sender() {
    let mut bench = Bench::new();
    assert_eq!(bench.hear(OwnKind::Rec, "{one"), Disposal::Done);
    assert_eq!(bench.hear(OwnKind::Rec, "{two"), Disposal::LeftWithSender);
    assert_eq!(bench.hear(OwnKind::Card, r#"{"operator":"CardPush","info":{}}"#), Disposal::LeftWithSender);
    assert_eq!(bench.hear(OwnKind::Rec, &record(json!({ "RecordID": "absent" }))), Disposal::LeftWithSender);
    assert_eq!(bench.hear(OwnKind::Rec, &record(json!({}))), Disposal::Done);
    bench.wait(std::time::Duration::from_secs(10));
    assert_eq!(bench.hear(OwnKind::Rec, "{two"), Disposal::Done);
}

#[test]
fn an_unknown_push_is_kept_as_evidence() {
    let mut bench = Bench::new();
    bench.hear(OwnKind::Card, r#"{"operator":"CardPush","info":{"facesluiceId":"1306612","CardNo":"77"}}"#);
    let facts = bench.commit();
    let [Fact::Quarantine(kept)] = facts.as_slice() else { panic!("not kept: {facts:?}") };
    assert_eq!(kept.reason, "unknown operator CardPush");
    assert_eq!(bench.operators(), Vec::<String>::new());
}

#[test]
fn a_stranger_is_no_punch() {
    let mut bench = Bench::new();
    bench.hear(OwnKind::Snap, &fixture("snap_strsnappush"));
    assert!(bench.wanted[0].photo.is_some());
    let facts = bench.commit();
    let [Fact::Stranger(stranger)] = facts.as_slice() else { panic!("not a stranger: {facts:?}") };
    assert_eq!(stranger.record.as_deref(), Some("946"));
    let ack: serde_json::Value = serde_json::from_str(&fixture("down_pushack_snap")).unwrap();
    assert_eq!(bench.sent(), [ack]);
}

#[test]
fn the_topic_decides_which_terminal_it_is() {
    let mut bench = Bench::new();
    bench.hear(OwnKind::Rec, &record(json!({ "facesluiceId": "9999999" })));
    assert_eq!(bench.only_punch().serial, "1306612");
    assert_eq!(bench.foreign, 0);
}

#[test]
fn a_hole_in_the_numbers_is_asked_for_and_then_reported() {
    let mut bench = Bench::new();
    for (number, time) in [(389, "2026-05-06 06:50:00"), (392, "2026-05-06 06:58:01")] {
        bench.hear(OwnKind::Rec, &record(json!({ "RecordID": number, "time": time })));
        bench.commit();
    }
    bench.sent();
    for _ in 0..10 {
        bench.wait(std::time::Duration::from_secs(60));
        bench.beat();
    }
    let sent = bench.sent();
    let ask = sent.iter().find(|message| message["operator"] == "ManualPushRecords").expect("asked");
    assert_eq!(ask["info"]["TimeS"], "2026-05-06T06:45:00");
    assert_eq!(ask["info"]["TimeE"], "2026-05-06T07:03:01");
    let answer =
        json!({ "messageId": ask["messageId"], "operator": "ManualPushRecords-Ack", "info": { "result": "ok" } });
    bench.hear(OwnKind::Ack, &answer.to_string());
    bench.hear(OwnKind::Rec, &record(json!({ "RecordID": 390, "PushType": 2 })));
    bench.commit();
    for _ in 0..10 {
        bench.wait(std::time::Duration::from_secs(60));
        bench.beat();
    }
    let facts = bench.commit();
    let [Fact::Gap(gap)] = facts.as_slice() else { panic!("no gap: {facts:?}") };
    assert_eq!((gap.count, gap.terminal.as_ref().unwrap().as_str()), (Some(1), "north-in"));
    assert!(gap.detail.contains("391"), "{}", gap.detail);
    assert!(bench.alarmed(Kind::PunchesLost));
}
