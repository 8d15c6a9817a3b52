//! Who gets in, and what the outside sees.

use std::net::IpAddr;

use super::*;

const JSON: &str = "application/json";

/// A browser that has entered the token.
pub async fn logged_in(rig: &Rig) -> Caller {
    let form = own_form();
    let answer = rig.send("POST", "/login", &form, format!("token={TOKEN}")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Max-Age"));
    Caller::default().with("cookie", cookie.split(';').next().unwrap())
}

fn own_form() -> Caller {
    Caller::default().with("content-type", "application/x-www-form-urlencoded").with("origin", "http://gate.lan:8080")
}

#[tokio::test]
async fn without_token_or_session_only_health_metrics_and_login_are_open() {
    let rig = Rig::with_config("console.open_overview = false").await;
    let stranger = Caller::default();
    for path in crate::console::api::paths() {
        let path = format!("/api/v1{}", path.replace("{id}", "x").replace("{platform}", "x"));
        let refused = rig.send("GET", &path, &stranger, Body::empty()).await;
        if refused.status != StatusCode::METHOD_NOT_ALLOWED {
            refused.problem(401);
            assert_eq!(refused.headers[header::WWW_AUTHENTICATE], "Bearer");
        }
        let refused = rig.send("POST", &path, &stranger, Body::empty()).await;
        assert!(matches!(refused.status.as_u16(), 401 | 405), "{path} {}", refused.status);
    }
    rig.send("GET", "/live", &stranger, Body::empty()).await.problem(401);
    assert_eq!(rig.send("GET", "/", &stranger, Body::empty()).await.headers[header::LOCATION], "/login?lang=zh");
    assert_eq!(rig.send("GET", "/approve?serial=1", &stranger, Body::empty()).await.status, StatusCode::SEE_OTHER);
    rig.send("POST", "/approve", &own_form(), "serial=1&id=x&direction=in").await.problem(401);
    for open in ["/healthz", "/metrics", "/login", "/assets/console.css", "/assets/live.js", "/assets/icon.svg"] {
        assert_eq!(rig.send("GET", open, &stranger, Body::empty()).await.status, StatusCode::OK, "{open}");
    }
    rig.send("GET", "/nowhere", &stranger, Body::empty()).await.problem(404);
    rig.send("GET", "/api/v1/nowhere", &Caller::bearer(), Body::empty()).await.problem(404);
    rig.send("PUT", "/healthz", &stranger, Body::empty()).await.problem(405);
    rig.stop().await;
}

#[tokio::test]
async fn an_open_overview_shows_no_whole_name_and_no_way_to_approve() {
    let rig = Rig::with_config("console.open_overview = true").await;
    let one = punch(1, "north-in");
    rig.append(vec![Fact::Worker(worker("W0001", "张建国", "110101199003070070")), Fact::Punch(one.clone())]).await;
    rig.append(vec![Fact::Judgement(judged(&one, Verdict::Verified, Some("W0001")))]).await;
    let page = rig.send("GET", "/?lang=zh", &Caller::default(), Body::empty()).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("张*") && !page.text.contains("建国") && !page.text.contains("13800000001"));
    assert!(page.text.contains("id=\"head-count\">1<"));
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
    let english = Caller::default().with("accept-language", "en-GB,en;q=0.9,zh;q=0.1");
    assert!(rig.send("GET", "/", &english, Body::empty()).await.text.contains("<html lang=\"en\">"));
    rig.send("GET", "/api/v1/punches", &Caller::default(), Body::empty()).await.problem(401);
    rig.stop().await;
}

#[tokio::test]
async fn a_session_may_read_and_only_our_own_pages_may_change_something_by_it() {
    let rig = Rig::start().await;
    let session = logged_in(&rig).await;
    rig.send("GET", "/api/v1/punches", &session, Body::empty()).await.ok();
    let json = session.clone().with("content-type", JSON);
    let foreign = json.clone().with("origin", "http://evil.example");
    rig.send("POST", "/api/v1/uploads/national/retry", &foreign, "{}").await.problem(403);
    rig.send("POST", "/api/v1/uploads/national/retry", &json, "{}").await.problem(403);
    let own = json.clone().with("origin", "http://gate.lan:8080");
    rig.send("POST", "/api/v1/uploads/national/retry", &own, "{}").await.ok();
    let login = Caller::default().with("content-type", "application/x-www-form-urlencoded");
    let login = login.with("origin", "http://evil.example");
    rig.send("POST", "/login", &login, format!("token={TOKEN}")).await.problem(403);

    rig.send("POST", "/logout", &own, Body::empty()).await;
    rig.send("GET", "/api/v1/punches", &session, Body::empty()).await.problem(401);
    let session = logged_in(&rig).await;
    rig.clock.advance(sessions::LIFETIME);
    rig.send("GET", "/api/v1/punches", &session, Body::empty()).await.problem(401);
    rig.stop().await;
}

