//! `GET platforms`: what waits for each, and what its courier is doing.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::Here;
use super::shape;
use crate::config::ProfileKind;

/// All configured platforms.
pub async fn list(State(console): Here) -> Json<Value> {
    let names = console.platforms();
    let depths = console.context.store.read(move |view| names.iter().map(|name| view.depth(name)).collect::<Vec<_>>());
    let depths = depths.await;
    let site = console.context.config.site.utc_offset;
    let board = console.context.ops.board.platforms();
    let platforms = console.context.config.platforms.iter().zip(&depths).map(|(platform, depth)| {
        let status = board.iter().find(|status| status.name == platform.name);
        let mut shape = shape::platform(&platform.name, profile(platform.profile), status, site);
        shape["depth"] = shape::depth(depth, site);
        shape
    });
    Json(json!({"platforms": platforms.collect::<Vec<_>>()}))
}

fn profile(profile: ProfileKind) -> &'static str {
    match profile {
        ProfileKind::Mohurd => "mohurd",
    }
}
