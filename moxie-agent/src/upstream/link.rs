//! The destination's side of one downstream connection: HTTP connections that nobody else uses.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::dial::{DialError, Upstream};
use super::probe::ConnectError;
use crate::chain::Chain;
use crate::divert::Origin;
use crate::journal::ExchangeError;

/// A body on its way to the destination.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// Most headers of an answer that are read.
const MAX_HEADERS: usize = 1024;

/// Why a request got no answer from the destination.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It could not be dialled.
    #[error("cannot dial the destination")]
    Dial(#[source] DialError),
    /// Its TLS failed or did not verify.
    #[error("cannot speak TLS with the destination")]
    Tls(#[source] ConnectError),
    /// It broke off, or does not speak HTTP as it should.
    #[error("the destination broke off")]
    Http(#[source] hyper::Error),
    /// It has chosen another protocol than the one that was offered to the client in its name.
    #[error("the destination does not speak HTTP/2 any more")]
    NotHttp2,
}

impl LinkError {
    /// What the exchange's record says.
    #[must_use]
    pub fn in_record(&self) -> ExchangeError {
        match self {
            Self::Dial(_) | Self::Tls(ConnectError::Dial(_)) => ExchangeError::UpstreamUnreachable,
            Self::Tls(ConnectError::Handshake(_)) => ExchangeError::UpstreamUntrusted,
            Self::Http(_) | Self::NotHttp2 => ExchangeError::UpstreamBroke,
        }
    }
}

/// HTTP/1 connections waiting for their next request.
type Idle = Arc<Mutex<Vec<http1::SendRequest<RequestBody>>>>;

/// An answer's head and body, and the HTTP/1 connection it came on, to be given back once the body is through.
#[derive(Debug)]
pub struct Answer {
    /// Head and body.
    pub response: Response<Incoming>,
    /// To be put back where idle connections wait.
    pub lease: Option<Lease>,
}

/// An HTTP/1 connection in use.
#[derive(Debug)]
pub struct Lease {
    sender: http1::SendRequest<RequestBody>,
    idle: Idle,
}

impl Lease {
    /// Gives the connection back for the next request.
    pub fn give_back(self) {
        if !self.sender.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.sender);
        }
    }
}

/// The destination's side of one downstream connection.
#[derive(Debug)]
pub struct Link {
    origin: Origin,
    idle: Idle,
    closed: Arc<Notify>,
}

impl Link {
    /// A link to `origin`, in the clear.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self { origin, idle: Idle::default(), closed: Arc::default() }
    }

    /// Tells `closed` each time a connection to the destination has ended.
    #[must_use]
    pub fn telling(mut self, closed: &Arc<Notify>) -> Self {
        self.closed = Arc::clone(closed);
        self
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// See [`LinkError`]. Nothing is retried: that is the service's business.
    pub async fn send(&self, request: Request<RequestBody>, upstream: &Upstream) -> Result<Answer, LinkError> {
        let mut sender = match self.take_idle() {
            Some(sender) => sender,
            None => self.open(upstream).await?,
        };
        let response = sender.send_request(request).await.map_err(LinkError::Http)?;
        Ok(Answer { response, lease: Some(Lease { sender, idle: Arc::clone(&self.idle) }) })
    }

    fn take_idle(&self) -> Option<http1::SendRequest<RequestBody>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let ready = idle.iter().position(http1::SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    async fn open(&self, upstream: &Upstream) -> Result<http1::SendRequest<RequestBody>, LinkError> {
        let stream = upstream.dial(&self.origin).await.map_err(LinkError::Dial)?;
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(LinkError::Http)?;
        self.drive(connection.with_upgrades());
        Ok(sender)
    }

    /// Runs a connection; ends by itself when its senders are gone and its last answer is through.
    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        let closed = Arc::clone(&self.closed);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %Chain(&error), "connection to the destination ended");
            }
            closed.notify_one();
        });
    }
}
