//! Pages for people: the overview, login, and the approval of terminals.
//!
//! Rendered here, kept up to date by `assets/live.js` (some ninety lines of our own rather than htmx with its
//! server-sent-events extension: only whole sections are replaced, and what a page for weeks on a wall needs — noticing
//! a silent link, waking up, reloading after an update — would be our own script beside either library). Nothing is
//! loaded from elsewhere, and pages work without scripts except that they stand still.

mod assets;
mod forms;
mod fragments;
pub(super) mod live;
mod snapshot;
pub(super) mod stream;
mod words;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::auth::Access;
use super::problem::Problem;
use super::{Console, Here, Shared};
use fragments::Variant;
use live::Fragment;
use stream::Ticket;
use words::Language;

/// The pages' routes.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/", get(overview))
        .route("/live", get(updates))
        .route("/login", get(forms::login_page).post(forms::login))
        .route("/logout", post(forms::logout))
        .route("/approve", get(forms::approve_page).post(forms::approve))
        .route("/assets/{name}", get(assets::answer))
}

/// What a page's address may say.
#[derive(Default, Deserialize)]
pub struct Address {
    lang: Option<String>,
    serial: Option<String>,
}

/// What every page has around its content.
struct Page {
    t: Language,
    site: String,
    member: bool,
    build: &'static str,
    serial: Option<String>,
    /// The key that signs the days of the ledger, in groups that can be read aloud.
    ledger_key: String,
}

impl Page {
    fn new(console: &Console, access: Access, address: Address, headers: &HeaderMap) -> Page {
        Page {
            t: Language::of(address.lang.as_deref(), headers),
            site: console.context.config.site.name.clone(),
            member: access.is_member(),
            build: assets::build(),
            serial: address.serial,
            ledger_key: grouped(&console.context.store.public_key()),
        }
    }

    /// The same address in another language.
    fn query_in(&self, language: Language) -> String {
        let serial = self.serial.as_deref().map(|serial| format!("&serial={}", urlencoded(serial)));
        format!("lang={}{}", language.code(), serial.unwrap_or_default())
    }
}

/// Hexadecimal digits in groups of eight.
fn grouped(key: &[u8]) -> String {
    key.chunks(4).map(hex::encode).collect::<Vec<_>>().join(" ")
}

/// Everything but letters and digits as `%XX`.
fn urlencoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview<'a> {
    page: Page,
    sections: &'a [Fragment],
}

/// Instead of an overview with holes that nobody sees.
#[derive(Template)]
#[template(path = "rebuilding.html")]
struct Rebuilding {
    page: Page,
}

impl Console {
    /// Whether the overview may be seen; it shows no whole name.
    fn shows_overview_to(&self, access: Access) -> bool {
        access.is_member() || self.context.config.console.open_overview
    }
}

async fn overview(
    State(console): Here,
    access: Access,
    Query(address): Query<Address>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let page = Page::new(&console, access, address, &headers);
    if !console.shows_overview_to(access) {
        return Ok(Redirect::to(&format!("/login?lang={}", page.t.code())).into_response());
    }
    if !console.context.store.is_whole() {
        return Ok(html(StatusCode::SERVICE_UNAVAILABLE, &Rebuilding { page }));
    }
    let rendered = console.live.fresh().await?;
    let variant = Variant { language: page.t, member: page.member };
    Ok(html(StatusCode::OK, &Overview { page, sections: rendered.sections(variant) }))
}

async fn updates(
    State(console): Here,
    access: Access,
    Query(address): Query<Address>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !console.shows_overview_to(access) {
        return Err(Problem::unauthorized("log in to see the overview"));
    }
    let language = Language::of(address.lang.as_deref(), &headers);
    let ticket = Ticket::take(&console, access)?;
    let viewer = console.live.viewer(Variant { language, member: access.is_member() }, assets::build()).await?;
    Ok(stream::answer(ticket, viewer))
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    let text = page.render().expect("writing to a String cannot fail");
    (status, [(header::VARY, "Accept-Language, Cookie")], Html(text)).into_response()
}
