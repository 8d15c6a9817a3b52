//! Bodies of requests, refused with a problem that says why.

use axum::body::{Bytes, HttpBody};
use axum::extract::{DefaultBodyLimit, FromRequest, OptionalFromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::super::problem::Problem;
use super::super::{JSON_LIMIT, Shared};

/// A JSON body of at most `LIMIT` bytes.
pub struct Json<T, const LIMIT: usize = JSON_LIMIT>(pub T);

/// A `text/csv` body: a roster file. There is one at a time in memory.
pub struct Csv {
    pub file: Bytes,
    /// Held until the file is dealt with.
    pub turn: OwnedSemaphorePermit,
}

/// A body of bytes, at most `LIMIT` of them.
pub struct Octets<const LIMIT: usize>(pub Bytes);

/// JSON bodies up to this size are taken where a worker's picture may be in them: 1 MiB as Base64, and its fields.
pub const WORKER_LIMIT: usize = 2 * 1024 * 1024;
/// CSV bodies up to this size are taken: 500 workers with pictures of 60 KiB are 40 MiB, 20 000 without are 6 MiB.
pub const CSV_LIMIT: usize = 64 * 1024 * 1024;

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Json<T, LIMIT>, Problem> {
        expect_type(request.headers(), "application/json")?;
        let bytes = read(request, state, LIMIT).await?;
        serde_json::from_slice(&bytes).map(Json).map_err(|error| Problem::body(error.to_string()))
    }
}

/// No body at all is none; one without its type is refused.
impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> OptionalFromRequest<S> for Json<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Json<T, LIMIT>>, Problem> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        <Json<T, LIMIT> as FromRequest<S>>::from_request(request, state).await.map(Some)
    }
}

impl FromRequest<Shared> for Csv {
    type Rejection = Problem;

    async fn from_request(request: Request, console: &Shared) -> Result<Csv, Problem> {
        expect_type(request.headers(), "text/csv")?;
        let turn = console.imports.clone().try_acquire_owned();
        let turn = turn.map_err(|_| Problem::unavailable("another roster file is being imported"))?;
        let file = read(request, console, CSV_LIMIT).await?;
        Ok(Csv { file, turn })
    }
}

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for Octets<LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Octets<LIMIT>, Problem> {
        expect_type(request.headers(), "application/octet-stream")?;
        read(request, state, LIMIT).await.map(Octets)
    }
}

async fn read<S: Send + Sync>(mut request: Request, state: &S, limit: usize) -> Result<Bytes, Problem> {
    DefaultBodyLimit::max(limit).apply(&mut request);
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
