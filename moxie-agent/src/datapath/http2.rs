//! Stage 5, HTTP/2: the connection is relayed frame by frame, and each stream goes its own way.
//!
//! A stream that no rule answers keeps its number, its frames, its flow control and its end; the destination's GOAWAY, PING and
//! SETTINGS are the client's. No HTTP library speaks for either side, since each would decide for itself what to say of limits,
//! resets and windows. What rules change is written here: answers, edited heads, delays.
//!
//! Never: a status that nobody sent. What cannot be relayed ends with the code that HTTP/2 has for it, or passes unread.

mod block;
mod credit;
mod fields;
mod frame;
mod hpack;
mod relay;
mod settings;
mod side;
mod stream;

use std::io;
use std::sync::Arc;

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite};

use super::downstream::Abort;
use super::exchange::party::Party;
use crate::upstream::{Link, LinkError};
use relay::Relay;

/// Why an HTTP/2 connection ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client broke off; the destination has been reset.
    #[error("the client broke off")]
    Client(#[source] io::Error),
    /// The destination broke off; the client has been reset.
    #[error("the destination broke off")]
    Origin(#[source] io::Error),
    /// One side said what cannot be relayed, after rules had acted; both have been told.
    #[error("HTTP/2 that cannot be relayed: {0}")]
    Misspoken(Reason),
    /// Octets that are no HTTP/2 were for a destination that gave no answer; the client has been reset.
    #[error("the destination cannot be reached")]
    Unreached(#[source] LinkError),
    /// One side broke off while octets passed unread; the other has been reset.
    #[error("the connection broke off while it passed unread")]
    Relay(#[source] io::Error),
}

/// Serves the exchanges of a connection until it ends.
///
/// # Errors
/// See [`Error`].
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    party: Arc<Party>,
    link: Link,
    abort: Abort,
) -> Result<(), Error> {
    Box::pin(Relay::new(stream, party, link, abort).run()).await
}
