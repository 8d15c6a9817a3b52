//! Every fixture of the family, both directions.

use serde_json::Value;

use super::super::codec::{Down, Message, PushKind, readable, up};
use super::super::lenient::EchoId;
use super::super::record::{Record, Snap};
use super::fixture;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn encoded(down: &Down, message_id: Option<&str>) -> Value {
    json(&down.encode("1306612", message_id))
}

#[test]
fn every_fixture_is_read_and_names_its_operator() {
    let dir = format!("{}/../tests/fixtures/mqtt_face", env!("CARGO_MANIFEST_DIR"));
    let mut read = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "json") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let text = readable(&bytes);
        let message = Message::decode(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(message.operator, json(&text)["operator"].as_str().unwrap(), "{}", path.display());
        assert!(message.evidence().len() < 2048, "{}: a picture is in the evidence", path.display());
        read += 1;
    }
    assert_eq!(read, 36);
}

#[test]
fn what_we_send_is_what_the_fixtures_show() {
    let id = || EchoId::from_text("389");
    assert_eq!(encoded(&Down::OnlineAck { message_id: None }, None), json(&fixture("down_online_ack")));
    let push = Down::PushAck { kind: PushKind::Record, id: id() };
    assert_eq!(encoded(&push, None), json(&fixture("down_pushack_rec")));
    let push = Down::PushAck { kind: PushKind::Snap, id: EchoId::from_text("946") };
    assert_eq!(encoded(&push, None), json(&fixture("down_pushack_snap")));
    assert_eq!(encoded(&Down::GetSysTime, Some("t-0")), json(&fixture("down_getsystime")));
    let set = Down::SetSysTime { key: "SysTime", time: "2026-05-06T06:00:00".to_owned() };
    assert_eq!(encoded(&set, Some("t-1")), json(&fixture("down_setsystime")));
    let unlock = Down::Unlock { text: "请通行".to_owned() };
    assert_eq!(encoded(&unlock, Some("unl-1")), json(&fixture("down_unlock")));
    let replay =
        Down::ManualPushRecords { from: "2026-05-05T00:00:00".to_owned(), to: "2026-05-05T23:59:59".to_owned() };
    assert_eq!(encoded(&replay, Some("mp-1")), json(&fixture("down_manualpushrecords")));
}

#[test]
fn a_configuration_goes_back_with_every_value_in_its_own_type() {
    let text = fixture("down_upmqttconfig");
    let message = Message::decode(&text).unwrap();
    let fields = message.info.iter().filter(|(key, _)| *key != "facesluiceId");
    let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    assert_eq!(encoded(&Down::UpMqttConfig { fields }, Some("cfg-1")), json(&text));
}

#[test]
fn what_a_terminal_sends_is_what_the_fixtures_show() {
    let online = up::online("1306612", "North gate IN", "2026-05-06 06:00:10", None);
    assert_eq!(json(&online), json(&fixture("basic_online")));
    let beat = up::heartbeat("1306612", "2026-05-06 06:01:10");
    assert_eq!(json(&beat), json(&fixture("heartbeat")));
    assert_eq!(json(&up::offline("1306612", None)), json(&fixture("basic_offline_lwt")));
    let farewell = up::offline("1306612", Some("2026-05-06 06:10:00"));
    assert_eq!(json(&farewell), json(&fixture("basic_offline_graceful")));
}

#[test]
fn a_record_that_a_simulated_terminal_writes_reads_back_the_same() {
    for name in ["rec_recpush_terminal", "rec_recpush_offline_resend", "rec_recpush_manual_replay"] {
        let text = fixture(name);
        let read = Record::of(&Message::decode(&text).unwrap());
        let written = read.encode("1306612");
        let again = Record::of(&Message::decode(&written).unwrap());
        let shown = |record: &Record| {
            let id = record.id.as_ref().map(|id| id.raw().get().to_owned());
            let who = (record.custom_id.clone(), record.person_id.clone(), record.id_card.clone(), record.name.clone());
            let how = (record.verify_status.clone(), record.similarity, record.direction.clone());
            (id, who, how, record.time.clone(), record.in_time, record.push_type, record.photo.clone())
        };
        assert_eq!(shown(&read), shown(&again), "{name}");
        assert!(read.photo.as_ref().is_some_and(|photo| photo.starts_with(&[0xFF, 0xD8])), "{name}");
    }
}

#[test]
fn a_strangers_picture_is_found() {
    let text = fixture("snap_strsnappush");
    let snap = Snap::of(&Message::decode(&text).unwrap());
    assert_eq!(snap.id.unwrap().text(), "946");
    let jpeg = std::fs::read(format!("{}/../tests/fixtures/mqtt_face/face_tiny.jpg", env!("CARGO_MANIFEST_DIR")));
    assert_eq!(snap.photo.unwrap(), jpeg.unwrap());
}

#[test]
fn answers_say_whether_and_why_not() {
    let answer = |name: &str| {
        let text = fixture(name);
        let message = Message::decode(&text).unwrap();
        let answer = message.answer().unwrap();
        (answer.command, answer.ok, answer.reason)
    };
    let was = |command: &str, ok, reason: &str| (command.to_owned(), ok, reason.to_owned());
    assert_eq!(answer("ack_editperson_ok"), was("EditPerson", true, "200 ok"));
    assert_eq!(answer("ack_editperson_noface"), was("EditPerson", false, "464 Get pic Person Feature err"));
    let busy = "410 AddPersons / EditPersonsNew is busy";
    assert_eq!(answer("ack_editpersonsnew_busy"), was("EditPersonsNew", false, busy));
    assert_eq!(answer("ack_editpersonsnew_partial"), was("EditPersonsNew", true, "ok"));
    assert_eq!(answer("ack_pushack_ack"), was("PushAck", true, "ok"));
    assert_eq!(answer("ack_queryperson"), was("QueryPerson", true, "200 ok"));
}
