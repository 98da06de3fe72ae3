//! Stage 1 of 6: takes diverted connections from the listeners, and tells the kernel that somebody does.
//!
//! In: listeners of a way on path. Out: `Accepted`. Never: beats for a loop that cannot accept.

use std::io::{self, ErrorKind};
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
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
    socket_options::carry(&listener);
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
    while let Some(stream) = waiting(&served.listener) {
        admit(stream, served, cx);
    }
}

/// Asks the kernel: the runtime knows only what it was told last, and allows a task a bounded number of calls.
fn waiting(listener: &TcpListener) -> Option<TcpStream> {
    loop {
        match SockRef::from(listener).accept() {
            Ok((socket, _)) => {
                let taken = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket.into()));
                match taken {
                    Ok(stream) => return Some(stream),
                    Err(error) => tracing::warn!(%error, "connection lost while its listener closed"),
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
            Err(_) => return None,
        }
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
    let admitted = cx.load.admit();
    let log = ConnectionLog::open(cx);
    let conn = super::connection(Accepted { stream, namespace: Arc::clone(&served.namespace), log }, Arc::clone(cx));
    cx.drain.spawn(async move {
        conn.await;
        drop(admitted);
    });
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;

    use tokio::net::TcpSocket;

    use super::*;

    #[tokio::test]
    async fn every_connection_that_waits_is_taken_in_one_go() {
        /// More than the runtime lets a task take without a pause.
        const MANY: u16 = 200;
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(2 * u32::from(MANY)).unwrap();
        let to = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "clients of this test's own, on loopback")]
        let clients: Vec<Client> = (0..MANY).map(|_| Client::connect(to).unwrap()).collect();
        let taken = std::iter::from_fn(|| waiting(&listener)).count();
        assert_eq!(taken, clients.len());
    }
}
