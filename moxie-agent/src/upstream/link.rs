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

/// Takes what most clients take of a server that is not strict. An answer is written anew, so nobody behind reads it otherwise.
fn http1_client() -> http1::Builder {
    let mut client = http1::Builder::new();
    client.preserve_header_case(true).title_case_headers(true).max_headers(MAX_HEADERS);
    client.allow_obsolete_multiline_headers_in_responses(true).allow_spaces_after_header_name_in_responses(true);
    client.ignore_invalid_headers_in_responses(true);
    client
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
        let (sender, connection) = http1_client().handshake(TokioIo::new(stream)).await.map_err(LinkError::Http)?;
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

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::Empty;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn read(answer: &[u8]) -> hyper::Result<HeaderMap> {
        let (near, mut far) = tokio::io::duplex(answer.len().max(4096));
        let (mut sender, connection) = http1_client().handshake(TokioIo::new(near)).await?;
        let driven = tokio::spawn(connection);
        sender.ready().await?;
        let asked = tokio::spawn(async move { sender.send_request(Request::new(Empty::<Bytes>::new())).await });
        // An answer to nothing would end the connection.
        far.read_u8().await.unwrap();
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        let headers = asked.await.unwrap().map(|answer| answer.into_parts().0.headers);
        let _ = driven.await.expect("a head was read without a panic");
        headers
    }

    #[tokio::test]
    async fn a_head_that_is_not_strict_is_read_as_most_clients_do() {
        let head = b"HTTP/1.1 200 OK\r\nA: 1,\r\n\t 2\r\nB : 3\r\nno field\r\nC\x01: 4\r\nD:\n 5\r\n\r\n";
        let headers = read(head).await.unwrap();
        let seen: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(seen, [("a", "1, 2"), ("b", "3"), ("d", "5")]);
    }

    proptest! {
        /// Hyper takes a folded value for one that was looked at: in a test it looks again, and panics.
        #[test]
        fn no_head_makes_it_panic(lines in proptest::collection::vec("[AB:,\\x00-\\x7f\\xff ]{0,6}(\r?\n[ \t\r]{0,2})?[ab:\r\t\x01]{0,4}", 0..6)) {
            let head = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", lines.join("\r\n"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            if let Ok(headers) = runtime.block_on(read(head.as_bytes())) {
                for value in headers.values() {
                    prop_assert!(!value.as_bytes().iter().any(|byte| b"\r\n".contains(byte)), "{value:?}");
                }
            }
        }
    }
}
