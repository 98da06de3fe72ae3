//! Bundles: somebody's roots and, behind them, the authority. One file for each set of roots, however many variables share it.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;

use super::{TrustError, existing_bundles, write};

/// Whose roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The host's own.
    Host,
    /// Those of a file or directory.
    Named(PathBuf),
}

/// The bundles written so far.
pub(super) struct Bundles<'a> {
    authority: &'a str,
    dir: &'a Path,
    host: PathBuf,
    host_roots: Vec<u8>,
    written: Vec<(Source, PathBuf)>,
}

impl<'a> Bundles<'a> {
    pub(super) fn new(authority: &'a str, dir: &'a Path) -> Result<Self, TrustError> {
        let host = existing_bundles().into_iter().next().unwrap_or_default();
        let host_roots = host_roots(&host)?;
        Ok(Self { authority, dir, host, host_roots, written: Vec::new() })
    }

    /// The host's roots, PEM, without the authority.
    pub(super) fn host_roots(&self) -> &[u8] {
        &self.host_roots
    }

    /// The host's roots and the authority.
    pub(super) fn host(&mut self) -> Result<PathBuf, TrustError> {
        self.bundle("bundle-host.pem", Source::Host, &[])
    }

    /// The bundle for a variable that replaces roots. `bundle.pem` is that of `SSL_CERT_FILE`, which comes first.
    pub(super) fn replacing(
        &mut self,
        variable: &str,
        source: Source,
        preset: &impl Fn(&str) -> Option<String>,
    ) -> Result<PathBuf, TrustError> {
        if variable != "SSL_CERT_FILE" {
            return self.bundle(&file_name("bundle", variable), source, &[]);
        }
        // Some readers (httpx) look into the directory only while no file is named: now that one is, it holds the directory's too.
        let directory = preset("SSL_CERT_DIR").filter(|_| source == Source::Host);
        let more =
            directory.iter().flat_map(std::env::split_paths).flat_map(|dir| directory_roots(&dir)).collect::<Vec<_>>();
        self.bundle("bundle.pem", source, &more)
    }

    /// The file for a variable that adds roots and already names some.
    pub(super) fn extending(&mut self, variable: &str, path: &Path) -> Result<PathBuf, TrustError> {
        self.bundle(&file_name("extra", variable), Source::Named(path.into()), &[])
    }

    fn bundle(&mut self, name: &str, source: Source, more: &[u8]) -> Result<PathBuf, TrustError> {
        let source = self.resolve(source);
        if let Some((_, path)) = self.written.iter().find(|(other, _)| *other == source) {
            return Ok(path.clone());
        }
        let roots = match &source {
            Source::Host => self.host_roots.clone(),
            Source::Named(path) => roots_of(path)?,
        };
        let path = write::file(self.dir, name, &self.with_authority(roots, more))?;
        // With a directory's roots inside it is nobody else's.
        if more.is_empty() {
            self.written.push((source, path.clone()));
        }
        Ok(path)
    }

    /// A variable that names the host's bundle, or one bundle by two paths, needs no bundle of its own.
    fn resolve(&self, source: Source) -> Source {
        let Source::Named(path) = source else { return source };
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        if path == self.host { Source::Host } else { Source::Named(path) }
    }

    fn with_authority(&self, mut roots: Vec<u8>, more: &[u8]) -> Vec<u8> {
        for part in [more, self.authority.as_bytes()] {
            if !roots.is_empty() && !roots.ends_with(b"\n") {
                roots.push(b'\n');
            }
            roots.extend_from_slice(part);
        }
        roots
    }
}

fn file_name(kind: &str, variable: &str) -> String {
    format!("{kind}-{}.pem", variable.to_ascii_lowercase())
}

/// The first of the distributions' bundles; on a host that has none, what this process finds by its own environment.
fn host_roots(bundle: &Path) -> Result<Vec<u8>, TrustError> {
    if bundle.is_file() {
        return read(bundle);
    }
    Ok(to_pem(&rustls_native_certs::load_native_certs().certs))
}

/// A file's bytes as they are, with whatever else its readers understand; a directory's certificates.
fn roots_of(path: &Path) -> Result<Vec<u8>, TrustError> {
    if path.is_dir() { Ok(directory_roots(path)) } else { read(path) }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    std::fs::read(path).map_err(|source| TrustError::Unreadable { path: path.into(), source })
}

fn directory_roots(dir: &Path) -> Vec<u8> {
    to_pem(&rustls_native_certs::load_certs_from_paths(None, Some(dir)).certs)
}

fn to_pem(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut pem = Vec::new();
    for certificate in certificates {
        pem.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
            pem.extend_from_slice(line);
            pem.push(b'\n');
        }
        pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
    }
    pem
}
