//! The roster over the API.

use serde_json::json;

use super::*;

const HEADER: &str = "worker_id,name,id_number,employer,team,trade,badge,phone\n";
const FIRST: &str = "W0001,张建国,110101199003070070,昌建总承包,木工班,020,E3086CED,13800000001\n";
const SECOND: &str = "W0002,李四,11010519491231002X,昌建总承包,钢筋班,020,,\n";

async fn import(rig: &Rig, csv: &str) -> Answer {
    rig.send("POST", "/api/v1/workers/import", &Caller::bearer().with("content-type", "text/csv"), csv.to_owned()).await
}

#[tokio::test]
async fn an_import_takes_all_rows_or_none_and_names_every_wrong_one() {
    let rig = Rig::start().await;
    let wrong = format!("{HEADER}{FIRST}W0002,李四,110105194912310021,昌建总承包,钢筋班,020,,\nW0003,,,别家,,,,\n");
    let refused = import(&rig, &wrong).await.problem(422);
    let lines: Vec<u64> =
        refused["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert!(lines.contains(&3) && lines.contains(&4) && !lines.contains(&2), "{refused}");
    assert_eq!(rig.get("/api/v1/workers").await.ok()["workers"], json!([]));

    let done = import(&rig, &format!("\u{feff}{HEADER}{FIRST}{SECOND}")).await.ok();
    assert_eq!(done, json!({"workers": 2, "added": 2, "changed": 0, "unchanged": 0}));
    let facts = rig.console.context.store.counters().facts;
    let again = import(&rig, &format!("{HEADER}{FIRST}")).await.ok();
    assert_eq!(again, json!({"workers": 1, "added": 0, "changed": 0, "unchanged": 1}));
    assert_eq!(rig.console.context.store.counters().facts, facts, "the same file again writes nothing");

    let taken = "W0009,王五,110101199003070070,昌建总承包,木工班,020,,\n";
    let refused = import(&rig, &format!("{HEADER}{taken}")).await.problem(422);
    assert_eq!(
        (&refused["errors"][0]["worker_id"], &refused["errors"][0]["column"]),
        (&json!("W0009"), &json!("id_number"))
    );
    let teams = rig.get("/api/v1/teams").await.ok();
    assert_eq!(
        teams["teams"][0],
        json!({
            "employer": "昌建总承包", "credit_code": credit_code(), "name": "木工班", "workers": 1, "left": 0, "leader": null,
        })
    );
    rig.stop().await;
}

#[tokio::test]
async fn personal_numbers_are_masked_unless_the_bearer_asks() {
    let rig = Rig::start().await;
    import(&rig, &format!("{HEADER}{FIRST}")).await.ok();
    for path in ["/api/v1/workers", "/api/v1/workers/W0001"] {
        let masked = rig.get(path).await;
        assert!(masked.ok().to_string().contains("110101********0070"), "{}", masked.text);
        assert!(!masked.text.contains("13800000001"));
        let whole = rig.get(&format!("{path}?reveal=true")).await;
        assert!(whole.text.contains("110101199003070070") && whole.text.contains("13800000001"));
        let session = doors::logged_in(&rig).await;
        let refused = rig.send("GET", &format!("{path}?reveal=true"), &session, Body::empty()).await;
        refused.problem(403);
        assert!(!refused.text.contains("110101199003070070"));
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_worker_is_added_and_changed_by_the_rules_of_a_roster_row() {
    let rig = Rig::start().await;
    let row = json!({
        "worker_id": "W0001", "name": "张建国", "id_number": "110101199003070070", "employer": "昌建总承包",
        "team": "木工班", "trade": "木工", "badge": "E3086CED",
    });
    let added = rig.post("/api/v1/workers", row.clone()).await;
    assert_eq!(
        (added.status, &added.headers[header::LOCATION]),
        (StatusCode::CREATED, &HeaderValue::from_static("/api/v1/workers/W0001"))
    );
    rig.post("/api/v1/workers", row.clone()).await.problem(409);
    let mut second = row.clone();
    (second["worker_id"], second["id_number"]) = (json!("W0002"), json!("11010519491231002X"));
    let refused = rig.post("/api/v1/workers", second).await.problem(422);
    assert_eq!(refused["errors"][0]["column"], "badge", "the badge is another's");

    let patch = async |id: &str, body: Value| {
        let caller = Caller::bearer().with("content-type", "application/json");
        rig.send("PATCH", &format!("/api/v1/workers/{id}"), &caller, body.to_string()).await
    };
    let left = patch("W0001", json!({"left_on": "2026-05-05", "badge": null})).await.ok();
    assert_eq!((&left["left_on"], &left["badge"], &left["trade"]), (&json!("2026-05-05"), &Value::Null, &json!("240")));
    let team = rig.get("/api/v1/teams").await.ok();
    assert_eq!(team["teams"][0]["left"], 1);
    patch("W0001", json!({"colour": "red"})).await.problem(422);
    patch("W0001", json!({"id_number": "110101199003070071"})).await.problem(422);
    patch("W0404", json!({"name": "王五"})).await.problem(404);
    let team = json!({"employer": "昌建总承包", "name": "木工班"});
    assert_eq!(rig.post("/api/v1/teams", team).await.ok()["workers"], 1);
    rig.post("/api/v1/teams", json!({"employer": "昌建总承包", "name": "新班组"})).await.problem(422);
    rig.stop().await;
}

#[tokio::test]
async fn bodies_of_another_kind_or_size_are_refused() {
    let rig = Rig::start().await;

    rig.send("POST", "/api/v1/workers/import", &JSON_CALLER, "{}").await.problem(415);
    let json = Caller::bearer().with("content-type", "text/csv");
    rig.send("POST", "/api/v1/workers", &json, "{}").await.problem(415);
    rig.send("POST", "/api/v1/workers", &JSON_CALLER, "{").await.problem(400);
    rig.send("POST", "/api/v1/workers", &JSON_CALLER, "x".repeat(JSON_LIMIT + 1)).await.problem(413);
    import(&rig, &"x".repeat(7 << 20)).await.problem(413);
    rig.stop().await;
}

static JSON_CALLER: std::sync::LazyLock<Caller> =
    std::sync::LazyLock::new(|| Caller::bearer().with("content-type", "application/json"));

#[tokio::test]
async fn two_changes_at_once_cannot_give_one_badge_to_two_workers() {
    let rig = Rig::start().await;
    let row = |id: &str, number: &str| {
        json!({"worker_id": id, "name": "某", "id_number": number, "employer": "昌建总承包", "team": "木工班",
               "trade": "020", "badge": "E3086CED"})
    };
    let (first, second) = tokio::join!(
        rig.post("/api/v1/workers", row("W0001", "110101199003070070")),
        rig.post("/api/v1/workers", row("W0002", "11010519491231002X")),
    );
    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 422]);
    rig.stop().await;
}
