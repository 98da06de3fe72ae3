//! The authority of this host: one ECDSA P-256 key, made once, kept 0600, stable over restarts.
//!
//! Stable, because applications read their roots once: a fresh authority at every start would break those already running.
//! All leaves share one key, made anew at every start; it never leaves this process. One, since making a key costs as much as signing.

mod files;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, SigningKey};

/// Two years. Everything that trusts the authority has to be told again when it is replaced, so it should outlive the usual life of
/// a DEV or STG host; and it should still end by itself on a host that everybody forgot.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(2 * 365 * 24);
/// With the two days before it a week. A leaf is as good as its key, which dies with this process, so a longer life buys nothing;
/// a shorter one would fail applications whose clock runs ahead.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(5 * 24);
/// How far certificates reach back, for applications whose clock runs behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(2 * 24);
/// Longest common name (RFC 5280, ub-common-name).
const MAX_COMMON_NAME: usize = 64;
/// How the name of every authority of Moxie's begins.
const COMMON_NAME: &str = "Moxie ";

/// Why there is no authority, or no leaf from it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or directory of the authority could not be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file or directory of the authority could not be made.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Others may read the key, or write where it is kept: it may have been copied or replaced.
    #[error("{} is open to others (mode {mode:04o}); if nobody can have copied the key: chmod {wanted:04o} {}; else: rm -r {} and start again",
        path.display(), path.display(), directory.display())]
    Exposed {
        /// File or directory.
        path: PathBuf,
        /// The authority's directory.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they have to be.
        wanted: u32,
    },
    /// There is a key and no certificate for it.
    #[error("{0}/ca.key holds no certificate and there is no ca.pem beside it; put ca.pem back, or make a new authority: rm -r {0}",
        directory.display())]
    Half {
        /// The authority's directory.
        directory: PathBuf,
    },
    /// There is a certificate and no key for it.
    #[error("there is {0}/ca.pem but no ca.key beside it; put ca.key back, or make a new authority: rm -r {0}", directory.display())]
    Keyless {
        /// The authority's directory.
        directory: PathBuf,
    },
    /// Not the PEM that belongs there.
    #[error("{} holds no usable {expected}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Key and certificate are of two different authorities.
    #[error("ca.key and ca.pem in {0} do not belong together; put the right one back, or make a new authority: rm -r {0}",
        directory.display())]
    Mismatched {
        /// The authority's directory.
        directory: PathBuf,
        /// What the comparison said.
        source: rustls::Error,
    },
    /// The certificate may not sign others.
    #[error("the certificate in {} is not a certificate authority", path.display())]
    NotAnAuthority {
        /// The certificate.
        path: PathBuf,
    },
    /// The authority's time is over.
    #[error(
        "the authority {common_name} ended at {not_after}; run `moxie ca uninstall`, remove its directory (ca in the state directory) and start again"
    )]
    Expired {
        /// Its name.
        common_name: String,
        /// Its end.
        not_after: Timestamp,
    },
    /// A key could not be generated.
    #[error("cannot generate a key")]
    Generate {
        /// Why not.
        source: rcgen::Error,
    },
    /// A key that was just made is not one that TLS can use.
    #[error("cannot use a generated key for TLS")]
    Unusable {
        /// Why not.
        source: rustls::Error,
    },
    /// A certificate could not be signed.
    #[error("cannot sign a certificate for {name}")]
    Sign {
        /// For whom.
        name: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// The task that mints was ended before it was done.
    #[error("minting a certificate for {name} was interrupted")]
    Interrupted {
        /// For whom.
        name: String,
        /// By what.
        source: tokio::task::JoinError,
    },
}

/// A certificate authority that signs leaves for names that rules name.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    common_name: String,
    not_after: Timestamp,
    leaf_pair: KeyPair,
    leaf_key: Arc<dyn SigningKey>,
}

/// A certificate for one name, with its key.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Chain (leaf, authority) and key.
    pub certified: Arc<CertifiedKey>,
    /// The end of its life.
    pub not_after: Timestamp,
}

