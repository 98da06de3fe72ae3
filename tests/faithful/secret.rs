//! The TLS layer of a party: bytes of the application in, bytes of the wire out, and back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tempfile::TempDir;

use crate::party::End;

/// The TLS state of one connection.
pub struct Secret(rustls::Connection);

/// What came out of the wire's bytes.
#[derive(Debug, Default)]
pub struct Opened {
    /// The application's bytes.
    pub bytes: Vec<u8>,
    /// How the layer ended, where it did with these bytes.
    pub end: Option<End>,
}

impl Secret {
    /// The client's side, which asks for `name`.
    pub fn client(config: &Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        connection.set_buffer_limit(None);
        Self(connection.into())
    }

    /// The server's side.
    pub fn server(config: &Arc<ServerConfig>) -> Self {
        let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
        connection.set_buffer_limit(None);
        Self(connection.into())
    }

    /// Whether bytes of the application have to wait.
    pub fn is_shaking_hands(&self) -> bool {
        self.0.is_handshaking()
    }

    /// The application protocol that was agreed on.
    pub fn agreed(&self) -> Option<String> {
        self.0.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }

    /// The application's bytes as the wire's; nothing yet during the handshake.
    pub fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.writer().write_all(bytes).unwrap();
        self.take_wire()
    }

    /// The word that nothing more comes.
    pub fn seal_end(&mut self) -> Vec<u8> {
        self.0.send_close_notify();
        self.take_wire()
    }

    /// What the layer wants to be sent.
    pub fn take_wire(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut wire).unwrap();
        }
        wire
    }

    /// What the wire's bytes say.
    pub fn open(&mut self, mut wire: &[u8]) -> Opened {
        let mut opened = Opened::default();
        while !wire.is_empty() {
            let taken = self.0.read_tls(&mut wire);
            let Ok(state) = self.0.process_new_packets() else {
                opened.end = Some(End::Broken);
                return opened;
            };
            let mut buffer = [0; 16 * 1024];
            loop {
                match self.0.reader().read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => opened.bytes.extend(&buffer[..count]),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
            if state.peer_has_closed() {
                opened.end = Some(End::Notify);
                return opened;
            }
            if taken.is_err() {
                return opened;
            }
        }
        opened
    }
}

/// An authority that both ends of a direct connection know.
pub struct Roots {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

impl Roots {
    /// A fresh one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), directory }
    }

    /// Its certificate as a file.
    pub fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// A server of `names` that speaks `alpn`.
    pub fn server(&self, names: &str, alpn: &[&str]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![names.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key);
        let mut config = config.unwrap();
        config.alpn_protocols = protocols(alpn);
        // One record for the server's whole last word, so that nothing comes after what a script waits for.
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }
}

/// A client that trusts the authorities in `pems` and speaks `alpn`.
pub fn client(pems: &[&str], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for pem in pems {
        store.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = protocols(alpn);
    Arc::new(config)
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}
