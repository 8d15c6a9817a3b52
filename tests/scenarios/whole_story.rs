//! `GET /api/v1/punches/{id}` tells all that is known of a punch: what the terminal sent, every verdict, every attempt to
//! bring it to the platform with its outcome, the receipt, and its place in the hash chain, as `ledger export` has it too.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::face::{FACE_JPEG, Face};
use harness::site::{Plan, Site};
use harness::workers::{InventedWorker, csv_with_photos};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const BUSY: &str = "系统繁忙";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_punch_tells_its_whole_story() {
    let site = Site::start(Plan::new("whole-story")).await.expect("the site starts");
    let [first, second] = [&site.roster.workers[0], &site.roster.workers[1]];
    // The badge that the first worker carries is not on the roster yet.
    let lost_badge = InventedWorker { badge: 0x00BA_D6E0, ..first.clone() };
    site.gateway.import_roster(&csv_with_photos(&[lost_badge, second.clone()])).await;
    wait_for_entries(&site, 2).await;

    // The platform stumbles over the first worker's attendance, then recovers.
    site.platform.refuse(&first.id_number, BUSY);
    assert!(site.readers[0].swipe(first.badge));
    let held = |answer: &Value| answer["punches"][0]["verdict"]["kind"] == "held";
    let list = site.gateway.wait_for("punches?terminal=reader-1", LIMIT, held).await;
    let at_reader = id_of(&list);
    site.gateway.import_roster(&csv_with_photos(std::slice::from_ref(first))).await;
    let path = format!("punches/{at_reader}");
    site.gateway.wait_for(&path, LIMIT, |story| outcomes(story).contains(&"requeued")).await;
    site.platform.refuse_nobody();

    let face = Face { id_number: Some(second.id_number.clone()), ..Face::of(&second.worker_id) };
    let record = site.faces[0].punch(face.with_photo(FACE_JPEG));
    assert!(site.faces[0].wait_delivered(LIMIT).await);
    let list = site.gateway.wait_for("punches?terminal=gate-0", LIMIT, |answer| answer["punches"][0].is_object()).await;
    let at_face = id_of(&list);

    let confirmed = |story: &Value| story["uploads"][0]["state"] == "confirmed";
    let story = site.gateway.wait_for(&path, LIMIT, confirmed).await;
    check_summary(&story, &at_reader, "reader-1", first);
    check_badge_evidence(&story, first);
    check_verdicts(&story, &[(&json!("held"), &json!("unknown-worker")), (&json!("verified"), &Value::Null)]);
    check_failed_then_confirmed(&story);
    let badge_proof = story["proof"].clone();

    let story = site.gateway.wait_for(&format!("punches/{at_face}"), LIMIT, confirmed).await;
    check_summary(&story, &at_face, "gate-0", second);
    check_face_evidence(&story, record, second);
    check_verdicts(&story, &[(&json!("verified"), &Value::Null)]);
    assert_eq!(outcomes(&story).last(), Some(&"confirmed"));

    let exported = Exported::of(&site).await;
    exported.check_place(&badge_proof, &at_reader);
    exported.check_place(&story["proof"], &at_face);
}

#[tokio::test]
async fn a_punch_that_is_not_there_is_not_found() {
    let gateway = harness::gateway::Setup::new("no-story").start().await;
    let (status, text) = gateway.get(&format!("punches/{}", "0".repeat(32))).await;
    assert_eq!(status.as_u16(), 404, "{text}");
    let (status, text) = gateway.get("punches/389").await;
    assert_eq!(status.as_u16(), 400, "{text}");
}

