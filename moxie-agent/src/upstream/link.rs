//! The destination's side of one downstream connection: HTTP connections that nobody else uses.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;

use super::dial::{DialError, Upstream};
use super::probe::{ConnectError, Ready, TlsTarget};
use super::ragged::Ragged;
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
    tls: Option<TlsTarget>,
    version: Version,
    ready: Mutex<Ready>,
    idle: Idle,
    http2: tokio::sync::Mutex<Option<http2::SendRequest<RequestBody>>>,
    closed: Arc<Notify>,
}

impl Link {
    /// A link to `origin`, inside TLS if `tls` is given, speaking HTTP/2 if `version` says so, using `ready` first.
    #[must_use]
    pub fn new(origin: Origin, tls: Option<TlsTarget>, version: Version, ready: Ready) -> Self {
        Self {
            origin,
            tls,
            version,
            ready: Mutex::new(ready),
            idle: Idle::default(),
            http2: tokio::sync::Mutex::default(),
            closed: Arc::default(),
        }
    }

    /// Tells `closed` each time a connection to the destination has ended.
    #[must_use]
    pub fn telling(mut self, closed: &Arc<Notify>) -> Self {
        self.closed = Arc::clone(closed);
        self
    }

    /// Completes each time a connection to the destination has ended.
    pub async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Lets go of a connection that was made in advance: a rule has answered, and an origin may serve one connection at a time.
    pub fn release_ready(&self) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Ready::default();
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// See [`LinkError`]. Nothing is retried: that is the service's business.
    pub async fn send(&self, request: Request<RequestBody>, upstream: &Upstream) -> Result<Answer, LinkError> {
        if self.version == Version::HTTP_2 {
            return self.send_http2(request, upstream).await;
        }
        let mut sender = match self.take_idle() {
            Some(sender) => sender,
            None => self.open_http1(upstream).await?,
        };
        let response = sender.send_request(for_http1(request)).await.map_err(LinkError::Http)?;
        Ok(Answer { response, lease: Some(Lease { sender, idle: Arc::clone(&self.idle) }) })
    }

    async fn send_http2(&self, request: Request<RequestBody>, upstream: &Upstream) -> Result<Answer, LinkError> {
        let mut sender = self.http2_sender(upstream).await?;
        sender.ready().await.map_err(LinkError::Http)?;
        let response = sender.send_request(request).await.map_err(LinkError::Http)?;
        Ok(Answer { response, lease: None })
    }

    fn take_idle(&self) -> Option<http1::SendRequest<RequestBody>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let ready = idle.iter().position(http1::SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    fn take_ready(&self) -> Ready {
        std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn open_http1(&self, upstream: &Upstream) -> Result<http1::SendRequest<RequestBody>, LinkError> {
        let ready = self.take_ready();
        match &self.tls {
            Some(target) => self.shake_http1(Ragged(self.tls_stream(target, ready, upstream).await?)).await,
            None => self.shake_http1(self.plain_stream(ready, upstream).await?).await,
        }
    }

    async fn http2_sender(&self, upstream: &Upstream) -> Result<http2::SendRequest<RequestBody>, LinkError> {
        let mut slot = self.http2.lock().await;
        if let Some(sender) = slot.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let ready = self.take_ready();
        let sender = match &self.tls {
            Some(target) => self.shake_http2(self.tls_stream(target, ready, upstream).await?).await?,
            None => self.shake_http2(self.plain_stream(ready, upstream).await?).await?,
        };
        *slot = Some(sender.clone());
        Ok(sender)
    }

    async fn plain_stream(&self, ready: Ready, upstream: &Upstream) -> Result<TcpStream, LinkError> {
        let stream = match ready.plain {
            Some(ahead) => ahead.stream().await,
            None => upstream.dial(&self.origin).await,
        };
        stream.map_err(LinkError::Dial)
    }

    async fn tls_stream(
        &self,
        target: &TlsTarget,
        ready: Ready,
        upstream: &Upstream,
    ) -> Result<TlsStream<TcpStream>, LinkError> {
        match ready.tls {
            Some(stream) => Ok(stream),
            None => upstream.connect(target, &self.origin, ready.plain).await.map_err(LinkError::Tls),
        }
    }

    async fn shake_http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<http1::SendRequest<RequestBody>, LinkError> {
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(LinkError::Http)?;
        self.drive(connection.with_upgrades());
        Ok(sender)
    }

    async fn shake_http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<http2::SendRequest<RequestBody>, LinkError> {
        let (sender, connection) =
            http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.map_err(LinkError::Http)?;
        self.drive(connection);
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

/// A request as HTTP/1 wants it: origin-form, with a Host header; one that came as HTTP/1 already is as it was.
fn for_http1(mut request: Request<RequestBody>) -> Request<RequestBody> {
    if request.version() != Version::HTTP_2 {
        return request;
    }
    *request.version_mut() = Version::HTTP_11;
    let authority = request.uri().authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
    if let Some(authority) = authority.filter(|_| !request.headers().contains_key(header::HOST)) {
        request.headers_mut().insert(header::HOST, authority);
    }
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    request
}
