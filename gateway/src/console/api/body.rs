//! Bodies of requests, refused with a problem that says why.

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::super::JSON_LIMIT;
use super::super::problem::Problem;

/// A JSON body.
pub struct Json<T>(pub T);

/// A `text/csv` body.
pub struct Csv(pub Bytes);

/// CSV bodies up to this size are taken: a row of 300 bytes for each of 20 000 workers.
pub const CSV_LIMIT: usize = 6 * 1024 * 1024;

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Json<T>, Problem> {
        expect_type(request.headers(), "application/json")?;
        let bytes = read(request, state, JSON_LIMIT).await?;
        serde_json::from_slice(&bytes).map(Json).map_err(|error| Problem::body(error.to_string()))
    }
}

/// No body at all is none; one without its type is refused.
impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Json<T>>, Problem> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        <Json<T> as FromRequest<S>>::from_request(request, state).await.map(Some)
    }
}

impl<S: Send + Sync> FromRequest<S> for Csv {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Csv, Problem> {
        expect_type(request.headers(), "text/csv")?;
        read(request, state, CSV_LIMIT).await.map(Csv)
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S, limit: usize) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(limit),
        _ => Problem::body(rejection.body_text()),
    })
}

fn expect_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) { Ok(()) } else { Err(Problem::media_type(expected)) }
}
