//! Connections to what is asked, in the clear or inside TLS 1.3 with a full handshake each.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Request;

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The next request goes on it.
    Kept,
    /// The other side is asked to close it.
    Closed,
}

/// Whom to ask for what.
#[derive(Clone)]
pub(crate) struct Errand {
    to: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(crate) request: Bytes,
    pub(crate) expect: u16,
}

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Errand {
    pub(crate) fn new(request: &Request, end: End) -> Result<Rc<Self>> {
        let tls = if request.tls { Some((connector()?, ServerName::try_from(request.host.clone())?)) } else { None };
        let close = match end {
            End::Kept => "",
            End::Closed => "Connection: close\r\n",
        };
        let text = format!("GET {} HTTP/1.1\r\nHost: {}\r\n{close}\r\n", request.path, request.host);
        Ok(Rc::new(Self { to: request.to, tls, request: text.into(), expect: request.expect }))
    }

    /// A new connection, ready for the request.
    pub(crate) async fn dial(&self) -> Result<Box<dyn Stream>> {
        #[expect(clippy::disallowed_methods, reason = "the generator is a client, not the data path")]
        let stream = TcpStream::connect(self.to).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => {
                Box::new(connector.connect(name.clone(), stream).await.context("no TLS handshake")?)
            }
        })
    }
}

fn connector() -> Result<TlsConnector> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes every certificate: nothing here is secret, and the time belongs to what is measured.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
