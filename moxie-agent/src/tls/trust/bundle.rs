//! Bundles: somebody's roots and, behind them, the authority. One file for each set of roots, however many variables share it.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::TrustError;
use super::view::View;

/// Whose roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The system's own.
    Host,
    /// Those of a file or directory.
    Named(PathBuf),
}

/// One file of a trust set: its name in the directory, and what it holds.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// The bundles composed so far.
pub(super) struct Bundles<'a> {
    authority: &'a str,
    view: &'a View,
    host: PathBuf,
    host_roots: Vec<u8>,
    composed: Vec<(Source, String)>,
    pieces: Vec<Piece>,
}

impl<'a> Bundles<'a> {
    pub(super) fn new(authority: &'a str, view: &'a View) -> Result<Self, TrustError> {
        let host = view.bundles().into_iter().next().unwrap_or_default();
        let host_roots = host_roots(&host, view)?;
        Ok(Self { authority, view, host, host_roots, composed: Vec::new(), pieces: Vec::new() })
    }

    /// The system's roots, PEM, without the authority.
    pub(super) fn host_roots(&self) -> &[u8] {
        &self.host_roots
    }

    /// The system's roots and the authority; gives the file's name, as the others do.
    pub(super) fn host(&mut self) -> Result<String, TrustError> {
        self.bundle("bundle-host.pem", Source::Host, &[])
    }

    /// The bundle for a variable that replaces roots. `bundle.pem` is that of `SSL_CERT_FILE`, which comes first.
    pub(super) fn replacing(
        &mut self,
        variable: &str,
        source: Source,
        preset: &impl Fn(&str) -> Option<String>,
    ) -> Result<String, TrustError> {
        if variable != "SSL_CERT_FILE" {
            return self.bundle(&file_name("bundle", variable), source, &[]);
        }
        // Some readers (httpx) look into the directory only while no file is named: now that one is, it holds the directory's too.
        let directory = preset("SSL_CERT_DIR").filter(|_| source == Source::Host);
        let view = self.view;
        let more = directory.iter().flat_map(std::env::split_paths).flat_map(|dir| directory_roots(&dir, view));
        let more: Vec<u8> = more.collect();
        self.bundle("bundle.pem", source, &more)
    }

    /// The file for a variable that adds roots and already names some.
    pub(super) fn extending(&mut self, variable: &str, path: &Path) -> Result<String, TrustError> {
        self.bundle(&file_name("extra", variable), Source::Named(path.into()), &[])
    }

    /// Everything composed, to be written.
    pub(super) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    fn bundle(&mut self, name: &str, source: Source, more: &[u8]) -> Result<String, TrustError> {
        let source = self.resolve(source);
        if let Some((_, name)) = self.composed.iter().find(|(other, _)| self.is_one(other, &source)) {
            return Ok(name.clone());
        }
        let roots = match &source {
            Source::Host => self.host_roots.clone(),
            Source::Named(path) => roots_of(path, self.view)?,
        };
        let content = self.with_authority(roots, more);
        self.pieces.push(Piece { name: name.to_owned(), content });
        // With a directory's roots inside it is nobody else's.
        if more.is_empty() {
            self.composed.push((source, name.to_owned()));
        }
        Ok(name.to_owned())
    }

    /// A variable that names the system's bundle needs none of its own.
    fn resolve(&self, source: Source) -> Source {
        match source {
            Source::Named(path) if self.view.is_same(&path, &self.host) => Source::Host,
            other => other,
        }
    }

    /// One bundle by two names is one bundle.
    fn is_one(&self, one: &Source, other: &Source) -> bool {
        match (one, other) {
            (Source::Host, Source::Host) => true,
            (Source::Named(one), Source::Named(other)) => one == other || self.view.is_same(one, other),
            _ => false,
        }
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
fn host_roots(bundle: &Path, view: &View) -> Result<Vec<u8>, TrustError> {
    if view.is_file(bundle) {
        return read(bundle, view);
    }
    match view {
        View::Host => Ok(to_pem(&rustls_native_certs::load_native_certs().certs)),
        // A container without roots trusts nobody; it is not given the host's.
        View::Inside(_) => Ok(Vec::new()),
    }
}

/// A file's bytes as they are, with whatever else its readers understand; a directory's certificates.
fn roots_of(path: &Path, view: &View) -> Result<Vec<u8>, TrustError> {
    if view.is_dir(path) { Ok(directory_roots(path, view)) } else { read(path, view) }
}

fn read(path: &Path, view: &View) -> Result<Vec<u8>, TrustError> {
    view.read(path).map_err(|source| TrustError::Unreadable { path: path.into(), source })
}

/// What OpenSSL would find in a directory: files named after the hash of a subject, as c_rehash(1) makes them.
fn directory_roots(dir: &Path, view: &View) -> Vec<u8> {
    let mut found: Vec<CertificateDer<'static>> = Vec::new();
    let hashed = view.entries(dir).unwrap_or_default().into_iter().filter(|path| is_hashed(path));
    for content in hashed.filter_map(|path| view.read(&path).ok()) {
        for certificate in CertificateDer::pem_slice_iter(&content).filter_map(Result::ok) {
            if !found.contains(&certificate) {
                found.push(certificate);
            }
        }
    }
    to_pem(&found)
}

fn is_hashed(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('.'));
    name.is_some_and(|(hash, number)| {
        hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && number.parse::<u32>().is_ok()
    })
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
