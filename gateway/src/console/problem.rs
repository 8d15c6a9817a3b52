//! Errors as RFC 9457 problem JSON.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::roster::RowProblem;
use crate::store::AppendError;

/// An answer that is no success.
#[derive(Clone, Debug)]
pub struct Problem(Box<Content>);

#[derive(Clone, Debug, Serialize)]
struct Content {
    /// A relative URI that names the kind of problem.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    #[serde(serialize_with = "status_number")]
    status: StatusCode,
    detail: String,
    /// The request's parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// Every row, column or field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<RowProblem>,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

fn status_number<S: serde::Serializer>(status: &StatusCode, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u16(status.as_u16())
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        let (detail, parameter, errors, retry_after) = (detail.into(), None, Vec::new(), None);
        Problem(Box::new(Content { kind, title, status, detail, parameter, errors, retry_after }))
    }

    /// 400: a parameter of the request is wrong.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Problem {
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, "/problems/parameter", "Wrong parameter", detail);
        problem.0.parameter = Some(name.to_owned());
        problem
    }

    /// 400: the body cannot be read.
    pub fn body(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "/problems/body", "Unreadable body", detail)
    }

    /// 401: neither token nor session.
    pub fn unauthorized(detail: &str) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "/problems/login", "Login needed", detail)
    }

    /// 403: known, but not allowed in this way.
    pub fn forbidden(detail: &str) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "/problems/forbidden", "Not allowed", detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "/problems/not-found", "Not found", detail)
    }

    /// 405.
    pub fn method_not_allowed() -> Problem {
        let detail = "this address does not take this method; see the Allow header";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "/problems/method", "Method not allowed", detail)
    }

    /// 504: the answer did not come in time.
    pub fn timeout() -> Problem {
        let detail = "the request was not finished in time; nothing is known about its outcome";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "/problems/timeout", "Timed out", detail)
    }

    /// 409: the request and what is there contradict each other.
    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "/problems/conflict", "Conflict", detail)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Problem {
        let detail = format!("the body is larger than {} KiB", limit / 1024);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "/problems/too-large", "Too large", detail)
    }

    /// 415.
    pub fn media_type(expected: &str) -> Problem {
        let detail = format!("send the body with content-type {expected}");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "/problems/media-type", "Unsupported media type", detail)
    }

    /// 422: the body can be read, but what it says is wrong; each mistake is named.
    pub fn content(detail: impl Into<String>, errors: Vec<RowProblem>) -> Problem {
        let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "/problems/content", "Wrong content", detail);
        problem.0.errors = errors;
        problem
    }

    /// 429: the token was tried too often.
    pub fn slow_down(wait: Duration) -> Problem {
        let detail = "too many wrong tokens from this address; try again later";
        let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "/problems/slow-down", "Too many tries", detail);
        problem.0.retry_after = Some(wait);
        problem
    }

    /// 502: a terminal did not do what it was told.
    pub fn terminal(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_GATEWAY, "/problems/terminal", "The terminal did not do it", detail)
    }

    /// 503: not now.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "/problems/unavailable", "Not now", detail);
        problem.0.retry_after = Some(Duration::from_secs(10));
        problem
    }

    /// A refusal of the web framework, in its own words.
    pub fn refused(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem::new(status, "/problems/request", "Bad request", detail)
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What is wrong in words, for a page.
    pub fn sentences(&self) -> String {
        let errors = self.0.errors.iter().map(RowProblem::to_string);
        std::iter::once(self.0.detail.clone()).chain(errors).collect::<Vec<_>>().join("; ")
    }
}

/// What is wrong with one field of a JSON body.
pub fn field(name: &str, value: &str, reason: impl Into<String>) -> RowProblem {
    let shown = Some(value.chars().take(60).collect::<String>()).filter(|shown| !shown.is_empty());
    RowProblem { line: None, worker_id: None, column: Some(name.to_owned()), value: shown, reason: reason.into() }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        Problem::unavailable(error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem(content) = self;
        let body = serde_json::to_vec(&content).expect("a problem has only text and numbers");
        let mut response = (content.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if content.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = content.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        response
    }
}
