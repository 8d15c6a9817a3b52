//! Connections: takes them, bounds them, and closes them in good order.
//!
//! One address holds few connections, all addresses together not many more. A connection on which nothing has moved for
//! a while is closed, so that a client that stops reading a stream costs its socket's buffers for a minute and no more.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Connections at the same time, from all addresses and from one.
const MAX_CONNECTIONS: usize = 256;
const MAX_OF_ONE_PEER: usize = 48;
/// A request's head must be complete after this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which not one byte has moved for this long is closed; streams send something every 10 s.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Answers in flight get this long at shutdown.
const FAREWELL: Duration = Duration::from_millis(1500);
/// Before the next try when the system gives no connection (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Serves connections until `shutdown`, and ends when the last is closed.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let places = Arc::new(Places::default());
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        if accepted.is_err() != failing {
            failing = accepted.is_err();
            tracing::warn!(
                failing,
                error = accepted.as_ref().err().map(tracing::field::display),
                "console connections"
            );
        }
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(place) = Places::take(&places, peer.ip().to_canonical()) else {
            tracing::debug!(%peer, "console connection refused: too many");
            continue;
        };
        connections.spawn(connection(stream, peer, place, router.clone(), shutdown.clone()));
    }
    drop(listener);
    let all_closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, all_closed).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, _place: Place, router: Router, shutdown: CancellationToken) {
    // Small frames of a stream are to arrive when they are written.
    let _ = stream.set_nodelay(true);
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip()));
        request.map(axum::body::Body::new)
    });
    let io = TokioIo::new(Watched::new(stream, STALL_TIMEOUT));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 * 1024).half_close(false);
    let mut served = std::pin::pin!(http.serve_connection(io, TowerToHyperService::new(service)));
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "console connection ended");
    }
}

/// How many connections each address holds.
#[derive(Default)]
struct Places {
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to one connection; given back when dropped.
struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Places {
    fn take(places: &Arc<Places>, peer: IpAddr) -> Option<Place> {
        let mut held = places.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = held.get(&peer).copied().unwrap_or(0);
        if of_peer >= MAX_OF_ONE_PEER || held.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        held.insert(peer, of_peer + 1);
        Some(Place { places: places.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        let left = held.get(&self.peer).map_or(0, |count| count - 1);
        if left == 0 {
            held.remove(&self.peer);
        } else {
            held.insert(self.peer, left);
        }
    }
}

/// A stream that fails when nothing has moved on it, in either direction, for `patience`.
struct Watched<S> {
    stream: S,
    patience: Duration,
    stalled: Pin<Box<Sleep>>,
}

impl<S> Watched<S> {
    fn new(stream: S, patience: Duration) -> Watched<S> {
        Watched { stream, patience, stalled: Box::pin(tokio::time::sleep(patience)) }
    }

    /// Starts the time anew after progress, or fails when it has run out.
    fn judge<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match outcome {
            Poll::Ready(outcome) => {
                self.stalled.set(tokio::time::sleep(self.patience));
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                ready!(self.stalled.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, into);
        self.judge(cx, outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, from);
        self.judge(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, from);
        self.judge(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_stops_reading_is_given_up_and_one_that_reads_is_not() {
        let patience = Duration::from_millis(200);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut watched = Watched::new(ours, patience);
        for _ in 0..8 {
            tokio::time::sleep(patience / 4).await;
            watched.write_all(&[0; 64]).await.expect("the peer reads");
            theirs.read_exact(&mut [0; 64]).await.unwrap();
        }
        watched.write_all(&[0; 64]).await.expect("there is room");
        let stalled = tokio::time::timeout(patience * 50, watched.write_all(&[0; 64])).await.expect("waits for ever");
        assert_eq!(stalled.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
