//! A whole agent in this process: every connection to its front door wants to go where the test says. It needs neither root nor the
//! kernel half.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use moxie_agent::app::{AdminDoors, App, Options};
use moxie_agent::clock::Clock;
use moxie_agent::config::{self, Flags};
use moxie_agent::divert::proxy::{Proxy, StandIns};
use moxie_agent::divert::{Attachment, Divert, DivertError, Listening, Origin, Terms};
use moxie_agent::namespace::Namespace;
use moxie_agent::paths::StateDir;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// An agent. What it keeps on disk goes with it.
#[derive(Debug)]
pub struct InProcess {
    /// Its parts.
    pub app: App,
    /// Where its diverted connections arrive, or its proxy's clients.
    pub door: SocketAddr,
    dials: Arc<AtomicUsize>,
    _state: TempDir,
}

impl InProcess {
    /// One whose clients want to go where `destination` says (none: the kernel has lost it), by their addresses; with a configuration,
    /// and files of roots that it trusts upstream.
    ///
    /// # Errors
    /// What the system refused.
    pub async fn start(destination: impl Destinations, configuration: &str, roots: &[&Path]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let door = listener.local_addr()?;
        let dials = Arc::<AtomicUsize>::default();
        let way = Told {
            door,
            listener: Mutex::new(Some(listener.into())),
            destination: Box::new(destination),
            is_enabled: true.into(),
            dials: Arc::clone(&dials),
        };
        Ok(Self { dials, ..Self::by(Arc::new(way), door, configuration, roots).await? })
    }

    /// One that is an explicit proxy. Its dials are not counted.
    ///
    /// # Errors
    /// What the system refused.
    pub async fn proxy() -> Result<Self> {
        let way = Proxy::open((Ipv4Addr::LOCALHOST, 0).into(), StandIns::default())?;
        let door = way.door().context("a proxy has a door")?;
        Self::by(Arc::new(way), door, "", &[]).await
    }

    async fn by(way: Arc<dyn Divert>, door: SocketAddr, configuration: &str, roots: &[&Path]) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let flags = Flags { upstream_ca: roots.iter().map(|file| file.to_path_buf()).collect(), ..Flags::default() };
        let options = Options {
            config: config::read(configuration, |_| None, &flags)?,
            state: StateDir::locate(Some(state.path()), |_| None),
            store: "sqlite::memory:".into(),
            admin: AdminDoors::Closed,
            clock: Clock::system(),
        };
        let app = App::start_on(way, options).await?;
        Ok(Self { app, door, dials: Arc::default(), _state: state })
    }

    /// How often it has begun to dial a destination.
    #[must_use]
    pub fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }
}

/// Tells where the client with an address wants to go.
pub trait Destinations: Fn(SocketAddr) -> Option<SocketAddr> + Send + Sync + 'static {}

impl<T: Fn(SocketAddr) -> Option<SocketAddr> + Send + Sync + 'static> Destinations for T {}

/// A way on path that is told where each client wants to go.
struct Told {
    door: SocketAddr,
    listener: Mutex<Option<OwnedFd>>,
    destination: Box<dyn Destinations>,
    is_enabled: AtomicBool,
    dials: Arc<AtomicUsize>,
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

    async fn origin(&self, accepted: &TcpStream, namespace: &Arc<Namespace>) -> Result<Option<Origin>, DivertError> {
        let destination = accepted.peer_addr().ok().and_then(|client| (self.destination)(client));
        Ok(destination.map(|destination| Origin::to(destination, Arc::clone(namespace))))
    }

    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        let (sender, receiver) = unbounded_channel();
        let socket = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let listening = Listening { socket, namespace: Namespace::own().ok()?, closing: CancellationToken::new() };
        sender.send(listening).ok()?;
        Some(receiver)
    }

    fn listener_addresses(&self) -> Vec<SocketAddr> {
        vec![self.door]
    }

    fn set_enabled(&self, enabled: bool) -> Result<(), DivertError> {
        self.is_enabled.store(enabled, Ordering::Relaxed);
        Ok(())
    }

    fn is_enabled(&self) -> bool {
        self.is_enabled.load(Ordering::Relaxed)
    }

    fn beat(&self) {}

    /// Asked for each socket that the agent dials with.
    fn dial_mark(&self) -> Option<u32> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").field("door", &self.door).finish_non_exhaustive()
    }
}
