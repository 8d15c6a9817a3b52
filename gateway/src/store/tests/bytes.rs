//! Bytes in the field do not change. When a test here fails, revert the change, not the test: facts are stored without
//! names, so a variant is only ever added at the end, and a changed struct becomes a new variant.

use super::MORNING;
use super::samples::{judgement, punch, step, worker};
use crate::punch::*;
use crate::store::keyring::{Keyring, OpenSealedError};
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
        ("restoration", Fact::Restoration(Restoration { at: MORNING })),
        ("removal", Fact::Removal(Removal { at: MORNING, photos: 300, through: Seq(70_000), for_space: true })),
        (
            "day-head",
            Fact::DayHead(DayHead {
                day: jiff::civil::date(2026, 3, 1),
                at: MORNING,
                first: Seq(1),
                last: Seq(300),
                root: [3; 32],
                public_key: [4; 32],
                signature: vec![5; 64],
            }),
        ),
    ]
}

#[test]
fn facts_have_these_bytes() {
    let golden: Vec<(&str, &str)> =
        include_str!("facts.golden").lines().filter_map(|line| line.split_once(' ')).collect();
    let now: Vec<(&str, String)> = one_of_each().iter().map(|(name, fact)| (*name, hex::encode(plain(fact)))).collect();
    let now: Vec<(&str, &str)> = now.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    assert_eq!(now, golden);
}

#[test]
fn facts_come_back_from_their_bytes_sealed_and_as_they_were_before_that() {
    let keyring = Keyring::generate();
    for (name, fact) in one_of_each() {
        let sealed = seal(&fact, &keyring);
        assert_eq!(sealed.payload[0] == 1, name != "day-head", "{name}");
        assert_eq!(unseal(&sealed.payload, &keyring).as_ref(), Ok(&fact), "{name}");
        assert_eq!(unseal(&plain(&fact), &keyring).as_ref(), Ok(&fact), "{name}");
    }
}

#[test]
fn what_a_later_version_wrote_is_told_apart_from_damage() {
    let keyring = Keyring::generate();
    let mut bytes = plain(&one_of_each()[3].1);
    assert_eq!(unseal(&[&bytes[..], &[0]].concat(), &keyring), Err(UnsealError::UnknownFact), "trailing bytes");
    bytes[1] = 99;
    assert_eq!(unseal(&bytes, &keyring), Err(UnsealError::UnknownFact));
    bytes[0] = 7;
    assert_eq!(unseal(&bytes, &keyring), Err(OpenSealedError::UnknownSeal(Some(7)).into()));
    assert_eq!(unseal(&[], &keyring), Err(OpenSealedError::UnknownSeal(None).into()));
}

/// A payload as the first version wrote it.
fn plain(fact: &Fact) -> Vec<u8> {
    postcard::to_extend(fact, vec![0]).unwrap()
}
