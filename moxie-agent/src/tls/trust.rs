//! Making a child process trust the authority: one bundle file, the variables of the common runtimes, bundle paths to cover.

use std::path::{Path, PathBuf};

/// Where distributions keep the bundle that OpenSSL, Go and others read.
pub const BUNDLE_PATHS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why trust could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Replaced by the real list.
    #[error("trust")]
    Unwritten,
}

/// What a child needs in order to trust the authority.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Variables to set.
    pub variables: Vec<(String, String)>,
    /// Files to bind: (what, over which existing path).
    pub binds: Vec<(PathBuf, PathBuf)>,
}

/// Writes the files of a trust set into `dir` and says which variables and binds a child needs.
///
/// `preset` is the child's own environment: a variable that is already set keeps its meaning, since its file is merged into the bundle.
///
/// # Errors
/// A file that cannot be read or written, by name.
pub fn prepare(authority_pem: &str, dir: &Path, preset: impl Fn(&str) -> Option<String>) -> Result<Trust, TrustError> {
    let _ = (authority_pem, dir, preset);
    todo!()
}

/// The roots that a child's environment names (`SSL_CERT_FILE` and friends): what `moxie run` adds to the upstream roots.
#[must_use]
pub fn preset_bundles(preset: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let _ = preset;
    todo!()
}
