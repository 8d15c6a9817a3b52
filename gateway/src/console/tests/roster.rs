//! The roster over the API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    rig.send("POST", "/api/v1/workers", &JSON_CALLER, "x".repeat((2 << 20) + 1)).await.problem(413);
    rig.send("POST", "/api/v1/teams", &JSON_CALLER, "x".repeat(JSON_LIMIT + 1)).await.problem(413);
    import(&rig, &"x".repeat((64 << 20) + 1)).await.problem(413);
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

const FACE: &[u8] = include_bytes!("../../../../tests/fixtures/mqtt_face/face_tiny.jpg");
const WITH_PHOTO: &str = "worker_id,name,id_number,employer,team,trade,photo\n";

fn first_with(photo: &str) -> String {
    format!("W0001,张建国,110101199003070070,昌建总承包,木工班,020,{photo}\n")
}

fn second_with(photo: &str) -> String {
    format!("W0002,李四,11010519491231002X,昌建总承包,钢筋班,020,{photo}\n")
}

async fn stored(rig: &Rig, hash: PhotoHash) -> Option<bytes::Bytes> {
    rig.console.context.store.photo(hash).await.unwrap()
}

#[tokio::test]
async fn a_registrar_brings_the_pictures_in_the_roster_file() {
    let rig = Rig::start().await;
    let (face, hash) = (STANDARD.encode(FACE), PhotoHash::of(FACE));
    let done = import(&rig, &format!("{WITH_PHOTO}{}{}", first_with(&face), second_with(""))).await.ok();
    assert_eq!(done, json!({"workers": 2, "added": 2, "changed": 0, "unchanged": 0}));
    assert_eq!(stored(&rig, hash).await.as_deref(), Some(FACE));
    assert_eq!(rig.get("/api/v1/workers/W0001").await.ok()["photo"], hash.to_string());
    assert_eq!(rig.get("/api/v1/workers/W0002").await.ok()["photo"], Value::Null);

    let facts = rig.console.context.store.counters().facts;
    for again in [face, hash.to_string()] {
        let done = import(&rig, &format!("{WITH_PHOTO}{}", first_with(&again))).await.ok();
        assert_eq!(done["unchanged"], 1, "the same picture, by itself or by its hash, changes nothing");
    }
    assert_eq!(rig.console.context.store.counters().facts, facts);
    let done = import(&rig, &format!("{WITH_PHOTO}{}", second_with(&hash.to_string()))).await.ok();
    assert_eq!(done["changed"], 1, "a photo that the gateway has needs its hash only");
    rig.stop().await;
}

#[tokio::test]
async fn a_hash_without_a_picture_is_a_problem_of_its_line() {
    let rig = Rig::start().await;
    let unknown = "ab".repeat(32);
    let face = STANDARD.encode(FACE);
    let refused =
        import(&rig, &format!("{WITH_PHOTO}{}{}", first_with(&face), second_with(&unknown))).await.problem(422);
    assert_eq!(refused["errors"].as_array().map(Vec::len), Some(1), "{refused}");
    let error = &refused["errors"][0];
    assert_eq!((&error["line"], &error["worker_id"], &error["column"]), (&json!(3), &json!("W0002"), &json!("photo")));
    assert_eq!(rig.get("/api/v1/workers").await.ok()["workers"], json!([]), "nothing was imported");
    assert_eq!(stored(&rig, PhotoHash::of(FACE)).await, None);

    let named = PhotoHash::of(FACE).to_string();
    import(&rig, &format!("{WITH_PHOTO}{}{}", first_with(&named), second_with(&face))).await.ok();
    rig.stop().await;
}

#[tokio::test]
async fn no_worker_names_a_picture_that_could_not_be_stored() {
    let rig = Rig::start().await;
    let photos = rig.console.context.config.data_dir.join("photos");
    let shelf = photos.join(&PhotoHash::of(FACE).to_string()[..2]);
    std::fs::remove_dir(&shelf).unwrap();
    let file = format!("{WITH_PHOTO}{}", first_with(&STANDARD.encode(FACE)));
    import(&rig, &file).await.problem(503);
    assert_eq!(rig.get("/api/v1/workers").await.ok()["workers"], json!([]));
    std::fs::create_dir(&shelf).unwrap();
    import(&rig, &file).await.ok();
    assert_eq!(stored(&rig, PhotoHash::of(FACE)).await.as_deref(), Some(FACE));
    rig.stop().await;
}

