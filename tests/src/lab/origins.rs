//! Stand-ins for the APIs that clients call: real servers on addresses of their own, which log what they see.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use http::HeaderMap;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::namespace::Network;

mod answer;
mod raw;

/// What a stand-in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTPS on 443 (HTTP/1.1 and HTTP/2) and HTTP on 80, with a certificate of the lab's authority.
    Api,
    /// The same with HTTP/1.1 only.
    OldApi,
    /// The same with a certificate of an authority that clients do not know.
    Untrusted,
    /// HTTP on 80 only.
    Plain,
    /// On 443 and 2525, greets before the client says anything, then sends each byte back.
    Banner,
    /// On 443, sends each byte back.
    Echo,
    /// Nothing listens on its address.
    Absent,
}

/// One name that resolves in the lab.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its name.
    pub host: &'static str,
    /// Its address.
    pub address: &'static str,
    /// What answers there.
    pub kind: Kind,
}

/// Every name that resolves in the lab. The addresses are of the ranges that RFC 5737 and RFC 4193 set aside.
pub const PLACES: &[Place] = &[
    Place { host: "api.customer.io", address: "198.51.100.10", kind: Kind::Api },
    Place { host: "track.customer.io", address: "198.51.100.11", kind: Kind::Api },
    Place { host: "api.cloudflare.com", address: "198.51.100.12", kind: Kind::Api },
    Place { host: "api.github.com", address: "198.51.100.13", kind: Kind::Api },
    Place { host: "test_url.com", address: "198.51.100.14", kind: Kind::Api },
    Place { host: "pinned.example", address: "198.51.100.15", kind: Kind::Api },
    Place { host: "old.example", address: "198.51.100.16", kind: Kind::OldApi },
    Place { host: "untrusted.example", address: "198.51.100.17", kind: Kind::Untrusted },
    Place { host: "plain.example", address: "198.51.100.18", kind: Kind::Plain },
    Place { host: "banner.example", address: "198.51.100.19", kind: Kind::Banner },
    Place { host: "echo.example", address: "198.51.100.20", kind: Kind::Echo },
    Place { host: "absent.example", address: "198.51.100.21", kind: Kind::Absent },
    Place { host: "six.example", address: "fd00:6d6f:7869::10", kind: Kind::Api },
];

/// The place of a name.
///
/// # Errors
/// The lab has no such name.
pub fn place(host: &str) -> Result<&'static Place> {
    PLACES.iter().find(|place| place.host == host).with_context(|| format!("the lab has no {host}"))
}

/// A request as a stand-in saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The stand-in.
    pub host: &'static str,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// Every header, in lower case.
    pub headers: HeaderMap,
    /// Whether it came over TLS.
    pub tls: bool,
}

/// What the stand-ins and the lab share.
#[derive(Debug)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: HashMap<&'static str, AtomicU64>,
    certificates: HashMap<&'static str, CertificateDer<'static>>,
    /// Events that `/events` may send beyond its first.
    events: Arc<Semaphore>,
}

/// The running stand-ins; stopped when dropped.
#[derive(Debug)]
pub struct Origins {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Origins {
    /// Starts every place inside `network`, which has the addresses already.
    pub(crate) fn start(network: &Network, trusted: &Authority, unknown: &Authority) -> Result<Self> {
        Self::start_on(trusted, unknown, |place, port| {
            let address = SocketAddr::new(place.address.parse::<IpAddr>()?, port);
            network.enter(|| std::net::TcpListener::bind(address).context("cannot listen in the lab"))
        })
    }

    /// Starts every place on sockets that `open` gives for it and its port.
    pub(super) fn start_on(
        trusted: &Authority,
        unknown: &Authority,
        mut open: impl FnMut(&'static Place, u16) -> Result<std::net::TcpListener>,
    ) -> Result<Self> {
        let mut certificates = HashMap::new();
        let mut servers = Vec::new();
        for place in PLACES {
            let authority = if place.kind == Kind::Untrusted { unknown } else { trusted };
            let identity = authority.sign(place.host)?;
            certificates.insert(place.host, identity.certificate.clone());
            servers.extend(listeners(place, &mut open, || tls(place.kind, identity))?);
        }
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            connections: PLACES.iter().map(|place| (place.host, AtomicU64::new(0))).collect(),
            certificates,
            events: Arc::new(Semaphore::new(0)),
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || runtime.block_on(serve(servers, for_thread, stopped)));
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// What `host` was asked, oldest first.
    #[must_use]
    pub fn seen(&self, host: &str) -> Vec<Seen> {
        let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|request| request.host == host).cloned().collect()
    }

    /// The paths that `host` was asked for, oldest first.
    #[must_use]
    pub fn paths(&self, host: &str) -> Vec<String> {
        self.seen(host).into_iter().map(|request| request.path).collect()
    }

    /// How many connections `host` accepted.
    #[must_use]
    pub fn connections(&self, host: &str) -> u64 {
        self.shared.connections.get(host).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    /// SHA-256 of the certificate that `host` shows, in lower-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self, host: &str) -> String {
        self.shared.certificates.get(host).map(|der| sha256(der)).unwrap_or_default()
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        // A thread that is gone already needs no stopping.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// One listening socket and what is spoken on it.
struct Server {
    place: &'static Place,
    socket: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
}

fn listeners(
    place: &'static Place,
    open: &mut impl FnMut(&'static Place, u16) -> Result<std::net::TcpListener>,
    tls: impl FnOnce() -> Result<TlsAcceptor>,
) -> Result<Vec<Server>> {
    let mut open = |port| {
        let socket = open(place, port)?;
        socket.set_nonblocking(true)?;
        anyhow::Ok(socket)
    };
    let mut plain = |port| anyhow::Ok(Server { place, socket: open(port)?, tls: None });
    Ok(match place.kind {
        Kind::Absent => vec![],
        Kind::Plain => vec![plain(80)?],
        Kind::Banner => vec![plain(443)?, plain(2525)?],
        Kind::Echo => vec![plain(443)?],
        Kind::Api | Kind::OldApi | Kind::Untrusted => {
            let clear = plain(80)?;
            vec![clear, Server { place, socket: open(443)?, tls: Some(tls()?) }]
        }
    })
}

fn tls(kind: Kind, identity: super::authority::Identity) -> Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key)?;
    config.alpn_protocols = match kind {
        Kind::OldApi => vec![b"http/1.1".to_vec()],
        _ => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(servers: Vec<Server>, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    for server in servers {
        if let Ok(listener) = TcpListener::from_std(server.socket) {
            tokio::spawn(accept(listener, server.place, server.tls, Arc::clone(&shared)));
        }
    }
    // Returning drops the runtime and with it every task and socket.
    let _ = stopped.await;
}

async fn accept(listener: TcpListener, place: &'static Place, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Some(count) = shared.connections.get(place.host) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            // What a client does to its own connection is the client's to report.
            let _ = match (place.kind, tls) {
                (Kind::Banner, _) => raw::greet(stream).await,
                (Kind::Echo, _) => raw::echo(stream).await,
                (_, None) => answer::http1(stream, place, false, shared).await,
                (_, Some(tls)) => answer::tls(stream, tls, place, shared).await,
            };
        });
    }
}

/// FIPS 180-4, by the provider that TLS uses here.
fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let mut text = String::new();
    if let rustls::SupportedCipherSuite::Tls13(suite) = suite {
        for byte in suite.common.hash_provider.hash(bytes).as_ref() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::sha256;

    #[test]
    fn the_fingerprint_is_sha256() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
