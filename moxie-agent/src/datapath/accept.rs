//! Stage 1 of 6: takes diverted connections from the listeners, and tells the kernel that somebody does.
//!
//! In: listeners of a way on path. Out: `Accepted`. Never: beats for a loop that cannot accept.

use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Context;
use super::record::ConnectionLog;
use crate::descriptors;
use crate::divert::HEARTBEAT;

/// Pause after an accept() that failed for want of descriptors or memory.
const RECOVERY: Duration = Duration::from_millis(50);
/// Descriptors that one connection may need: both sockets, and room for what surrounds them.
const DESCRIPTORS_EACH: u64 = 3;

/// A connection that the kernel sent here.
#[derive(Debug)]
pub struct Accepted {
    /// The application's side.
    pub stream: TcpStream,
    /// Its record, written when the last holder lets go.
    pub log: Arc<ConnectionLog>,
}

/// Starts one accept loop per listener under the context's drain.
///
/// # Errors
/// A listener that the runtime does not take.
pub fn serve(listeners: Vec<OwnedFd>, cx: &Arc<Context>) -> io::Result<()> {
    for (index, listener) in listeners.into_iter().enumerate() {
        let listener = StdListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let beats = if index == 0 { Beats::Sent } else { Beats::LeftToOthers };
        cx.drain.spawn(accept_loop(listener, beats, Arc::clone(cx)));
    }
    Ok(())
}

/// Whether a loop sends the heartbeat: one does, since all of them share the runtime whose progress it proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beats {
    Sent,
    LeftToOthers,
}

async fn accept_loop(listener: TcpListener, beats: Beats, cx: Arc<Context>) {
    let limit = connection_limit();
    let mut tick = interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = cx.drain.started() => return admit_waiting(&listener, &cx),
            _ = tick.tick(), if beats == Beats::Sent => beat(&cx, limit),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &cx),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(RECOVERY).await;
                }
            },
        }
    }
}

/// Takes what the kernel has sent here already, so that closing the listener resets nobody.
fn admit_waiting(listener: &TcpListener, cx: &Arc<Context>) {
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        admit(stream, cx);
    }
}

/// Beats only while another connection could be taken: without a beat the kernel lets new connections go direct.
fn beat(cx: &Context, limit: u64) {
    let open = cx.drain.running() as u64;
    if open < limit && std::fs::File::open("/dev/null").is_ok() {
        cx.divert.beat();
    } else {
        tracing::warn!(open, limit, "out of descriptors: new connections go direct");
    }
}

/// Nine tenths of what the descriptor limit allows.
fn connection_limit() -> u64 {
    descriptors::limit() / DESCRIPTORS_EACH * 9 / 10
}

fn admit(stream: TcpStream, cx: &Arc<Context>) {
    // A failure here means the peer is gone already; the next stage finds out.
    let _ = stream.set_nodelay(true);
    let log = ConnectionLog::open(cx);
    let conn = super::connection(Accepted { stream, log }, Arc::clone(cx));
    cx.drain.spawn(conn);
}
