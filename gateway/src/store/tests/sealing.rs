//! What a thief of the disk reads: nothing about a person. And what the keys may go through without a loss.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::samples::{punch, worker};
use super::{append, open, options};
use crate::punch::*;
use crate::store::keyring::file;

const PHOTO: &[u8] = b"\xFF\xD8\xFF\xE0 a face that nobody else may see \xFF\xD9";

/// A worker with everything that is personal, and the texts of it that must not be found.
fn known_person() -> (Worker, Vec<Vec<u8>>) {
    let worker = Worker {
        name: "古丽娜尔·买买提".to_owned(),
        id_number: "110101194912310016".to_owned(),
        badge: Some(BadgeOnRoster::Full(Badge(0x5EC3_E7ED))),
        phone: Some("13900001111".to_owned()),
        bank_card: Some("6222020200112233445".to_owned()),
        address: Some("和平路一百号".to_owned()),
        ..worker(1)
    };
    let texts = [&worker.name, &worker.id_number].into_iter().chain(&worker.phone).chain(&worker.bank_card);
    let mut secrets: Vec<Vec<u8>> = texts.chain(&worker.address).map(|text| text.clone().into_bytes()).collect();
    secrets.push(b"5EC3E7ED".to_vec());
    secrets.push(PHOTO[..20].to_vec());
    (worker, secrets)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn nothing_about_a_person_is_readable_in_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (person, secrets) = known_person();
    let photo = store.put_photo(Bytes::from_static(PHOTO)).await.unwrap();
    let raw = format!("{{\"idCard\":\"{}\",\"name\":\"{}\"}}", person.id_number, person.name);
    let seen = Punch {
        credentials: vec![Credential::IdNumber(person.id_number.clone()), Credential::Text("5EC3E7ED".to_owned())],
        photo: Some(photo),
        raw: raw.clone().into_bytes(),
        ..punch(1)
    };
    let kept = Quarantine {
        terminal: None,
        serial: "AX-1".to_owned(),
        record: None,
        at: super::MORNING,
        reason: "no time".to_owned(),
        raw: raw.into_bytes(),
    };
    append(&store, vec![Fact::Worker(person.clone()), Fact::Punch(seen), Fact::Quarantine(kept)]).await;
    assert_eq!(store.read(|view| view.worker_by_id_number("110101194912310016")).await, Some(person.clone()));
    assert_eq!(store.read(|view| view.worker_by_badge(Badge(0x5EC3_E7ED))).await, Some(person));
    assert_eq!(store.photo(photo).await.unwrap().as_deref(), Some(PHOTO));
    store.close().await;

    let files = files(dir.path());
    assert!(files.len() > 5, "{files:?}");
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{:?} is readable in {}", String::from_utf8_lossy(secret), path.display());
        }
    }
}

#[tokio::test]
async fn after_a_new_data_key_everything_of_before_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let photo = store.put_photo(Bytes::from_static(PHOTO)).await.unwrap();
    append(&store, vec![Fact::Worker(known_person().0), Fact::Punch(punch(1))]).await;
    store.close().await;

    let options = options(dir.path());
    let mut keys = file::open(&options.dir, &options.key, "now").unwrap();
    file::rotate(&options.dir, &options.key, &mut keys).unwrap();
    let store = open(dir.path());
    append(&store, vec![Fact::Punch(punch(2))]).await;
    assert_eq!(store.read(|view| view.worker_by_id_number("110101194912310016")).await, Some(known_person().0));
    assert!(store.read(|view| view.story(punch(1).id).is_some() && view.story(punch(2).id).is_some()).await);
    assert_eq!(store.photo(photo).await.unwrap().as_deref(), Some(PHOTO));
    store.close().await;
}

#[tokio::test]
async fn lost_keys_are_damage_that_is_reported_and_punches_are_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, vec![Fact::Punch(punch(1))]).await;
    store.close().await;
    for name in ["keyring-a", "keyring-b"] {
        fs::write(dir.path().join(name), b"spoilt").unwrap();
    }

    let store = open(dir.path());
    append(&store, vec![Fact::Punch(punch(2))]).await;
    store.watch_damage().wait_for(|damage| damage.latest.contains("keyring")).await.unwrap();
    assert!(store.read(|view| view.story(punch(2).id)).await.is_some());
    store.close().await;
}
