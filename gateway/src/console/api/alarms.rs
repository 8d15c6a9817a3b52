//! `GET alarms`: what is wrong now, the worst first.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::Here;
use super::shape;

/// The alarms that stand.
pub async fn list(State(console): Here) -> Json<Value> {
    let site = console.context.config.site.utc_offset;
    let alarms: Vec<Value> = console.context.ops.alarms.list().iter().map(|alarm| shape::alarm(alarm, site)).collect();
    Json(json!({"alarms": alarms}))
}
