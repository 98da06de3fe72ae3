//! An agent in this process: every connection to its front door wants to go where it is told.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use moxie_agent::app::{AdminDoors, App, Options};
use moxie_agent::clock::Clock;
use moxie_agent::config::{self, Flags};
use moxie_agent::divert::{Attachment, Divert, DivertError, Listening, Origin, Terms};
use moxie_agent::namespace::Namespace;
use moxie_agent::paths::StateDir;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// Panics since the agent began: those in its tasks end nothing else.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// How many panics there were.
pub(super) fn panics() -> usize {
    PANICS.load(Ordering::Relaxed)
}

/// A way on path that knows one destination at a time.
#[derive(Debug)]
struct Told {
    door: SocketAddr,
    listener: Mutex<Option<OwnedFd>>,
    destination: Arc<Mutex<SocketAddr>>,
    enabled: AtomicBool,
}

#[derive(Debug)]
struct Nothing;

impl Attachment for Nothing {}

#[async_trait]
impl Divert for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn attach(&self, _: &Path, _: Terms) -> Result<Box<dyn Attachment>, DivertError> {
        Ok(Box::new(Nothing))
    }

    async fn origin(&self, _: &TcpStream, namespace: &Arc<Namespace>) -> Result<Option<Origin>, DivertError> {
        let destination = *self.destination.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Origin::to(destination, Arc::clone(namespace))))
    }

    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        let (sender, receiver) = unbounded_channel();
        let socket = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let namespace = Namespace::own().expect("a network namespace");
        sender.send(Listening { socket, namespace, closing: CancellationToken::new() }).expect("the receiver is here");
        Some(receiver)
    }

    fn listener_addresses(&self) -> Vec<SocketAddr> {
        vec![self.door]
    }

    fn set_enabled(&self, enabled: bool) -> Result<(), DivertError> {
        self.enabled.store(enabled, Ordering::Relaxed);
        Ok(())
    }

    fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    fn beat(&self) {}

    fn dial_mark(&self) -> Option<u32> {
        None
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// An agent with a rule that could name every host and fires for no request.
pub(super) struct Agent {
    _app: App,
    door: SocketAddr,
    destination: Arc<Mutex<SocketAddr>>,
    _state: TempDir,
    _pipe: Signal,
}

impl Agent {
    pub(super) async fn start() -> Self {
        // The fuzzer's program does not begin as Rust's do, which hear of a broken pipe by the write that failed.
        let pipe = signal(SignalKind::pipe()).expect("a signal that can be handled");
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tell(panic);
        }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let door = listener.local_addr().expect("bound");
        let destination = Arc::new(Mutex::new(door));
        let divert = Told {
            door,
            listener: Mutex::new(Some(listener.into())),
            destination: Arc::clone(&destination),
            enabled: true.into(),
        };
        let state = tempfile::tempdir().expect("a directory");
        let options = Options {
            config: config::read("", |_| None, &Flags::default()).expect("what holds without a file"),
            state: StateDir::locate(Some(state.path()), |_| None),
            store: "sqlite::memory:".into(),
            admin: AdminDoors::Closed,
            clock: Clock::system(),
        };
        let app = App::start_on(Arc::new(divert), options).await.expect("an agent");
        let never = json!({"url": ".*", "when": {"headers": {"X-A": {"present": true, "absent": true}}}});
        app.rules.create(&never).await.expect("a rule");
        Self { _app: app, door, destination, _state: state, _pipe: pipe }
    }

    pub(super) fn door(&self) -> SocketAddr {
        self.door
    }

    /// Where connections want to go from now on.
    pub(super) fn leads_to(&self, destination: SocketAddr) {
        *self.destination.lock().unwrap_or_else(PoisonError::into_inner) = destination;
    }
}
