//! The reference platform: what a national platform does to a gateway, and a book of what it accepted.
//!
//! Written from the platform's interface text and sharing nothing with the gateway: own signature, own cipher, own rules.
//! It checks signature, time, nonce, order of registration, rate and limits, works on requests behind a serial code, and
//! misbehaves from a seed when told to. Whatever breaks the interface text is kept as a violation, and answered as a real
//! platform would. Copies of a punch are taken silently, as real platforms do, and counted.

mod book;
mod checks;
mod cipher;
mod lists;
mod memory;
mod misbehaviour;
mod rules;
mod socket;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Form, FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::book::{Attendance, Book, Move, Team, Worker};
pub use self::misbehaviour::Misbehaviour;
use self::misbehaviour::Plan;
use self::rules::Platform;
use self::socket::{Connection, Listener};

/// What the platform issued to the site, and how strict it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub appid: String,
    pub secret: String,
    pub project_code: String,
    /// Credit code of the general contractor, who is registered with the project.
    pub general_contractor: String,
    pub min_interval: Duration,
    /// How long a job takes.
    pub job_delay: Duration,
    pub clock_tolerance: Duration,
    /// Base64 text of a picture.
    pub image_limit_kib: usize,
    /// Whether a worker must have every field that the interface text requires.
    pub complete_workers: bool,
    /// Where the book is kept over restarts of the platform; in memory only when `None`.
    pub book_file: Option<PathBuf>,
    /// How many accepted punches it remembers at least, so that it can run for weeks; the file holds all of them. A copy of
    /// an older punch is taken for a new one.
    pub remembered: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            appid: "demo-app".to_owned(),
            secret: "0123456789abcdef0123456789ABCDEF".to_owned(),
            project_code: "3300000000000001".to_owned(),
            general_contractor: "91650000MA0000000K".to_owned(),
            min_interval: Duration::from_secs(1),
            job_delay: Duration::from_millis(500),
            clock_tolerance: Duration::from_secs(600),
            image_limit_kib: 50,
            complete_workers: true,
            book_file: None,
            remembered: usize::MAX / 2,
        }
    }
}

