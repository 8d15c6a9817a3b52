//! Login, logout, and the form that approves a terminal.

use askama::Template;
use axum::Form;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::super::api::terminals::Approval;
use super::super::auth::{self, Access};
use super::super::listen::Peer;
use super::super::problem::Problem;
use super::super::{Here, origin};
use super::{Address, Page, html};
use crate::ops::board::TerminalStatus;

/// A form that one of our own pages has sent; anything else is refused before it is read.
pub struct OwnForm {
    headers: HeaderMap,
    peer: Option<Peer>,
}

impl<S: Send + Sync> FromRequestParts<S> for OwnForm {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<OwnForm, Problem> {
        if !origin::is_same(&parts.headers) {
            return Err(auth::foreign_page());
        }
        Ok(OwnForm { headers: parts.headers.clone(), peer: parts.extensions.get().copied() })
    }
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    page: Page,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub struct Credentials {
    token: String,
}

/// The page that asks for the token.
pub async fn login_page(
    State(console): Here,
    access: Access,
    Query(address): Query<Address>,
    headers: HeaderMap,
) -> Response {
    let page = Page::new(&console, access, address, &headers);
    html(StatusCode::OK, &Login { page, problem: None })
}

/// Begins a session when the token is right.
pub async fn login(
    State(console): Here,
    Query(address): Query<Address>,
    own: OwnForm,
    Form(credentials): Form<Credentials>,
) -> Result<Response, Problem> {
    let page = Page::new(&console, Access::Nobody, address, &own.headers);
    if let Err(problem) = console.try_token(credentials.token.trim(), own.peer.as_ref()) {
        let text = match problem.status() {
            StatusCode::TOO_MANY_REQUESTS => page.t.pick("尝试次数过多，请稍后再试。", "Too many tries; wait a while."),
            _ => page.t.pick("令牌不正确。", "The token is wrong."),
        };
        return Ok(html(problem.status(), &Login { page, problem: Some(text.to_owned()) }));
    }
    let begun = console.sessions.begin(console.context.clock.instant());
    let secret = begun.ok_or_else(|| Problem::unavailable("the system gives no random numbers"))?;
    tracing::info!("a browser has logged in on the console");
    let cookie = [(header::SET_COOKIE, auth::session_cookie(&secret))];
    Ok((cookie, Redirect::to(&format!("/?lang={}", page.t.code()))).into_response())
}

/// Ends the session.
pub async fn logout(State(console): Here, access: Access, Query(address): Query<Address>, own: OwnForm) -> Response {
    match access {
        Access::Session(key) => console.sessions.end(key),
        Access::Nobody | Access::Token => {}
    }
    let page = Page::new(&console, Access::Nobody, address, &own.headers);
    let cookie = [(header::SET_COOKIE, auth::no_cookie())];
    (cookie, Redirect::to(&format!("/?lang={}", page.t.code()))).into_response()
}

#[derive(Template)]
#[template(path = "approve.html")]
struct Approve {
    page: Page,
    status: TerminalStatus,
    id: String,
    problem: Option<String>,
    /// Approved, but the terminal has not been told: why.
    untold: Option<String>,
}

/// The page that shows what waits for approval.
pub async fn approve_page(
    State(console): Here,
    access: Access,
    Query(address): Query<Address>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let serial = address.serial.clone().unwrap_or_default();
    let page = Page::new(&console, access, address, &headers);
    if !access.is_member() {
        return Ok(Redirect::to(&format!("/login?lang={}", page.t.code())).into_response());
    }
    let Some(status) = console.pending(&serial) else {
        return Ok(Redirect::to(&format!("/?lang={}", page.t.code())).into_response());
    };
    Ok(html(StatusCode::OK, &Approve { page, id: serial, status, problem: None, untold: None }))
}

#[derive(Deserialize)]
pub struct ApprovalForm {
    serial: String,
    id: String,
    direction: String,
}

/// Approves, or shows the form again with what is wrong.
pub async fn approve(
    State(console): Here,
    access: Access,
    Query(address): Query<Address>,
    own: OwnForm,
    Form(form): Form<ApprovalForm>,
) -> Result<Response, Problem> {
    if !access.is_member() {
        return Err(Problem::unauthorized("log in to approve a terminal"));
    }
    let address = Address { serial: Some(form.serial.clone()), ..address };
    let page = Page::new(&console, access, address, &own.headers);
    let Some(status) = console.pending(&form.serial) else {
        return Err(Problem::not_found(format!("no terminal waits for approval as {}", form.serial)));
    };
    let approval = Approval { id: form.id.clone(), direction: form.direction };
    match console.approve(&form.serial, approval).await {
        Ok((_, Ok(()))) => Ok(Redirect::to(&format!("/?lang={}", page.t.code())).into_response()),
        Ok((_, Err(error))) => {
            let untold = Some(error.to_string());
            Ok(html(StatusCode::OK, &Approve { page, status, id: form.id, problem: None, untold }))
        }
        Err(problem) => {
            let text = Some(problem.sentences());
            Ok(html(problem.status(), &Approve { page, status, id: form.id, problem: text, untold: None }))
        }
    }
}
