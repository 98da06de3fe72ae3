//! The eBPF way, and somebody who accepts what it diverts.

use std::io::Write as _;
use std::iter;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use moxie_agent::divert::ebpf::{Ebpf, EbpfOptions};
use moxie_agent::divert::{Attachment, Divert, DivertError, Listening, Origin, Terms};
use moxie_agent::namespace::Namespace;
use moxie_agent::scope::cgroup::RunCgroup;
use moxie_common::PORTS_PER_LISTENER_SET;
use nix::sys::socket::{Backlog, listen};
use tokio_util::sync::CancellationToken;

use super::accept::{Listens, accept_from};
use super::{DIVERTED, Lab, patience};

/// A listener of the agent's.
struct Served {
    socket: TcpListener,
    namespace: Arc<Namespace>,
    closing: CancellationToken,
}

impl Listens for Served {
    fn socket(&self) -> &TcpListener {
        &self.socket
    }
}

impl From<Listening> for Served {
    fn from(listening: Listening) -> Self {
        Self { socket: listening.socket.into(), namespace: listening.namespace, closing: listening.closing }
    }
}

type Loaded = Result<Ebpf, DivertError>;
type Load<'a> = Box<dyn FnOnce() -> Loaded + Send + 'a>;

/// Loads the eBPF way, accepts what it diverts, and remembers the origins.
pub(crate) struct Agent {
    divert: Arc<Ebpf>,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    origins: Mutex<Vec<Option<Origin>>>,
    is_wedged: AtomicBool,
    /// The agent accepts nobody, and the kernel keeps one connection for each of its listeners.
    is_deaf: AtomicBool,
}

impl Agent {
    pub(crate) fn start(lab: &Lab, options: EbpfOptions) -> Self {
        Self::start_in(|work| lab.inside(work), options)
    }

    /// In the namespace that `inside` runs its work in.
    pub(crate) fn start_in(inside: impl FnOnce(Load<'_>) -> Loaded, mut options: EbpfOptions) -> Self {
        // An agent that gets no processor for a second fails open, as it should; that is not what most tests are about.
        options.max_beat_age *= patience();
        let loaded = inside(Box::new(|| Ebpf::load(&options)));
        let divert = Arc::new(loaded.unwrap_or_else(|error| panic!("{}", chain(&error))));
        let mut waiting = divert.take_listeners().expect("given out once");
        let mut listeners: Vec<Served> = iter::from_fn(|| waiting.try_recv().ok()).map(Served::from).collect();
        assert_eq!(listeners.len(), 2 * usize::from(PORTS_PER_LISTENER_SET));
        assert!(divert.take_listeners().is_none(), "given out once");
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        divert.beat();
        let acceptor = thread::spawn({
            let (divert, seen, stop) = (Arc::clone(&divert), Arc::clone(&seen), Arc::clone(&stop));
            move || {
                let mut unheard = Vec::new();
                let turn = |listeners: &mut Vec<Served>| {
                    listeners.extend(iter::from_fn(|| waiting.try_recv().ok()).map(Served::from));
                    listeners.retain(|listener| !listener.closing.is_cancelled());
                    seen.hear_or_not(listeners, &mut unheard);
                    if !seen.is_wedged.load(Ordering::Relaxed) {
                        divert.beat();
                    }
                };
                accept_from(&mut listeners, &stop, turn, |stream, from| seen.meet(stream, &from.namespace, &divert));
            }
        });
        Self { divert, seen, stop, acceptor: Some(acceptor) }
    }

    pub(crate) fn divert(&self) -> &Arc<Ebpf> {
        &self.divert
    }

    pub(crate) fn first_port(&self) -> u16 {
        self.divert.first_listener_port()
    }

    /// A new cgroup, on path.
    pub(crate) fn scope(&self) -> (RunCgroup, Box<dyn Attachment>) {
        let cgroup = RunCgroup::create().unwrap();
        let held =
            self.divert.attach(cgroup.path(), Terms::default()).unwrap_or_else(|error| panic!("{}", chain(&error)));
        (cgroup, held)
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.divert.counters().iter().find(|(counter, _)| *counter == name).expect("a counter of that name").1
    }

    pub(crate) fn accepted(&self) -> usize {
        self.seen.origins().len()
    }

    pub(crate) fn missing(&self) -> usize {
        self.seen.origins().iter().filter(|origin| origin.is_none()).count()
    }

    pub(crate) fn wrong(&self, expected: SocketAddr) -> usize {
        self.seen.origins().iter().flatten().filter(|origin| origin.destination != expected).count()
    }

    pub(crate) fn last_origin(&self) -> Option<Origin> {
        self.seen.origins().last().expect("a connection").clone()
    }

    /// Whether a connection to `destination` was accepted.
    pub(crate) fn has_seen(&self, destination: std::net::SocketAddr) -> bool {
        self.seen.origins().iter().flatten().any(|origin| origin.destination == destination)
    }

    pub(crate) fn origins(&self) -> Vec<Option<Origin>> {
        self.seen.origins().clone()
    }

    /// An origin holds its namespace.
    pub(crate) fn forget_origins(&self) {
        self.seen.origins().clear();
    }

    /// From a turn on handshakes with its listeners do not end, but for one of each; or they do again.
    pub(crate) fn be_deaf(&self, is_deaf: bool) {
        self.seen.is_deaf.store(is_deaf, Ordering::Relaxed);
    }

    pub(crate) fn stop_beating(&self) {
        self.seen.is_wedged.store(true, Ordering::Relaxed);
    }

    /// As when the accept loop has died and the rest has not: nobody listens, the heart beats. Gives the ports.
    pub(crate) fn close_listeners(&mut self) -> std::ops::Range<u16> {
        self.end();
        self.divert.beat();
        self.first_port()..self.first_port() + PORTS_PER_LISTENER_SET
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

impl Seen {
    fn hear_or_not(&self, heard: &mut Vec<Served>, unheard: &mut Vec<Served>) {
        let is_deaf = self.is_deaf.load(Ordering::Relaxed);
        let (from, to) = if is_deaf { (heard, unheard) } else { (unheard, heard) };
        for listener in from.drain(..) {
            // Of a socket that listens already this changes how many may wait.
            listen(&listener.socket, if is_deaf { Backlog::new(0).unwrap() } else { Backlog::MAXCONN }).unwrap();
            to.push(listener);
        }
    }

    fn origins(&self) -> MutexGuard<'_, Vec<Option<Origin>>> {
        self.origins.lock().unwrap()
    }

    fn meet(&self, mut stream: TcpStream, namespace: &Arc<Namespace>, divert: &Ebpf) {
        let origin = divert.origin_of(stream.as_fd(), namespace).unwrap();
        self.origins().push(origin);
        // A client that has gone already wants no answer.
        let _ = stream.write_all(DIVERTED.as_bytes());
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
