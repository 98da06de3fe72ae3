//! Stage 1 of 6: takes diverted connections from the listeners, and tells the kernel that somebody does.
//!
//! In: listeners of a way on path. Out: `Accepted`. Never: beats for a loop that cannot accept.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::record::ConnectionLog;
use crate::divert::{HEARTBEAT, Listening};
use crate::namespace::Namespace;
use crate::socket_options;
use pulse::{Beating, Pulse};

mod pulse;

/// Pause after an accept() that failed for want of descriptors or memory.
const RECOVERY: Duration = Duration::from_millis(50);

/// A connection that the kernel sent here.
#[derive(Debug)]
pub struct Accepted {
    /// The application's side.
    pub stream: TcpStream,
    /// The network namespace that it came from.
    pub namespace: Arc<Namespace>,
    /// Its record, written when the last holder lets go.
    pub log: Arc<ConnectionLog>,
}

/// Starts one accept loop per listener under the context's drain: for those that are there on return, for others as they come.
///
/// # Errors
/// A listener that the runtime does not take.
pub fn serve(cx: &Arc<Context>) -> io::Result<()> {
    let Some(mut listeners) = cx.divert.take_listeners() else { return Ok(()) };
    let pulse = Arc::new(Pulse::default());
    while let Ok(listening) = listeners.try_recv() {
        start(listening, &pulse, cx)?;
    }
    cx.drain.spawn(follow(listeners, pulse, Arc::clone(cx)));
    Ok(())
}

/// Takes listeners of namespaces that join later.
async fn follow(mut listeners: UnboundedReceiver<Listening>, pulse: Arc<Pulse>, cx: Arc<Context>) {
    loop {
        tokio::select! {
            () = cx.drain.started() => return,
            listening = listeners.recv() => match listening {
                None => return,
                Some(listening) => {
                    let namespace = listening.namespace.id().inode();
                    if let Err(error) = start(listening, &pulse, &cx) {
                        tracing::warn!(%error, namespace, "listener not served; its namespace goes direct");
                    }
                }
            },
        }
    }
}

fn start(listening: Listening, pulse: &Arc<Pulse>, cx: &Arc<Context>) -> io::Result<()> {
    let listener = StdListener::from(listening.socket);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let served = Served { listener, namespace: listening.namespace, closing: listening.closing };
    cx.drain.spawn(accept_loop(served, pulse.join(), Arc::clone(cx)));
    Ok(())
}

/// A listener of one namespace.
struct Served {
    listener: TcpListener,
    namespace: Arc<Namespace>,
    closing: CancellationToken,
}

async fn accept_loop(served: Served, beating: Beating, cx: Arc<Context>) {
    let mut tick = interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = cx.drain.started() => return admit_waiting(&served, &cx),
            () = served.closing.cancelled() => return admit_waiting(&served, &cx),
            _ = tick.tick() => if beating.is_due() { beat(&cx) },
            accepted = served.listener.accept(), if cx.load.has_room() => match accepted {
                Ok((stream, _)) => {
                    admit(stream, &served, &cx);
                    if cx.load.shedding().is_some() {
                        // A beat says when there is room again.
                        cx.divert.rest();
                    }
                }
                Err(error) => {
                    cx.divert.rest();
                    tracing::warn!(%error, "accept failed");
                    sleep(RECOVERY).await;
                }
            },
        }
    }
}

/// Takes what the kernel has sent here already, so that closing the listener resets nobody.
fn admit_waiting(served: &Served, cx: &Arc<Context>) {
    while let Some(Ok((stream, _))) = served.listener.accept().now_or_never() {
        admit(stream, served, cx);
    }
}

/// Beats only while another connection is taken: without a beat the kernel lets new connections go direct.
fn beat(cx: &Context) {
    cx.load.look();
    match cx.load.shedding() {
        None => cx.divert.beat(),
        Some(_) => cx.divert.rest(),
    }
}

fn admit(stream: TcpStream, served: &Served, cx: &Arc<Context>) {
    socket_options::carry(&stream);
    let admitted = cx.load.admit();
    let log = ConnectionLog::open(cx);
    let conn = super::connection(Accepted { stream, namespace: Arc::clone(&served.namespace), log }, Arc::clone(cx));
    cx.drain.spawn(async move {
        conn.await;
        drop(admitted);
    });
}
