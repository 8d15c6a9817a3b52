//! Coming, going, waiting for approval.

use std::time::Duration;

use serde_json::json;

use super::super::super::topics::OwnKind;
use super::super::session::Disposal;
use super::{Bench, NOON, fixture, terminal};
use crate::config::DirectionRule;
use crate::ops::alarms::Kind;
use crate::punch::{Fact, UnixMs};
use crate::terminals::hub::Order;

const NOTHING: [String; 0] = [];

#[test]
fn a_greeting_is_answered_and_the_terminal_brought_into_shape() {
    let mut bench = Bench::new();
    bench.hear_shared(&fixture("basic_online"));
    let sent = bench.sent();
    let ack: serde_json::Value = serde_json::from_str(&fixture("down_online_ack")).unwrap();
    assert_eq!(sent[0], ack);
    assert_eq!(sent[1]["operator"], "SetSysTime");
    assert_eq!(sent.len(), 2, "one command at a time");
    let status = bench.session.status();
    assert!(status.online && !status.pending);
    assert_eq!(status.health["name"], "North gate IN");
}

#[test]
fn a_message_id_in_the_greeting_comes_back() {
    let mut bench = Bench::new();
    bench.hear_shared(r#"{"messageId":77,"operator":"Online","info":{"facesluiceId":"1306612"}}"#);
    assert_eq!(bench.sent()[0]["messageId"], json!(77));
}

#[test]
fn an_id_at_the_top_level_is_found() {
    let mut bench = Bench::new();
    bench.hear_shared(r#"{"operator":"Online","facesluiceId":1306612,"info":{}}"#);
    assert_eq!(bench.operators()[0], "Online-Ack");
}

#[test]
fn a_greeting_for_another_terminal_is_dropped() {
    let mut bench = Bench::new();
    for text in [fixture("basic_online"), fixture("heartbeat"), fixture("basic_offline_lwt")] {
        bench.hear_shared(&text.replace("1306612", "1306613"));
    }
    assert_eq!((bench.foreign, bench.operators()), (3, NOTHING.to_vec()));
    assert!(!bench.session.status().online);
}

#[test]
fn a_clock_that_is_not_trusted_sets_nobody() {
    let mut bench = Bench::with(Some(terminal(DirectionRule::In)), UnixMs(60_000));
    bench.hear_shared(&fixture("basic_online"));
    assert_eq!(bench.operators(), ["Online-Ack", "GetMQTTconfig"]);
    bench.order(1, Order::SetTime);
    assert!(bench.orders[0].1.is_err());
    bench.hear(OwnKind::Rec, &fixture("rec_recpush_terminal"));
    assert_eq!(bench.only_punch().skew_ms, None);
    assert!(!bench.alarmed(Kind::TerminalClock));
}

#[test]
fn a_pending_terminal_gets_nothing_at_all() {
    let mut bench = Bench::with(None, NOON);
    assert!(bench.alarmed(Kind::TerminalPending));
    bench.hear_shared(&fixture("basic_online"));
    bench.hear_shared(&fixture("heartbeat"));
    bench.hear(OwnKind::Rec, &fixture("rec_recpush_terminal"));
    bench.hear(OwnKind::Rec, "{broken \"RecordID\":\"389\" ");
    bench.hear(OwnKind::Snap, &fixture("snap_strsnappush"));
    bench.hear(OwnKind::Card, "{}");
    bench.order(1, Order::Open { text: String::new() });
    bench.order(2, Order::SetTime);
    bench.wait(Duration::from_secs(3 * 24 * 3600));
    assert_eq!(bench.operators(), NOTHING);
    assert!(bench.wanted.is_empty());
    assert!(bench.orders.iter().all(|(_, outcome)| outcome.is_err()));
    let status = bench.session.status();
    assert!(status.pending);
    assert_eq!(status.id.as_str(), "1306612");
}

/// Where `PushAck` is switched off, firmware may take the PUBACK for it.
#[test]
fn a_pending_terminals_records_stay_with_it() {
    let mut bench = Bench::with(None, NOON);
    for greeting in ["basic_online", "heartbeat", "basic_offline_graceful"] {
        assert_eq!(bench.hear_shared(&fixture(greeting)), Disposal::Done, "{greeting}");
    }
    assert_eq!(bench.hear(OwnKind::Ack, &fixture("ack_pushack_ack")), Disposal::Done);
    let record = fixture("rec_recpush_terminal");
    for (kind, payload) in [
        (OwnKind::Rec, record.as_str()),
        (OwnKind::Rec, &record[..400]),
        (OwnKind::Snap, &fixture("snap_strsnappush")),
        (OwnKind::Card, r#"{"operator":"CardPush","info":{}}"#),
        (OwnKind::IdCard, ""),
    ] {
        assert_eq!(bench.hear(kind, payload), Disposal::LeftWithSender, "{kind:?} {payload}");
    }
    let now = bench.now();
    bench.session.handle_adopted(now, terminal(DirectionRule::In));
    assert_eq!(bench.hear(OwnKind::Rec, &record), Disposal::Done);
}

#[test]
fn approval_greets_at_once_and_the_repeated_record_is_taken() {
    let mut bench = Bench::with(None, NOON);
    bench.hear_shared(&fixture("basic_online"));
    bench.hear(OwnKind::Rec, &fixture("rec_recpush_terminal"));
    let now = bench.now();
    bench.session.handle_adopted(now, terminal(DirectionRule::In));
    bench.order(1, Order::Adopted);
    assert_eq!(bench.orders[0].1, Ok(()));
    assert_eq!(bench.operators()[0], "Online-Ack");
    assert!(!bench.alarmed(Kind::TerminalPending) && !bench.session.status().pending);
    bench.hear(OwnKind::Rec, &fixture("rec_recpush_terminal"));
    assert!(matches!(bench.commit().as_slice(), [Fact::Punch(_)]));
    assert!(bench.operators().contains(&"PushAck".to_owned()));
}

#[test]
fn three_missed_beats_are_an_alarm_and_one_beat_ends_it() {
    let mut bench = Bench::new();
    bench.beat();
    bench.wait(Duration::from_secs(179));
    assert!(bench.session.status().online && !bench.alarmed(Kind::TerminalOffline));
    bench.wait(Duration::from_secs(1));
    assert!(!bench.session.status().online && bench.alarmed(Kind::TerminalOffline));
    bench.hear_shared(&fixture("heartbeat"));
    assert!(bench.session.status().online && !bench.alarmed(Kind::TerminalOffline));
}

#[test]
fn a_terminal_that_never_shows_up_is_noticed() {
    let mut bench = Bench::new();
    bench.wait(Duration::from_secs(180));
    assert!(bench.alarmed(Kind::TerminalOffline));
}

#[test]
fn a_last_will_is_an_alarm_at_once() {
    for farewell in ["basic_offline_lwt", "basic_offline_graceful"] {
        let mut bench = Bench::new();
        bench.hear_shared(&fixture("basic_online"));
        bench.hear_shared(&fixture(farewell));
        assert!(bench.alarmed(Kind::TerminalOffline), "{farewell}");
        assert!(!bench.session.status().online);
    }
}

#[test]
fn a_link_that_comes_back_at_once_is_no_alarm() {
    let mut bench = Bench::new();
    bench.hear_shared(&fixture("basic_online"));
    let now = bench.now();
    bench.session.handle_link_lost(now);
    assert!(!bench.session.status().online);
    bench.wait(Duration::from_secs(20));
    bench.hear_shared(&fixture("heartbeat"));
    assert!(bench.session.status().online && !bench.alarmed(Kind::TerminalOffline));
}

#[test]
fn two_terminals_under_one_id_are_an_alarm_until_it_is_quiet() {
    let mut bench = Bench::new();
    for greeting in 0..6 {
        assert!(!bench.alarmed(Kind::TerminalCloned), "after {greeting}");
        bench.hear_shared(&fixture("basic_online"));
        bench.wait(Duration::from_secs(5));
    }
    assert!(bench.alarmed(Kind::TerminalCloned));
    bench.wait(Duration::from_secs(301));
    assert!(!bench.alarmed(Kind::TerminalCloned));
}

#[test]
fn five_greetings_a_minute_are_only_a_bad_link() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.hear_shared(&fixture("basic_online"));
        bench.wait(Duration::from_secs(13));
    }
    assert!(!bench.alarmed(Kind::TerminalCloned));
}

#[test]
fn a_terminal_that_is_cut_and_comes_back_is_no_second_terminal() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        let now = bench.now();
        bench.session.handle_link(now, "127.0.0.1:40000", false);
        bench.hear_shared(&fixture("basic_online"));
        bench.wait(Duration::from_secs(1));
        let now = bench.now();
        bench.session.handle_link_lost(now);
    }
    assert!(!bench.alarmed(Kind::TerminalCloned));
}

#[test]
fn what_was_to_be_done_at_a_terminal_is_done_when_its_link_comes_back_at_once() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.hear_shared(&fixture("basic_online"));
        assert_eq!(bench.operators(), ["Online-Ack", "SetSysTime"]);
        let now = bench.now();
        bench.session.handle_link_lost(now);
        bench.wait(Duration::from_secs(1));
    }
}

#[test]
fn a_wrong_clock_is_an_alarm_and_is_set() {
    let mut bench = Bench::new();
    bench.hear_shared(r#"{"operator":"HeartBeat","info":{"facesluiceId":"1306612","time":"2000-01-01 00:00:10"}}"#);
    assert!(bench.alarmed(Kind::TerminalClock));
    assert_eq!(bench.operators(), ["SetSysTime"]);
    assert!(bench.session.status().skew_ms.unwrap() < -800_000_000_000);
}
