//! TLS toward the application: the handshake with a leaf of ours, and how a refusal of it is told from other failures.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, Error as TlsError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why a handshake with the application failed.
#[derive(Debug, thiserror::Error)]
pub enum TerminateError {
    /// It does not trust the authority: it said so, or hung up and is not known to.
    #[error("the client refused the certificate")]
    Refused(#[source] io::Error),
    /// It hung up on seeing our certificate: it refuses without a word, or has just ended.
    #[error("the client hung up during the handshake")]
    HungUp(#[source] io::Error),
    /// Anything else, such as no protocol version in common.
    #[error("the handshake with the client failed")]
    Handshake(#[source] io::Error),
    /// Our own side could not be set up.
    #[error("cannot set up TLS toward the client")]
    Setup(#[source] TlsError),
}

/// Shakes hands with the application, showing `leaf` and offering `alpn` (nothing if empty).
///
/// # Errors
/// See [`TerminateError`].
pub async fn terminate<S>(
    stream: S,
    leaf: Arc<CertifiedKey>,
    alpn: Vec<Vec<u8>>,
) -> Result<TlsStream<S>, TerminateError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = config(leaf, alpn).map_err(TerminateError::Setup)?;
    TlsAcceptor::from(Arc::new(config)).accept(stream).await.map_err(told)
}

/// Sessions are not resumed: a resumed one would outlive the rule that it was looked into for.
fn config(leaf: Arc<CertifiedKey>, alpn: Vec<Vec<u8>>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf)));
    config.alpn_protocols = alpn;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn told(error: io::Error) -> TerminateError {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(TlsError::AlertReceived(alert)) if is_about_the_certificate(*alert) => TerminateError::Refused(error),
        None if is_hang_up(error.kind()) => TerminateError::HungUp(error),
        _ => TerminateError::Handshake(error),
    }
}

fn is_about_the_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied
            | AlertDescription::UserCanceled
    )
}

fn is_hang_up(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: io::Error, expected: &str) {
        let told = format!("{:?}", told(error));
        assert!(told.starts_with(expected), "{told}");
    }

    #[test]
    fn a_refusal_is_told_from_a_hang_up_and_from_other_failures() {
        let tls = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        check(tls(TlsError::AlertReceived(AlertDescription::UnknownCA)), "Refused");
        check(tls(TlsError::AlertReceived(AlertDescription::CertificateUnknown)), "Refused");
        check(tls(TlsError::AlertReceived(AlertDescription::ProtocolVersion)), "Handshake");
        check(tls(TlsError::NoApplicationProtocol), "Handshake");
        check(io::ErrorKind::UnexpectedEof.into(), "HungUp");
        check(io::ErrorKind::ConnectionReset.into(), "HungUp");
    }
}
