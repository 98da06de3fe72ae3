//! The authority on disk.
//!
//! `ca.key` holds the key and, behind it, the certificate; `ca.pem` is a copy of the latter for people and programs to read.
//! `ca.key` is written whole under another name and then linked: of several first starts one wins and the others read what it
//! made, and no crash leaves half an authority. A missing `ca.pem` is written again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};

use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

pub(super) fn open(dir: &Path, now: Timestamp) -> Result<Authority, AuthorityError> {
    let (key, certificate) = (dir.join("ca.key"), dir.join("ca.pem"));
    make_directory(dir)?;
    // In this order: a key is always there before its certificate is, also while another first start is at work.
    match (exists(&certificate)?, exists(&key)?) {
        (_, true) => {}
        (true, false) => return Err(AuthorityError::Keyless { directory: dir.into() }),
        (false, false) => publish(&Authority::generate(now)?, &key)?,
    }
    let authority = read(dir, &key, &certificate)?;
    authority.refuse_expired(now)?;
    Ok(authority)
}

fn make_directory(dir: &Path) -> Result<(), AuthorityError> {
    let unwritable = |source| AuthorityError::Unwritable { path: dir.into(), source };
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(unwritable)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => return Err(unwritable(source)),
        _ => {}
    }
    refuse_exposed(dir, dir, 0o022, 0o700)
}

fn refuse_exposed(path: &Path, directory: &Path, forbidden: u32, wanted: u32) -> Result<(), AuthorityError> {
    let metadata = fs::metadata(path).map_err(|source| AuthorityError::Unreadable { path: path.into(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & forbidden == 0 {
        return Ok(());
    }
    Err(AuthorityError::Exposed { path: path.into(), directory: directory.into(), mode, wanted })
}

fn exists(path: &Path) -> Result<bool, AuthorityError> {
    path.try_exists().map_err(|source| AuthorityError::Unreadable { path: path.into(), source })
}

/// Makes `ca.key` whole or not at all; the key of another start that was faster stays.
fn publish(authority: &Authority, key: &Path) -> Result<(), AuthorityError> {
    let content = format!("{}{}", authority.issuer.key().serialize_pem(), authority.pem);
    let unwritable = |source| AuthorityError::Unwritable { path: key.into(), source };
    let draft = write_draft(key, 0o600, &content).map_err(unwritable)?;
    let linked = fs::hard_link(&draft, key);
    fs::remove_file(&draft).map_err(unwritable)?;
    match linked {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => Err(unwritable(source)),
        _ => sync_directory(key).map_err(unwritable),
    }
}

/// A complete and synced file beside `path`, that nobody looks for.
fn write_draft(path: &Path, mode: u32, content: &str) -> io::Result<PathBuf> {
    let draft = path.with_extension(format!("{:016x}.draft", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    // The umask took bits away that `ca.pem` needs.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    Ok(draft)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn read(dir: &Path, key: &Path, certificate: &Path) -> Result<Authority, AuthorityError> {
    refuse_exposed(key, dir, 0o077, 0o600)?;
    let malformed = |path: &Path, expected| AuthorityError::Malformed { path: path.into(), expected };
    let secret = read_text(key)?;
    let pair = PrivateKeyDer::from_pem_slice(secret.as_bytes())
        .ok()
        .and_then(|der| KeyPair::try_from(&der).ok())
        .ok_or_else(|| malformed(key, "private key"))?;
    let pem = certificate_pem(&secret, dir, certificate)?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| malformed(certificate, "certificate"))?;
    let (common_name, not_after) = inspect(&der, certificate)?;
    verify_pair(&pair, &der).map_err(|source| AuthorityError::Mismatched { directory: dir.into(), source })?;
    let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(|_| malformed(certificate, "certificate"))?;
    Authority::assemble(issuer, der, pem, common_name, not_after)
}

fn read_text(path: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(path).map_err(|source| AuthorityError::Unreadable { path: path.into(), source })
}

/// The text of `ca.pem`, written again from `ca.key` if it is missing.
fn certificate_pem(secret: &str, dir: &Path, certificate: &Path) -> Result<String, AuthorityError> {
    if exists(certificate)? {
        return read_text(certificate);
    }
    let Some(begin) = secret.find("-----BEGIN CERTIFICATE-----") else {
        return Err(AuthorityError::Half { directory: dir.into() });
    };
    let pem = secret.get(begin..).unwrap_or_default();
    write_draft(certificate, 0o644, pem)
        .and_then(|draft| fs::rename(draft, certificate))
        .and_then(|()| sync_directory(certificate))
        .map_err(|source| AuthorityError::Unwritable { path: certificate.into(), source })?;
    Ok(pem.to_owned())
}

/// Name and end of a certificate that may sign others.
fn inspect(der: &CertificateDer<'_>, path: &Path) -> Result<(String, Timestamp), AuthorityError> {
    let malformed = || AuthorityError::Malformed { path: path.into(), expected: "certificate" };
    let (_, parsed) = X509Certificate::from_der(der).map_err(|_| malformed())?;
    if !parsed.is_ca() {
        return Err(AuthorityError::NotAnAuthority { path: path.into() });
    }
    let common_name = parsed.subject().iter_common_name().find_map(|name| name.as_str().ok());
    let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|_| malformed())?;
    Ok((common_name.unwrap_or("without a name").to_owned(), not_after))
}

fn verify_pair(pair: &KeyPair, der: &CertificateDer<'static>) -> Result<(), rustls::Error> {
    CertifiedKey::new(vec![der.clone()], signing_key(pair)?).keys_match()
}
