//! An agent in this process: every connection to its front door wants to go where the test says.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use moxie_agent::app::{AdminDoors, App, Options};
use moxie_agent::clock::Clock;
use moxie_agent::config::{self, Flags};
use moxie_agent::divert::{Attachment, Divert, DivertError, Listening, Origin, Terms};
use moxie_agent::journal::{Connection, Exchange, Filter};
use moxie_agent::namespace::Namespace;
use moxie_agent::paths::StateDir;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
pub const BOUND: Duration = Duration::from_secs(10);

/// A way on path that knows one destination, or none.
#[derive(Debug)]
struct Fixed {
    door: SocketAddr,
    listener: Mutex<Option<OwnedFd>>,
    destination: Option<SocketAddr>,
    enabled: AtomicBool,
    dials: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Nothing;

impl Attachment for Nothing {}

#[async_trait]
impl Divert for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn attach(&self, _: &Path, _: Terms) -> Result<Box<dyn Attachment>, DivertError> {
        Ok(Box::new(Nothing))
    }

    async fn origin(&self, _: &TcpStream, namespace: &Arc<Namespace>) -> Result<Option<Origin>, DivertError> {
        Ok(self.destination.map(|destination| Origin::to(destination, Arc::clone(namespace))))
    }

    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        let (sender, receiver) = unbounded_channel();
        let socket = self.listener.lock().unwrap().take()?;
        let namespace = Namespace::own().unwrap();
        sender.send(Listening { socket, namespace, closing: CancellationToken::new() }).unwrap();
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
        self.dials.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// An agent and its front door.
pub struct Agent {
    app: App,
    /// Where its diverted connections arrive.
    pub door: SocketAddr,
    dials: Arc<AtomicUsize>,
    _state: TempDir,
}

impl Agent {
    /// An agent whose connections want `destination` (none: the kernel has lost it), which trusts `roots` upstream.
    pub async fn start(destination: Option<SocketAddr>, roots: Option<&Path>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let door = listener.local_addr().unwrap();
        let (listener, dials) = (Mutex::new(Some(listener.into())), Arc::<AtomicUsize>::default());
        let divert = Fixed { door, listener, destination, enabled: true.into(), dials: Arc::clone(&dials) };
        let state = tempfile::tempdir().unwrap();
        let flags = Flags { upstream_ca: roots.into_iter().map(Path::to_path_buf).collect(), ..Flags::default() };
        let options = Options {
            config: config::read("", |_| None, &flags).unwrap(),
            state: StateDir::locate(Some(state.path()), |_| None),
            store: "sqlite::memory:".into(),
            admin: AdminDoors::Closed,
            clock: Clock::system(),
        };
        let app = App::start_on(Arc::new(divert), options).await.unwrap();
        Self { app, door, dials, _state: state }
    }

    /// Ends in good order.
    pub async fn stop(self) {
        self.app.stop().await;
    }

    /// Adds a rule.
    pub async fn rule(&self, url: &str, more: serde_json::Value) -> String {
        let mut rule = json!({ "url": url });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.app.rules.create(&rule).await.unwrap().rule.id.0.clone()
    }

    /// The authority's certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.app.authority_pem
    }

    /// How often it has begun to dial a destination.
    pub fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }

    /// Waits until it begins to dial its destination.
    pub async fn await_dial(&self) {
        let begun = async {
            while self.dials() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(BOUND, begun).await.unwrap();
    }

    /// Waits for exactly `count` exchanges, oldest first.
    pub async fn exchanges(&self, count: usize) -> Vec<Exchange> {
        self.settle(count, |app| app.journal.exchanges(&Filter::default()).items).await
    }

    /// Waits for exactly `count` connections, oldest first.
    pub async fn connections(&self, count: usize) -> Vec<Connection> {
        self.settle(count, |app| app.journal.connections(&Filter::default()).items).await
    }

    async fn settle<T>(&self, count: usize, read: impl Fn(&App) -> Vec<T>) -> Vec<T> {
        let deadline = tokio::time::Instant::now() + BOUND;
        loop {
            let mut items = read(&self.app);
            if items.len() >= count || tokio::time::Instant::now() > deadline {
                assert_eq!(items.len(), count, "records");
                items.reverse();
                return items;
            }
            tokio::task::yield_now().await;
        }
    }
}
