//! Making a child process trust the authority: one bundle file, the variables of the common runtimes, bundle paths to cover.
//!
//! A variable that *replaces* a runtime's roots gets a bundle of the roots it would have had plus the authority; one that *adds* to
//! them gets the authority alone. What the child's environment presets keeps its meaning: its files go into the bundles.
//! Which variable does what in which runtime: docs/guide/trust.md.

mod bundle;
mod java;
mod view;
mod write;

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use bundle::{Bundles, Piece, Source};
pub use view::View;

/// Where distributions keep the bundle that OpenSSL, Go and others read.
pub const BUNDLE_PATHS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Variables that replace a runtime's roots, each with the variables that the runtime reads in its stead when it is not set.
const REPLACING: [(&str, &[&str]); 10] = [
    ("SSL_CERT_FILE", &[]),
    ("CURL_CA_BUNDLE", &["SSL_CERT_FILE"]),
    ("REQUESTS_CA_BUNDLE", &["CURL_CA_BUNDLE"]),
    ("AWS_CA_BUNDLE", &["REQUESTS_CA_BUNDLE"]),
    ("PIP_CERT", &["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]),
    ("CARGO_HTTP_CAINFO", &["SSL_CERT_FILE"]),
    ("PERL_LWP_SSL_CA_FILE", &["SSL_CERT_FILE"]),
    ("GIT_SSL_CAINFO", &[]),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", &[]),
    ("HTTPLIB2_CA_CERTS", &[]),
];
/// Replaces the roots too, but only programs of one distribution read it: left alone unless somebody set it.
const NIX: &str = "NIX_SSL_CERT_FILE";
/// Variables that add to a runtime's roots.
const ADDING: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// Why trust could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file of roots could not be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of the trust set could not be written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Variables are text, and so the directory has to be.
    #[error("{} is not UTF-8; name another directory", path.display())]
    NotText {
        /// The directory.
        path: PathBuf,
    },
    /// What was given as the authority's certificate is none.
    #[error("the authority's certificate is not PEM")]
    Authority {
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The trust store for Java could not be made.
    #[error("cannot make the trust store {}", path.display())]
    JavaStore {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: p12_keystore::error::Error,
    },
}

/// What a child needs in order to trust the authority.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Variables to set.
    pub variables: Vec<(String, String)>,
    /// Files to bind: (what, over which existing path).
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// What the user should know: presets that name nothing, settings that keep a runtime from trusting the authority.
    pub warnings: Vec<String>,
    /// Whether what was written differs from what was there.
    pub freshness: Freshness,
}

/// Whether the files of a trust set had to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Something was written: who has read the files before knows another state.
    Changed,
    /// Every file was there already, as it shall be.
    Unchanged,
}

/// Where a trust set is written, and who is to read it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The directory, for this process.
    pub dir: &'a Path,
    /// The same directory, for the reader.
    pub shown: &'a Path,
    /// The file system of the reader: whose roots are continued, which bundles are covered.
    pub view: &'a View,
}

/// Writes the files of a trust set into `dir` and says which variables and binds a child needs.
///
/// `preset` is the child's own environment: a variable that is already set keeps its meaning, since its file is merged into the bundle.
/// The files are world-readable, since children may run as anyone, and replaced whole, since children may be reading them.
///
/// # Errors
/// A file that cannot be read or written, by name.
pub fn prepare(authority_pem: &str, dir: &Path, preset: impl Fn(&str) -> Option<String>) -> Result<Trust, TrustError> {
    prepare_at(Place { dir, shown: dir, view: &View::Host }, authority_pem, preset)
}

/// As [`prepare`], for a reader that sees other files than this process, or these files elsewhere.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_at(
    place: Place<'_>,
    authority_pem: &str,
    preset: impl Fn(&str) -> Option<String>,
) -> Result<Trust, TrustError> {
    let set = compose(place, authority_pem, &preset)?;
    let mut freshness = Freshness::Unchanged;
    write::directory(place.dir)?;
    write::directory(&place.dir.join("php"))?;
    for piece in &set.pieces {
        if write::file_if_changed(place.dir, &piece.name, &piece.content)? == Freshness::Changed {
            freshness = Freshness::Changed;
        }
    }
    let mut trust = set.trust;
    if trust.variable(java::VARIABLE).is_some() {
        java::write(place.dir, &set.roots, &set.authority, freshness)?;
    }
    trust.freshness = freshness;
    Ok(trust)
}

/// Whether the files in `place.dir` are what [`prepare_at`] would write there now: the same authority, and the roots as they are today.
///
/// # Errors
/// A file of roots that cannot be read, by name.
pub fn is_current(
    place: Place<'_>,
    authority_pem: &str,
    preset: impl Fn(&str) -> Option<String>,
) -> Result<bool, TrustError> {
    let set = compose(place, authority_pem, &preset)?;
    Ok(set.pieces.iter().all(|piece| write::holds(place.dir, &piece.name, &piece.content)))
}

/// A trust set before it is written.
struct Composed {
    trust: Trust,
    pieces: Vec<Piece>,
    roots: Vec<u8>,
    authority: CertificateDer<'static>,
}

