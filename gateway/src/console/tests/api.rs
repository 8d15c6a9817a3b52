//! Punches, uploads, terminals and the description.

use serde_json::json;

use super::*;
use crate::ops::alarms::{Kind, Severity};
use crate::ops::board::TerminalStatus;
use crate::store::ledger::proof::{Proof, check};

const OF_WORKER: Option<&str> = Some("W0001");

#[tokio::test]
async fn a_punch_can_be_listed_page_by_page_and_its_whole_story_told() {
    let rig = Rig::start().await;
    let punches: Vec<Punch> = (1..=5).map(|record| punch(record, "north-in")).collect();
    rig.append(vec![Fact::Worker(worker("W0001", "张建国", "110101199003070070"))]).await;
    for one in &punches {
        rig.append(vec![Fact::Punch(one.clone())]).await;
        rig.append(vec![Fact::Judgement(judged(one, Verdict::Verified, OF_WORKER))]).await;
    }
    let subject = vec![Subject::Punch(punches[0].id)];
    rig.append(vec![step(1, subject.clone(), Step::Sending { request_hash: [7; 32] })]).await;
    rig.append(vec![step(1, subject.clone(), Step::Accepted { serial: "S1".to_owned() })]).await;
    rig.append(vec![step(1, subject, Step::Confirmed { external: None, note: None })]).await;

    let first = rig.get("/api/v1/punches?limit=2").await.ok();
    let cursor = first["next"].as_str().expect("there is more").to_owned();
    let second = rig.get(&format!("/api/v1/punches?limit=2&cursor={cursor}")).await.ok();
    let cursor = second["next"].as_str().expect("there is more").to_owned();
    let third = rig.get(&format!("/api/v1/punches?limit=2&cursor={cursor}")).await.ok();
    let records: Vec<&str> = [&first, &second, &third]
        .iter()
        .flat_map(|page| page["punches"].as_array().unwrap())
        .map(|punch| punch["record"].as_str().unwrap())
        .collect();
    assert_eq!(records, ["1", "2", "3", "4", "5"]);
    assert_eq!(third["next"], Value::Null);

    let shown = &first["punches"][0];
    assert_eq!(shown["time"], "2026-05-06T06:01:00+08:00");
    assert_eq!(shown["received_at"], "2026-05-06T06:01:00.3+08:00");
    assert_eq!(shown["verdict"], json!({"kind": "verified", "reason": null, "rule_version": 1}));
    assert_eq!(
        shown["uploads"],
        json!([{"platform": "national", "state": "confirmed", "reason": null, "attempts": 1}])
    );

    let story = rig.get(&format!("/api/v1/punches/{}", punches[0].id)).await.ok();
    assert_eq!(story["id"], shown["id"]);
    assert_eq!(story["evidence"]["value"]["info"]["RecordID"], "1");
    assert_eq!(story["evidence"]["value"]["info"]["idCard"], "110101********0070");
    assert_eq!(story["verdicts"][0]["worker_id"], "W0001");
    let outcomes: Vec<&str> =
        story["attempts"].as_array().unwrap().iter().map(|step| step["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["sending", "accepted", "confirmed"]);
    assert_eq!(story["proof"]["seq"], story["seq"]);
    let hash = |name: &str| story["proof"][name].as_str().unwrap().len();
    assert_eq!((hash("hash"), hash("previous_hash")), (64, 64));
    assert!(!story.to_string().contains("110101199003070070"));
    rig.stop().await;
}

#[tokio::test]
async fn listings_take_conditions_and_refuse_what_they_do_not_know() {
    let rig = Rig::start().await;
    let (north, south) = (punch(1, "north-in"), punch(90, "south-in"));
    let held = Verdict::Held(HeldReason::UnknownWorker);
    rig.append(vec![Fact::Punch(north.clone()), Fact::Punch(south.clone())]).await;
    rig.append(vec![Fact::Judgement(judged(&north, Verdict::Verified, OF_WORKER))]).await;
    rig.append(vec![Fact::Judgement(judged(&south, held, None))]).await;
    for (query, expected) in [
        ("terminal=south-in", "90"),
        ("worker=W0001", "1"),
        ("verdict=held", "90"),
        ("from=2026-05-06T07:00:00%2B08:00", "90"),
        ("from=2026-05-06T07:00:00+08:00", "90"),
        ("to=2026-05-06T07:00:00%2B08:00&from=2026-05-06", "1"),
    ] {
        let found = rig.get(&format!("/api/v1/punches?{query}")).await.ok();
        let records: Vec<&Value> = found["punches"].as_array().unwrap().iter().map(|punch| &punch["record"]).collect();
        assert_eq!(records, [expected], "{query}");
    }
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("from=yesterday", "from"),
        ("verdict=maybe", "verdict"),
        ("terminl=north-in", "terminl"),
        ("to=2026-05-06&to=2026-05-07", "to"),
    ] {
        let refused = rig.get(&format!("/api/v1/punches?{query}")).await.problem(400);
        assert_eq!(refused["parameter"], parameter);
    }
    assert_eq!(rig.get("/api/v1/punches/xyz").await.problem(400)["parameter"], "id");
    rig.get(&format!("/api/v1/punches/{}", "00".repeat(16))).await.problem(404);
    assert_eq!(rig.get("/api/v1/uploads?platform=other").await.problem(400)["parameter"], "platform");
    assert_eq!(rig.get("/api/v1/uploads?cursor=x").await.problem(400)["parameter"], "cursor");
    rig.stop().await;
}

#[tokio::test]
async fn what_a_platform_refused_goes_back_to_the_queue_when_asked() {
    let rig = Rig::start().await;
    let one = punch(1, "north-in");
    rig.append(vec![Fact::Worker(worker("W0001", "张建国", "110101199003070070")), Fact::Punch(one.clone())]).await;
    rig.append(vec![Fact::Judgement(judged(&one, Verdict::Verified, OF_WORKER))]).await;
    let subjects = vec![Subject::Punch(one.id), Subject::Worker("W0001".into())];
    rig.append(vec![step(4, subjects.clone(), Step::Sending { request_hash: [1; 32] })]).await;
    rig.append(vec![step(4, subjects, Step::Refused { reason: "no such team".to_owned() })]).await;
    let refused = rig.get("/api/v1/uploads?platform=national&state=refused").await.ok();
    assert_eq!(refused["uploads"].as_array().unwrap().len(), 2);
    assert_eq!(refused["uploads"][0]["reason"], "no such team");

    assert_eq!(rig.post("/api/v1/uploads/national/retry", json!({})).await.ok()["requeued"], 2);
    assert_eq!(rig.get("/api/v1/uploads?state=refused").await.ok()["uploads"], json!([]));
    assert_eq!(rig.get("/api/v1/uploads?state=queued").await.ok()["uploads"].as_array().unwrap().len(), 2);
    assert_eq!(rig.get("/api/v1/platforms").await.ok()["platforms"][0]["depth"]["open"], 1);
    let story = rig.get(&format!("/api/v1/punches/{}", one.id)).await.ok();
    let last = story["attempts"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["outcome"], &last["job"]), (&json!("requeued"), &json!(4)));
    rig.post("/api/v1/uploads/elsewhere/retry", json!({})).await.problem(404);
    rig.stop().await;
}

