//! `GET /healthz`: does the gateway take punches? Without login, so it names no terminal and no person.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Here;
use crate::ops::Ops;
use crate::ops::alarms::Severity;
use crate::store::StoreHealth;

/// What monitoring sees.
#[derive(Debug, Serialize)]
struct Health {
    /// `ok` or `failing`.
    status: &'static str,
    version: &'static str,
    /// Why punches are not taken now.
    problems: Vec<Trouble>,
    /// Standing alarms; they do not make the gateway unhealthy by themselves.
    alarms: AlarmCount,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Trouble {
    problem: &'static str,
    detail: String,
}

#[derive(Debug, Serialize)]
struct AlarmCount {
    critical: usize,
    warning: usize,
}

/// 200 while punches are taken, otherwise 503 with the reasons.
pub async fn answer(State(console): Here) -> Response {
    let health = judge(&console.context.ops, &console.context.store.health());
    let status = if health.problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

fn judge(ops: &Ops, store: &StoreHealth) -> Health {
    let mut problems = Vec::new();
    if !ops.board.intake_open() {
        let detail = "the gateway is starting or stopping; terminals keep their punches".to_owned();
        problems.push(Trouble { problem: "intake-closed", detail });
    }
    problems.extend(store_trouble(store));
    let alarms = ops.alarms.list();
    let critical = alarms.iter().filter(|alarm| alarm.severity == Severity::Critical).count();
    Health {
        status: if problems.is_empty() { "ok" } else { "failing" },
        version: env!("CARGO_PKG_VERSION"),
        problems,
        alarms: AlarmCount { critical, warning: alarms.len() - critical },
    }
}

fn store_trouble(store: &StoreHealth) -> Option<Trouble> {
    match store {
        StoreHealth::Open => None,
        StoreHealth::Failing { cause, .. } => {
            let detail = format!("nothing is acknowledged until the disk takes writes again: {cause}");
            Some(Trouble { problem: "store-failing", detail })
        }
        StoreHealth::Full { free_bytes, .. } => {
            let detail = format!("nothing is acknowledged until there is space: {} MiB free", free_bytes >> 20);
            Some(Trouble { problem: "store-full", detail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ops::alarms::Kind;
    use crate::punch::UnixMs;

    fn problems(health: &Health) -> Vec<&str> {
        health.problems.iter().map(|trouble| trouble.problem).collect()
    }

    #[test]
    fn healthy_only_while_intake_is_open_and_the_store_takes_facts() {
        let ops = Ops::new(Clock::manual(UnixMs(0)));
        let full = StoreHealth::Full { since: UnixMs(0), free_bytes: 12 << 20 };
        assert_eq!(problems(&judge(&ops, &full)), ["intake-closed", "store-full"]);
        ops.board.set_intake_open(true);
        assert_eq!(judge(&ops, &full).problems[0].detail.matches("12 MiB free").count(), 1);
        let failing = StoreHealth::Failing { since: UnixMs(0), cause: "input/output error".to_owned() };
        assert_eq!(problems(&judge(&ops, &failing)), ["store-failing"]);
        assert_eq!(judge(&ops, &StoreHealth::Open).status, "ok");
    }

    #[test]
    fn a_dead_platform_is_counted_but_does_not_make_the_gateway_unhealthy() {
        let ops = Ops::new(Clock::manual(UnixMs(0)));
        ops.board.set_intake_open(true);
        ops.alarms.raise(Severity::Critical, Kind::PlatformStopped, "national", "the key is refused");
        let health = judge(&ops, &StoreHealth::Open);
        assert_eq!((health.status, health.alarms.critical), ("ok", 1));
        assert!(!serde_json::to_string(&health).unwrap().contains("national"));
    }
}
