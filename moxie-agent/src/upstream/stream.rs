//! One connection to a destination, in the clear or inside TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::ahead::Ahead;
use super::dial::Upstream;
use super::link::LinkError;
use super::probe::{Ready, TlsTarget};
use crate::divert::Origin;

/// A connection to a destination.
#[derive(Debug)]
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Inside TLS, handshaken and verified.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where a connection is to go, and what of it is there already.
#[derive(Debug)]
pub struct Way {
    origin: Origin,
    tls: Option<TlsTarget>,
    dialled: Option<Ahead>,
}

impl Way {
    /// The way to `origin`, inside TLS if `tls` is given, and the connection that can be used at once if `ready` holds one.
    #[must_use]
    pub fn new(origin: Origin, tls: Option<TlsTarget>, ready: Ready) -> (Self, Option<Stream>) {
        let (dialled, stream) = match (&tls, ready) {
            (None, Ready { plain: None, .. }) => (None, None),
            (None, Ready { plain: Some(ahead), .. }) => match ahead.standing() {
                Ok(stream) => (None, Some(Stream::Plain(stream))),
                Err(underway) => (Some(underway), None),
            },
            (Some(_), Ready { tls: Some(stream), plain }) => (plain, Some(Stream::Tls(Box::new(stream)))),
            (Some(_), Ready { tls: None, plain }) => (plain, None),
        };
        (Self { origin, tls, dialled }, stream)
    }

    /// Opens the connection.
    ///
    /// # Errors
    /// [`LinkError::Dial`] and [`LinkError::Tls`].
    pub async fn open(&mut self, upstream: &Upstream) -> Result<Stream, LinkError> {
        let dialled = self.dialled.take();
        match (&self.tls, dialled) {
            (None, Some(ahead)) => ahead.stream().await.map(Stream::Plain).map_err(LinkError::Dial),
            (None, None) => upstream.dial(&self.origin).await.map(Stream::Plain).map_err(LinkError::Dial),
            (Some(target), dialled) => {
                let stream = upstream.connect(target, &self.origin, dialled).await.map_err(LinkError::Tls)?;
                Ok(Stream::Tls(Box::new(stream)))
            }
        }
    }

    /// Lets go of a connection that was made in advance.
    pub fn release(&mut self) {
        self.dialled = None;
    }
}

impl Stream {
    /// Whether HTTP/2 may be spoken on it: in the clear as its client does, inside TLS as its destination has chosen.
    #[must_use]
    pub fn takes_http2(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// The socket itself, to ask about.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// From its drop on, the destination sees a reset.
    pub fn reset(&self) {
        // A socket that takes no option is gone already.
        let _ = SockRef::from(self.socket()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Ends this side without a word of TLS's.
    ///
    /// # Errors
    /// The socket's own.
    pub fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.get_mut().0).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
