//! The box breaks and a new one is made from last night's backup, while the platform has gone on with the old one.

use std::time::Duration;

use harness::face::Face;
use harness::site::{Plan, Site};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_made_from_a_backup_uploads_nothing_twice_and_leaves_nothing_out() {
    let mut site = Site::start(Plan::new("restored-box")).await.expect("the site starts");
    site.gateway.import_roster(&site.roster.csv_with_photos()).await;
    punch(&site, 0..1);
    confirmed(&site, 1).await;
    site.platform.go_down();
    punch(&site, 1..5);
    assert!(site.faces[0].wait_delivered(LIMIT).await);
    platform(&site, |platform| platform["depth"]["open"] == 4).await;

    let dir = site.gateway.data_dir().parent().expect("the site's directory").to_owned();
    std::fs::write(dir.join("phrase"), "correct horse battery staple").expect("the temporary directory takes files");
    let made = site.gateway.command(&["backup", "--passphrase-file", "phrase", "site.backup"]).await;
    assert!(made.status.success(), "{made:?}");

    // The old box uploads what waited and what comes after the backup, and breaks.
    site.platform.come_back();
    punch(&site, 5..7);
    confirmed(&site, 7).await;
    site.gateway.kill9();
    std::fs::rename(site.gateway.data_dir(), dir.join("broken")).expect("a directory can be renamed");

    let restored = site.gateway.command(&["restore", "--passphrase-file", "phrase", "site.backup"]).await;
    assert!(restored.status.success(), "{restored:?}");
    site.gateway.start_again().await;
    platform(&site, |platform| platform["depth"]["confirmed"] == 5 && platform["depth"]["open"] == 0).await;
    // The terminal still has the last of what came after the backup.
    site.faces[0].push_again();
    confirmed(&site, 6).await;
    punch(&site, 7..9);
    confirmed(&site, 8).await;
    let book = site.platform.book();
    assert_eq!(book.violations, Vec::<String>::new());
    assert_eq!((book.attendance.len(), book.copies()), (9, 0));
}

fn punch(site: &Site, workers: std::ops::Range<usize>) {
    for worker in workers {
        site.faces[0].punch(Face::of(&site.roster.workers[worker].worker_id));
    }
}

async fn confirmed(site: &Site, punches: u64) {
    platform(site, |platform| platform["depth"]["confirmed"] == punches).await;
}

async fn platform(site: &Site, wanted: impl Fn(&Value) -> bool) {
    site.gateway.wait_for("platforms", LIMIT, |answer| wanted(&answer["platforms"][0])).await;
}
