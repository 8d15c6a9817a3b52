//! Connections that can be broken off in the middle, as bad networks do.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Accepts connections that can be broken off.
pub struct Listener {
    pub inner: TcpListener,
    /// Breaks off all of them.
    pub down: Arc<AtomicBool>,
}

/// A connection's end, known to the handler of a request.
#[derive(Clone)]
pub struct Connection {
    broken: Arc<AtomicBool>,
}

impl Connection {
    /// Nothing more is written to it.
    pub fn break_off(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }
}

/// A TCP stream that can be broken off.
pub struct Breakable {
    stream: TcpStream,
    broken: Arc<AtomicBool>,
    down: Arc<AtomicBool>,
}

impl Breakable {
    fn check(&self) -> std::io::Result<()> {
        if self.broken.load(Ordering::SeqCst) || self.down.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl axum::serve::Listener for Listener {
    type Io = Breakable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Breakable, SocketAddr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.inner).await;
        (Breakable { stream, broken: Arc::default(), down: self.down.clone() }, address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl Connected<IncomingStream<'_, Listener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Connection { broken: stream.io().broken.clone() }
    }
}

impl AsyncRead for Breakable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
