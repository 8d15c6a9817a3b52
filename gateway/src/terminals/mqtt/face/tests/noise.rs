//! No input stops a session.

use proptest::prelude::*;

use super::super::super::topics::OwnKind;
use super::super::codec::{Message, evidence_of_noise, readable, scan_id};
use super::{Bench, fixture};

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
        "[0-9 :T/-]{0,20}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((".{0,8}", inner), 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

const KEYS: [&str; 14] = [
    "operator",
    "messageId",
    "code",
    "info",
    "facesluiceId",
    "RecordID",
    "SnapID",
    "time",
    "VerifyStatus",
    "pic",
    "similarity1",
    "direction",
    "RFIDCard",
    "ResumefromBreakpoint",
];
const OPERATORS: [&str; 6] = ["Online", "RecPush", "StrSnapPush", "HeartBeat", "GetMQTTconfig-Ack", "SetSysTime-Ack"];

fn object() -> impl Strategy<Value = serde_json::Value> {
    let members = prop::collection::vec((prop::sample::select(&KEYS[..]), json_value()), 0..8);
    members.prop_map(|members| {
        serde_json::Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    })
}

proptest! {
    #[test]
    fn arbitrary_json_never_panics(
        top in object(), info in object(), operator in prop::sample::select(&OPERATORS[..]), seconds in 0u64..4000,
    ) {
        let mut message = top;
        message["operator"] = operator.into();
        message["info"] = info;
        let mut bench = Bench::new();
        for kind in [OwnKind::Rec, OwnKind::Ack, OwnKind::Snap, OwnKind::Alarm] {
            bench.hear(kind, &message.to_string());
            bench.hear_shared(&message.to_string());
            bench.commit();
            bench.wait(std::time::Duration::from_secs(seconds));
            bench.sent();
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = readable(&bytes);
        let _ = Message::decode(&text).map(|message| message.evidence());
        let _ = scan_id(&text, "RecordID");
        let _ = evidence_of_noise(&text);
    }

    #[test]
    fn a_damaged_record_is_never_acknowledged_under_another_number(at in 0usize..2600, byte in any::<u8>()) {
        let mut bytes = fixture("rec_recpush_terminal").into_bytes();
        let at = at % bytes.len();
        let number = fixture("rec_recpush_terminal").find("\"389\"").unwrap();
        prop_assume!(!(number..number + 5).contains(&at));
        bytes[at] = byte;
        let mut bench = Bench::new();
        bench.hear(OwnKind::Rec, &String::from_utf8_lossy(&bytes));
        bench.commit();
        for sent in bench.sent() {
            if sent["operator"] == "PushAck" {
                prop_assert_eq!(&sent["info"]["SnapOrRecordID"], "389");
            }
        }
    }
}

#[test]
fn control_characters_and_trailing_nuls_of_c_firmware_are_read() {
    let mut bytes = b"\xEF\xBB\xBF{\"operator\":\"HeartBeat\",\"info\":{\"facesname\":\"a\tb\n\",\"n\":1}}".to_vec();
    bytes.extend([0, 0]);
    let text = readable(&bytes);
    assert_eq!(Message::decode(&text).unwrap().info.number("n"), Some(1));
}

#[test]
fn the_evidence_is_the_record_as_received_without_its_pictures() {
    let picture = "A".repeat(5000);
    let text = format!(
        "{{\"operator\": \"RecPush\",\t\"info\":{{\"RecordID\" : 7.0, \"pic\":\"{picture}\", \"odd\":\"{picture}\", \
         \"time\":\"x\"}} , \"thumb\":[\"{picture}\"]}}"
    );
    let evidence = String::from_utf8(Message::decode(&text).unwrap().evidence()).unwrap();
    assert!(
        evidence.starts_with("{\"operator\": \"RecPush\",\t\"info\":{\"RecordID\" : 7.0, \"pic\":\"(cut: 5002 bytes")
    );
    assert!(!evidence.contains("AAAA") && evidence.len() < 600, "{evidence}");
    assert!(serde_json::from_str::<serde_json::Value>(&evidence).is_ok());
}
