//! Trust sets for environments that preset nothing, something, and nonsense.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use jiff::Timestamp;
use rustls::pki_types::ServerName;
use tempfile::TempDir;

use super::*;
use crate::tls::authority::Authority;

struct Bench {
    authority: Authority,
    root: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { authority: Authority::ephemeral().unwrap(), root: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    /// A bundle of somebody's private root; gives its path.
    fn bundle(&self, name: &str) -> String {
        fs::write(self.path(name), format!("# {name}\n{}", Authority::ephemeral().unwrap().pem())).unwrap();
        self.path(name)
    }

    fn prepare(&self, preset: &[(&str, &str)]) -> Trust {
        prepare(self.authority.pem(), &self.root.path().join("trust"), env(preset)).unwrap()
    }

    fn read(&self, trust: &Trust, variable: &str) -> String {
        fs::read_to_string(trust.variable(variable).unwrap()).unwrap()
    }
}

fn env(preset: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    |name| preset.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

#[test]
fn without_presets_every_bundle_is_the_host_s_and_the_authority() {
    let bench = Bench::new();
    let trust = bench.prepare(&[]);
    let bundle = bench.read(&trust, "SSL_CERT_FILE");
    assert!(bundle.ends_with(bench.authority.pem()));
    let host = View::Host.bundles().first().map_or(0, |path| certificates(&fs::read_to_string(path).unwrap()).len());
    assert!(certificates(&bundle).len() > host);
    for (variable, _) in REPLACING {
        assert_eq!(trust.variable(variable), Some(bench.path("trust/bundle.pem").as_str()), "{variable}");
    }
    for variable in ADDING {
        assert_eq!(bench.read(&trust, variable), bench.authority.pem(), "{variable}");
    }
    assert_eq!(trust.variable(NIX), None);
    assert_eq!(trust.warnings, Vec::<String>::new());
    assert_eq!(trust.binds.len(), View::Host.bundles().len());
    assert!(trust.binds.iter().all(|(what, over)| what.ends_with("bundle.pem") && over.is_file()));
}

#[test]
fn a_preset_variable_keeps_its_own_roots() {
    let bench = Bench::new();
    let (ssl, requests, node) = (bench.bundle("ssl.pem"), bench.bundle("requests.pem"), bench.bundle("node.pem"));
    let nix = bench.bundle("nix.pem");
    let preset =
        [("SSL_CERT_FILE", &*ssl), ("REQUESTS_CA_BUNDLE", &requests), ("NODE_EXTRA_CA_CERTS", &node), (NIX, &nix)];
    let trust = bench.prepare(&preset);
    let check = |variable: &str, own: &str| {
        let expected = format!("{}{}", fs::read_to_string(own).unwrap(), bench.authority.pem());
        assert_eq!(bench.read(&trust, variable), expected, "{variable}");
    };
    check("SSL_CERT_FILE", &ssl);
    check("CURL_CA_BUNDLE", &ssl);
    check("CARGO_HTTP_CAINFO", &ssl);
    check("REQUESTS_CA_BUNDLE", &requests);
    check("PIP_CERT", &requests);
    check("AWS_CA_BUNDLE", &requests);
    check("NODE_EXTRA_CA_CERTS", &node);
    check(NIX, &nix);
    // Who reads none of these keeps the host's.
    for variable in ["GIT_SSL_CAINFO", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] {
        assert!(!bench.read(&trust, variable).contains("ssl.pem"), "{variable}");
    }
    assert!(trust.binds.iter().all(|(what, _)| !fs::read_to_string(what).unwrap().contains("# ssl.pem")));
    // The user's files are untouched.
    assert!(!fs::read_to_string(&ssl).unwrap().contains(bench.authority.pem()));
}

#[test]
fn the_host_s_bundle_by_its_name_is_the_host_s_bundle() {
    let Some(host) = View::Host.bundles().into_iter().next() else {
        return eprintln!("skipped: this host has no bundle");
    };
    let bench = Bench::new();
    let trust = bench.prepare(&[("SSL_CERT_FILE", host.to_str().unwrap())]);
    assert_eq!(trust.variable("GIT_SSL_CAINFO"), trust.variable("SSL_CERT_FILE"));
}

#[test]
fn a_preset_that_names_nothing_is_a_warning() {
    let bench = Bench::new();
    let missing = bench.path("missing.pem");
    let trust = bench.prepare(&[("SSL_CERT_FILE", &missing), ("NODE_EXTRA_CA_CERTS", "/dev/null"), ("DENO_CERT", "")]);
    let [first, second] = trust.warnings.as_slice() else { panic!("{:?}", trust.warnings) };
    assert!(first.contains("SSL_CERT_FILE") && first.contains(&missing));
    assert!(second.contains("NODE_EXTRA_CA_CERTS"));
    assert!(bench.read(&trust, "SSL_CERT_FILE").ends_with(bench.authority.pem()));
    assert_eq!(bench.read(&trust, "NODE_EXTRA_CA_CERTS"), bench.authority.pem());
}

#[test]
fn roots_of_a_preset_directory_are_in_the_bundle() {
    let bench = Bench::new();
    let root = Authority::ephemeral().unwrap();
    let dir = bench.path("certs");
    fs::create_dir(&dir).unwrap();
    fs::write(format!("{dir}/0123abcd.0"), root.pem()).unwrap();
    let other = Authority::ephemeral().unwrap();
    let trust = bench.prepare(&[("SSL_CERT_DIR", &dir), ("REQUESTS_CA_BUNDLE", &dir)]);
    assert_eq!(trust.variable("SSL_CERT_DIR"), None, "it stays as it is");
    let check = |variable, wanted: bool| {
        let found = certificates(&bench.read(&trust, variable));
        assert_eq!(found.contains(root.der()), wanted, "{variable}");
        assert!(found.contains(bench.authority.der()) && !found.contains(other.der()), "{variable}");
    };
    check("SSL_CERT_FILE", true);
    check("REQUESTS_CA_BUNDLE", true);
    check("GIT_SSL_CAINFO", false);
}

#[test]
fn java_gets_every_root_and_keeps_its_options() {
    let bench = Bench::new();
    let trust = bench.prepare(&[("JAVA_TOOL_OPTIONS", "-Xmx1g")]);
    let options = trust.variable("JAVA_TOOL_OPTIONS").unwrap();
    let store = bench.path("trust/truststore.p12");
    assert!(options.starts_with("-Xmx1g ") && options.contains(&format!("-Djavax.net.ssl.trustStore={store} ")));
    let content = fs::read(&store).unwrap();
    let read =
        p12_keystore::KeyStore::from_pkcs12(&content, "changeit", p12_keystore::Pkcs12ImportPolicy::Relaxed).unwrap();
    assert_eq!(read.entries_len(), certificates(&bench.read(&trust, "GIT_SSL_CAINFO")).len());

    let trust = bench.prepare(&[("JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore=/x")]);
    assert_eq!(trust.variable("JAVA_TOOL_OPTIONS"), None);
    assert!(trust.warnings[0].contains("keytool"));

    let spaced = bench.root.path().join("a b");
    let trust = prepare(bench.authority.pem(), &spaced, |_| None).unwrap();
    let quoted = format!("\"-Djavax.net.ssl.trustStore={}/truststore.p12\" ", spaced.display());
    assert!(trust.variable("JAVA_TOOL_OPTIONS").unwrap().starts_with(&quoted));
}

#[test]
fn php_reads_one_more_directory() {
    let bench = Bench::new();
    let dir = bench.path("trust/php");
    assert_eq!(bench.prepare(&[]).variable("PHP_INI_SCAN_DIR"), Some(&*format!(":{dir}")));
    let trust = bench.prepare(&[("PHP_INI_SCAN_DIR", "/own")]);
    assert_eq!(trust.variable("PHP_INI_SCAN_DIR"), Some(&*format!("/own:{dir}")));
    let settings = fs::read_to_string(format!("{dir}/moxie.ini")).unwrap();
    assert_eq!(settings.matches(&bench.path("trust/bundle.pem")).count(), 2);
}

#[test]
fn every_file_is_readable_by_anyone_and_no_draft_stays() {
    let bench = Bench::new();
    bench.prepare(&[]);
    bench.prepare(&[]);
    let names = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(bench.path(dir)).unwrap().map(Result::unwrap);
        let mut names: Vec<_> = entries
            .inspect(|entry| assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o444, 0o444))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names("trust"), ["bundle.pem", "ca.pem", "php", "truststore.p12"]);
    assert_eq!(names("trust/php"), ["moxie.ini"]);
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let bench = Bench::new();
    let own = bench.bundle("own.pem");
    let preset = [("SSL_CERT_FILE", own.as_str())];
    let stamps = || {
        let entries = fs::read_dir(bench.path("trust")).unwrap().map(Result::unwrap);
        let mut all: Vec<_> =
            entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap())).collect();
        all.sort();
        all
    };
    let dir = bench.root.path().join("trust");
    let place = Place { dir: &dir, shown: &dir, view: &View::Host };
    let is_current = || is_current(place, bench.authority.pem(), env(&preset)).unwrap();
    assert!(!is_current());
    assert_eq!(bench.prepare(&preset).freshness, Freshness::Changed);
    let before = stamps();
    assert!(is_current());
    assert_eq!(bench.prepare(&preset).freshness, Freshness::Unchanged);
    assert_eq!(stamps(), before);
    fs::write(&own, Authority::ephemeral().unwrap().pem()).unwrap();
    assert!(!is_current(), "the unit's own roots are others now");
    assert_eq!(bench.prepare(&preset).freshness, Freshness::Changed);
    let another = Authority::ephemeral().unwrap();
    assert!(is_current() && !super::is_current(place, another.pem(), env(&preset)).unwrap());
}

