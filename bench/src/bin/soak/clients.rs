//! The service: clients of every kind at the same time, each of which knows what has to come.

use std::cell::RefCell;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::calls::{Call, Came, Kind, Sender};
use crate::oracle::{Anomaly, Oddity, Totals, now};

/// Calls on a connection before a new one is made.
const KEPT: u32 = 40;
/// Pause between the calls of a client.
const PACE: Duration = Duration::from_millis(10);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(15);
/// How long clients may take to end.
const END: Duration = Duration::from_secs(20);

/// One client.
#[derive(Clone, Copy, Debug)]
struct Client {
    name: &'static str,
    kinds: &'static [Kind],
    is_ruled: bool,
    is_tls: bool,
    version: Version,
    /// Calls before its connection is closed.
    calls: u32,
    /// How much slower than [`PACE`].
    slower: u32,
}

const fn client(name: &'static str, kinds: &'static [Kind]) -> Client {
    Client { name, kinds, is_ruled: false, is_tls: true, version: Version::HTTP_11, calls: KEPT, slower: 1 }
}

const EVERY: &[Kind] = &[Kind::Bytes, Kind::Echo, Kind::Bytes, Kind::Pieces];
const ANSWERED: &[Kind] = &[Kind::Mocked, Kind::Mocked, Kind::Late, Kind::Bytes];

/// Who there is: kept and new connections, in the clear and inside TLS, of hosts that rules name and of others.
const CLIENTS: &[Client] = &[
    Client { is_tls: false, ..client("kept, in the clear", EVERY) },
    Client { is_tls: false, calls: 1, ..client("new, in the clear", EVERY) },
    client("kept, TLS", EVERY),
    Client { calls: 1, ..client("new, TLS", EVERY) },
    Client { is_ruled: true, ..client("kept, ruled", EVERY) },
    Client { is_ruled: true, calls: 1, ..client("new, ruled", EVERY) },
    Client { is_ruled: true, is_tls: false, ..client("kept, ruled, in the clear", EVERY) },
    Client { is_ruled: true, ..client("mocked", ANSWERED) },
    Client { is_ruled: true, calls: 1, ..client("mocked, new", ANSWERED) },
    Client { is_ruled: true, is_tls: false, ..client("mocked, in the clear", ANSWERED) },
    Client { version: Version::HTTP_2, ..client("HTTP/2", EVERY) },
    Client { is_ruled: true, version: Version::HTTP_2, ..client("HTTP/2, ruled", EVERY) },
    Client { is_ruled: true, version: Version::HTTP_2, ..client("HTTP/2, mocked", ANSWERED) },
    Client { calls: 1, slower: 30, ..client("cut or stalled", &[Kind::Cut, Kind::Stall]) },
    Client { is_ruled: true, calls: 1, slower: 30, ..client("cut or stalled, ruled", &[Kind::Cut, Kind::Stall]) },
];

/// What all clients share.
struct Shared {
    address: IpAddr,
    tls: [TlsConnector; 2],
    totals: RefCell<Totals>,
    over: CancellationToken,
}

/// Calls until it is told to end, and then says what it came to; what is odd it says at once.
pub(crate) async fn call(address: IpAddr, roots: &Path, seed: u64) -> Result<()> {
    let over = CancellationToken::new();
    let tls = [connector(roots, b"http/1.1")?, connector(roots, b"h2")?];
    let shared = Rc::new(Shared { address, tls, totals: RefCell::default(), over: over.clone() });
    let local = LocalSet::new();
    let mut terminate = signal(SignalKind::terminate())?;
    local
        .run_until(async {
            let clients: Vec<_> = (seed..)
                .zip(CLIENTS)
                .map(|(seed, client)| spawn_local(run(*client, StdRng::seed_from_u64(seed), Rc::clone(&shared))))
                .collect();
            terminate.recv().await;
            over.cancel();
            for client in clients {
                // One that does not end is told of by what it does not report.
                let _ = timeout(END, client).await;
            }
        })
        .await;
    println!("{}", serde_json::to_string(&*shared.totals.borrow())?);
    Ok(())
}

fn connector(roots: &Path, protocol: &[u8]) -> Result<TlsConnector> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&fs::read(roots)?) {
        store.add(root?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn run(client: Client, mut dice: StdRng, shared: Rc<Shared>) {
    while !shared.over.is_cancelled() {
        let opened = now();
        let done = timeout(CONNECT, connect(client, &mut dice, &shared)).await;
        let connection = match done {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tell(client, Oddity::Failed, format!("{error:#}"), opened);
                sleep(PACE * 10).await;
                continue;
            }
            Err(_) => {
                tell(client, Oddity::Failed, format!("not connected in {CONNECT:?}"), opened);
                continue;
            }
        };
        converse(client, connection, opened, &mut dice, &shared).await;
    }
}

/// Calls on one connection for as long as it lasts.
async fn converse(client: Client, mut connection: Connection, opened: f64, dice: &mut StdRng, shared: &Shared) {
    for _ in 0..client.calls {
        if shared.over.is_cancelled() || !connection.is_ready().await {
            return;
        }
        let kind = client.kinds.get(dice.random_range(0..client.kinds.len())).copied().unwrap_or(Kind::Bytes);
        let came = Call::new(kind, client.is_ruled, dice.random()).make(&mut connection, client.version).await;
        let is_over = came == Came::RightAndOver;
        match came {
            Came::Right | Came::RightAndOver => {
                *shared.totals.borrow_mut().calls.entry(client.name.to_owned()).or_default() += 1;
            }
            Came::Unsent => return,
            Came::Odd(oddity, text) => {
                tell(client, oddity, format!("{kind:?}: {text}"), opened);
                if oddity != Oddity::Direct {
                    return;
                }
            }
        }
        sleep(PACE * client.slower).await;
        if is_over {
            return;
        }
    }
}

fn tell(client: Client, oddity: Oddity, text: String, opened: f64) {
    let anomaly = Anomaly { kind: client.name.to_owned(), oddity, text, opened, ended: now() };
    // What cannot be written has nobody who reads it.
    if let Ok(line) = serde_json::to_string(&anomaly) {
        println!("{line}");
    }
}

/// A connection that requests go on.
enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::One(sender) => sender.ready().await.is_ok(),
            Self::Two(sender) => sender.ready().await.is_ok(),
        }
    }
}

impl Sender for Connection {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => sender.send_request(request).await,
            Self::Two(sender) => sender.send_request(request).await,
        }
    }
}

async fn connect(client: Client, dice: &mut StdRng, shared: &Shared) -> Result<Connection> {
    // Only the name differs; the address is the same for both hosts, as behind a shared front.
    let host = Call::new(Kind::Bytes, client.is_ruled, dice.random()).host;
    let address = SocketAddr::new(shared.address, if client.is_tls { 443 } else { 80 });
    #[expect(clippy::disallowed_methods, reason = "a client, not the data path")]
    let stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    if !client.is_tls {
        return shake(stream, client.version).await;
    }
    let [one, two] = &shared.tls;
    let connector = if client.version == Version::HTTP_2 { two } else { one };
    let stream = connector.connect(ServerName::try_from(host)?, stream).await.context("TLS handshake")?;
    shake(stream, client.version).await
}

async fn shake<S>(stream: S, version: Version) -> Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    // How the connection ends is seen by the call that is on it.
    if version == Version::HTTP_2 {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.context("HTTP/2 preface")?;
        tokio::spawn(connection);
        return Ok(Connection::Two(sender));
    }
    let (sender, connection) = http1::handshake(io).await.context("HTTP/1")?;
    tokio::spawn(connection);
    Ok(Connection::One(sender))
}
