//! Stage 5 of 6: does what was decided.
//!
//! In: a verdict. Out: bytes or answers. Never: invents an answer; trouble ends in passthrough or a reset.

pub mod delay;
pub mod exchange;
pub mod forward;
pub mod gateway;
pub mod intercept;
pub mod passthrough;
pub mod respond;
pub mod rewrite;

use std::io;

use crate::datapath::relay;
use crate::journal::Reason;
use crate::tls::terminate::TerminateError;
use crate::upstream::{DialError, LinkError};

/// Why a connection ended before its bytes were through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The destination could not be dialled; the client has been reset.
    #[error("cannot dial the destination")]
    Dial(#[source] DialError),
    /// One side broke off while bytes were copied; the other has been reset.
    #[error("the connection broke off while it was passed through")]
    Relay(#[source] relay::Error),
    /// The handshake with the application failed.
    #[error("cannot end TLS for the client")]
    Terminate(#[source] TerminateError),
    /// The application hung up before it was answered.
    #[error("the client hung up before TLS could be ended for it")]
    ClientGone,
    /// The application broke off; the destination has been reset.
    #[error("the client broke off")]
    Client(#[source] io::Error),
    /// The destination broke off; the application has been reset.
    #[error("the destination broke off")]
    Upstream(#[source] io::Error),
    /// The destination was not reached, or is not to be trusted; the application has been reset.
    #[error("no connection to the destination")]
    Open(#[source] LinkError),
    /// HTTP with the application broke off.
    #[error("HTTP with the client broke off")]
    Serve(#[source] hyper::Error),
    /// One side said what cannot be relayed, after rules had acted; both have been told so by this code.
    #[error("HTTP/2 that cannot be relayed: {0}")]
    Http2(h2::Reason),
}

impl Error {
    /// The reason to record, where it says more than the verdict's.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Dial(DialError::OwnSocket(_) | DialError::CameBack(_)) => Some(Reason::OwnSocket),
            Self::Dial(_) => Some(Reason::UpstreamFailed),
            Self::Terminate(TerminateError::Refused(_)) => Some(Reason::AuthorityRefused),
            Self::ClientGone => Some(Reason::ClientClosed),
            Self::Relay(_)
            | Self::Terminate(_)
            | Self::Serve(_)
            | Self::Client(_)
            | Self::Upstream(_)
            | Self::Open(_)
            | Self::Http2(_) => None,
        }
    }
}
