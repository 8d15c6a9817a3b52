//! Stories of the store, told through its door.

mod backup;
mod bytes;
mod damage;
mod full;
mod history;
mod intake;
mod model;
mod proof;
mod rebuilding;
mod renewing;
mod reopening;
mod retention;
pub mod samples;
mod sealing;
mod trouble;

use std::path::Path;
use std::time::Duration;

use super::{Appended, Store, StoreOptions, Tuning};
use crate::clock::Clock;
use crate::punch::{Fact, PlatformName, Seq, UnixMs};

/// Monday, 2 March 2026, 07:00 in China.
pub const MORNING: UnixMs = UnixMs(1_772_406_000_000);

/// Small segments, so that rolling is exercised too.
pub const SMALL: Tuning = Tuning {
    segment_bytes: 64 << 10,
    reserve_bytes: 64 << 10,
    low_water_max: 0,
    catch_up_at_open: 50_000,
    pending_room: 1_000,
    exact_keys: 500,
    window: 50,
    run_length: 32,
    slack_bytes: 32 << 20,
    write_after: Duration::from_secs(30),
};

pub fn national() -> PlatformName {
    PlatformName::from("national")
}

pub fn options(dir: &Path) -> StoreOptions {
    StoreOptions::new(dir.to_owned(), vec![(national(), None)])
}

pub fn open_tuned(options: StoreOptions, tuning: Tuning) -> Store {
    Store::open_tuned(options, Clock::manual(MORNING), tuning).unwrap()
}

pub fn open(dir: &Path) -> Store {
    open_tuned(options(dir), SMALL)
}

/// How many views have been set aside for being damaged.
pub fn set_aside(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("view.bad-")).count()
}

/// Appends and waits until the view shows it.
pub async fn append(store: &Store, facts: Vec<Fact>) -> Vec<Appended> {
    let appended = store.append(facts).await.unwrap();
    let last = appended.iter().map(|place| place.seq).max().unwrap_or_default();
    store.applied(last).await;
    appended
}

/// The last fact there is.
pub fn last_seq(store: &Store) -> Seq {
    store.handles.shared.durable().1
}

/// Copies a directory with everything in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
