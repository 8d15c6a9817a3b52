//! Backups made under a running store, and what a new box makes of them.

use std::path::Path;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::samples::{punch, verified, worker};
use super::{append, national, open, options};
use crate::punch::*;
use crate::store::backup::{BackupError, Contents, restore, write};
use crate::store::keyring::file;
use crate::store::ledger::check::verify;

const PASSPHRASE: &str = "a sentence for the safe";

fn backup_of(dir: &Path) -> (Vec<u8>, Contents) {
    let options = options(dir);
    let keyring = file::read_only(&options.dir, &options.key).unwrap();
    let mut bytes = Vec::new();
    let contents = write(dir, &keyring, PASSPHRASE, &mut bytes).unwrap();
    (bytes, contents)
}

#[tokio::test]
async fn a_backup_under_load_has_everything_acknowledged_before_it_and_goes_on_on_a_new_box() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(old.path());
    let photo = store.put_photo(Bytes::from(vec![7; 200_000])).await.unwrap();
    append(&store, vec![Fact::Worker(worker(1))]).await;
    for n in 0..200 {
        append(&store, vec![Fact::Punch(Punch { photo: Some(photo), ..punch(n) }), verified(punch(n).id)]).await;
    }
    let mut writing = JoinSet::new();
    let writer = store.clone();
    writing.spawn(async move {
        for n in 200.. {
            if writer.append(vec![Fact::Punch(punch(n))]).await.is_err() {
                break;
            }
        }
    });
    let (bytes, contents) = backup_of(old.path());
    assert!(contents.segments > 1 && contents.photos == 1, "{contents:?}");
    assert!(!bytes.windows(9).any(|window| window == b"AXLEDGER\x01"), "sealed as a whole");
    store.close().await;
    writing.join_all().await;

    let data = new.path().join("data");
    let key = options(&data).key;
    assert_eq!(restore(&bytes[..], PASSPHRASE, &data, &key).unwrap(), contents);
    let store = open(&data);
    assert!(store.read(|view| view.forerunner()).await.is_some_and(|forerunner| forerunner.seq.0 > 401));
    for n in [0, 100, 199] {
        assert!(store.read(move |view| view.story(punch(n).id)).await.is_some());
        let again = store.append(vec![Fact::Punch(punch(n))]).await.unwrap();
        assert!(!again[0].new, "a terminal that sends again makes nothing double");
    }
    assert_eq!(store.read(|view| view.outbox(&national(), Seq(0), 1000).len()).await, 200);
    assert_eq!(store.read(|view| view.worker(&worker(1).worker_id)).await, Some(worker(1)));
    assert_eq!(store.photo(photo).await.unwrap().unwrap().len(), 200_000);
    assert_ne!(std::fs::read(old.path().join("store.key")).unwrap(), std::fs::read(data.join("store.key")).unwrap());
    let before = store.read(|view| view.forerunner()).await;
    append(&store, vec![Fact::Punch(punch(90_000))]).await;
    store.close().await;
    assert!(verify(&data.join("ledger")).unwrap().is_sound());

    let store = open(&data);
    let again = store.read(|view| view.forerunner()).await;
    assert!(
        before.is_some() && again.map(|again| again.seq) >= before.map(|before| before.seq),
        "{before:?} {again:?}"
    );
    store.close().await;
}

#[tokio::test]
async fn a_changed_cut_or_foreign_backup_makes_no_data_directory() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(old.path());
    append(&store, vec![Fact::Punch(punch(1))]).await;
    let (bytes, _) = backup_of(old.path());
    store.close().await;
    let data = new.path().join("data");
    let key = options(&data).key;
    let tried = |bytes: &[u8], passphrase: &str| restore(bytes, passphrase, &data, &key);

    assert!(matches!(tried(&bytes, "another sentence"), Err(BackupError::Sealed)));
    assert!(matches!(
        tried(b"PK\x03\x04 something else entirely, of some length", PASSPHRASE),
        Err(BackupError::Foreign)
    ));
    for cut in [44, 1000, 66_000, bytes.len() - 1] {
        assert!(tried(&bytes[..cut], PASSPHRASE).is_err(), "cut at {cut}");
    }
    for at in [10, 30, 60, 66_000, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(matches!(tried(&changed, PASSPHRASE), Err(BackupError::Sealed)), "byte {at}");
    }
    assert!(!data.exists());
    tried(&bytes, PASSPHRASE).unwrap();
    assert!(matches!(tried(&bytes, PASSPHRASE), Err(BackupError::NotEmpty { .. })));
}
