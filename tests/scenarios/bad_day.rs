//! Everything goes wrong on one day: the serial line damages and loses frames, MQTT links are cut, the platform fails a
//! third of its answers, and the gateway is killed again and again. In the end the platform's book holds each verified
//! punch once, the ledger holds every punch with its verdict, and nothing that was acknowledged is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gateway::clock::Clock;
use harness::face::Face;
use harness::faults::Faults;
use harness::platform::{Book, Misbehaviour};
use harness::reader::WireFaults;
use harness::site::{Plan, Site, direction_of, face_serial};
use harness::workers::InventedWorker;
use rand::seq::SliceRandom;
use serde_json::Value;

const READERS: u8 = 4;
const FACES: usize = 20;
const WORKERS: usize = 240;
const PUNCHES: usize = 1_000;
const KILLS: usize = 20;
const CUTS: usize = 20;
/// Between two punches, so that the day is long enough for all that goes wrong in it.
const PACE: Duration = Duration::from_millis(25);
const DELIVERY_LIMIT: Duration = Duration::from_secs(300);
/// Badges from here on belong to nobody.
const NOBODY: u32 = 0x00FF_0000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_day_loses_and_doubles_nothing() {
    let faults = Faults::from_env("bad day", 20_261_123);
    live_through(Plan { story: "bad-day", ..plan(&faults) }, faults).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_day_behind_an_external_broker_loses_and_doubles_nothing() {
    if !harness::broker::Mosquitto::is_installed() {
        println!("SKIP: mosquitto is not installed (Debian package mosquitto)");
        return;
    }
    let faults = Faults::from_env("bad day behind a broker", 20_261_124);
    live_through(Plan { story: "bad-day-broker", external_broker: true, ..plan(&faults) }, faults).await;
}

fn plan(faults: &Faults) -> Plan {
    Plan {
        readers: READERS,
        faces: FACES,
        workers: WORKERS,
        teams: 8,
        // Everybody comes twice within a minute.
        sections: "[verify]\nduplicate_window_s = 0\n".to_owned(),
        wire: WireFaults { faults: faults.fork("wire"), damaged: 0.15, lost: 0.15 },
        ..Plan::new("bad-day")
    }
}

/// Who punches where.
#[derive(Clone, Copy, Debug)]
enum Who {
    Worker(usize),
    /// A badge that nobody on the roster has.
    Nobody(u32),
}

#[derive(Clone, Copy, Debug)]
enum Gate {
    Reader(usize),
    Face(usize),
}

async fn live_through(plan: Plan, mut faults: Faults) {
    let mut site = Site::start(plan).await.expect("the site starts");
    let left = leavers(&mut site);
    site.gateway.import_roster(&site.roster.csv_with_photos()).await;
    site.platform.set_faults(Misbehaviour::third(faults.fork("platform")));

    let program = program(&mut faults);
    let mut kills = moments(&mut faults, KILLS);
    let mut cuts = moments(&mut faults, CUTS);
    for (moment, (who, gate)) in program.iter().enumerate() {
        punch(&site, *who, *gate);
        if cuts.remove(&moment) {
            site.cut_links(&mut faults).await;
        }
        if kills.remove(&moment) {
            site.gateway.kill9();
            site.gateway.start_again().await;
            println!("killed and back after {:?}", site.gateway.start_took());
        }
        tokio::time::sleep(PACE).await;
    }
    let expected = Expected::of(&site, &program, &left);
    wait_until(&site, DELIVERY_LIMIT, "every terminal is rid of its records", |site| site.is_delivered()).await;
    wait_until(&site, DELIVERY_LIMIT, "the platform has every verified punch", |site| {
        expected.is_reached_by(&site.platform.book())
    })
    .await;

    site.gateway.wait_for("platforms", DELIVERY_LIMIT, |answer| answer["platforms"][0]["depth"]["open"] == 0).await;

    expected.check_book(&site.platform.book());
    expected.check_verdicts(&site).await;
    check_acknowledged(&site).await;
    check_ledger(&mut site, program.len()).await;
}

/// Every fortieth worker has left before today; their punches are rejected.
fn leavers(site: &mut Site) -> BTreeSet<usize> {
    let left: BTreeSet<usize> = (0..WORKERS).step_by(40).skip(1).collect();
    for worker in &left {
        let worker = &mut site.roster.workers[*worker];
        worker.left_on = Some(worker.entered_on.tomorrow().expect("a year has more days"));
    }
    left
}

/// Everybody goes in once and out once in random order, and then again in the same order, so that nobody goes the same
/// way twice in one second; badges of nobody come in between.
fn program(faults: &mut Faults) -> Vec<(Who, Gate)> {
    let mut half: Vec<(Who, u64)> =
        (0..WORKERS).flat_map(|worker| [0, 1].map(|way| (Who::Worker(worker), way))).collect();
    half.extend((half.len()..PUNCHES / 2).map(|order| (Who::Nobody(NOBODY + order as u32), 0)));
    half.shuffle(faults.rng());
    [half.clone(), half].concat().into_iter().map(|(who, way)| (who, gate(faults, who, way))).collect()
}

/// A gate that leads the wanted way (0 in, 1 out); one in five punches is at a reader, and those of nobody all are.
fn gate(faults: &mut Faults, who: Who, way: u64) -> Gate {
    if matches!(who, Who::Nobody(_)) || faults.happens(0.2) {
        return Gate::Reader((2 * faults.pick(0..u64::from(READERS) / 2) + way) as usize);
    }
    Gate::Face((2 * faults.pick(0..FACES as u64 / 2) + way) as usize)
}

/// So many different moments of the day.
fn moments(faults: &mut Faults, count: usize) -> BTreeSet<usize> {
    let mut moments = BTreeSet::new();
    while moments.len() < count {
        moments.insert(faults.pick(0..PUNCHES as u64) as usize);
    }
    moments
}

fn punch(site: &Site, who: Who, gate: Gate) {
    match (who, gate) {
        (Who::Worker(worker), Gate::Reader(reader)) => {
            assert!(site.readers[reader].swipe(site.roster.workers[worker].badge), "the journal has room");
        }
        (Who::Nobody(badge), Gate::Reader(reader)) => assert!(site.readers[reader].swipe(badge)),
        (Who::Worker(worker), Gate::Face(face)) => {
            let InventedWorker { worker_id, name, .. } = &site.roster.workers[worker];
            let person = Face { name: name.clone(), ..Face::of(worker_id) };
            site.faces[face].punch(person.with_photo(harness::face::FACE_JPEG));
        }
        (Who::Nobody(_), Gate::Face(_)) => unreachable!("strangers have badges only"),
    }
}

/// What must be true in the end.
struct Expected {
    /// How often each ID number goes in (`01`) and out (`02`) by verified punches.
    verified: BTreeMap<(String, String), usize>,
    held: usize,
    rejected: usize,
}

impl Expected {
    fn of(site: &Site, program: &[(Who, Gate)], left: &BTreeSet<usize>) -> Expected {
        let mut expected = Expected { verified: BTreeMap::new(), held: 0, rejected: 0 };
        for (who, gate) in program {
            match who {
                Who::Nobody(_) => expected.held += 1,
                Who::Worker(worker) if left.contains(worker) => expected.rejected += 1,
                Who::Worker(worker) => {
                    let place = match gate {
                        Gate::Reader(place) | Gate::Face(place) => *place,
                    };
                    let direction = if direction_of(place) == "in" { "01" } else { "02" };
                    let id_number = site.roster.workers[*worker].id_number.clone();
                    *expected.verified.entry((id_number, direction.to_owned())).or_default() += 1;
                }
            }
        }
        expected
    }

    fn is_reached_by(&self, book: &Book) -> bool {
        book.attendance.len() >= self.verified.values().sum()
    }

    fn check_book(&self, book: &Book) {
        assert_eq!(book.violations, Vec::<String>::new(), "the interface text was broken");
        let doubled: Vec<_> = book.attendance.iter().filter(|punch| punch.times != 1).collect();
        assert!(doubled.is_empty(), "on the platform more than once: {doubled:?}");
        let mut there: BTreeMap<(String, String), usize> = BTreeMap::new();
        for punch in &book.attendance {
            *there.entry((punch.id_number.clone(), punch.direction.clone())).or_default() += 1;
        }
        assert_eq!(there, self.verified);
    }

    async fn check_verdicts(&self, site: &Site) {
        let all = punches(site, "").await;
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for punch in &all {
            let verdict = &punch["verdict"];
            let reason = verdict["reason"].as_str().or(verdict["kind"].as_str()).unwrap_or("none");
            *reasons.entry(reason.to_owned()).or_default() += 1;
        }
        let wanted = BTreeMap::from([
            ("verified".to_owned(), self.verified.values().sum()),
            ("unknown-worker".to_owned(), self.held),
            ("left".to_owned(), self.rejected),
        ]);
        assert_eq!(reasons, wanted);
        let open = all.iter().filter(|punch| punch["verdict"]["kind"] == "verified");
        let unconfirmed = open.filter(|punch| punch["uploads"][0]["state"] != "confirmed").count();
        assert_eq!(unconfirmed, 0, "verified punches without a receipt in the gateway");
    }
}

/// Records that a terminal was told are safe, against the gateway's list.
async fn check_acknowledged(site: &Site) {
    for (place, face) in site.faces.iter().enumerate() {
        let acknowledged: BTreeSet<String> = face.acknowledged().into_iter().map(|number| number.to_string()).collect();
        let listed = punches(site, &format!("&terminal=gate-{place}")).await;
        let stored: BTreeSet<String> =
            listed.iter().filter_map(|punch| punch["record"].as_str().map(str::to_owned)).collect();
        assert_eq!(stored, acknowledged, "terminal {}", face_serial(place));
    }
    for (place, reader) in site.readers.iter().enumerate() {
        let listed = punches(site, &format!("&terminal=reader-{}", place + 1)).await;
        assert!(listed.len() >= reader.stored().len(), "reader {} was told of more than there is", place + 1);
    }
}

/// All punches that the API lists, page by page.
async fn punches(site: &Site, filter: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = site.gateway.get_json(&format!("punches?limit=200{filter}{cursor}")).await;
        all.extend(page["punches"].as_array().expect("a list").iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// Stops the gateway; its ledger verifies and exports each punch once.
async fn check_ledger(site: &mut Site, count: usize) {
    site.gateway.terminate().await;
    let data = site.gateway.data_dir();
    let data = data.to_str().expect("a path in UTF-8");
    let verified = site.gateway.command(&["ledger", "verify", "--data", data]).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let exported = site.gateway.command(&["ledger", "export", "--data", data, "--format", "jsonl"]).await;
    assert!(exported.status.success());
    let punches = String::from_utf8_lossy(&exported.stdout).lines().filter(|line| is_punch(line)).count();
    assert_eq!(punches, count, "punches in the ledger");
}

fn is_punch(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|record| record["kind"] == "punch")
}

async fn wait_until(site: &Site, limit: Duration, what: &str, reached: impl Fn(&Site) -> bool) {
    let clock = Clock::system();
    let began = clock.instant();
    while !reached(site) {
        let waited = clock.instant() - began;
        if waited > limit {
            panic!("after {waited:?} it is still not so that {what}\n{}", site.standing().await);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{what}: after {:?}", clock.instant() - began);
}
