//! The files of the authority in every state a crash or an operator can leave them, and leaves as verifiers see them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::UnixTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;

fn name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

fn verify(authority: &Authority, leaf: &Leaf, asked: &str, at: Timestamp) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let [end, intermediates @ ..] = leaf.certified.cert.as_slice() else { panic!("no chain") };
    let at = UnixTime::since_unix_epoch(since_epoch(at));
    verifier.verify_server_cert(end, intermediates, &name(asked), &[], at).map(drop)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn drafts(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().filter(|entry| entry.as_ref().unwrap().path().extension().unwrap() == "draft").count()
}

#[test]
fn a_leaf_is_good_for_its_name_only() {
    let (authority, now) = (Authority::ephemeral().unwrap(), Timestamp::now());
    let check = |minted: &str, good: &[&str], bad: &[&str]| {
        let leaf = authority.mint(&name(minted), now).unwrap();
        leaf.certified.keys_match().unwrap();
        for asked in good {
            verify(&authority, &leaf, asked, now).unwrap();
        }
        for asked in bad {
            assert!(verify(&authority, &leaf, asked, now).is_err(), "{minted} passes for {asked}");
        }
    };
    check(
        "api.customer.io",
        &["api.customer.io", "API.Customer.IO"],
        &["customer.io", "x.api.customer.io", "192.0.2.1"],
    );
    check("API.Customer.io.", &["api.customer.io"], &["b.example"]);
    check("192.0.2.1", &["192.0.2.1"], &["192.0.2.2", "a.example"]);
    check("2001:db8::1", &["2001:db8::1"], &["::1"]);
    let long = format!("{}.example", "a".repeat(63));
    check(&long, &[&long], &["a.example"]);
    let other = Authority::ephemeral().unwrap();
    assert!(verify(&other, &authority.mint(&name("a.example"), now).unwrap(), "a.example", now).is_err());
}

#[test]
fn a_leaf_says_no_more_than_it_must() {
    let (authority, now) = (Authority::ephemeral().unwrap(), Timestamp::now());
    let leaf = authority.mint(&name("a.example"), now).unwrap();
    let (_, parsed) = X509Certificate::from_der(&leaf.certified.cert[0]).unwrap();
    assert!(!parsed.is_ca());
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names, &[GeneralName::DNSName("a.example")]);
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any && usage.other.is_empty());
    let again = authority.mint(&name("a.example"), now).unwrap();
    let (_, again) = X509Certificate::from_der(&again.certified.cert[0]).unwrap();
    assert_ne!(parsed.serial, again.serial);

    let (_, root) = X509Certificate::from_der(authority.der()).unwrap();
    let constraints = root.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca && constraints.value.path_len_constraint == Some(0));
    let usage = root.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature() && !usage.crl_sign());
    assert!(root.subject().to_string().starts_with("CN=Moxie "), "{}", root.subject());
}

#[test]
fn leaves_live_a_week_of_which_two_days_are_past() {
    let (authority, now) = (Authority::ephemeral().unwrap(), Timestamp::now());
    let leaf = authority.mint(&name("a.example"), now).unwrap();
    let second = SignedDuration::from_secs(2);
    verify(&authority, &leaf, "a.example", now - BACKDATED + second).unwrap();
    verify(&authority, &leaf, "a.example", leaf.not_after - second).unwrap();
    assert!(verify(&authority, &leaf, "a.example", now - BACKDATED - second).is_err());
    assert!(verify(&authority, &leaf, "a.example", leaf.not_after + second).is_err());
    assert_eq!(leaf.not_after, now + LEAF_LIFE);
}

#[test]
fn no_leaf_outlives_the_authority() {
    let (authority, hour) = (Authority::ephemeral().unwrap(), SignedDuration::from_hours(1));
    let end = authority.not_after;
    assert_eq!(authority.mint(&name("a.example"), end - hour).unwrap().not_after, end);
    assert!(matches!(authority.mint(&name("a.example"), end), Err(AuthorityError::Expired { .. })));
}