async fn wait_for_entries(site: &Site, entries: usize) {
    let there = async {
        while site.platform.book().moves.len() < entries {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, there).await.expect("the workers are registered and have entered");
}

fn check_summary(story: &Value, id: &str, terminal: &str, worker: &InventedWorker) {
    assert_eq!(story["id"], id);
    assert_eq!(story["terminal"], terminal);
    assert_eq!(story["worker_id"], worker.worker_id.as_str());
    assert_eq!((&story["direction"], &story["verdict"]["kind"]), (&json!("in"), &json!("verified")), "{story:#}");
    assert_eq!(
        (&story["uploads"][0]["platform"], &story["uploads"][0]["state"]),
        (&json!("national"), &json!("confirmed"))
    );
    for time in ["time", "received_at"] {
        assert!(story[time].as_str().is_some_and(|text| text.ends_with("+08:00")), "{time}: {story:#}");
    }
}

fn check_badge_evidence(story: &Value, worker: &InventedWorker) {
    assert_eq!(story["evidence"]["kind"], "hex");
    let raw = hex::decode(story["evidence"]["value"].as_str().expect("text")).expect("hexadecimal digits");
    assert!(!raw.is_empty());
    let badge = json!([{"kind": "badge", "value": format!("{:08X}", worker.badge)}]);
    assert_eq!(story["presented"]["credentials"], badge);
    assert_eq!(story["presented"]["serial"], "R0001");
}

fn check_face_evidence(story: &Value, record: u64, worker: &InventedWorker) {
    assert_eq!(story["evidence"]["kind"], "json");
    let info = &story["evidence"]["value"]["info"];
    assert_eq!(info["customId"], worker.worker_id.as_str(), "{story:#}");
    assert_eq!(info["RecordID"], record.to_string());
    assert_eq!(story["record"], record.to_string());
    assert!(story["presented"]["photo"].is_string(), "{story:#}");
    assert!(!story.to_string().contains(&worker.id_number), "an ID number is shown");
}

/// Kinds and reasons, oldest first; each with the version of the rules and its own place in the ledger.
fn check_verdicts(story: &Value, expected: &[(&Value, &Value)]) {
    let verdicts = story["verdicts"].as_array().expect("verdicts");
    let said: Vec<_> = verdicts.iter().map(|verdict| (&verdict["kind"], &verdict["reason"])).collect();
    assert_eq!(said, expected);
    for verdict in verdicts {
        assert_eq!(verdict["rule_version"], gateway::verify::RULE_VERSION, "{verdict:#}");
        assert!(verdict["seq"].as_u64() > story["seq"].as_u64() && verdict["at"].is_string(), "{verdict:#}");
    }
}

/// Sent, taken, failed; sent again, taken, and a receipt.
fn check_failed_then_confirmed(story: &Value) {
    let attempts = story["attempts"].as_array().expect("attempts");
    let outcomes = outcomes(story);
    let failed = outcomes.iter().position(|outcome| *outcome == "requeued").expect("a failed attempt");
    assert_eq!(&outcomes[..2], ["sending", "accepted"], "{story:#}");
    assert_eq!(&outcomes[outcomes.len() - 3..], ["sending", "accepted", "confirmed"], "{story:#}");
    let text = |attempt: &Value, key: &str| attempt[key].as_str().unwrap_or_default().to_owned();
    assert!(text(&attempts[failed], "reason").contains(BUSY), "{:#}", attempts[failed]);
    let sent = attempts.iter().filter(|attempt| attempt["outcome"] == "sending");
    assert!(sent.clone().all(|attempt| text(attempt, "request_hash").len() == 64), "{story:#}");
    assert_eq!(story["uploads"][0]["attempts"].as_u64(), Some(sent.count() as u64));
    let accepted: Vec<String> = attempts
        .iter()
        .filter(|attempt| attempt["outcome"] == "accepted")
        .map(|attempt| text(attempt, "serial"))
        .collect();
    assert!(accepted.iter().all(|serial| serial.starts_with("workerattendance-add-")), "{accepted:?}");
    assert_ne!(accepted.first(), accepted.last(), "each attempt is a request of its own");
    assert!(attempts.last().is_some_and(|attempt| attempt["receipt"].is_object()), "{story:#}");
    let seqs: Vec<u64> = attempts.iter().filter_map(|attempt| attempt["seq"].as_u64()).collect();
    assert!(seqs.len() == attempts.len() && seqs.is_sorted(), "{seqs:?}");
    for attempt in attempts {
        assert_eq!(attempt["platform"], "national");
        assert_eq!(attempt["method"], "WorkerAttendance.Add");
    }
}

fn outcomes(story: &Value) -> Vec<&str> {
    let attempts = story["attempts"].as_array().into_iter().flatten();
    attempts.filter_map(|attempt| attempt["outcome"].as_str()).collect()
}

/// The ledger as the command writes it, by sequence.
struct Exported(BTreeMap<u64, Value>);

impl Exported {
    /// Beside the running gateway.
    async fn of(site: &Site) -> Exported {
        let data = site.gateway.data_dir();
        let output = site.gateway.command(&["ledger", "export", "--data", data.to_str().expect("UTF-8")]).await;
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
        Exported(lines.map(|line| (line["seq"].as_u64().expect("a sequence"), line)).collect())
    }

    fn check_place(&self, proof: &Value, id: &str) {
        let seq = proof["seq"].as_u64().expect("a sequence");
        let line = &self.0[&seq];
        assert_eq!((&line["kind"], &line["fact"]["id"]), (&json!("punch"), &json!(id)), "{line:#}");
        for key in ["segment", "offset", "hash", "previous_hash"] {
            assert_eq!(proof[key], line[key], "{key}");
        }
        assert_eq!(proof["hash"].as_str().map(str::len), Some(64));
        assert_eq!(proof["previous_hash"], self.0[&(seq - 1)]["hash"], "the chain is broken before {seq}");
        assert_eq!(self.0[&(seq + 1)]["previous_hash"], proof["hash"], "the chain is broken after {seq}");
    }
}

fn id_of(list: &Value) -> String {
    list["punches"][0]["id"].as_str().expect("a punch").to_owned()
}
