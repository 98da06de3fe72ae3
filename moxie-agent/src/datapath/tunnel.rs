//! What the client of an explicit proxy is told before its bytes are looked at: that its tunnel stands, or why it is not served.
//!
//! Where a rule can name the host the tunnel stands at once: a mock needs no destination. Everywhere else the destination is dialled
//! first, so that its failure is the 502 that a proxy's client knows what to do with.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Context;
use super::learned::Client;
use super::original_dst::Located;
use crate::divert::proxy::Refusal;
use crate::divert::{Asked, Form};
use crate::journal::Reason;
use crate::rules::set::{Naming, normal_authority};
use crate::upstream::DialError;

/// RFC 9110 section 9.3.6: any 2xx, and no length.
const STANDS: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// How long a client that is not served may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is read of such a client's bytes, so that its answer is not lost to a reset.
const FAREWELL_BYTES: u64 = 256 * 1024;

/// Why a tunnel does not stand; the client has been told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The destination could not be dialled.
    #[error("cannot dial the destination of a tunnel")]
    Dial(#[source] DialError),
    /// The client went away.
    #[error("the client hung up before its tunnel stood")]
    Client(#[source] io::Error),
}

impl Error {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Dial(_) => Reason::UpstreamFailed,
            Self::Client(_) => Reason::ClientClosed,
        }
    }
}

/// Answers a CONNECT; does nothing for connections that wait for no answer.
///
/// # Errors
/// See [`Error`].
pub async fn open(mut conn: Located, cx: &Context) -> Result<Located, Error> {
    let Some(asked) = conn.origin.asked.as_ref().filter(|asked| asked.form == Form::Tunnel) else { return Ok(conn) };
    if !may_be_answered(asked, &conn, cx) {
        match cx.upstream.dial(&conn.origin).await {
            Ok(upstream) => conn.dialled = Some(upstream),
            Err(error) => {
                let refusal = undialled(&asked.host, &error);
                refuse(conn.stream, &refusal).await;
                return Err(Error::Dial(error));
            }
        }
    }
    conn.stream.write_all(STANDS).await.map_err(Error::Client)?;
    Ok(conn)
}

/// Whether a rule could answer in the destination's place.
fn may_be_answered(asked: &Asked, conn: &Located, cx: &Context) -> bool {
    let scheme = if asked.port == 80 { "http" } else { "https" };
    let authority = normal_authority(&format!("{}:{}", asked.url_host(), asked.port), scheme);
    let caller = conn.log.caller();
    match cx.rules.current().naming(&authority, &caller, cx.clock.now()) {
        _ if !cx.divert.is_enabled() => false,
        Naming::Armed => true,
        Naming::Spent => cx.learned.answered.contains(&Client::new(&caller, &authority)),
        Naming::Unnamed => false,
    }
}

/// What a proxy says of a destination that could not be dialled.
pub(super) fn undialled(host: &str, error: &DialError) -> Refusal {
    let host = host.to_owned();
    match error {
        DialError::OwnSocket(_) | DialError::CameBack(_) => Refusal::OwnSocket,
        DialError::NotFound(_) => Refusal::NotFound { host },
        DialError::Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut => Refusal::TooSlow { host },
        DialError::Connect { source, .. } | DialError::Socket { source, .. } => {
            Refusal::Unreachable { host, why: source.to_string() }
        }
    }
}

/// Tells a client why it is not served, and hangs up in a way that lets it read so.
pub(super) async fn refuse(mut stream: TcpStream, refusal: &Refusal) {
    let told = async {
        stream.write_all(refusal.message().as_bytes()).await?;
        stream.shutdown().await?;
        // Bytes left unread would turn the close into a reset, and the answer would be lost with it.
        tokio::io::copy(&mut (&mut stream).take(FAREWELL_BYTES), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = timeout(FAREWELL, told).await {
        tracing::debug!(%error, "a client went away before it was told why it is not served");
    }
}
