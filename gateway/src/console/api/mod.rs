//! The JSON API under `/api/v1`, described by `openapi.json` beside this file.
//!
//! Answers with what the store's view says at that moment and writes nothing but roster changes, approvals and the
//! order to try refused uploads again. Everything needs the bearer token or a session.

mod alarms;
mod body;
mod events;
mod ledger;
mod parameters;
mod platforms;
mod punches;
mod roster;
pub(super) mod shape;
mod story;
mod teams;
pub(super) mod terminals;
mod uploads;
mod workers;

use axum::Router;
use axum::http::header;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};

pub(super) use punches::uploads_of;

use super::Shared;
use super::auth;
use super::problem::Problem;

const DESCRIPTION: &str = include_str!("openapi.json");

/// Every address of the API with what it takes; a test compares them with the description.
fn routes() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/punches", get(punches::list)),
        ("/punches/{id}", get(story::tell)),
        ("/punches/{id}/proof", get(ledger::prove)),
        ("/workers", get(workers::list).post(workers::add)),
        ("/workers/import", post(workers::import)),
        ("/workers/{id}", get(workers::one).patch(workers::change)),
        ("/teams", get(teams::list).post(teams::add)),
        ("/terminals", get(terminals::list)),
        ("/terminals/{id}/approve", post(terminals::approve)),
        ("/terminals/{id}/open", post(terminals::open)),
        ("/terminals/{id}/sync", post(terminals::sync)),
        ("/platforms", get(platforms::list)),
        ("/uploads", get(uploads::list)),
        ("/uploads/{platform}/retry", post(uploads::retry)),
        ("/ledger", get(ledger::show)),
        ("/alarms", get(alarms::list)),
        ("/events", get(events::stream)),
        ("/openapi.json", get(description)),
    ]
}

/// The API's routes, without their prefix.
pub fn router(console: Shared) -> Router<Shared> {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(|| async { Problem::not_found("there is nothing at this address; see /api/v1/openapi.json") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(middleware::from_fn_with_state(console, auth::members_only))
}

#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    routes().into_iter().map(|(path, _)| path)
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION)
}