impl Authority {
    /// Opens the authority in `dir`, or makes one (directory 0700, `ca.key` 0600 with `O_EXCL`, `ca.pem` 0644).
    ///
    /// # Errors
    /// What could not be read or made. A key without its certificate, or one that is readable by others, is refused, never replaced.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        files::open(dir, Timestamp::now())
    }

    /// An authority that lives only in memory.
    ///
    /// # Errors
    /// The key could not be generated.
    pub fn ephemeral() -> Result<Self, AuthorityError> {
        Self::generate(Timestamp::now())
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs a leaf for `name` (DNS name or IP address; a wildcard is no such name): server authentication only, valid from two days
    /// before `now` to five days after it, but not beyond the authority's own end.
    ///
    /// # Errors
    /// The authority has ended, or the signature could not be made.
    pub fn mint(&self, name: &ServerName<'_>, now: Timestamp) -> Result<Leaf, AuthorityError> {
        self.refuse_expired(now)?;
        let not_after = (now + LEAF_LIFE).min(self.not_after);
        let name = display_name(name);
        let certificate = leaf_params(&name, now, not_after)
            .and_then(|params| params.signed_by(&self.leaf_pair, &self.issuer))
            .map_err(|source| AuthorityError::Sign { name, source })?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(Leaf { certified: Arc::new(CertifiedKey::new(chain, Arc::clone(&self.leaf_key))), not_after })
    }

    fn generate(now: Timestamp) -> Result<Self, AuthorityError> {
        let pair = KeyPair::generate().map_err(|source| AuthorityError::Generate { source })?;
        let common_name = common_name();
        let mut params = base_params(&common_name, now, now + AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate =
            params.self_signed(&pair).map_err(|source| AuthorityError::Sign { name: common_name.clone(), source })?;
        let (certificate, pem) = (certificate.der().clone(), certificate.pem());
        // Certificates count in seconds.
        let not_after = whole_seconds(now + AUTHORITY_LIFE);
        Self::assemble(Issuer::new(params, pair), certificate, pem, common_name, not_after)
    }

    fn assemble(
        issuer: Issuer<'static, KeyPair>,
        certificate: CertificateDer<'static>,
        pem: String,
        common_name: String,
        not_after: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let leaf_pair = KeyPair::generate().map_err(|source| AuthorityError::Generate { source })?;
        let leaf_key = signing_key(&leaf_pair).map_err(|source| AuthorityError::Unusable { source })?;
        Ok(Self { issuer, certificate, pem, common_name, not_after, leaf_pair, leaf_key })
    }

    fn refuse_expired(&self, now: Timestamp) -> Result<(), AuthorityError> {
        if now < self.not_after {
            return Ok(());
        }
        Err(AuthorityError::Expired { common_name: self.common_name.clone(), not_after: self.not_after })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("name", &self.common_name).field("not_after", &self.not_after).finish()
    }
}

/// The name as certificates and cache keys write it: lower-cased, without a trailing dot.
pub(super) fn display_name(name: &ServerName<'_>) -> String {
    let name = name.to_str().to_ascii_lowercase();
    name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
}

fn signing_key(pair: &KeyPair) -> Result<Arc<dyn SigningKey>, rustls::Error> {
    any_supported_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der())))
}

fn leaf_params(name: &str, now: Timestamp, not_after: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let common_name = if name.len() <= MAX_COMMON_NAME { name } else { "Moxie" };
    let mut params = base_params(common_name, now, not_after);
    params.subject_alt_names = vec![match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into()?),
    }];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn base_params(common_name: &str, now: Timestamp, not_after: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(serial());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(now - BACKDATED);
    params.not_after = epoch + since_epoch(not_after);
    params
}

/// A clock before 1970 is read as 1970.
fn since_epoch(moment: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(moment.as_second()).unwrap_or(0))
}

fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

/// Random, positive, 16 bytes long. Not derived from the key, which all leaves share.
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    SerialNumber::from_slice(&bytes)
}

/// Whether a certificate is an authority that some agent made: this host's, another's, or one of before.
#[must_use]
pub fn is_one(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let mut names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    parsed.is_ca() && names.any(|name| name.starts_with(COMMON_NAME))
}

/// `Moxie <hostname> <short id>`: tells the authorities of a fleet apart, and two of one host.
fn common_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(40).collect();
    let host = if host.is_empty() { "host" } else { host.as_str() };
    format!("{COMMON_NAME}{host} {:08x}", rand::random::<u32>())
}

#[cfg(test)]
mod tests;