fn pending(serial: &str) -> TerminalStatus {
    TerminalStatus {
        id: serial.into(),
        serial: serial.to_owned(),
        protocol: "mqtt-face".to_owned(),
        direction: String::new(),
        via: "192.0.2.9".to_owned(),
        online: true,
        pending: true,
        last_seen: Some(at(NOW)),
        last_punch: None,
        skew_ms: None,
        health: Default::default(),
    }
}

#[tokio::test]
async fn an_approved_terminal_is_known_at_once_and_stands_in_the_ledger() {
    let rig = Rig::start().await;
    let context = &rig.console.context;
    context.ops.board.set_terminal(pending("1306612"));
    context.ops.alarms.raise(Severity::Warning, Kind::TerminalPending, "1306612", "approve it");
    assert_eq!(rig.get("/api/v1/terminals").await.ok()["terminals"][0]["state"], "pending");
    for (id, direction, column) in [("a b", "in", "id"), ("", "in", "id"), ("north-in", "inwards", "direction")] {
        let body = json!({"id": id, "direction": direction});
        let refused = rig.post("/api/v1/terminals/1306612/approve", body).await.problem(422);
        assert_eq!(refused["errors"][0]["column"], column);
    }
    let body = json!({"id": "north-in", "direction": "in"});
    rig.post("/api/v1/terminals/7777777/approve", body.clone()).await.problem(404);

    let approved = rig.post("/api/v1/terminals/1306612/approve", body.clone()).await.ok();
    assert_eq!((&approved["id"], &approved["greeted"]), (&json!("north-in"), &json!(false)));
    assert_eq!(context.hub.lookup("1306612").unwrap().id, "north-in".into());
    let terminals = rig.get("/api/v1/terminals").await.ok();
    assert_eq!(
        (&terminals["terminals"][0]["id"], &terminals["terminals"][0]["state"]),
        (&json!("north-in"), &json!("online"))
    );
    assert_eq!(rig.get("/api/v1/alarms").await.ok()["alarms"], json!([]));
    let adoptions = context.store.read(|view| view.adoptions()).await;
    assert_eq!((adoptions[0].serial.as_str(), adoptions[0].direction.as_str()), ("1306612", "in"));
    rig.post("/api/v1/terminals/1306612/approve", body.clone()).await.problem(404);

    context.ops.board.set_terminal(pending("1306613"));
    let taken = rig.post("/api/v1/terminals/1306613/approve", body).await.problem(422);
    assert_eq!(taken["errors"][0]["reason"], "is the id of another terminal");
    rig.stop().await;
}

