//! TLS toward the destination: verified against the host's own roots and the ones the user added.
//!
//! The host's roots are found as by any Rust program: `SSL_CERT_FILE` and `SSL_CERT_DIR` of the *agent's* environment, where set,
//! stand in for the system store. What a service's environment says does not matter here; `moxie run` hands that in as `extra`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quick_cache::sync::Cache;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

/// Lists of protocols kept: clients of one host offer a handful.
const MAX_CONFIGS: usize = 64;
/// Destinations whose session is remembered, over all lists.
const MAX_SESSIONS: usize = 1024;

/// Why there are no roots to verify with.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file of roots could not be read.
    #[error("cannot read the roots in {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of roots is not PEM.
    #[error("{} is not a PEM file", path.display())]
    NotPem {
        /// Which file.
        path: PathBuf,
        /// Where it breaks.
        source: pem::Error,
    },
    /// A file of roots holds no certificate that can be a root.
    #[error("{} holds no certificate that can be a root", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// The cryptography at hand cannot do TLS 1.2 and 1.3.
    #[error("cannot set up TLS 1.2 and 1.3 toward destinations")]
    Versions {
        /// Why not.
        source: rustls::Error,
    },
}

/// Client configurations toward destinations, one per list of application protocols.
pub struct Originate {
    base: ClientConfig,
    configs: Cache<Vec<Vec<u8>>, Arc<ClientConfig>>,
    roots: usize,
}

impl Originate {
    /// Loads the system store and the PEM files `extra`.
    ///
    /// # Errors
    /// A file of `extra` that cannot be read or holds no certificate, by name. An empty system store alone is a warning, not an error.
    pub fn load(extra: &[PathBuf]) -> Result<Self, RootsError> {
        let mut roots = system_roots();
        for path in extra {
            add_file(&mut roots, path)?;
        }
        Self::with_roots(roots)
    }

    /// A client configuration that offers exactly `alpn`.
    #[must_use]
    pub fn config(&self, alpn: &[Vec<u8>]) -> Arc<ClientConfig> {
        if let Some(config) = self.configs.get(alpn) {
            return config;
        }
        // Two that miss at once make two equal ones; sessions are shared by all of them.
        let mut config = self.base.clone();
        config.alpn_protocols = alpn.to_vec();
        let config = Arc::new(config);
        self.configs.insert(alpn.to_vec(), Arc::clone(&config));
        config
    }

    fn with_roots(roots: RootCertStore) -> Result<Self, RootsError> {
        let count = roots.len();
        // Named here, never taken from the process: a library that set a default would change how destinations are verified.
        let mut base = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| RootsError::Versions { source })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        base.resumption = Resumption::in_memory_sessions(MAX_SESSIONS);
        Ok(Self { base, configs: Cache::new(MAX_CONFIGS), roots: count })
    }
}

impl fmt::Debug for Originate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Originate").field("roots", &self.roots).field("configs", &self.configs.len()).finish()
    }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a part of the system's roots cannot be read");
    }
    let (_, refused) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::warn!(refused, "this host has no roots: no destination verifies, so TLS will pass through untouched");
    }
    roots
}

/// Takes every certificate that can be a root; bundles in the wild hold a few that cannot.
fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), RootsError> {
    let content = std::fs::read(path).map_err(|source| RootsError::Unreadable { path: path.into(), source })?;
    let certificates = CertificateDer::pem_slice_iter(&content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| RootsError::NotPem { path: path.into(), source })?;
    match roots.add_parsable_certificates(certificates) {
        (0, _) => return Err(RootsError::Empty { path: path.into() }),
        (_, 0) => {}
        (added, refused) => tracing::warn!(path = %path.display(), added, refused, "some certificates cannot be roots"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rustls::pki_types::ServerName;
    use rustls::{HandshakeKind, ServerConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::tls::authority::Authority;

    fn protocols(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    fn server(authority: &Authority) -> TlsAcceptor {
        let leaf = authority.mint(&ServerName::try_from("a.example").unwrap(), Timestamp::now()).unwrap();
        let key = Arc::unwrap_or_clone(leaf.certified);
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
        config.alpn_protocols = protocols(&["h2", "http/1.1"]);
        TlsAcceptor::from(Arc::new(config))
    }

    /// One connection to `name`: the protocol agreed on and whether a session was resumed.
    async fn connect(
        config: Arc<ClientConfig>,
        server: &TlsAcceptor,
        name: &'static str,
    ) -> std::io::Result<(Option<Vec<u8>>, Option<HandshakeKind>)> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let serve = async {
            if let Ok(mut stream) = server.accept(far).await {
                let _ = stream.write_all(b"hello").await;
                let _ = stream.shutdown().await;
            }
        };
        let ask = async {
            let name = ServerName::try_from(name).unwrap();
            let mut stream = TlsConnector::from(config).connect(name, near).await?;
            stream.read_to_end(&mut Vec::new()).await?;
            let connection = stream.get_ref().1;
            Ok((connection.alpn_protocol().map(<[u8]>::to_vec), connection.handshake_kind()))
        };
        tokio::join!(serve, ask).1
    }

    fn originate(authority: &Authority) -> (tempfile::TempDir, Originate) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        std::fs::write(&path, authority.pem()).unwrap();
        let originate = Originate::load(&[path]).unwrap();
        (dir, originate)
    }

    #[tokio::test]
    async fn an_added_root_verifies_its_names_and_no_others() {
        let (ours, other) = (Authority::ephemeral().unwrap(), Authority::ephemeral().unwrap());
        let (_dir, originate) = originate(&ours);
        let config = originate.config(&protocols(&["h2"]));
        assert_eq!(connect(Arc::clone(&config), &server(&ours), "a.example").await.unwrap().0.unwrap(), b"h2");
        assert!(connect(Arc::clone(&config), &server(&ours), "b.example").await.is_err());
        assert!(connect(config, &server(&other), "a.example").await.is_err());
    }

    #[tokio::test]
    async fn a_configuration_offers_exactly_its_protocols_and_resumes() {
        let authority = Authority::ephemeral().unwrap();
        let ((_dir, originate), server) = (originate(&authority), server(&authority));
        let ask = |alpn: &[&str]| connect(originate.config(&protocols(alpn)), &server, "a.example");
        assert_eq!(ask(&["http/1.1", "h2"]).await.unwrap(), (Some(b"h2".to_vec()), Some(HandshakeKind::Full)));
        assert_eq!(ask(&["http/1.1"]).await.unwrap(), (Some(b"http/1.1".to_vec()), Some(HandshakeKind::Resumed)));
        assert_eq!(ask(&[]).await.unwrap().0, None);
        assert!(ask(&["spdy/3"]).await.is_err());
    }

    #[test]
    fn configurations_are_kept_and_bounded() {
        let (_dir, originate) = originate(&Authority::ephemeral().unwrap());
        let first = originate.config(&protocols(&["h2"]));
        assert!(Arc::ptr_eq(&first, &originate.config(&protocols(&["h2"]))));
        for odd in 0..1000 {
            let _ = originate.config(&protocols(&[&format!("odd/{odd}")]));
        }
        assert!((1..=MAX_CONFIGS).contains(&originate.configs.len()));
    }

    #[test]
    fn a_file_that_is_of_no_use_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let check = |content: Option<&str>, expected: &str| {
            let path = dir.path().join("roots.pem");
            let _ = std::fs::remove_file(&path);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = Originate::load(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(path.to_str().unwrap()), "{error}");
        };
        check(None, "cannot read");
        check(Some("# nothing\n"), "no certificate");
        check(Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), "not a PEM file");
        check(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "no certificate");
    }
}
