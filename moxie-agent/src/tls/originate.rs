//! TLS toward the destination: verified against the host's own roots and the ones the user added.

use std::path::PathBuf;
use std::sync::Arc;

/// Why there are no roots to verify with.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Replaced by the real list.
    #[error("roots")]
    Unwritten,
}

/// Client configurations toward destinations, one per list of application protocols.
#[derive(Debug)]
pub struct Originate {}

impl Originate {
    /// Loads the system store and the PEM files `extra`.
    ///
    /// # Errors
    /// A file of `extra` that cannot be read or holds no certificate, by name. An empty system store alone is a warning, not an error.
    pub fn load(extra: &[PathBuf]) -> Result<Self, RootsError> {
        let _ = extra;
        todo!()
    }

    /// A client configuration that offers exactly `alpn`.
    #[must_use]
    pub fn config(&self, alpn: &[Vec<u8>]) -> Arc<rustls::ClientConfig> {
        let _ = alpn;
        todo!()
    }
}
