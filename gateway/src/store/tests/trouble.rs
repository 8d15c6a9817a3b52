//! Disks that refuse or are full: nothing is acknowledged that is not stored, and the store goes on by itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::samples::punch;
use super::{SMALL, append, open, open_tuned, options};
use crate::punch::*;
use crate::store::ledger::check::verify;
use crate::store::{Store, StoreHealth, Tuning};

/// Says to the child process, which is this test again, where to work.
const CHILD_DIR: &str = "STORE_TEST_CHILD_DIR";

async fn wait_for_health(store: &Store, wanted: fn(&StoreHealth) -> bool) {
    let mut health = store.watch_health();
    let changed = tokio::time::timeout(Duration::from_secs(30), health.wait_for(wanted)).await;
    changed.expect("health changes in time").expect("the store lives");
}

/// The kernel refuses writes beyond a file size in a child process: a real failing write, not a pretended one.
#[test]
fn a_failed_write_is_not_acknowledged_and_the_store_goes_on_in_a_fresh_segment() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(write_beyond_the_limit(Path::new(&dir)));
    }
    let dir = tempfile::tempdir().unwrap();
    let name = std::thread::current().name().unwrap().to_owned();
    // Without the signal, a write beyond the limit is an error like any other.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(CHILD_DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

async fn write_beyond_the_limit(dir: &Path) {
    let store = open(dir);
    append(&store, vec![Fact::Punch(punch(1))]).await;

    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(200), ..unlimited }).unwrap();
    assert!(store.append(vec![Fact::Punch(punch(2))]).await.is_err());
    wait_for_health(&store, |health| matches!(health, StoreHealth::Failing { .. })).await;
    assert!(store.append(vec![Fact::Punch(punch(3))]).await.is_err());
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(store.append(vec![Fact::Punch(punch(4))]).await.is_err(), "a new segment is refused too");

    setrlimit(Resource::Fsize, unlimited).unwrap();
    wait_for_health(&store, |health| *health == StoreHealth::Open).await;
    let again = append(&store, vec![Fact::Punch(punch(2)), Fact::Punch(punch(1))]).await;
    assert_eq!(again.iter().map(|place| (place.seq.0, place.new)).collect::<Vec<_>>(), [(2, true), (1, false)]);
    store.close().await;
    let report = verify(&dir.join("ledger")).unwrap();
    assert!(report.is_sound() && report.facts == 2, "{report:?}");

    let store = open(dir);
    assert_eq!(store.read(|view| view.totals().punches).await, 2);
    store.close().await;
}

const ON_SMALL_DISK: Tuning = Tuning { reserve_bytes: 1 << 20, low_water_max: 2 << 20, ..SMALL };

/// A file system of a few megabytes, taken down at the end.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and the test is skipped, when this process may not mount.
    pub fn mount(mib: u32) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("SKIP: this process may not mount a small file system");
        }
        mounted.then_some(SmallDisk(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test]
async fn a_full_disk_stops_intake_before_the_hard_error_and_space_starts_it_again() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let (dir, tuning) = (disk.path().join("data"), ON_SMALL_DISK);
    let store = open_tuned(options(&dir), tuning);
    append(&store, vec![Fact::Punch(punch(1))]).await;

    // Something else eats the disk.
    let glutton = disk.0.path().join("glutton");
    let space = rustix::fs::statvfs(disk.0.path()).unwrap();
    let free = space.f_bavail * space.f_frsize;
    std::fs::write(&glutton, vec![1; free as usize - (600 << 10)]).unwrap();
    assert!(store.append(vec![Fact::Punch(punch(2))]).await.is_err());
    wait_for_health(&store, |health| matches!(health, StoreHealth::Full { .. })).await;
    assert!(store.append(vec![Fact::Punch(punch(2))]).await.is_err());
    assert!(store.put_photo(bytes::Bytes::from_static(b"\xFF\xD8")).await.is_err());

    std::fs::remove_file(&glutton).unwrap();
    wait_for_health(&store, |health| *health == StoreHealth::Open).await;
    let place = append(&store, vec![Fact::Punch(punch(2))]).await[0];
    assert!(place.new);
    let gaps = store.read(|view| view.gaps(9)).await;
    assert!(
        gaps.len() == 1 && gaps[0].1.kind == GapKind::DiskFull && gaps[0].1.detail.contains("disk full"),
        "{gaps:?}"
    );
    store.close().await;
    let report = verify(&dir.join("ledger")).unwrap();
    assert!(report.is_sound() && report.facts == 3, "{report:?}");
}

#[tokio::test]
async fn a_store_opened_on_a_full_disk_says_so_and_begins_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let (dir, tuning) = (disk.path().join("data"), ON_SMALL_DISK);
    let store = open_tuned(options(&dir), tuning);
    append(&store, vec![Fact::Punch(punch(1))]).await;
    store.close().await;
    let glutton = disk.0.path().join("glutton");
    // As much as goes.
    assert!(std::fs::write(&glutton, vec![1; 24 << 20]).is_err());

    let store = open_tuned(options(&dir), tuning);
    wait_for_health(&store, |health| *health != StoreHealth::Open).await;
    assert!(store.append(vec![Fact::Punch(punch(2))]).await.is_err());
    std::fs::remove_file(&glutton).unwrap();
    wait_for_health(&store, |health| *health == StoreHealth::Open).await;
    let mut stored = store.append(vec![Fact::Punch(punch(2))]).await;
    for _ in 0..100 {
        if stored.is_ok() {
            break;
        }
        // The view opens a little later than the ledger.
        tokio::time::sleep(Duration::from_millis(100)).await;
        stored = store.append(vec![Fact::Punch(punch(2))]).await;
    }
    assert!(stored.unwrap()[0].new);
    store.close().await;
}

#[tokio::test]
async fn a_lost_tail_is_reported_though_the_opening_that_noticed_it_could_not_say_so() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let (dir, tuning) = (disk.path().join("data"), ON_SMALL_DISK);
    let store = open_tuned(options(&dir), tuning);
    append(&store, vec![Fact::Punch(punch(1))]).await;
    append(&store, vec![Fact::Punch(punch(2))]).await;
    store.close().await;
    let segment = dir.join("ledger/00000001.seg");
    let length = std::fs::metadata(&segment).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(length - 100).unwrap();
    let glutton = disk.0.path().join("glutton");
    let space = rustix::fs::statvfs(disk.0.path()).unwrap();
    std::fs::write(&glutton, vec![1; (space.f_bavail * space.f_frsize) as usize - (600 << 10)]).unwrap();

    open_tuned(options(&dir), tuning).close().await;
    std::fs::remove_file(&glutton).unwrap();
    let store = open_tuned(options(&dir), tuning);
    let reported = tokio::time::timeout(Duration::from_secs(10), async {
        while !store.read(|view| view.gaps(9)).await.iter().any(|(_, gap)| gap.kind == GapKind::StoreDamage) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(reported.await.is_ok(), "fact 2 was acknowledged, is gone, and nobody is told");
    store.close().await;
}