#[test]
fn the_roots_of_a_container_are_its_own_and_the_paths_are_as_it_sees_them() {
    let bench = Bench::new();
    let (system, named) = (bench.bundle("system.pem"), bench.bundle("named.pem"));
    let root = bench.root.path().join("root");
    fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
    fs::rename(&system, root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    fs::rename(&named, root.join("named.pem")).unwrap();
    let dir = bench.root.path().join("trust");
    let view = View::inside(&root).unwrap();
    let place = Place { dir: &dir, shown: Path::new("/etc/moxie/trust"), view: &view };
    let trust = prepare_at(place, bench.authority.pem(), env(&[("SSL_CERT_FILE", "/named.pem")])).unwrap();
    assert_eq!(trust.variable("SSL_CERT_FILE"), Some("/etc/moxie/trust/bundle.pem"));
    assert_eq!(trust.variable("NODE_EXTRA_CA_CERTS"), Some("/etc/moxie/trust/ca.pem"));
    assert_eq!(trust.variable("PHP_INI_SCAN_DIR"), Some(":/etc/moxie/trust/php"));
    assert!(trust.variable("JAVA_TOOL_OPTIONS").unwrap().contains("=/etc/moxie/trust/truststore.p12 "));
    let [(what, over)] = trust.binds.as_slice() else { panic!("{:?}", trust.binds) };
    assert_eq!(over, Path::new("/etc/ssl/certs/ca-certificates.crt"));
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    assert!(read(what).starts_with("# system.pem") && read(what).ends_with(bench.authority.pem()));
    assert!(read(&dir.join("bundle.pem")).starts_with("# named.pem"));
}

#[test]
fn preset_bundles_are_files_of_roots_each_once() {
    let bench = Bench::new();
    let (first, second) = (bench.bundle("first.pem"), bench.bundle("second.pem"));
    let link = bench.path("link.pem");
    std::os::unix::fs::symlink(&first, &link).unwrap();
    fs::write(bench.path("empty.pem"), "# nothing\n").unwrap();
    let found = preset_bundles(env(&[
        ("SSL_CERT_FILE", &first),
        ("CURL_CA_BUNDLE", &link),
        ("REQUESTS_CA_BUNDLE", &bench.path("missing.pem")),
        ("AWS_CA_BUNDLE", &bench.path("empty.pem")),
        ("GIT_SSL_CAINFO", "/"),
        ("NODE_EXTRA_CA_CERTS", &second),
    ]));
    let real = |path: &str| fs::canonicalize(path).unwrap();
    assert_eq!(found, [real(&first), real(&second)]);
    crate::tls::originate::Originate::load(&found).unwrap();
}

#[test]
fn what_is_no_certificate_is_no_authority() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(prepare("nothing", dir.path(), |_| None), Err(TrustError::Authority { .. })));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let authority = Authority::ephemeral().unwrap();
    let error = prepare(authority.pem(), &file.join("trust"), |_| None).unwrap_err();
    assert!(matches!(&error, TrustError::Unwritable { .. }) && error.to_string().contains("file/trust"));
}

