//! `GET ledger`: how far the ledger is and how it is signed. `GET punches/{id}/proof`: what somebody takes away who wants
//! to check a punch without the ledger.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::super::Here;
use super::super::problem::Problem;
use super::shape::time;
use super::story::punch_id;
use crate::punch::DayHead;
use crate::store::ledger::proof::{Proof, ProveError};

/// The public key, and the last day that it signed.
pub async fn show(State(console): Here) -> Json<Value> {
    let store = &console.context.store;
    let last = store.read(|view| view.last_day_head()).await;
    let site = console.context.config.site.utc_offset;
    let day = |head: DayHead| {
        json!({
            "day": head.day.to_string(),
            "closed_at": time(head.at, site),
            "first": head.first.0,
            "last": head.last.0,
            "root": hex::encode(head.root),
            "signature": hex::encode(head.signature),
        })
    };
    Json(json!({ "public_key": hex::encode(store.public_key()), "last_day": last.map(day) }))
}

/// The proof of one punch and its verdicts. Whoever has it can read the record whole, personal numbers included.
pub async fn prove(State(console): Here, Path(id): Path<String>) -> Result<Json<Proof>, Problem> {
    let wanted = punch_id(&id)?;
    let proof = console.context.store.read(move |view| view.prove(wanted)).await;
    let proof = proof.map_err(|error| match error {
        ProveError::Unknown => Problem::not_found(format!("there is no punch {id}")),
        ProveError::NotClosed | ProveError::Damaged { .. } | ProveError::NoRecordKey => {
            Problem::conflict(error.to_string())
        }
        ProveError::Io(_) => Problem::unavailable(error.to_string()),
    })?;
    tracing::info!(punch = %id, "the proof of a punch was handed out, unmasked");
    Ok(Json(proof))
}