#[tokio::test]
async fn guessing_is_slowed_per_address_and_disturbs_neither_sessions_nor_others() {
    let rig = Rig::start().await;
    let session = logged_in(&rig).await;
    let guess = async |peer: &str, token: &str| {
        let request = Request::get("/api/v1/alarms").header("authorization", format!("Bearer {token}"));
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(listen::Peer(peer.parse::<IpAddr>().unwrap()));
        rig.router.clone().oneshot(request).await.unwrap()
    };
    for _ in 0..10 {
        assert_eq!(guess("192.0.2.1", "wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    let slowed = guess("192.0.2.1", TOKEN).await;
    assert_eq!(slowed.status(), StatusCode::TOO_MANY_REQUESTS, "even the right token is not looked at");
    assert!(slowed.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(guess("192.0.2.2", TOKEN).await.status(), StatusCode::OK);
    rig.send("GET", "/api/v1/alarms", &session, Body::empty()).await.ok();
    rig.clock.advance(Duration::from_secs(7));
    assert_eq!(guess("192.0.2.1", TOKEN).await.status(), StatusCode::OK);
    rig.stop().await;
}

#[tokio::test]
async fn a_wrong_login_says_so_and_begins_nothing() {
    let rig = Rig::start().await;
    let answer = rig.send("POST", "/login?lang=en", &own_form(), "token=wrong").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.text.contains("The token is wrong.") && !answer.headers.contains_key(header::SET_COOKIE));
    rig.stop().await;
}

#[tokio::test]
async fn a_terminal_is_approved_on_its_page() {
    let rig = Rig::start().await;
    let session = logged_in(&rig).await;
    let board = &rig.console.context.ops.board;
    board.set_terminal(crate::ops::board::TerminalStatus {
        id: "1306612".into(),
        serial: "1306612".to_owned(),
        protocol: "mqtt-face".to_owned(),
        direction: String::new(),
        via: "192.0.2.9".to_owned(),
        online: true,
        pending: true,
        last_seen: None,
        last_punch: None,
        skew_ms: None,
        health: Default::default(),
    });
    let page = rig.send("GET", "/?lang=en", &session, Body::empty()).await;
    assert!(page.text.contains("/approve?serial=1306612"), "{}", page.text);
    let page = rig.send("GET", "/approve?serial=1306612&lang=en", &session, Body::empty()).await;
    assert!(page.text.contains("Approve a terminal") && page.text.contains("192.0.2.9"));
    let mut form = own_form();
    form.headers.extend(session.headers.clone());
    let wrong = rig.send("POST", "/approve?lang=en", &form, "serial=1306612&id=a%20b&direction=in").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.text.contains("must be 1 to 64 letters"), "{}", wrong.text);
    let form_text = "serial=1306612&id=north-in&direction=in";
    let done = rig.send("POST", "/approve?lang=en", &form, form_text).await;
    assert_eq!(done.status, StatusCode::OK);
    assert!(done.text.contains("Approved, but") && done.text.contains("not connected"), "{}", done.text);
    assert_eq!(rig.console.context.hub.lookup("1306612").unwrap().id, "north-in".into());
    rig.send("POST", "/approve?lang=en", &form, form_text).await.problem(404);
    rig.stop().await;
}

#[tokio::test]
async fn health_and_metrics_say_how_it_stands() {
    let rig = Rig::start().await;
    let stranger = Caller::default();
    assert_eq!(rig.send("GET", "/healthz", &stranger, Body::empty()).await.ok()["status"], "ok");
    rig.console.context.ops.board.set_intake_open(false);
    let health = rig.send("GET", "/healthz", &stranger, Body::empty()).await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.json()["problems"][0]["problem"], "intake-closed");
    let one = punch(1, "north-in");
    rig.append(vec![Fact::Punch(one.clone())]).await;
    rig.append(vec![Fact::Judgement(judged(&one, Verdict::Verified, Some("W0001")))]).await;
    let text = rig.send("GET", "/metrics", &stranger, Body::empty()).await.text;
    for line in [
        "anxin_outbox_open{platform=\"national\"} 1",
        "anxin_ledger_punches{state=\"verified\"} 1",
        "anxin_intake_open 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(text.contains("process_resident_memory_bytes ") && text.ends_with("# EOF\n"));
    rig.stop().await;
}

#[tokio::test]
async fn while_the_view_cannot_be_read_nothing_is_listed_and_people_are_told() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the view's directory is made: it cannot be.
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data").join("view.new"), b"").unwrap();
    let rig = Rig::within(dir, "").await;
    let member = Caller::bearer();
    for path in
        ["punches", "workers", "teams", "platforms", "uploads", "ledger", "punches/0123456789abcdef0123456789abcdef"]
    {
        let answer = rig.send("GET", &format!("/api/v1/{path}"), &member, "").await;
        let detail = answer.problem(503)["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("built again"), "{path}: {detail}");
        assert!(answer.headers.contains_key(header::RETRY_AFTER), "{path}");
    }
    rig.send("GET", "/api/v1/alarms", &member, "").await.ok();
    rig.send("GET", "/api/v1/terminals", &member, "").await.ok();
    rig.send("GET", "/api/v1/punches", &Caller::default(), "").await.problem(401);
    for (language, words) in [("zh", "打卡照常接收"), ("en", "Punches are taken")] {
        let page = rig.send("GET", &format!("/?lang={language}"), &member, "").await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.text.contains(words) && page.text.contains("refresh"), "{}", page.text);
    }
    rig.stop().await;
}
