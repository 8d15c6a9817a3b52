//! Bytes in the field do not change. When a test here fails, revert the change, not the test: facts are stored without
//! names, so a variant is only ever added at the end, and a changed struct becomes a new variant.

use super::MORNING;
use super::samples::{judgement, punch, step, worker};
use crate::punch::*;
use crate::store::ledger::seal::{UnsealError, seal, unseal};

fn one_of_each() -> Vec<(&'static str, Fact)> {
    let terminal = TerminalId::from("north-in");
    vec![
        ("punch", Fact::Punch(Punch { photo: Some(PhotoHash([1; 32])), ..punch(7) })),
        (
            "judgement",
            Fact::Judgement(Judgement {
                duplicate_of: Some(punch(6).id),
                ..judgement(punch(7).id, Verdict::Rejected(RejectedReason::Duplicate), "W0001")
            }),
        ),
        (
            "upload",
            Fact::Upload(step(
                3,
                vec![Subject::Team(worker(1).team), Subject::Punch(punch(7).id)],
                Step::Confirmed { external: Some("77".to_owned()), note: None },
            )),
        ),
        ("worker", Fact::Worker(worker(1))),
        (
            "gap",
            Fact::Gap(Gap {
                terminal: Some(terminal.clone()),
                at: MORNING,
                count: Some(3),
                kind: GapKind::JournalLost,
                detail: "boot 3".to_owned(),
            }),
        ),
        (
            "quarantine",
            Fact::Quarantine(Quarantine {
                terminal: None,
                serial: "AX-1".to_owned(),
                record: None,
                at: MORNING,
                reason: "no time".to_owned(),
                raw: b"{}".to_vec(),
            }),
        ),
        (
            "stranger",
            Fact::Stranger(Stranger {
                terminal: terminal.clone(),
                serial: "AX-1".to_owned(),
                record: Some("9".to_owned()),
                time: MORNING,
                time_text: "t".to_owned(),
                received_at: MORNING,
                photo: None,
                raw: b"{}".to_vec(),
            }),
        ),
        (
            "adoption",
            Fact::Adoption(Adoption {
                terminal,
                protocol: "mqtt-face".to_owned(),
                serial: "AX-1".to_owned(),
                direction: "in".to_owned(),
                at: MORNING,
            }),
        ),
        (
            "epoch",
            Fact::Epoch(Epoch {
                at: MORNING,
                version: "0.1.0".to_owned(),
                config_hash: [9; 32],
                utc_offset_s: 28_800,
                rule_version: 1,
            }),
        ),
    ]
}

#[test]
fn facts_have_these_bytes() {
    let golden: Vec<(&str, &str)> =
        include_str!("facts.golden").lines().filter_map(|line| line.split_once(' ')).collect();
    let now: Vec<(&str, String)> =
        one_of_each().iter().map(|(name, fact)| (*name, hex::encode(seal(fact).payload))).collect();
    let now: Vec<(&str, &str)> = now.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    assert_eq!(now, golden);
}

#[test]
fn facts_come_back_from_their_bytes() {
    for (name, fact) in one_of_each() {
        let sealed = seal(&fact);
        assert_eq!(unseal(&sealed.payload).as_ref(), Ok(&fact), "{name}");
    }
}

#[test]
fn what_a_later_version_wrote_is_told_apart_from_damage() {
    let mut sealed = seal(&one_of_each()[3].1).payload;
    assert_eq!(unseal(&[&sealed[..], &[0]].concat()), Err(UnsealError::UnknownFact), "trailing bytes");
    sealed[1] = 99;
    assert_eq!(unseal(&sealed), Err(UnsealError::UnknownFact));
    sealed[0] = 7;
    assert_eq!(unseal(&sealed), Err(UnsealError::UnknownSeal(Some(7))));
    assert_eq!(unseal(&[]), Err(UnsealError::UnknownSeal(None)));
}
