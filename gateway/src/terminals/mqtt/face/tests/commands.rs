//! Commands: one at a time, repeated once, and the two errands that take several.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::super::topics::OwnKind;
use super::{Bench, fixture};
use crate::ops::alarms::Kind;
use crate::terminals::hub::{Order, OrderError};

impl Bench {
    /// The only command that went out.
    fn command(&mut self) -> Value {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.into_iter().next().unwrap()
    }

    fn answer(&mut self, command: &Value, info: Value) {
        let operator = format!("{}-Ack", command["operator"].as_str().unwrap());
        let message = json!({ "messageId": command["messageId"], "operator": operator, "code": "200", "info": info });
        self.hear(OwnKind::Ack, &message.to_string());
    }

    fn refuse_command(&mut self, command: &Value, code: &str, detail: &str) {
        let operator = format!("{}-Ack", command["operator"].as_str().unwrap());
        let info = json!({ "result": "fail", "detail": detail });
        let message = json!({ "messageId": command["messageId"], "operator": operator, "code": code, "info": info });
        self.hear(OwnKind::Ack, &message.to_string());
    }

    fn outcome(&self) -> Option<&Result<(), OrderError>> {
        self.orders.first().map(|(_, outcome)| outcome)
    }
}

fn online() -> Bench {
    let mut bench = Bench::new();
    bench.beat();
    bench
}

#[test]
fn the_gate_opens_once_and_the_order_hears_of_it() {
    let mut bench = online();
    bench.order(1, Order::Open { text: "请通行".to_owned() });
    let unlock = bench.command();
    assert_eq!((&unlock["operator"], &unlock["info"]["openDoor"]), (&json!("Unlock"), &json!(1)));
    assert_eq!(bench.outcome(), None);
    bench.answer(&unlock, json!({ "result": "ok" }));
    assert_eq!(bench.outcome(), Some(&Ok(())));
    bench.answer(&unlock, json!({ "result": "ok" }));
    assert_eq!(bench.orders.len(), 1);
}

#[test]
fn a_refusal_carries_the_terminals_words() {
    let mut bench = online();
    bench.order(1, Order::Open { text: String::new() });
    let unlock = bench.command();
    bench.refuse_command(&unlock, "414", "no relay");
    let reason = "414 no relay".to_owned();
    assert_eq!(bench.outcome(), Some(&Err(OrderError::Refused { terminal: "north-in".to_owned(), reason })));
}

#[test]
fn a_command_without_an_answer_is_repeated_once_and_the_next_follows() {
    let mut bench = online();
    bench.order(1, Order::Open { text: "a".to_owned() });
    bench.order(2, Order::Open { text: "b".to_owned() });
    assert_eq!(bench.command()["info"]["showInfo"], "a");
    bench.wait(Duration::from_secs(19));
    assert!(bench.sent().is_empty());
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.command()["info"]["showInfo"], "a");
    bench.wait(Duration::from_secs(20));
    assert_eq!(bench.outcome(), Some(&Err(OrderError::NoAnswer("north-in".to_owned()))));
    assert_eq!(bench.command()["info"]["showInfo"], "b");
}