fn compose(
    place: Place<'_>,
    authority_pem: &str,
    preset: &impl Fn(&str) -> Option<String>,
) -> Result<Composed, TrustError> {
    let preset = |name: &str| preset(name).filter(|value| !value.is_empty());
    let authority =
        CertificateDer::from_pem_slice(authority_pem.as_bytes()).map_err(|source| TrustError::Authority { source })?;
    let mut trust =
        Trust { variables: Vec::new(), binds: Vec::new(), warnings: Vec::new(), freshness: Freshness::Unchanged };
    let mut bundles = Bundles::new(authority_pem, place.view)?;

    for (variable, instead) in REPLACING {
        let source = chosen((variable, instead), place.view, &preset, &mut trust.warnings);
        trust.set(variable, &place.shown.join(bundles.replacing(variable, source, &preset)?))?;
    }
    if preset(NIX).is_some() {
        let source = chosen((NIX, &[]), place.view, &preset, &mut trust.warnings);
        trust.set(NIX, &place.shown.join(bundles.replacing(NIX, source, &preset)?))?;
    }
    for variable in ADDING {
        let file = match chosen((variable, &[]), place.view, &preset, &mut trust.warnings) {
            Source::Host => "ca.pem".to_owned(),
            Source::Named(path) => bundles.extending(variable, &path)?,
        };
        trust.set(variable, &place.shown.join(file))?;
    }
    let host = place.dir.join(bundles.host()?);
    java::add(&mut trust, place, preset(java::VARIABLE))?;
    let php = add_php(&mut trust, place, &preset)?;
    trust.binds = place.view.bundles().into_iter().map(|covered| (host.clone(), covered)).collect();

    let roots = bundles.host_roots().to_vec();
    let mut pieces = bundles.into_pieces();
    pieces.push(Piece { name: "ca.pem".to_owned(), content: authority_pem.as_bytes().to_vec() });
    pieces.push(php);
    Ok(Composed { trust, pieces, roots, authority })
}

/// Whether a trust set looks at this variable of its reader.
#[must_use]
pub fn is_variable(name: &str) -> bool {
    names_a_file(name) || ["SSL_CERT_DIR", "PHP_INI_SCAN_DIR", java::VARIABLE].contains(&name)
}

/// Whether this variable names a file of roots.
#[must_use]
pub fn names_a_file(name: &str) -> bool {
    REPLACING.iter().any(|(variable, _)| *variable == name) || name == NIX || ADDING.contains(&name)
}

/// The roots that a child's environment names (`SSL_CERT_FILE` and friends): what `moxie run` adds to the upstream roots.
///
/// Only files that exist and hold nothing but good PEM, each once. Directories (`SSL_CERT_DIR`) are left out: what only they hold is not
/// verified upstream, so such a destination passes through untouched.
#[must_use]
pub fn preset_bundles(preset: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let replacing = REPLACING.iter().map(|(variable, _)| *variable);
    let mut found: Vec<PathBuf> = Vec::new();
    for variable in replacing.chain([NIX]).chain(ADDING) {
        let Some(path) = preset(variable).and_then(|value| std::fs::canonicalize(value).ok()) else { continue };
        if !found.contains(&path) && path.is_file() && is_bundle(&path) {
            found.push(path);
        }
    }
    found
}

/// Those of [`preset_bundles`] that are not the system's own, which every agent verifies with.
#[must_use]
pub fn private_bundles(preset: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let system: Vec<PathBuf> = BUNDLE_PATHS.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
    preset_bundles(preset).into_iter().filter(|bundle| !system.contains(bundle)).collect()
}

impl Trust {
    fn set(&mut self, variable: &str, value: &Path) -> Result<(), TrustError> {
        self.variables.push((variable.to_owned(), text(value)?.to_owned()));
        Ok(())
    }

    /// The value given to `variable` so far.
    #[must_use]
    pub fn variable(&self, variable: &str) -> Option<&str> {
        self.variables.iter().find(|(name, _)| name == variable).map(|(_, value)| value.as_str())
    }
}

fn text(path: &Path) -> Result<&str, TrustError> {
    path.to_str().ok_or_else(|| TrustError::NotText { path: path.into() })
}

/// Whose roots the bundle of a variable continues: the file that it, or what stands in for it, names; else the system's.
fn chosen(
    (variable, instead): (&str, &[&str]),
    view: &View,
    preset: &impl Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Source {
    for name in std::iter::once(&variable).chain(instead) {
        let Some(path) = preset(name).map(PathBuf::from) else { continue };
        if view.is_file(&path) || view.is_dir(&path) {
            return Source::Named(path);
        }
        // Said once, for the variable itself, not for each that looks at it.
        if *name == variable {
            warnings
                .push(format!("{name} names {}, which is no file: the host's roots take its place", path.display()));
        }
    }
    Source::Host
}

/// PHP's own settings win over `SSL_CERT_FILE`, and one more directory of settings is read last.
fn add_php(trust: &mut Trust, place: Place<'_>, preset: &impl Fn(&str) -> Option<String>) -> Result<Piece, TrustError> {
    let bundle = trust.variable("SSL_CERT_FILE").unwrap_or_default();
    let settings = format!("openssl.cafile = \"{bundle}\"\ncurl.cainfo = \"{bundle}\"\n");
    // An empty element stands for the directory compiled into PHP.
    let scanned = format!("{}:{}", preset("PHP_INI_SCAN_DIR").unwrap_or_default(), text(&place.shown.join("php"))?);
    trust.variables.push(("PHP_INI_SCAN_DIR".to_owned(), scanned));
    Ok(Piece { name: "php/moxie.ini".to_owned(), content: settings.into_bytes() })
}

/// Whether [`super::originate::Originate::load`] would take the file.
fn is_bundle(path: &Path) -> bool {
    let certificates = || {
        let content = std::fs::read(path).ok()?;
        CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>().ok()
    };
    let usable =
        |found: Vec<CertificateDer<'static>>| rustls::RootCertStore::empty().add_parsable_certificates(found).0 > 0;
    certificates().is_some_and(usable)
}

#[cfg(test)]
mod tests;
