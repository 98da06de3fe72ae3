//! The two sockets of a relay, and how each of them ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::datapath::Context as Datapath;
use crate::datapath::downstream::Downstream;
use crate::upstream::{LinkError, Stream, Way};

/// A socket, perhaps inside TLS, whose ends are told apart.
pub(in crate::datapath) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ends this side without a word of TLS's, as a peer does that is cut off.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Makes it send nothing more and end with a reset when it is dropped.
    fn reset(&mut self);

    /// What it is made of.
    fn socket(&self) -> &TcpStream;
}

/// Whether the connection broke, asked without a read. Nobody is woken for it.
pub(super) fn is_broken(wire: &impl Wire) -> bool {
    wire.socket().ready(Interest::ERROR).now_or_never().is_some()
}

impl Wire for Downstream {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }

    fn reset(&mut self) {
        self.abort().request();
    }

    fn socket(&self) -> &TcpStream {
        Self::socket(self)
    }
}

impl Wire for TlsStream<Downstream> {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().0).poll_shutdown(cx)
    }

    fn reset(&mut self) {
        self.get_ref().0.abort().request();
    }

    fn socket(&self) -> &TcpStream {
        self.get_ref().0.socket()
    }
}

impl Wire for Stream {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_cut(self, cx)
    }

    fn reset(&mut self) {
        Self::reset(self);
    }

    fn socket(&self) -> &TcpStream {
        Self::socket(self)
    }
}

/// How a side stopped sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It said so: FIN, inside TLS after `close_notify`.
    Closed,
    /// Inside TLS, FIN alone.
    Cut,
}

/// What a read that brought nothing means.
///
/// # Errors
/// The connection broke.
pub(super) fn end_of(read: io::Result<usize>) -> io::Result<Option<End>> {
    match read {
        Ok(0) => Ok(Some(End::Closed)),
        Ok(_) => Ok(None),
        // What rustls calls a stream that ends without `close_notify`.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(End::Cut)),
        Err(error) => Err(error),
    }
}

/// Passes an end on.
pub(super) fn poll_end<W: Wire>(wire: &mut W, end: End, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    match end {
        End::Closed => Pin::new(wire).poll_shutdown(cx),
        End::Cut => wire.poll_cut(cx),
    }
}

/// How the destination is reached.
pub(super) trait Destination: Send {
    /// A connection to it.
    type Wire: Wire;

    /// Opens the connection.
    ///
    /// # Errors
    /// It was not reached, or is not to be trusted.
    fn open(&mut self, cx: &Datapath) -> impl Future<Output = Result<Self::Wire, LinkError>> + Send;

    /// Lets go of what was prepared for a first request.
    fn release(&mut self);
}

impl Destination for Way {
    type Wire = Stream;

    async fn open(&mut self, cx: &Datapath) -> Result<Stream, LinkError> {
        Self::open(self, &cx.upstream).await
    }

    fn release(&mut self) {
        Self::release(self);
    }
}
