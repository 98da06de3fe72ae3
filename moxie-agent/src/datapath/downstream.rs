//! The application's socket: counts its bytes, and can be made to end with a reset instead of an orderly close.

use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
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
    /// Whether bytes may wait that the runtime has told of already, and will not tell of again.
    waiting: bool,
}

impl Downstream {
    /// Wraps an accepted socket.
    #[must_use]
    pub fn new(stream: TcpStream, bytes: Arc<Bytes>) -> Self {
        Self { stream, bytes, abort: Abort::default(), waiting: true }
    }

    /// The handle that makes this socket end with a reset.
    #[must_use]
    pub fn abort(&self) -> Abort {
        self.abort.clone()
    }

    /// The socket itself, to ask about.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.stream
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

/// Reads what is there without asking the runtime: a peek that waited for more in vain has used up its word that there is
/// something to read. `false`: there is nothing, and from now on the runtime will tell.
fn read_waiting(stream: &TcpStream, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
    match recv(stream.as_raw_fd(), buf.initialize_unfilled(), MsgFlags::MSG_DONTWAIT) {
        Ok(count) => {
            buf.advance(count);
            Ok(true)
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl AsyncRead for Downstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.waiting {
            self.waiting = read_waiting(&self.stream, buf)?;
        }
        if !self.waiting {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::peek;

    #[tokio::test]
    async fn bytes_are_read_that_somebody_waited_behind_in_vain() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a client of this test's own, on loopback")]
        let (client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
        let (mut client, (accepted, _)) = (client.unwrap(), accepted.unwrap());
        client.write_all(b"at once").await.unwrap();
        peek::beyond(&accepted, &mut [0; 16], 0).await.unwrap();
        let mut more = [0; 16];
        let more = peek::beyond(&accepted, &mut more, 7);
        assert!(timeout(Duration::from_millis(50), more).await.is_err(), "nothing more comes");
        let mut downstream = Downstream::new(accepted, Arc::default());
        let mut read = [0; 7];
        timeout(Duration::from_secs(10), downstream.read_exact(&mut read)).await.expect("they are there").unwrap();
        assert_eq!(&read, b"at once");
        client.write_all(b" and later").await.unwrap();
        drop(client);
        let mut rest = String::new();
        downstream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, " and later");
    }
}
