//! Passthrough: bytes both ways without a look at them, and each side's end reaches the other as it was.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::Error;
use crate::datapath::downstream::reset;
use crate::datapath::record::ConnectionLog;
use crate::datapath::relay::Urgent;
use crate::datapath::sniff::{FirstBytes, Sniffed};
use crate::datapath::{Context, relay};
use crate::journal::{ConnectionVerdict, Reason};

/// Passes a connection through to its destination until both sides have ended.
///
/// # Errors
/// The destination could not be dialled, or one side broke off: the other is reset.
pub async fn relay(conn: Box<Sniffed>, reason: Reason, cx: &Context) -> Result<(), Error> {
    conn.log.decided(ConnectionVerdict::Passthrough, reason);
    let urgent = match conn.first {
        FirstBytes::Opaque(_) => Urgent::Possible,
        FirstBytes::Tls(_) | FirstBytes::Http1(_) | FirstBytes::Http2(_) => Urgent::Never,
    };
    // On the heap, since a connection at rest has no more use for it.
    let (downstream, upstream, log) = Box::pin(dialled(conn, cx)).await?;
    relay::both(downstream, upstream, urgent, log.bytes_so_far(), &cx.pipes).await.map_err(Error::Relay)
}

async fn dialled(conn: Box<Sniffed>, cx: &Context) -> Result<(TcpStream, TcpStream, Arc<ConnectionLog>), Error> {
    let Sniffed { stream, origin, dialled, log, .. } = *conn;
    let upstream = match dialled {
        Some(ahead) => ahead.stream().await,
        None => cx.upstream.dial(&origin).await,
    };
    match upstream {
        Ok(upstream) => Ok((stream, upstream, log)),
        Err(error) => {
            reset(stream);
            Err(Error::Dial(error))
        }
    }
}
