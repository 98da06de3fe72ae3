//! Stage 2 of 6: who called, and where it wanted to go.
//!
//! In: `Accepted`. Out: `Located`. Never: guesses a destination; without a trusted one the client is reset and counted.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::Context;
use super::accept::Accepted;
use super::downstream::reset;
use super::record::ConnectionLog;
use super::tunnel::refuse;
use crate::divert::proxy::Refusal;
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
    /// The destination, where it was dialled meanwhile.
    pub dialled: Option<TcpStream>,
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
    /// The client of an explicit proxy is not served.
    #[error("the client is not served")]
    NotServed(#[source] Refusal),
    /// The client went away before it had asked for anything.
    #[error("the client hung up before it asked for anything")]
    ClientGone(#[source] std::io::Error),
    /// The destination is a socket of the agent's own, or the caller is the agent.
    #[error("the connection to {0} begins or ends at one of the agent's own sockets")]
    OwnSocket(std::net::SocketAddr),
}

impl Error {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Unknown | Self::Lookup(_) => Reason::NoOriginalDst,
            Self::NotServed(Refusal::OwnSocket) => Reason::OwnSocket,
            Self::NotServed(_) => Reason::NotServed,
            Self::ClientGone(_) => Reason::ClientClosed,
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
            Ok(Located { stream, origin, dialled: None, log })
        }
        Err(Error::NotServed(refusal)) => {
            refuse(stream, &refusal).await;
            Err(Error::NotServed(refusal))
        }
        Err(error) => {
            reset(stream);
            Err(error)
        }
    }
}

async fn locate(stream: &TcpStream, namespace: &Arc<Namespace>, cx: &Context) -> Result<Origin, Error> {
    let origin = match cx.divert.origin(stream, namespace).await {
        Ok(origin) => origin.ok_or(Error::Unknown)?,
        Err(DivertError::NotServed(refusal)) => return Err(Error::NotServed(refusal)),
        Err(DivertError::Client { source }) => return Err(Error::ClientGone(source)),
        Err(error) => return Err(Error::Lookup(error)),
    };
    if cx.divert.is_agents_own(&origin) {
        return Err(Error::OwnSocket(origin.destination));
    }
    match origin.addresses().iter().find(|address| cx.upstream.is_own(**address)) {
        None => Ok(origin),
        Some(_) if origin.asked.is_some() => Err(Error::NotServed(Refusal::OwnSocket)),
        Some(own) => Err(Error::OwnSocket(*own)),
    }
}
