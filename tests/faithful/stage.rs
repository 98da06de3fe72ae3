//! Where a script is played: directly, or with a whole agent of this process between the two ends.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use moxie_agent::journal::{ConnectionVerdict, Filter, Reason};
use moxie_tests::InProcess;
use rustls::{ClientConfig, ServerConfig};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::play::BOUND;
use crate::secret::{self, Roots};

/// How near an agent comes to a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Nothing stands between the ends.
    Direct,
    /// The client is opted in, and no rule could act on it: the kernel leaves it alone.
    Left,
    /// The agent carries the bytes: no rule names the host.
    Passed,
    /// A rule names the host and fires for none of these requests.
    Interpreted,
    /// A rule fires.
    Fired,
}

impl Tier {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Left => "left alone",
            Self::Passed => "passed",
            Self::Interpreted => "interpreted",
            Self::Fired => "fired",
        }
    }
}

/// Where conversations are played.
pub trait Stage: Send + Sync {
    /// An address for an origin, which none had before.
    fn listen(&self) -> TcpListener;

    /// What the origin's side of TLS is set up with.
    fn server(&self, domain: &str, alpn: &[&str]) -> Arc<ServerConfig>;

    /// What the client's side is, which trusts the origin's authority and the tier's.
    fn client(&self, tier: Tier, alpn: &[&str]) -> Arc<ClientConfig>;

    /// Connects a client that wants to go to `destination`.
    fn connect(&self, tier: Tier, destination: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send;

    /// What became of the one connection to `destination`, once it is on record; none where nobody records.
    fn verdict(&self, tier: Tier, destination: SocketAddr) -> impl Future<Output = Option<Judged>> + Send;
}

/// Addresses that origins have had. No two have the same: records are told apart by it, and an agent remembers what it learned there.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<HashSet<SocketAddr>>);

impl Addresses {
    /// A listener whose address nobody had.
    pub fn fresh(&self, listen: impl Fn() -> TcpListener) -> TcpListener {
        // Those passed over stay open meanwhile, so that none of them is offered twice.
        let mut passed_over = Vec::new();
        loop {
            let listener = listen();
            if self.0.lock().unwrap().insert(listener.local_addr().unwrap()) {
                return listener;
            }
            passed_over.push(listener);
        }
    }
}

/// A verdict, and why.
pub type Judged = (ConnectionVerdict, Reason);

/// Where each client, by its address, wants to go.
type Destinations = Arc<Mutex<HashMap<SocketAddr, SocketAddr>>>;

/// What the bounds of the sniffing stage come to here: a script that stops in a head waits for them.
const CONFIG: &str = "[sniff]\nfirst_byte = \"20ms\"\ntimeout = \"4s\"\n";

/// An agent, and where it takes each client.
struct Agent {
    inner: InProcess,
    destinations: Destinations,
}

impl Agent {
    async fn start(roots: &Path, rules: &[Value]) -> Self {
        let destinations = Destinations::default();
        let told = Arc::clone(&destinations);
        let destination = move |client: SocketAddr| told.lock().unwrap().get(&client).copied();
        let inner = InProcess::start(destination, CONFIG, &[roots]).await.unwrap();
        for rule in rules {
            inner.app.rules.create(rule).await.unwrap();
        }
        Self { inner, destinations }
    }
}

/// Loopback, with an agent for every tier that has one.
pub struct Loopback {
    roots: Roots,
    addresses: Addresses,
    /// As [`Tier::Passed`], [`Tier::Interpreted`] and [`Tier::Fired`].
    agents: [Agent; 3],
}

impl Loopback {
    /// A stage whose agents have these rules: none that names a host of `domain`, some that fire for nothing, and those that fire.
    pub async fn set(domain: &str, fired: &[Value]) -> Self {
        let roots = Roots::new();
        let file = roots.file();
        let named = serde_json::json!({"url": format!(r"[a-z0-9-]+\.{}(:\d+)?/never-asked-for", regex(domain)), "status_code": 418});
        let unnamed = serde_json::json!({"url": "elsewhere.test/.*", "status_code": 418});
        let agents = [
            Agent::start(&file, &[unnamed]).await,
            Agent::start(&file, std::slice::from_ref(&named)).await,
            Agent::start(&file, fired).await,
        ];
        Self { roots, addresses: Addresses::default(), agents }
    }

    fn agent(&self, tier: Tier) -> Option<&Agent> {
        match tier {
            Tier::Direct | Tier::Left => None,
            Tier::Passed => Some(&self.agents[0]),
            Tier::Interpreted => Some(&self.agents[1]),
            Tier::Fired => Some(&self.agents[2]),
        }
    }
}

impl Stage for Loopback {
    fn listen(&self) -> TcpListener {
        self.addresses.fresh(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    fn server(&self, domain: &str, alpn: &[&str]) -> Arc<ServerConfig> {
        self.roots.server(&format!("*.{domain}"), alpn)
    }

    fn client(&self, tier: Tier, alpn: &[&str]) -> Arc<ClientConfig> {
        let own = self.agent(tier).map(|agent| agent.inner.app.authority_pem.clone());
        let pems: Vec<String> = [self.roots.pem()].into_iter().chain(own).collect();
        secret::client(&pems.iter().map(String::as_str).collect::<Vec<_>>(), alpn)
    }

    async fn connect(&self, tier: Tier, destination: SocketAddr) -> io::Result<TcpStream> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let Some(agent) = self.agent(tier) else { return socket.connect(destination).await };
        agent.destinations.lock().unwrap().insert(socket.local_addr()?, destination);
        socket.connect(agent.inner.door).await
    }

    async fn verdict(&self, tier: Tier, destination: SocketAddr) -> Option<Judged> {
        let agent = self.agent(tier)?;
        let wanted = destination.to_string();
        let filter = Filter { contains: Some(wanted.clone()), ..Filter::default() };
        until(|| {
            let records = agent.inner.app.journal.connections(&filter).items;
            let record = records.into_iter().find(|record| record.original_dst.as_deref() == Some(&*wanted))?;
            Some((record.verdict, record.reason))
        })
        .await
    }
}

/// Asks for something until it is there, or has had the time to be.
pub async fn until<T>(ask: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = tokio::time::Instant::now() + BOUND;
    loop {
        let found = ask();
        if found.is_some() || tokio::time::Instant::now() > deadline {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn regex(text: &str) -> String {
    text.replace('.', r"\.")
}