#[test]
fn the_authority_is_made_once_and_read_again() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("state/ca");
    let first = Authority::open(&dir).unwrap();
    assert_eq!((mode(&dir), mode(&dir.join("ca.key")), mode(&dir.join("ca.pem"))), (0o700, 0o600, 0o644));
    let second = Authority::open(&dir).unwrap();
    assert_eq!((first.pem(), first.der(), first.not_after), (second.pem(), second.der(), second.not_after));
    assert_eq!(first.common_name, second.common_name);
    assert_eq!(fs::read_to_string(dir.join("ca.pem")).unwrap(), first.pem());
    let leaf = second.mint(&name("a.example"), Timestamp::now()).unwrap();
    verify(&first, &leaf, "a.example", Timestamp::now()).unwrap();
    assert_eq!(drafts(&dir), 0);
    assert!(!format!("{first:?}").contains("PRIVATE"));
}

#[test]
fn of_many_first_starts_all_get_the_same_authority() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("ca");
    let barrier = std::sync::Barrier::new(8);
    let open = || {
        barrier.wait();
        Authority::open(&dir).unwrap().der().clone()
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(drafts(&dir), 0);
}

#[test]
fn a_crash_between_the_two_files_leaves_a_whole_authority() {
    let dir = tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o700);
    let first = Authority::open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    let second = Authority::open(dir.path()).unwrap();
    assert_eq!(first.der(), second.der());
    assert_eq!(fs::read_to_string(dir.path().join("ca.pem")).unwrap(), first.pem());
}

#[test]
fn what_is_wrong_on_disk_is_refused_and_named() {
    let check = |spoil: &dyn Fn(&Path), expected: &str| {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("ca");
        Authority::open(&dir).unwrap();
        spoil(&dir);
        let after = fs::read(dir.join("ca.key")).ok();
        let error = Authority::open(&dir).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(root.path().to_str().unwrap()), "{error}");
        assert_eq!(fs::read(dir.join("ca.key")).ok(), after, "the key was replaced");
    };
    let other = || Authority::ephemeral().unwrap();
    let key_only = |dir: &Path| fs::write(dir.join("ca.key"), other().issuer.key().serialize_pem()).unwrap();
    check(&|dir| set_mode(&dir.join("ca.key"), 0o640), "chmod 0600");
    check(&|dir| set_mode(&dir.join("ca.key"), 0o604), "mode 0604");
    check(&|dir| set_mode(dir, 0o777), "chmod 0700");
    check(&|dir| fs::remove_file(dir.join("ca.key")).unwrap(), "no ca.key beside it");
    check(&|dir| fs::write(dir.join("ca.key"), "").unwrap(), "holds no usable private key");
    check(&|dir| fs::write(dir.join("ca.pem"), "").unwrap(), "holds no usable certificate");
    check(&|dir| fs::write(dir.join("ca.pem"), other().pem()).unwrap(), "do not belong together");
    check(&key_only, "do not belong together");
    check(
        &|dir| {
            key_only(dir);
            fs::remove_file(dir.join("ca.pem")).unwrap();
        },
        "holds no certificate and there is no",
    );
    check(
        &|dir| {
            let params = CertificateParams::new(vec!["a.example".into()]).unwrap();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        },
        "is not a certificate authority",
    );
}

#[test]
fn an_authority_that_ended_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("ca");
    let now = Timestamp::now();
    files::open(&dir, now).unwrap();
    let day = SignedDuration::from_hours(24);
    files::open(&dir, now + AUTHORITY_LIFE - day).unwrap();
    let error = files::open(&dir, now + AUTHORITY_LIFE + day).unwrap_err();
    assert!(matches!(error, AuthorityError::Expired { .. }) && error.to_string().contains("moxie ca uninstall"));
}

#[test]
fn an_authority_of_moxies_is_told_from_others() {
    let authority = Authority::ephemeral().unwrap();
    assert!(is_one(authority.der()));
    let leaf = authority.mint(&ServerName::try_from("api.customer.io").unwrap(), Timestamp::now()).unwrap();
    assert!(!is_one(&leaf.certified.cert[0]), "it is no authority");
    assert!(!is_one(&CertificateDer::from(vec![1, 2, 3])));
}
