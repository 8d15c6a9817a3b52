//! Server-sent events: frames, and the life of one open stream.
//!
//! A stream holds a permit, ends at shutdown, at logout and after an hour at the latest, and says something every ten
//! seconds, so that a dead link is noticed at both ends. It is asked for its next frame only when the client has taken
//! the one before: a slow client holds back nothing but its own socket.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, Sleep};

use super::super::Shared;
use super::super::api::shape;
use super::super::auth::Access;
use super::super::problem::Problem;

/// Between two signs of life.
const TICK: Duration = Duration::from_secs(10);
/// Then the client connects again, and shows again who it is.
const LONGEST: Duration = Duration::from_secs(3600);
/// How soon a browser connects again.
const HELLO: &[u8] = b"retry: 2000\n\n";

/// The right to one stream.
pub struct Ticket {
    console: Shared,
    access: Access,
    _permit: OwnedSemaphorePermit,
}

impl Ticket {
    /// One of the few streams, unless all are taken.
    pub fn take(console: &Shared, access: Access) -> Result<Ticket, Problem> {
        let permit = console.streams.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Problem::unavailable("too many live streams are open"))?;
        Ok(Ticket { console: console.clone(), access, _permit: permit })
    }
}

/// One event as it goes over the wire.
pub fn frame(event: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("events have only text, numbers and text keys");
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    Bytes::from(format!("event: {event}\n{id}data: {data}\n\n"))
}

/// Where a stream's frames come from.
pub trait Source: Send + 'static {
    /// The next frame, or `None` at the end. Cancel-safe: a tick interrupts it, and then it is asked again.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// Answers with the frames of `source` until it gives none or the stream's life is over.
pub fn answer(ticket: Ticket, source: impl Source) -> Response {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Box::pin(tokio::time::sleep(LONGEST));
    let open = Open { ticket, source, tick, end };
    let hello = stream::once(async { Ok::<Bytes, Infallible>(Bytes::from_static(HELLO)) });
    let frames = stream::unfold(open, |mut open| async move { Some((Ok(open.next().await?), open)) });
    let mut response = Response::new(Body::from_stream(hello.chain(frames)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

struct Open<S> {
    ticket: Ticket,
    source: S,
    tick: Interval,
    end: Pin<Box<Sleep>>,
}

impl<S: Source> Open<S> {
    async fn next(&mut self) -> Option<Bytes> {
        let console = &self.ticket.console;
        tokio::select! {
            biased;
            () = console.shutdown.cancelled() => None,
            () = &mut self.end => None,
            _ = self.tick.tick() => console.still_holds(self.ticket.access).then(|| tick(console)),
            frame = self.source.next() => frame,
        }
    }
}

fn tick(console: &Shared) -> Bytes {
    let now = shape::time(console.context.clock.now(), console.context.config.site.utc_offset);
    frame("tick", None, &serde_json::json!({"now": now}))
}
