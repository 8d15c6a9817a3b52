//! Who is asking: the bearer of the token, a browser that is logged in, or nobody.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::listen::Peer;
use super::problem::Problem;
use super::sessions::{self, SessionKey};
use super::{Console, Shared, origin};

const COOKIE: &str = "anxin_session";

/// What the request has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Nobody,
    /// A browser that has entered the token.
    Session(SessionKey),
    /// The token itself.
    Token,
}

impl Access {
    /// Whether the visitor may see and change everything.
    pub fn is_member(self) -> bool {
        match self {
            Access::Nobody => false,
            Access::Session(_) | Access::Token => true,
        }
    }
}

impl Console {
    /// What these headers show. A wrong token is an error, not nobody.
    fn access(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Access, Problem> {
        if let Some(credentials) = headers.get(header::AUTHORIZATION) {
            let text = credentials.to_str().unwrap_or_default();
            let bearer = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let Some((_, token)) = bearer else {
                return Err(Problem::unauthorized("send the API token as `Authorization: Bearer …`"));
            };
            self.try_token(token.trim(), peer)?;
            return Ok(Access::Token);
        }
        let now = self.context.clock.instant();
        let session = cookies(headers).map(SessionKey::of).find(|key| self.sessions.stands(*key, now));
        Ok(session.map_or(Access::Nobody, Access::Session))
    }

    /// Compares a token in a time that does not depend on where it differs, unless the address has guessed too often.
    pub fn try_token(&self, token: &str, peer: Option<&Peer>) -> Result<(), Problem> {
        let address = peer.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0);
        self.brake.take(address, self.context.clock.instant()).map_err(Problem::slow_down)?;
        let (right, given) = (Sha256::digest(&self.context.token.0), Sha256::digest(token));
        if bool::from(right.ct_eq(&given)) {
            self.brake.give_back(address);
            return Ok(());
        }
        tracing::warn!(%address, "a wrong API token was tried on the console");
        Err(Problem::unauthorized("the token is wrong"))
    }

    /// Whether what was shown at the beginning of a stream still holds.
    pub fn still_holds(&self, access: Access) -> bool {
        match access {
            Access::Nobody | Access::Token => true,
            Access::Session(key) => self.sessions.stands(key, self.context.clock.instant()),
        }
    }
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// The cookie that begins a session.
pub fn session_cookie(secret: &str) -> String {
    let seconds = sessions::LIFETIME.as_secs();
    format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}")
}

/// The cookie that makes the browser forget its session.
pub fn no_cookie() -> String {
    format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// Lets members through. By session, only our own pages may change something.
pub async fn members_only(State(console): State<Shared>, mut request: Request, next: Next) -> Response {
    let access = match console.access(request.headers(), request.extensions().get()) {
        Ok(access) => access,
        Err(problem) => return problem.into_response(),
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match access {
        Access::Nobody => return Problem::unauthorized("send the API token as bearer, or log in").into_response(),
        Access::Session(_) if changes && !origin::is_same(request.headers()) => return foreign_page().into_response(),
        Access::Session(_) | Access::Token => {}
    }
    request.extensions_mut().insert(access);
    next.run(request).await
}

/// The refusal of a change that one of our own pages did not ask for.
pub fn foreign_page() -> Problem {
    Problem::forbidden("a change by session must come from a page of this console")
}

/// As `members_only` has found it, or found here on pages that anybody may see.
impl FromRequestParts<Arc<Console>> for Access {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Access, Problem> {
        match parts.extensions.get::<Access>() {
            Some(access) => Ok(*access),
            None => console.access(&parts.headers, parts.extensions.get()),
        }
    }
}
