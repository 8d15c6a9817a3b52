//! Platforms write and read Beijing time without an offset. A site whose own clocks show another time, as some in the far
//! west do, is no exception.

use std::time::Duration;

use harness::site::{Plan, Site};
use jiff::Timestamp;
use jiff::tz::Offset;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_gets_beijing_time_whatever_the_sites_clocks_show() {
    let plan = Plan { utc_offset: "+06:00", faces: 0, ..Plan::new("beijing-time") };
    let site = Site::start(plan).await.expect("the site starts");
    site.gateway.import_roster(&site.roster.csv_with_photos()).await;
    assert!(site.readers[0].swipe(site.roster.workers[0].badge));
    let is_confirmed = |answer: &serde_json::Value| answer["punches"][0]["uploads"][0]["state"] == "confirmed";
    let answer = site.gateway.wait_for("punches", LIMIT, is_confirmed).await;
    let time = answer["punches"][0]["time"].as_str().expect("a time");
    assert!(time.ends_with("+06:00"), "the console shows the site's own time: {time}");

    let book = site.platform.book();
    assert_eq!(book.violations, Vec::<String>::new(), "signing times are Beijing times too");
    let at: Timestamp = time.parse().expect("RFC 3339");
    let in_beijing = Offset::constant(8).to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string();
    assert_eq!(book.attendance.iter().map(|punch| punch.date.as_str()).collect::<Vec<_>>(), [in_beijing]);
}
