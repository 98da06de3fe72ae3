//! Passthrough: bytes both ways without a look at them, and each side's end reaches the other as it was.

use super::Error;
use crate::datapath::downstream::reset;
use crate::datapath::sniff::Sniffed;
use crate::datapath::{Context, relay};
use crate::journal::{ConnectionVerdict, Reason};

/// Passes a connection through to its destination until both sides have ended.
///
/// # Errors
/// The destination could not be dialled, or one side broke off: the other is reset.
pub async fn relay(conn: Sniffed, reason: Reason, cx: &Context) -> Result<(), Error> {
    let Sniffed { stream, origin, dialled, log, .. } = conn;
    log.decided(ConnectionVerdict::Passthrough, reason);
    let upstream = match dialled {
        Some(ahead) => ahead.stream().await,
        None => cx.upstream.dial(&origin).await,
    };
    let upstream = match upstream {
        Ok(upstream) => upstream,
        Err(error) => {
            reset(stream);
            return Err(Error::Dial(error));
        }
    };
    relay::both(stream, upstream, log.bytes_so_far(), &cx.pipes).await.map_err(Error::Relay)
}
