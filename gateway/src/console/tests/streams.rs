//! Live streams: the overview's sections and the JSON events.

use axum::body::BodyDataStream;
use futures_util::StreamExt;
use serde_json::json;

use super::*;
use crate::ops::alarms::{Kind, Severity};

/// Far beyond what any frame takes here; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open stream, read event by event.
struct Listener {
    body: BodyDataStream,
    buffered: String,
}

impl Listener {
    async fn open(rig: &Rig, path: &str) -> Listener {
        let request = Request::get(path).header("authorization", format!("Bearer {TOKEN}"));
        let response = rig.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Listener { body: response.into_body().into_data_stream(), buffered: String::new() }
    }

    /// The next event and its data; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.buffered.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let event = field("event: ").zip(field("data: "));
                self.buffered = rest.to_owned();
                match event {
                    Some((event, data)) => return Some((event, serde_json::from_str(&data).unwrap())),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("nothing came")?;
            self.buffered.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// The data of the next event of this kind that meets `wanted`.
    async fn until(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (kind, data) = self.next().await.expect("the stream has ended");
            if kind == event && wanted(&data) {
                return data;
            }
        }
    }
}

#[tokio::test]
async fn events_tell_a_punch_its_verdict_and_its_receipt() {
    let rig = Rig::start().await;
    let mut events = Listener::open(&rig, "/api/v1/events").await;
    let one = punch(1, "north-in");
    rig.append(vec![Fact::Punch(one.clone())]).await;
    rig.append(vec![Fact::Judgement(judged(&one, Verdict::Verified, Some("W0001")))]).await;
    let subject = vec![Subject::Punch(one.id)];
    rig.append(vec![step(1, subject, Step::Confirmed { external: None, note: None })]).await;
    let id = one.id.to_string();
    assert_eq!(events.until("punch", |data| data["id"] == id).await["terminal"], "north-in");
    assert_eq!(events.until("verdict", |data| data["id"] == id).await["worker_id"], "W0001");
    let receipt = events.until("receipt", |data| data["subject"]["id"] == id).await;
    assert_eq!((&receipt["platform"], &receipt["state"]), (&json!("national"), &json!("confirmed")));
    rig.stop().await;
}

#[tokio::test]
async fn events_tell_alarms_that_begin_and_end() {
    let rig = Rig::start().await;
    let alarms = rig.console.context.ops.alarms.clone();
    alarms.raise(Severity::Critical, Kind::PlatformStopped, "national", "the key is refused");
    let mut events = Listener::open(&rig, "/api/v1/events").await;
    let standing = events.until("alarm", |_| true).await;
    assert_eq!((&standing["kind"], &standing["standing"]), (&json!("platform-stopped"), &json!(true)));
    alarms.clear(Kind::PlatformStopped, "national");
    assert_eq!(events.until("alarm", |_| true).await["standing"], false);
    rig.stop().await;
}

#[tokio::test]
async fn a_reader_that_was_too_slow_is_told_how_many_facts_it_missed() {
    let rig = Rig::start().await;
    let mut events = Listener::open(&rig, "/api/v1/events").await;
    for batch in 0..40 {
        let facts = (0..500).map(|record| Fact::Punch(punch(batch * 500 + record, "north-in"))).collect();
        rig.append(facts).await;
    }
    assert!(events.until("missed", |_| true).await["missed"].as_u64().unwrap() > 0);
    rig.stop().await;
}

#[tokio::test]
async fn the_overview_sends_every_section_first_and_then_what_changes() {
    let rig = Rig::start().await;
    let mut live = Listener::open(&rig, "/live?lang=en").await;
    let mut sections = Vec::new();
    while sections.len() < 5 {
        let section = live.until("section", |_| true).await;
        sections.push(section["id"].as_str().unwrap().to_owned());
    }
    sections.sort_unstable();
    assert_eq!(sections, ["alarms", "on-site", "platforms", "punches", "terminals"]);
    let one = punch(1, "north-in");
    rig.append(vec![Fact::Punch(one.clone())]).await;
    let html = live.until("section", |data| data["id"] == "punches").await;
    assert!(html["html"].as_str().unwrap().contains("being verified"));
    rig.append(vec![Fact::Judgement(judged(&one, Verdict::Verified, Some("W0001")))]).await;
    live.until("section", |data| data["html"].as_str().unwrap().contains("id=\"head-count\">1<")).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_stream_ends_at_logout_and_at_shutdown() {
    let rig = Rig::with_config("console.open_overview = false").await;
    let session = doors::logged_in(&rig).await;
    let mut live = Listener::open(&rig, "/live").await;
    let request = Request::get("/live").header("cookie", &session.headers[0].1).body(Body::empty()).unwrap();
    let body = rig.router.clone().oneshot(request).await.unwrap().into_body();
    let mut by_session = Listener { body: body.into_data_stream(), buffered: String::new() };
    by_session.until("section", |_| true).await;
    rig.clock.advance(sessions::LIFETIME);
    // The session is looked at with every tick.
    while by_session.next().await.is_some() {}
    live.until("section", |_| true).await;
    rig.stop.cancel();
    while live.next().await.is_some() {}
    rig.stop().await;
}

#[tokio::test]
async fn streams_are_few_and_a_closed_one_makes_room() {
    let rig = Rig::start().await;
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        open.push(Listener::open(&rig, "/live").await);
    }
    rig.get("/live").await.problem(503);
    rig.get("/api/v1/events").await.problem(503);
    open.pop();
    Listener::open(&rig, "/api/v1/events").await;
    rig.stop().await;
}

#[tokio::test]
async fn many_changes_cost_two_renderings_a_second_however_many_look() {
    let rig = Rig::start().await;
    let mut viewers = Vec::new();
    for _ in 0..8 {
        viewers.push(Listener::open(&rig, "/live").await);
    }
    let begun = Clock::system().instant();
    let mut record = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        record += 1;
        rig.append(vec![Fact::Punch(punch(record, "north-in"))]).await;
    }
    let rendered = rig.console.live.fresh().await.unwrap();
    let versions = rendered.newest_version();
    assert!((2..=6).contains(&versions), "{versions} renderings of {record} changes in two seconds");
    rig.stop().await;
}