#[tokio::test]
async fn an_order_reaches_the_terminals_link_and_its_refusal_comes_back() {
    use crate::config::DirectionRule;
    use crate::terminals::hub::{Order, OrderError, Terminal};
    let rig = Rig::start().await;
    let terminal = Terminal {
        id: "north-in".into(),
        protocol: "mqtt-face".to_owned(),
        serial: "1306612".to_owned(),
        direction: DirectionRule::In,
        password: None,
    };
    rig.console.context.hub.adopt(terminal);

    let offline = rig.send("POST", "/api/v1/terminals/north-in/open", &Caller::bearer(), Body::empty()).await;
    assert!(offline.problem(502)["detail"].as_str().unwrap().contains("not connected"));
    rig.post("/api/v1/terminals/nowhere/open", json!({})).await.problem(404);

    let (link, mut orders) = tokio::sync::mpsc::channel(4);
    rig.console.context.hub.attach("1306612", link);
    let serve = async {
        let slip = orders.recv().await.unwrap();
        assert_eq!(slip.order, Order::Open { text: "请进".to_owned() });
        slip.done.send(Ok(())).unwrap();
        let slip = orders.recv().await.unwrap();
        assert_eq!(slip.order, Order::SetTime);
        slip.done.send(Err(OrderError::Unsupported("1306612".to_owned()))).unwrap();
    };
    let ask = async {
        let opened = rig.post("/api/v1/terminals/north-in/open", json!({"text": "请进"})).await;
        assert_eq!(opened.ok(), json!({"id": "north-in", "done": true}));
        rig.post("/api/v1/terminals/north-in/sync", json!({})).await.problem(409);
    };
    tokio::join!(serve, ask);
    rig.stop().await;
}

#[tokio::test]
async fn a_punch_is_proven_once_its_day_is_closed_and_the_key_is_shown() {
    let rig = Rig::start().await;
    let one = punch(1, "north-in");
    rig.append(vec![Fact::Punch(one.clone()), Fact::Judgement(judged(&one, Verdict::Verified, OF_WORKER))]).await;
    let address = format!("/api/v1/punches/{}/proof", one.id);
    let early = rig.get(&address).await.problem(409);
    assert!(early["detail"].as_str().unwrap().contains("not closed yet"), "{early}");
    assert_eq!(rig.get("/api/v1/ledger").await.ok()["last_day"], Value::Null);

    let store = &rig.console.context.store;
    store.close_day(jiff::civil::date(2026, 5, 6), at(NOW)).await.unwrap();
    let ledger = rig.get("/api/v1/ledger").await.ok();
    assert_eq!(ledger["public_key"], hex::encode(store.public_key()));
    assert_eq!((&ledger["last_day"]["day"], &ledger["last_day"]["last"]), (&json!("2026-05-06"), &json!(2)));
    let proof: Proof = serde_json::from_value(rig.get(&address).await.ok()).unwrap();
    let facts = check(&proof, Some(&store.public_key())).unwrap();
    assert_eq!((facts.len(), &facts[0].1), (2, &Fact::Punch(one)));
    rig.get(&format!("/api/v1/punches/{}/proof", "0".repeat(32))).await.problem(404);
    rig.stop().await;
}

#[tokio::test]
async fn the_description_lists_exactly_what_the_router_answers() {
    let rig = Rig::start().await;
    let description = rig.get("/api/v1/openapi.json").await.ok();
    let paths = description["paths"].as_object().unwrap();
    let mut described: Vec<&str> = paths.keys().map(String::as_str).collect();
    let mut served: Vec<&str> = crate::console::api::paths().collect();
    described.sort_unstable();
    served.sort_unstable();
    assert_eq!(described, served);
    for (path, methods) in paths {
        let address = format!("/api/v1{}", path.replace("{id}", "nothing").replace("{platform}", "nothing"));
        for method in ["GET", "POST", "PATCH", "PUT", "DELETE"] {
            if (method, path.as_str()) == ("GET", "/events") {
                continue; // a stream has no end to wait for; `streams` reads it
            }
            let answer = rig.send(method, &address, &Caller::bearer(), Body::empty()).await;
            let is_described = methods.get(method.to_lowercase()).is_some();
            assert_eq!(answer.status != StatusCode::METHOD_NOT_ALLOWED, is_described, "{method} {address}");
            if !is_described {
                answer.problem(405);
            }
        }
    }
    assert!(every_reference_leads_somewhere(&description, &description));
    rig.stop().await;
}

fn every_reference_leads_somewhere(value: &Value, root: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().all(|(name, value)| match (name.as_str(), value) {
            ("$ref", Value::String(place)) => root.pointer(place.trim_start_matches('#')).is_some(),
            (_, value) => every_reference_leads_somewhere(value, root),
        }),
        Value::Array(items) => items.iter().all(|item| every_reference_leads_somewhere(item, root)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
