//! The JSON API under `/api/v1`, described by `openapi.json` beside this file.
//!
//! Answers with what the store's view says at that moment and writes nothing but roster changes, approvals and the
//! order to try refused uploads again. Everything needs the bearer token or a session. While the view is being built
//! again, what would be read from it is answered with 503.

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
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

pub(super) use punches::uploads_of;

use super::auth;
use super::problem::Problem;
use super::{Here, Shared};

const DESCRIPTION: &str = include_str!("openapi.json");

/// The addresses whose answers are made from the store's view, with what they take.
fn of_view() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/punches", get(punches::list)),
        ("/punches/{id}", get(story::tell)),
        ("/punches/{id}/proof", get(ledger::prove)),
        ("/workers", get(workers::list).post(workers::add)),
        ("/workers/import", post(workers::import)),
        ("/workers/{id}", get(workers::one).patch(workers::change)),
        ("/teams", get(teams::list).post(teams::add)),
        ("/platforms", get(platforms::list)),
        ("/uploads", get(uploads::list)),
        ("/uploads/{platform}/retry", post(uploads::retry)),
        ("/ledger", get(ledger::show)),
    ]
}

/// The other addresses.
fn of_now() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/terminals", get(terminals::list)),
        ("/terminals/{id}/approve", post(terminals::approve)),
        ("/terminals/{id}/open", post(terminals::open)),
        ("/terminals/{id}/sync", post(terminals::sync)),
        ("/terminals/{id}/firmware", post(terminals::update)),
        ("/alarms", get(alarms::list)),
        ("/events", get(events::stream)),
        ("/openapi.json", get(description)),
    ]
}

/// The API's routes, without their prefix.
pub fn router(console: Shared) -> Router<Shared> {
    let routed = |routes: Vec<(&'static str, MethodRouter<Shared>)>| {
        routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
    };
    routed(of_view())
        .route_layer(middleware::from_fn_with_state(console.clone(), when_whole))
        .merge(routed(of_now()))
        .fallback(|| async { Problem::not_found("there is nothing at this address; see /api/v1/openapi.json") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(middleware::from_fn_with_state(console, auth::members_only))
}

/// A list with holes that nobody sees is no answer: wages may be computed from it.
async fn when_whole(State(console): Here, request: Request, next: Next) -> Response {
    if console.context.store.is_whole() {
        return next.run(request).await;
    }
    let detail = "the working view is being built again from the ledger; punches are taken meanwhile";
    Problem::unavailable(detail).into_response()
}

#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    of_view().into_iter().chain(of_now()).map(|(path, _)| path)
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION)
}
