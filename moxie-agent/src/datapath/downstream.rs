//! The application's socket: counts its bytes, and can be made to end with a reset instead of an orderly close.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Ends a connection with RST, as a refused or broken one would.
pub fn reset(stream: TcpStream) {
    // A socket that takes no option is gone already.
    let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    drop(stream);
}

/// Bytes that have passed a connection, readable while it is open.
#[derive(Debug, Default)]
pub struct Bytes {
    /// Read from the application.
    pub up: AtomicU64,
    /// Written to the application.
    pub down: AtomicU64,
}

/// Asks for a reset from wherever the trouble is found. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Abort(Arc<AtomicBool>);

impl Abort {
    /// From now on the socket sends nothing more and ends with RST.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The application's side of a connection that is looked into.
#[derive(Debug)]
pub struct Downstream {
    stream: TcpStream,
    bytes: Arc<Bytes>,
    abort: Abort,
}

impl Downstream {
    /// Wraps an accepted socket.
    #[must_use]
    pub fn new(stream: TcpStream, bytes: Arc<Bytes>) -> Self {
        Self { stream, bytes, abort: Abort::default() }
    }

    /// The handle that makes this socket end with a reset.
    #[must_use]
    pub fn abort(&self) -> Abort {
        self.abort.clone()
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        if self.abort.is_requested() {
            // A socket that takes no option is gone already.
            let _ = SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

fn aborted() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

impl AsyncRead for Downstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.bytes.up.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.abort.is_requested() {
            return Poll::Ready(Err(aborted()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.bytes.down.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.abort.is_requested() {
            return Poll::Ready(Err(aborted()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.bytes.down.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.abort.is_requested() {
            return Poll::Ready(Err(aborted()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