/// A running platform. Dropping it takes it away at once; [`ReferencePlatform::stop`] does so in order.
pub struct ReferencePlatform {
    address: SocketAddr,
    shared: Arc<Shared>,
    up: watch::Sender<bool>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

struct Shared {
    platform: Mutex<Platform>,
    misbehaviour: Mutex<Misbehaviour>,
    /// Connections break off while this is set.
    down: Arc<std::sync::atomic::AtomicBool>,
    calls: Mutex<BTreeMap<String, Lane>>,
}

/// The rate rule of one method.
#[derive(Default)]
struct Lane {
    in_progress: u32,
    last: Option<Instant>,
}

impl ReferencePlatform {
    /// Opens its port and goes on from its book, when it has one.
    pub async fn start(options: Options) -> io::Result<ReferencePlatform> {
        let listener = tokio::net::TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            platform: Mutex::new(Platform::open(options)?),
            misbehaviour: Mutex::default(),
            down: Arc::default(),
            calls: Mutex::default(),
        });
        let (up, is_up) = watch::channel(true);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, address, shared.clone(), is_up, stop.clone()));
        Ok(ReferencePlatform { address, shared, up, stop, tasks })
    }

    /// What goes into `[[platform]] endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}/open.api", self.address)
    }

    /// From now on it misbehaves so.
    pub fn set_faults(&self, misbehaviour: Misbehaviour) {
        *lock(&self.shared.misbehaviour) = misbehaviour;
    }

    /// Refuses connections and breaks off those that are open.
    pub fn go_down(&self) {
        self.shared.down.store(true, std::sync::atomic::Ordering::SeqCst);
        self.up.send_replace(false);
    }

    /// Listens again on the same port.
    pub fn come_back(&self) {
        self.shared.down.store(false, std::sync::atomic::Ordering::SeqCst);
        self.up.send_replace(true);
    }

    /// Whether every request is answered with -2.
    pub fn reject_key(&self, reject: bool) {
        lock(&self.shared.platform).rejects_key = reject;
    }

    /// Items of this ID number fail with the text; `{list}` and `{i}` stand for the list's name and the item's index.
    pub fn refuse(&self, id_number: &str, text: &str) {
        lock(&self.shared.platform).refusals.insert(id_number.to_owned(), text.to_owned());
    }

    /// No item is refused any more.
    pub fn refuse_nobody(&self) {
        lock(&self.shared.platform).refusals.clear();
    }

    /// What it has accepted so far.
    pub fn book(&self) -> Book {
        let mut platform = lock(&self.shared.platform);
        platform.work_on_jobs();
        platform.book().clone()
    }

    /// How many requests broke the interface text; at the limit of the book's list it stays.
    pub fn violations(&self) -> usize {
        lock(&self.shared.platform).book().violations.len()
    }

    /// Breaks everything off and waits until nothing of it runs.
    pub async fn stop(mut self) {
        self.go_down();
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Listens while it is up.
async fn serve(
    first: tokio::net::TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    mut is_up: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let mut listener = Some(first);
    while !stop.is_cancelled() {
        if let Some(listener) = listener.take() {
            let listener = Listener { inner: listener, down: shared.down.clone() };
            let router = Router::new()
                .route("/open.api", post(open_api))
                .layer(DefaultBodyLimit::max(16 * 1024 * 1024))
                .with_state(shared.clone())
                .into_make_service_with_connect_info::<Connection>();
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                _ = is_up.wait_for(|up| !up) => {}
                () = stop.cancelled() => return,
            }
        }
        tokio::select! {
            _ = is_up.wait_for(|up| *up) => {}
            () = stop.cancelled() => return,
        }
        listener = tokio::net::TcpListener::bind(address).await.ok();
        if listener.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn open_api(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    // Half a megabyte of pictures takes its time until it is read; the call came when its head did.
    let (arrived, min_interval) = lock(&shared.platform).now_and_interval();
    let params = match Form::<HashMap<String, String>>::from_request(request, &shared).await {
        Ok(Form(params)) => params,
        Err(rejection) => return rejection.into_response(),
    };
    let method = params.get("method").cloned().unwrap_or_default();
    let lane = LaneGuard::enter(&shared, &method, arrived, min_interval);
    let plan = lock(&shared.misbehaviour).plan();
    if let Some(excess) = &lane.excess {
        lock(&shared.platform).violation(format!("{method}: {excess}"));
        return answer("-5", "访问超过限制", Value::Null);
    }
    let works = plan.is_none_or(|plan| plan.works());
    let mut result = None;
    if works {
        let job_fault = lock(&shared.misbehaviour).job_fault();
        result = Some(lock(&shared.platform).handle(&params, job_fault));
    }
    match plan {
        None => {}
        Some(Plan::Late(delay)) => tokio::time::sleep(delay).await,
        Some(Plan::TooFast) => return answer("-5", "访问超过限制", Value::Null),
        Some(Plan::Internal { .. }) => return answer("-1", "Internal Error", Value::Null),
        Some(Plan::Http500 { .. }) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response();
        }
        Some(Plan::Lose { .. }) => connection.break_off(),
        Some(Plan::Hollow { .. }) => return answer("0", "", hollow(result)),
    }
    let (code, message, data) = result.unwrap_or(("-1".to_owned(), "no answer".to_owned(), Value::Null));
    answer(&code, &message, data)
}

/// What is left of an answer's data: of a list its total, of anything else nothing.
fn hollow(result: Option<rules::Answer>) -> Value {
    match result {
        Some((_, _, mut data)) if data.get("rows").is_some() => {
            data["rows"] = json!([]);
            data
        }
        _ => json!({}),
    }
}

fn answer(code: &str, message: &str, data: Value) -> Response {
    axum::Json(json!({ "code": code, "message": message, "data": data })).into_response()
}

/// A call in progress; leaves its lane when it is answered or given up.
struct LaneGuard {
    shared: Arc<Shared>,
    method: String,
    /// Why the call breaks the rate rule.
    excess: Option<String>,
}

impl LaneGuard {
    fn enter(shared: &Arc<Shared>, method: &str, now: Instant, min_interval: Duration) -> LaneGuard {
        let mut calls = lock(&shared.calls);
        let lane = calls.entry(method.to_owned()).or_default();
        let since_last = lane.last.map(|last| now.saturating_duration_since(last));
        let excess = match since_last {
            Some(gap) if gap < min_interval => Some(format!("{} ms after the last call", gap.as_millis())),
            _ if lane.in_progress > 0 && !min_interval.is_zero() => Some("a second call at the same time".to_owned()),
            _ => None,
        };
        lane.in_progress += 1;
        lane.last = Some(now);
        LaneGuard { shared: shared.clone(), method: method.to_owned(), excess }
    }
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        if let Some(lane) = lock(&self.shared.calls).get_mut(&self.method) {
            lane.in_progress -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
