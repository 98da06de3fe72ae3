//! What a TLS destination is before the application is shown a certificate of ours: who it is, and which protocol it chooses.
//!
//! A certificate that does not verify must reach the application itself, and what is offered downstream is what the
//! destination chose. So the first connection to a destination that rules name completes a handshake there (it sends no
//! request); the handshaken connection serves the first forwarded request. A destination that cannot be reached is no
//! obstacle: a rule's answer needs none.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ahead::Ahead;
use super::dial::Upstream;
use crate::divert::Origin;

/// How long a first connection waits for its destination before it goes on without.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long at least a destination that asked for a client's certificate may take to say that it wants one.
const OBJECTION: Duration = Duration::from_millis(100);
/// How long a verified destination counts as verified.
const VERIFIED_LASTS: Duration = Duration::from_secs(600);
/// How long a destination that could not be reached, or not be trusted, is believed to be so.
const TROUBLE_LASTS: Duration = Duration::from_secs(30);
/// How many destinations are remembered.
const ENTRIES: usize = 4096;

/// What is known of a TLS destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is who it should be, and chose this protocol (none: it knows no ALPN).
    Verified(Option<Vec<u8>>),
    /// Its certificate does not verify, or its TLS cannot be spoken: the application must meet it itself.
    Unusable,
    /// It did not answer.
    Unreachable,
}

/// Connections that were made before there was a request for them.
#[derive(Debug, Default)]
pub struct Ready {
    /// A plain one.
    pub plain: Option<Ahead>,
    /// A handshaken one.
    pub tls: Option<TlsStream<TcpStream>>,
}

/// A finding, and the connection that is there because of it.
#[derive(Debug)]
pub struct Probed {
    /// What was found.
    pub finding: Finding,
    /// What the first forwarded request may use.
    pub ready: Ready,
}

/// A destination as the application asked for it: address, name, offered protocols.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsTarget {
    /// Where it is.
    pub address: SocketAddr,
    /// Whom its certificate must name.
    pub name: ServerName<'static>,
    /// What is offered to it.
    pub alpn: Vec<Vec<u8>>,
}

/// Findings of late.
#[derive(Debug)]
pub(super) struct Known(Cache<TlsTarget, (Finding, Instant)>);

impl Default for Known {
    fn default() -> Self {
        Self(Cache::new(ENTRIES))
    }
}

impl Known {
    fn find(&self, target: &TlsTarget) -> Option<Finding> {
        let (finding, until) = self.0.get(target)?;
        (until > Instant::now()).then_some(finding)
    }

    fn learn(&self, target: TlsTarget, finding: Finding) {
        let lasts = if matches!(finding, Finding::Verified(_)) { VERIFIED_LASTS } else { TROUBLE_LASTS };
        self.0.insert(target, (finding, Instant::now() + lasts));
    }
}

/// Why a TLS connection to a destination was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It could not be dialled.
    #[error("cannot dial the destination")]
    Dial(#[source] super::DialError),
    /// It was dialled, but its TLS failed.
    #[error("the TLS handshake with the destination failed")]
    Handshake(#[source] io::Error),
}

impl Upstream {
    /// Finds out what `target` is, from what is known or by a handshake. `dialled` is used if given.
    pub async fn probe(&self, target: &TlsTarget, origin: &Origin, dialled: Option<Ahead>) -> Probed {
        if let Some(finding) = self.known.find(target) {
            return Probed { finding, ready: Ready { plain: dialled, tls: None } };
        }
        let connected = timeout(PATIENCE, self.introduce(target, origin, dialled)).await;
        let (finding, tls) = match connected {
            Ok(Ok(stream)) => (Finding::Verified(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)), Some(stream)),
            Ok(Err(ConnectError::Handshake(error))) if is_tls(&error) => (Finding::Unusable, None),
            Ok(Err(_)) | Err(_) => (Finding::Unreachable, None),
        };
        tracing::debug!(address = %target.address, name = ?target.name, ?finding, "destination probed");
        self.known.learn(target.clone(), finding.clone());
        Probed { finding, ready: Ready { plain: None, tls } }
    }

    /// Connects, and where the destination asked for a client's certificate, hears it out: in TLS 1.3 the handshake is over
    /// for us before it objects to there being none (RFC 8446 section 4.4.2.4). Only the application has one to show.
    async fn introduce(
        &self,
        target: &TlsTarget,
        origin: &Origin,
        dialled: Option<Ahead>,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let asked = Arc::new(Asked::default());
        let mut config = (*self.tls.config(&target.alpn)).clone();
        config.client_auth_cert_resolver = Arc::<Asked>::clone(&asked);
        let began = Instant::now();
        let mut stream = self.shake(target, origin, dialled, Arc::new(config)).await?;
        if asked.0.load(Ordering::Relaxed)
            && let Ok(Err(error)) = timeout(began.elapsed().max(OBJECTION), stream.fill_buf()).await
        {
            return Err(ConnectError::Handshake(error));
        }
        Ok(stream)
    }

    /// Makes a verified TLS connection to `target`.
    ///
    /// # Errors
    /// See [`ConnectError`]; a TLS failure is remembered, so that the next connection passes through.
    pub async fn connect(
        &self,
        target: &TlsTarget,
        origin: &Origin,
        dialled: Option<Ahead>,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        self.shake(target, origin, dialled, self.tls.config(&target.alpn)).await
    }

    async fn shake(
        &self,
        target: &TlsTarget,
        origin: &Origin,
        dialled: Option<Ahead>,
        config: Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let stream = match dialled {
            Some(ahead) => ahead.stream().await,
            None => self.dial(origin).await,
        };
        let stream = stream.map_err(ConnectError::Dial)?;
        let connector = TlsConnector::from(config);
        connector.connect(target.name.clone(), stream).await.map_err(|error| {
            if is_tls(&error) {
                self.known.learn(target.clone(), Finding::Unusable);
            }
            ConnectError::Handshake(error)
        })
    }
}

/// Shows no certificate, and remembers that one was asked for.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Whether TLS itself failed, and not only the socket below it.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}
