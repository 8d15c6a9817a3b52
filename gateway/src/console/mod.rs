//! Web pages, JSON API and live streams on the console address.
//!
//! Shows what the store, the board and the alarms say, and passes orders on; decides nothing about punches. Every
//! request is bounded in size and time, every stream in what it may hold back, every login in how often it may be tried.
//! ID numbers, telephone numbers and bank cards leave it masked.

mod api;
mod auth;
mod brake;
mod health;
mod listen;
mod metrics;
mod origin;
mod pages;
mod problem;
mod sessions;
mod token;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::ops::Ops;
use crate::punch::Seq;
use crate::store::Store;
use crate::terminals::hub::Hub;

use brake::Brake;
use pages::live::Live;
use problem::Problem;
use sessions::Sessions;
pub use token::{TokenError, load_token};

/// A JSON body holds one approval, or one worker without a picture.
const JSON_LIMIT: usize = 64 * 1024;
/// From the request's head to the answer's head; an order to a terminal is given up after 20 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for the import of a roster file: 64 MiB take a minute on a line of 10 Mbit/s, to store the pictures of 500
/// workers takes up to half a minute on a memory card.
pub const IMPORT_TIMEOUT: Duration = Duration::from_secs(120);
/// Where a roster file is sent to.
pub const IMPORT_PATH: &str = "/api/v1/workers/import";
/// Live pages and readers of `/api/v1/events` at the same time.
const MAX_STREAMS: usize = 64;

/// How long an answer waits for the view to show what was just written; the write itself is durable by then.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(5);

/// What the console shows and steers.
#[derive(Clone)]
pub struct Context {
    pub config: Config,
    pub store: Store,
    pub hub: Arc<Hub>,
    pub clock: Clock,
    pub ops: Ops,
    /// Bearer token of `/api/v1`.
    pub token: Secret,
}

/// The console's own state beside what it was given.
pub(crate) struct Console {
    context: Context,
    sessions: Sessions,
    brake: Brake,
    live: Live,
    /// One permit for each open stream.
    streams: Arc<Semaphore>,
    /// Held from the check of a roster change to its commit, so that two changes cannot both take one badge.
    roster: Semaphore,
    /// Held likewise while a terminal is approved, so that an id is given once.
    approvals: Semaphore,
    /// Held while a roster file is in memory.
    imports: Arc<Semaphore>,
    started: Instant,
    shutdown: CancellationToken,
}

type Shared = Arc<Console>;

impl Console {
    fn new(context: Context, live: Live, shutdown: CancellationToken) -> Shared {
        Arc::new(Console {
            sessions: Sessions::default(),
            brake: Brake::default(),
            live,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            roster: Semaphore::new(1),
            approvals: Semaphore::new(1),
            imports: Arc::new(Semaphore::new(1)),
            started: context.clock.instant(),
            context,
            shutdown,
        })
    }

    /// Waits until the view shows what was written at `seq`, so that the next question finds it.
    async fn applied(&self, seq: Seq) {
        // Late is not wrong: the fact is durable and will be shown.
        let _ = tokio::time::timeout(FOLLOW_TIMEOUT, self.context.store.applied(seq)).await;
    }

    /// The site's date.
    fn today(&self) -> jiff::civil::Date {
        let now = jiff::Timestamp::from_millisecond(self.context.clock.now().0).unwrap_or_default();
        self.context.config.site.utc_offset.to_datetime(now).date()
    }
}

/// Serves the console until `shutdown`; then open streams end at once and other answers get a short while to finish.
pub async fn serve(
    listener: tokio::net::TcpListener,
    context: Context,
    shutdown: CancellationToken,
) -> Result<(), std::io::Error> {
    let stop = shutdown.child_token();
    let (live, renderer) = pages::live::new(context.clone());
    let console = Console::new(context, live, stop.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(renderer.run(stop.clone()));
    let router = router(console);
    let outcome = tokio::select! {
        () = listen::serve(listener, router, stop.clone()) => Ok(()),
        ended = tasks.join_next() => renderer_outcome(ended, &stop),
    };
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    outcome
}

fn renderer_outcome(
    ended: Option<Result<(), tokio::task::JoinError>>,
    stop: &CancellationToken,
) -> Result<(), std::io::Error> {
    match ended {
        Some(Err(panic)) => Err(std::io::Error::other(panic)),
        Some(Ok(())) | None if stop.is_cancelled() => Ok(()),
        Some(Ok(())) | None => Err(std::io::Error::other("the page renderer ended by itself")),
    }
}

/// Everything the console answers.
fn router(console: Shared) -> Router {
    Router::new()
        .route("/healthz", get(health::answer))
        .route("/metrics", get(metrics::answer))
        .nest("/api/v1", api::router(console.clone()))
        .merge(pages::router())
        .fallback(|| async { Problem::not_found("there is nothing at this address") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(JSON_LIMIT))
        .layer(middleware::from_fn(bounded_in_time))
        .layer(middleware::map_response(in_our_words))
        .layer(middleware::from_fn(with_safe_headers))
        .with_state(console)
}

async fn bounded_in_time(request: Request, next: Next) -> Response {
    let limit = time_limit(request.uri().path());
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout().into_response(),
    }
}

fn time_limit(path: &str) -> Duration {
    if path == IMPORT_PATH { IMPORT_TIMEOUT } else { REQUEST_TIMEOUT }
}

/// What the web framework refuses by itself, it refuses as plain text.
async fn in_our_words(response: Response) -> Response {
    const LONGEST: usize = 1024;
    let plain =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !plain || !response.status().is_client_error() {
        return response;
    }
    let status = response.status();
    let text = axum::body::to_bytes(response.into_body(), LONGEST).await.unwrap_or_default();
    Problem::refused(status, String::from_utf8_lossy(&text)).into_response()
}

/// Nothing from elsewhere is loaded, run, framed or told where it came from.
async fn with_safe_headers(request: Request, next: Next) -> Response {
    const CONTENT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                           form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // With `no-referrer` browsers send `Origin: null` with our own forms too, and they would be refused.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

type Here = State<Shared>;

#[cfg(test)]
mod tests;
