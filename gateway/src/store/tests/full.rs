//! The disk is full at any moment, down to the last byte: in the middle of a segment, a chunk of the view, a run of the
//! history, a photo, a day's head, a backup. The low-water mark is off here, so that every one of them meets the hard error.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use super::samples::{judgement, punch, step};
use super::trouble::SmallDisk;
use super::{MORNING, SMALL, open_tuned, options};
use crate::punch::*;
use crate::store::backup;
use crate::store::ledger::check::verify;
use crate::store::{Store, StoreHealth, Tuning};

const ROUNDS: usize = 12;
/// The promise is 5 s until an alarm stands; the store itself knows as soon as it is refused.
const LIMIT: Duration = Duration::from_secs(30);
const HARD: Tuning = Tuning { reserve_bytes: 256 << 10, low_water_max: 0, ..SMALL };

/// What was acknowledged.
#[derive(Default)]
struct Told {
    punches: Mutex<BTreeMap<u32, Option<PhotoHash>>>,
    next: AtomicU32,
    refused: AtomicU32,
    refused_photos: AtomicU32,
    stop: AtomicBool,
}

/// Punches, every fourth with a photo, judged and uploaded, until told to stop.
async fn work(store: Store, told: Arc<Told>) {
    while !told.stop.load(Ordering::Relaxed) {
        // The disk must be filled by another, not by this.
        tokio::time::sleep(Duration::from_millis(4)).await;
        let n = told.next.fetch_add(1, Ordering::Relaxed);
        let photo = n.is_multiple_of(4).then(|| Bytes::from(n.to_be_bytes().repeat(1_500)));
        let stored = match photo.clone() {
            Some(photo) => store.append_with_photo(Fact::Punch(punch(n)), photo).await.is_ok(),
            None => store.append(vec![Fact::Punch(punch(n))]).await.is_ok(),
        };
        if !stored {
            told.refused.fetch_add(1, Ordering::Relaxed);
            told.refused_photos.fetch_add(u32::from(photo.is_some()), Ordering::Relaxed);
            continue;
        }
        told.punches.lock().unwrap().insert(n, photo.map(|photo| PhotoHash::of(&photo)));
        let subjects = vec![Subject::Punch(punch(n).id)];
        let _may_be_refused = store
            .append(vec![
                Fact::Judgement(judgement(punch(n).id, Verdict::Verified, "W0001")),
                Fact::Upload(step(u64::from(n), subjects.clone(), Step::Sending { request_hash: [0; 32] })),
                Fact::Upload(step(u64::from(n), subjects, Step::Confirmed { external: None, note: None })),
            ])
            .await;
    }
}

/// Takes all space but this much, while the others write too.
fn eat(disk: &Path, leave: u64) -> PathBuf {
    let path = disk.join("glutton");
    let mut glutton = std::fs::File::create(&path).unwrap();
    let free = || rustix::fs::statvfs(disk).map(|space| space.f_bavail * space.f_frsize).unwrap();
    while free() > leave {
        let bite = (free() - leave).min(1 << 20) as usize;
        if glutton.write_all(&vec![1; bite]).is_err() {
            break;
        }
    }
    path
}

async fn back_up(store: &Store, dir: &Path, output: PathBuf) -> Result<backup::Contents, backup::BackupError> {
    let (dir, keyring) = (dir.to_owned(), store.handles.shared.keyring.clone());
    let write = move || {
        let out = std::fs::File::create(&output).map_err(backup::BackupError::Stream)?;
        let written = backup::write(&dir, &keyring, "correct horse battery staple", out);
        std::fs::remove_file(&output).unwrap();
        written
    };
    tokio::task::spawn_blocking(write).await.unwrap()
}

async fn check(store: &Store, told: &Told) {
    let acknowledged = told.punches.lock().unwrap().clone();
    for (n, photo) in acknowledged {
        let story = store.read(move |view| view.story(punch(n).id)).await;
        let story = story.unwrap_or_else(|| panic!("punch {n} was acknowledged and is not there"));
        assert_eq!(story.row.photo, photo);
        if let Some(hash) = photo {
            assert!(store.photo(hash).await.unwrap().is_some(), "the photo of punch {n} is not there");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_to_the_last_byte_at_any_moment_loses_nothing_that_was_acknowledged() {
    let Some(disk) = SmallDisk::mount(96) else { return };
    let seed: u64 = std::env::var("FULL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = disk.path().join("data");
    let told = Arc::new(Told::default());
    let mut failed_backups = 0;
    for round in 0..ROUNDS {
        let store = open_tuned(options(&dir), HARD);
        told.stop.store(false, Ordering::Relaxed);
        let mut workers = JoinSet::new();
        for _ in 0..4 {
            workers.spawn(work(store.clone(), told.clone()));
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
        let before = told.refused.load(Ordering::Relaxed);
        let with_backup = round.is_multiple_of(4);
        let leave = if with_backup { 0 } else { [0, 20 << 10, 200 << 10, 900 << 10][random.random_range(0..4)] };
        let glutton = eat(disk.path(), leave);
        let refused = async {
            while told.refused.load(Ordering::Relaxed) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, refused).await.expect("a full disk refuses something in the end");
        let output = disk.path().join("backup");
        if with_backup {
            failed_backups += u32::from(back_up(&store, &dir, output).await.is_err());
        }
        let day = jiff::civil::date(2026, 3, 1).saturating_add(jiff::Span::new().days(round as i64));
        // It waits for the view, which may have to wait for space.
        let _may_not_be_closed = tokio::time::timeout(Duration::from_millis(200), store.close_day(day, MORNING)).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;

        let dies_full = round % 3 == 2;
        if dies_full {
            told.stop.store(true, Ordering::Relaxed);
            workers.join_all().await;
            store.close().await;
            std::fs::remove_file(&glutton).unwrap();
            continue;
        }
        std::fs::remove_file(&glutton).unwrap();
        let taken = async {
            let mut health = store.watch_health();
            health.wait_for(|health| *health == StoreHealth::Open).await.unwrap();
            let count = || told.punches.lock().unwrap().len();
            let stored = count();
            while count() < stored + 40 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, taken).await.unwrap_or_else(|_| panic!("round {round}: {:?}", store.health()));
        told.stop.store(true, Ordering::Relaxed);
        workers.join_all().await;
        store.close().await;
    }
    let store = open_tuned(options(&dir), HARD);
    check(&store, &told).await;
    store.close().await;
    let report = verify(&dir.join("ledger")).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let (refused, photos) = (told.refused.load(Ordering::Relaxed), told.refused_photos.load(Ordering::Relaxed));
    println!(
        "{} acknowledged, {refused} refused, {photos} of them with a photo, {failed_backups} backups failed",
        told.punches.lock().unwrap().len()
    );
    assert!(refused > 20 && photos > 5 && failed_backups > 0);
}
