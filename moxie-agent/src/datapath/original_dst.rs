//! Stage 2 of 6: who called, and where it wanted to go.
//!
//! In: `Accepted`. Out: `Located`. Never: guesses a destination; without a trusted one the client is reset and counted.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::Context;
use super::accept::Accepted;
use super::downstream::reset;
use super::record::ConnectionLog;
use crate::divert::{DivertError, Origin};
use crate::journal::Reason;
use crate::namespace::Namespace;

/// A connection whose caller and destination are known.
#[derive(Debug)]
pub struct Located {
    /// The application's side.
    pub stream: TcpStream,
    /// What the kernel remembered.
    pub origin: Origin,
    /// Its record.
    pub log: Arc<ConnectionLog>,
}

/// Why there is no destination to go on with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel half has nothing for this socket.
    #[error("the kernel has no original destination for the connection")]
    Unknown,
    /// The kernel could not be asked.
    #[error("the kernel could not be asked for the original destination")]
    Lookup(#[source] DivertError),
    /// The destination is a socket of the agent's own, or the caller is the agent.
    #[error("the connection to {0} begins or ends at one of the agent's own sockets")]
    OwnSocket(std::net::SocketAddr),
}

impl Error {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Unknown | Self::Lookup(_) => Reason::NoOriginalDst,
            Self::OwnSocket(_) => Reason::OwnSocket,
        }
    }
}

/// Finds the original destination and the caller of a connection.
///
/// # Errors
/// There is none to trust; the client has been reset.
pub async fn resolve(conn: Accepted, cx: &Context) -> Result<Located, Error> {
    let Accepted { stream, namespace, log } = conn;
    match locate(&stream, &namespace, cx).await {
        Ok(origin) => {
            log.located(&origin, cx.scopes.caller(&origin), &cx.scopes);
            Ok(Located { stream, origin, log })
        }
        Err(error) => {
            reset(stream);
            Err(error)
        }
    }
}

async fn locate(stream: &TcpStream, namespace: &Arc<Namespace>, cx: &Context) -> Result<Origin, Error> {
    let origin = cx.divert.origin(stream, namespace).await.map_err(Error::Lookup)?.ok_or(Error::Unknown)?;
    if cx.upstream.is_own(origin.destination) || cx.divert.is_agents_own(&origin) {
        return Err(Error::OwnSocket(origin.destination));
    }
    Ok(origin)
}
