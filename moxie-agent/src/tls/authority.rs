//! The authority of this host: one ECDSA P-256 key, made once, kept 0600, stable over restarts.

use std::path::Path;

use rustls::pki_types::{CertificateDer, ServerName};

/// Why there is no authority, or no leaf from it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Replaced by the real list.
    #[error("authority")]
    Unwritten,
}

/// A certificate authority that signs leaves for names that rules name.
#[derive(Debug)]
pub struct Authority {}

impl Authority {
    /// Opens the authority in `dir`, or makes one (directory 0700, `ca.key` 0600 with `O_EXCL`, `ca.pem` 0644).
    ///
    /// # Errors
    /// What could not be read or made. A key without its certificate, or one that is readable by others, is refused, never replaced.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let _ = dir;
        todo!()
    }

    /// An authority that lives only in memory.
    ///
    /// # Errors
    /// The key could not be generated.
    pub fn ephemeral() -> Result<Self, AuthorityError> {
        todo!()
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        todo!()
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        todo!()
    }

    /// Signs a leaf for `name` (DNS name or IP address): server authentication only, valid from two days ago for 24 hours... see the body.
    ///
    /// # Errors
    /// The key could not be generated or the signature made.
    pub fn mint(&self, name: &ServerName<'_>) -> Result<rustls::sign::CertifiedKey, AuthorityError> {
        let _ = name;
        todo!()
    }
}
