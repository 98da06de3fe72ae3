//! Java reads no PEM and no variable of the others: it gets a PKCS#12 trust store through `JAVA_TOOL_OPTIONS`.

use std::path::Path;

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Freshness, Place, Trust, TrustError, text, write};

/// Java reads a PKCS#12 store only with a password; it protects nothing, and this is the one every JVM ships with.
const PASSWORD: &str = "changeit";
/// Few, for the same reason: the default of 10,000 would slow down the start of every JVM for nothing.
const ITERATIONS: u32 = 1000;
const FILE: &str = "truststore.p12";
const TRUST_STORE: &str = "javax.net.ssl.trustStore";
/// What every JVM reads.
pub(super) const VARIABLE: &str = "JAVA_TOOL_OPTIONS";

/// Appends the store to the options that are `preset`, unless these name a store already.
pub(super) fn add(trust: &mut Trust, place: Place<'_>, preset: Option<String>) -> Result<(), TrustError> {
    if preset.as_ref().is_some_and(|options| options.contains(TRUST_STORE)) {
        trust.warnings.push(format!(
            "{VARIABLE} names a trust store, which stays: to trust Moxie there, import {} with keytool",
            place.shown.join("ca.pem").display()
        ));
        return Ok(());
    }
    let options = preset.into_iter().chain([
        quoted(&format!("-D{TRUST_STORE}={}", text(&place.shown.join(FILE))?)),
        format!("-D{TRUST_STORE}Password={PASSWORD}"),
        format!("-D{TRUST_STORE}Type=PKCS12"),
    ]);
    trust.variables.push((VARIABLE.to_owned(), options.collect::<Vec<_>>().join(" ")));
    Ok(())
}

/// Writes the store into `dir`. No two stores have the same bytes, so one whose roots did not change stays.
pub(super) fn write(
    dir: &Path,
    roots: &[u8],
    authority: &CertificateDer<'_>,
    freshness: Freshness,
) -> Result<(), TrustError> {
    let path = dir.join(FILE);
    if freshness == Freshness::Unchanged && path.is_file() {
        return Ok(());
    }
    let store = store(roots, authority).map_err(|source| TrustError::JavaStore { path, source })?;
    write::file(dir, FILE, &store)
}

fn store(roots: &[u8], authority: &CertificateDer<'_>) -> p12_keystore::Result<Vec<u8>> {
    let mut store = KeyStore::new();
    store.add_entry("moxie", KeyStoreEntry::Certificate(Certificate::from_der(authority)?));
    // Roots that are no X.509 certificates, or that Java could not read either, are left out.
    let roots = CertificateDer::pem_slice_iter(roots).filter_map(Result::ok);
    for (number, root) in roots.filter_map(|root| Certificate::from_der(&root).ok()).enumerate() {
        store.add_entry(&format!("host-{number}"), KeyStoreEntry::Certificate(root));
    }
    store.writer(PASSWORD).encryption_iterations(ITERATIONS).mac_iterations(ITERATIONS).write()
}

/// The JVM splits at white space outside quotes.
fn quoted(option: &str) -> String {
    if !option.contains(char::is_whitespace) {
        return option.to_owned();
    }
    let quote = if option.contains('"') { '\'' } else { '"' };
    format!("{quote}{option}{quote}")
}
