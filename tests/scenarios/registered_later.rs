//! Somebody punches whom nobody has registered yet: the punch is kept and held, and forwarded as soon as `roster import`
//! has brought its worker. The gateway is not restarted for that.

use std::path::PathBuf;
use std::time::Duration;

use harness::face::Face;
use harness::site::{Plan, Site};
use harness::workers::{InventedWorker, csv_with_photos};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn punches_of_the_unregistered_are_held_and_forwarded_after_the_import() {
    let site = Site::start(Plan::new("registered-later")).await.expect("the site starts");
    let (late, known) = site.roster.workers.split_at(2);
    import(&site, "first.csv", known, "8 workers: 8 added, 0 changed, 0 unchanged").await;

    assert!(site.readers[0].swipe(late[0].badge));
    site.gateway.wait_for("punches", LIMIT, |answer| verdicts(answer).len() == 1).await;
    let record = site.faces[0].punch(Face::of(&late[1].worker_id));
    assert!(site.faces[0].wait_delivered(LIMIT).await, "an unknown person's record is acknowledged too");
    assert!(site.readers[0].swipe(known[0].badge), "somebody known comes by");
    let punches = site.gateway.wait_for("punches", LIMIT, |answer| verdicts(answer).len() == 3).await;
    let [held_at_reader, held_at_face, verified] = [0, 1, 2].map(|place| &in_order(&punches)[place]);
    assert_eq!(held_at_reader["terminal"], "reader-1");
    assert_eq!((&held_at_face["terminal"], &held_at_face["record"]), (&"gate-0".into(), &record.to_string().into()));
    for held in [held_at_reader, held_at_face] {
        assert_eq!(held["verdict"]["kind"], "held", "{held:#}");
        assert_eq!(held["verdict"]["reason"], "unknown-worker");
        assert_eq!((&held["worker_id"], held["uploads"].as_array().map(Vec::len)), (&Value::Null, Some(0)));
    }
    let path = format!("punches/{}", verified["id"].as_str().expect("an id"));
    site.gateway.wait_for(&path, LIMIT, |punch| punch["uploads"][0]["state"] == "confirmed").await;
    assert_eq!(on_platform(&site), [attended(&known[0])], "a held punch is not forwarded");

    let pid = site.gateway.pid();
    import(&site, "second.csv", late, "2 workers: 2 added, 0 changed, 0 unchanged").await;
    let confirmed = |answer: &Value| in_order(answer).iter().all(|punch| punch["uploads"][0]["state"] == "confirmed");
    let after = site.gateway.wait_for("punches", LIMIT, confirmed).await;
    assert_eq!(site.gateway.pid(), pid, "nobody restarted the gateway");
    assert_eq!(verdicts(&after), ["verified", "verified", "verified"]);
    let mut expected: Vec<_> = [&late[0], &late[1], &known[0]].map(attended).into();
    expected.sort();
    assert_eq!(on_platform(&site), expected);
    for held in [held_at_reader, held_at_face] {
        let id = held["id"].as_str().expect("an id");
        let story = site.gateway.get_json(&format!("punches/{id}")).await;
        let kinds: Vec<&Value> =
            story["verdicts"].as_array().expect("verdicts").iter().map(|verdict| &verdict["kind"]).collect();
        assert_eq!(kinds, ["held", "verified"]);
    }
}

/// With the real command, as a registrar does it.
async fn import(site: &Site, name: &str, workers: &[InventedWorker], said: &str) {
    let gateway = &site.gateway;
    let file: PathBuf = gateway.config_file().with_file_name(name);
    std::fs::write(&file, csv_with_photos(workers)).expect("the temporary directory takes files");
    let [config, file] = [gateway.config_file(), &file].map(|path| path.to_str().expect("a path in UTF-8"));
    let output = gateway.command(&["roster", "import", "--config", config, file]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), said);
}

fn in_order(answer: &Value) -> &Vec<Value> {
    answer["punches"].as_array().expect("a list of punches")
}

/// The verdicts of the punches that have one.
fn verdicts(answer: &Value) -> Vec<&str> {
    in_order(answer).iter().filter_map(|punch| punch["verdict"]["kind"].as_str()).collect()
}

/// ID number, direction and how often.
type Attended = (String, String, u32);

fn attended(worker: &InventedWorker) -> Attended {
    (worker.id_number.clone(), "01".to_owned(), 1)
}

fn on_platform(site: &Site) -> Vec<Attended> {
    let book = site.platform.book();
    assert_eq!(book.violations, Vec::<String>::new());
    let punches = book.attendance.into_iter();
    let mut all: Vec<_> = punches.map(|punch| (punch.id_number, punch.direction, punch.times)).collect();
    all.sort();
    all
}