#[test]
fn an_answer_to_something_else_changes_nothing() {
    let mut bench = online();
    bench.order(1, Order::Open { text: String::new() });
    let unlock = bench.command();
    bench.hear(OwnKind::Ack, r#"{"messageId":"old-1","operator":"Unlock-Ack","info":{"result":"ok"}}"#);
    bench.hear(OwnKind::Ack, &fixture("ack_pushack_ack"));
    bench.hear(OwnKind::Ack, &fixture("ack_editperson_ok"));
    assert_eq!(bench.outcome(), None);
    let nameless = json!({ "operator": "Unlock-Ack", "info": { "result": "ok" } });
    bench.hear(OwnKind::Ack, &nameless.to_string());
    assert_eq!(bench.outcome(), Some(&Ok(())), "firmware that drops the message id: {unlock}");
}

#[test]
fn a_broken_link_ends_what_was_asked() {
    let mut bench = online();
    bench.order(1, Order::Open { text: String::new() });
    bench.order(2, Order::SetTime);
    let now = bench.now();
    bench.session.handle_link_lost(now);
    bench.wait(Duration::ZERO);
    assert_eq!(bench.orders.len(), 2);
    assert!(bench.orders.iter().all(|(_, outcome)| matches!(outcome, Err(OrderError::Offline(_)))));
    assert!(bench.sent().is_empty());
}

#[test]
fn the_time_is_set_and_read_back() {
    let mut bench = online();
    bench.order(1, Order::SetTime);
    let set = bench.command();
    assert_eq!(set["info"]["SysTime"], "2026-05-06T06:58:02");
    bench.answer(&set, json!({ "result": "ok" }));
    let get = bench.command();
    assert_eq!(get["operator"], "GetSysTime");
    let shown = bench.time();
    bench.answer(&get, json!({ "SysTime": shown }));
    assert_eq!(bench.outcome(), Some(&Ok(())));
}

/// Understands `key` with `separator` only; anything else is acknowledged and ignored.
fn set_time_on(bench: &mut Bench, key: &str, separator: char) -> Vec<String> {
    let mut tried = Vec::new();
    let mut shows = "2000-01-01 00:00:00".to_owned();
    while bench.outcome().is_none() {
        let command = bench.command();
        if command["operator"] == "GetSysTime" {
            bench.answer(&command, json!({ "SysTime": shows }));
            continue;
        }
        let (name, value) = command["info"].as_object().unwrap().iter().next_back().unwrap();
        let value = value.as_str().unwrap().to_owned();
        tried.push(format!("{name}{}", &value[10..11]));
        if name == key && value.as_bytes()[10] == separator as u8 {
            shows = value;
        }
        bench.answer(&command, json!({ "result": "ok" }));
    }
    tried
}

#[test]
fn other_spellings_are_tried_and_the_right_one_is_remembered() {
    let mut bench = online();
    bench.order(1, Order::SetTime);
    assert_eq!(set_time_on(&mut bench, "sysTime", ' '), ["SysTimeT", "SysTime ", "sysTimeT", "sysTime "]);
    assert_eq!(bench.outcome(), Some(&Ok(())));
    bench.orders.clear();
    bench.order(2, Order::SetTime);
    assert_eq!(set_time_on(&mut bench, "sysTime", ' '), ["sysTime "]);
}

#[test]
fn a_terminal_that_takes_no_spelling_is_an_alarm() {
    let mut bench = online();
    bench.order(1, Order::SetTime);
    assert_eq!(set_time_on(&mut bench, "never", ' ').len(), 6);
    assert!(matches!(bench.outcome(), Some(Err(OrderError::Refused { .. }))));
    assert!(bench.alarmed(Kind::TerminalClock));
}

#[test]
fn the_time_is_set_again_every_day() {
    let mut bench = Bench::new();
    bench.hear_shared(&fixture("basic_online"));
    bench.sent();
    let mut set = 0;
    for _ in 0..(25 * 60) {
        bench.wait(Duration::from_secs(60));
        bench.beat();
        let time = bench.time();
        for command in bench.sent() {
            set += usize::from(command["operator"] == "SetSysTime");
            bench.answer(&command, json!({ "ResumefromBreakpoint": 1, "SysTime": time }));
        }
    }
    assert_eq!(set, 2, "the repetition of the first, and one a day later");
}

fn config(resume: Value) -> Value {
    json!({
        "facesluiceId": "1306612", "StrangerUploadType": "1", "RecordUploadType": 1, "KeepAliveInterval": 30,
        "OnlineTopic": "mqtt/face/basic", "ResumefromBreakpoint": resume, "BeginTime": "2026-05-01 00:00:00",
        "result": "ok",
    })
}

/// Up to the question for the configuration.
fn asked_for_config() -> (Bench, Value) {
    let mut bench = Bench::new();
    bench.hear_shared(&fixture("basic_online"));
    let set = bench.sent().pop().unwrap();
    bench.refuse_command(&set, "414", "no");
    loop {
        let command = bench.command();
        if command["operator"] == "GetMQTTconfig" {
            return (bench, command);
        }
        bench.refuse_command(&command, "414", "no");
    }
}

#[test]
fn resuming_is_switched_on_and_nothing_else_is_changed() {
    let (mut bench, get) = asked_for_config();
    bench.answer(&get, config(json!("0")));
    let write = bench.command();
    assert_eq!(write["operator"], "UpMQTTconfig");
    let mut expected = config(json!("1"));
    expected.as_object_mut().unwrap().remove("result");
    assert_eq!(write["info"], expected);
    bench.answer(&write, json!({ "result": "ok" }));
    let check = bench.command();
    assert_eq!(check["operator"], "GetMQTTconfig");
    bench.answer(&check, config(json!(1)));
    assert_eq!(bench.session.status().health["resume"], "on");
    assert!(!bench.alarmed(Kind::PunchesLost));
    bench.beat();
    bench.wait(Duration::from_secs(90));
    assert!(bench.alarmed(Kind::TerminalOffline), "the configuration says 30 s between beats");
}

#[test]
fn a_terminal_that_resumes_already_is_left_alone() {
    let (mut bench, get) = asked_for_config();
    bench.answer(&get, config(json!(1)));
    assert!(bench.sent().is_empty());
    assert_eq!(bench.session.status().health["resume"], "on");
}

#[test]
fn a_terminal_that_cannot_resume_is_an_alarm() {
    let (mut bench, get) = asked_for_config();
    bench.answer(&get, config(json!(0)));
    let write = bench.command();
    bench.answer(&write, json!({ "result": "ok" }));
    let check = bench.command();
    bench.answer(&check, config(json!(0)));
    assert_eq!(bench.session.status().health["resume"], "refused");
    assert!(bench.alarmed(Kind::PunchesLost));
}
