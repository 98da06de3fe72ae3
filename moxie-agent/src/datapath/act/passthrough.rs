//! Passthrough: copies bytes both ways without looking, and lets each side's end reach the other as it was.

use socket2::SockRef;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;

use super::Error;
use crate::datapath::Context;
use crate::datapath::downstream::{Downstream, reset};
use crate::datapath::sniff::Sniffed;
use crate::journal::{ConnectionVerdict, Reason};

/// Bytes copied at once in each direction.
const CHUNK: usize = 64 * 1024;

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
    copy(Downstream::new(stream, log.bytes()), upstream).await
}

/// Half-closes are passed on by the copy; a side that breaks off is a reset for the other.
async fn copy(mut downstream: Downstream, mut upstream: TcpStream) -> Result<(), Error> {
    let copied = copy_bidirectional_with_sizes(&mut downstream, &mut upstream, CHUNK, CHUNK).await;
    copied.map(|_| ()).map_err(|error| {
        downstream.abort().request();
        // A socket that takes no option is gone already.
        let _ = SockRef::from(&upstream).set_linger(Some(std::time::Duration::ZERO));
        Error::Relay(error)
    })
}