#[tokio::test]
async fn a_worker_as_json_has_a_picture_too() {
    let rig = Rig::start().await;
    let mut large = FACE.to_vec();
    large.resize(1 << 20, 0);
    let row = json!({"worker_id": "W0001", "name": "张建国", "id_number": "110101199003070070", "employer": "昌建总承包",
                     "team": "木工班", "trade": "木工", "photo": STANDARD.encode(&large)});
    let added = rig.post("/api/v1/workers", row).await.ok();
    assert_eq!(added["photo"], PhotoHash::of(&large).to_string());
    assert_eq!(stored(&rig, PhotoHash::of(&large)).await.map(|jpeg| jpeg.len()), Some(1 << 20));

    let patch = async |body: Value| rig.send("PATCH", "/api/v1/workers/W0001", &JSON_CALLER, body.to_string()).await;
    let changed = patch(json!({"photo": format!("data:image/jpeg;base64,{}", STANDARD.encode(FACE))})).await.ok();
    assert_eq!(changed["photo"], PhotoHash::of(FACE).to_string());
    let refused = patch(json!({"photo": "ab".repeat(32)})).await.problem(422);
    assert_eq!((&refused["errors"][0]["column"], &refused["errors"][0]["line"]), (&json!("photo"), &Value::Null));
    large.push(0);
    let refused = patch(json!({"photo": STANDARD.encode(&large)})).await;
    assert!(refused.problem(422).to_string().contains("largest that is taken"), "{}", refused.text);
    assert!(refused.text.len() < 1000, "the picture is not sent back");
    assert_eq!(patch(json!({"team": "钢筋班"})).await.ok()["photo"], PhotoHash::of(FACE).to_string());
    assert_eq!(patch(json!({"photo": null})).await.ok()["photo"], Value::Null);
    rig.stop().await;
}

/// The disk has lost a photo: the worker can be changed all the same, but nobody new may get it.
#[tokio::test]
async fn a_worker_whose_photo_is_gone_can_still_leave() {
    let rig = Rig::start().await;
    let gone = PhotoHash([0xAB; 32]);
    let worker = Worker { photo: Some(gone), ..worker("W0001", "张建国", "110101199003070070") };
    rig.append(vec![Fact::Worker(worker)]).await;
    let left = json!({"left_on": "2026-05-05"}).to_string();
    rig.send("PATCH", "/api/v1/workers/W0001", &JSON_CALLER, left).await.ok();
    let refused = import(&rig, &format!("{WITH_PHOTO}{}", second_with(&gone.to_string()))).await.problem(422);
    assert_eq!(refused["errors"][0]["line"], 2);
    rig.stop().await;
}

#[tokio::test]
async fn five_hundred_workers_with_pictures_of_sixty_kib_fit() {
    let rig = Rig::start().await;
    let mut file = WITH_PHOTO.to_owned();
    for number in 0..500_u32 {
        let mut jpeg = FACE.to_vec();
        jpeg.resize(60 * 1024 - 4, 0);
        jpeg.extend(number.to_be_bytes());
        let (id_number, photo) = (id_number(number), STANDARD.encode(&jpeg));
        file += &format!("W{number},张三,{id_number},昌建总承包,木工班,020,{photo}\n");
    }
    assert!(file.len() > 38 << 20);
    assert_eq!(import(&rig, &file).await.ok()["added"], 500);
    let shelves = std::fs::read_dir(rig.console.context.config.data_dir.join("photos")).unwrap();
    let photos: usize = shelves.map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap().count()).sum();
    assert_eq!(photos, 500);
    rig.stop().await;
}

/// An identity number with a right check digit (GB 11643) for each number below 1000.
fn id_number(number: u32) -> String {
    let body = format!("11010119900307{number:03}");
    let weighted = body.bytes().enumerate().map(|(place, digit)| u32::from(digit - b'0') * (1 << (17 - place)) % 11);
    let check = (12 - weighted.sum::<u32>() % 11) % 11;
    format!("{body}{}", if check == 10 { "X".to_owned() } else { check.to_string() })
}

#[tokio::test]
async fn there_is_one_roster_file_in_memory_at_a_time() {
    let rig = Rig::start().await;
    let file = format!("{HEADER}{FIRST}");
    let started = std::sync::Arc::new(tokio::sync::Notify::new());
    let (begun, more) = (started.clone(), tokio_util::sync::CancellationToken::new());
    let (rest, go_on) = (file.clone(), more.clone());
    let slow = futures_util::stream::once(async move {
        begun.notify_one();
        go_on.cancelled().await;
        Ok::<_, std::io::Error>(rest)
    });
    let caller = Caller::bearer().with("content-type", "text/csv");
    let first = rig.send("POST", "/api/v1/workers/import", &caller, Body::from_stream(slow));
    let second = async {
        started.notified().await;
        import(&rig, &file).await.problem(503);
        more.cancel();
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.ok()["added"], 1);
    assert_eq!(import(&rig, &file).await.ok()["unchanged"], 1);
    rig.stop().await;
}

#[test]
fn an_import_has_more_time_than_other_requests() {
    assert!(crate::console::api::paths().any(|path| format!("/api/v1{path}") == IMPORT_PATH));
    assert_eq!(time_limit(IMPORT_PATH), IMPORT_TIMEOUT);
    assert_eq!(time_limit("/api/v1/workers"), REQUEST_TIMEOUT);
}
