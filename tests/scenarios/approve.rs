//! A face terminal that nobody has configured: it waits and gets nothing until a registrar approves it; then it delivers
//! what it has kept, and is known after the next start too.

use std::time::Duration;

use harness::face::link::{FaceLink, Login};
use harness::face::{Face, FaceTerminal, Timings};
use harness::gateway::{GatewayProcess, Setup};
use reqwest::StatusCode;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
/// How long it takes to believe that nothing comes; the terminals here greet every second and push every half.
const NEVER: Duration = Duration::from_secs(2);
const SERIAL: &str = "1306699";
const PUNCHES: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_terminal_waits_is_approved_and_delivers_what_it_kept() {
    let mut gateway = Setup::new("approve").face("north-in", "1306612", "in").start().await;
    let terminal = FaceTerminal::new(SERIAL, Timings::faster(20));
    let link = FaceLink::start(terminal, Login::at(gateway.mqtt_address()));
    for worker in 1..=PUNCHES {
        link.punch(Face::of(&format!("W{worker:05}")));
    }
    let pending = gateway.wait_for("terminals", LIMIT, |answer| state(answer, SERIAL) == Some("pending")).await;
    assert_eq!(pending["terminals"].as_array().map(Vec::len), Some(2));
    let alarms = gateway.wait_for("alarms", LIMIT, is_alarmed).await;
    assert!(alarms.to_string().contains(SERIAL), "{alarms:#}");
    tokio::time::sleep(NEVER).await;
    assert_eq!(link.with(|terminal| terminal.heard.clone()), Vec::<String>::new(), "a pending terminal got something");
    assert_eq!(punches(&gateway).await, Vec::<(String, String)>::new());

    for (approval, wrong) in [
        (json!({"id": "north in", "direction": "in"}), "id"),
        (json!({"id": "north-in", "direction": "in"}), "another terminal"),
        (json!({"id": "gate-5", "direction": "up"}), "direction"),
    ] {
        let (status, text) = gateway.post_json(&format!("terminals/{SERIAL}/approve"), &approval).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
        assert!(text.contains(wrong), "{text}");
    }
    let approval = json!({"id": "gate-5", "direction": "out"});
    let (status, text) = gateway.post_json("terminals/7777777/approve", &approval).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{text}");
    assert_eq!(link.with(|terminal| terminal.waiting()), PUNCHES);

    let (status, text) = gateway.post_json(&format!("terminals/{SERIAL}/approve"), &approval).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(link.wait_delivered(LIMIT).await, "{:?}", link.acknowledged());
    let expected: Vec<(String, String)> =
        (1..=PUNCHES).map(|record| ("gate-5".to_owned(), record.to_string())).collect();
    gateway.wait_for("punches", LIMIT, |answer| listed(answer) == expected).await;
    let out = gateway.get_json("punches?terminal=gate-5").await;
    assert!(out["punches"].as_array().expect("a list").iter().all(|punch| punch["direction"] == "out"), "{out:#}");
    gateway.wait_for("terminals", LIMIT, |answer| state(answer, SERIAL) == Some("online")).await;
    gateway.wait_for("alarms", LIMIT, |answer| !is_alarmed(answer)).await;
    assert!(link.with(|terminal| terminal.heard.contains(&"Online-Ack".to_owned())));

    gateway.kill9();
    gateway.start_again().await;
    link.punch(Face::of("W00001"));
    assert!(link.wait_delivered(LIMIT).await, "the approval did not survive a kill");
    gateway.wait_for("punches", LIMIT, |answer| listed(answer).len() == PUNCHES + 1).await;
    let (status, text) = gateway.post_json(&format!("terminals/{SERIAL}/approve"), &approval).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "it does not wait any more: {text}");
}

fn state<'a>(answer: &'a Value, serial: &str) -> Option<&'a str> {
    answer["terminals"].as_array()?.iter().find(|terminal| terminal["serial"] == serial)?["state"].as_str()
}

fn is_alarmed(answer: &Value) -> bool {
    answer["alarms"].as_array().is_some_and(|alarms| alarms.iter().any(|alarm| alarm["kind"] == "terminal-pending"))
}

async fn punches(gateway: &GatewayProcess) -> Vec<(String, String)> {
    listed(&gateway.get_json("punches").await)
}

/// Terminal and record of each punch, in order.
fn listed(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let punches = answer["punches"].as_array().expect("a list of punches").iter();
    punches.map(|punch| (text(&punch["terminal"]), text(&punch["record"]))).collect()
}