/// Another implementation's opinion of the leaf and the bundle.
#[test]
fn openssl_verifies_a_leaf_by_the_bundle_for_its_name_only() {
    let openssl = Path::new("/usr/bin/openssl");
    if !openssl.exists() {
        let skipped = "skipped: there is no /usr/bin/openssl";
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{skipped}");
        eprintln!("{skipped}");
        return;
    }
    let bench = Bench::new();
    let trust = bench.prepare(&[]);
    let verify = |minted: &str, flag: &str, asked: &str| {
        let leaf = bench.authority.mint(&ServerName::try_from(minted).unwrap(), Timestamp::now()).unwrap();
        let file = bench.path("leaf.der");
        fs::write(&file, &leaf.certified.cert[0]).unwrap();
        let bundle = trust.variable("SSL_CERT_FILE").unwrap();
        let strict = ["verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-CAfile", bundle];
        let output = Command::new(openssl).env_clear().args(strict).args([flag, asked, &file]).output().unwrap();
        output.status.success()
    };
    assert!(verify("api.customer.io", "-verify_hostname", "api.customer.io"));
    assert!(!verify("api.customer.io", "-verify_hostname", "customer.io"));
    assert!(verify("192.0.2.1", "-verify_ip", "192.0.2.1"));
    assert!(!verify("192.0.2.1", "-verify_ip", "192.0.2.2"));
}
