//! The host's own roots: where distributions take additions, and what rebuilds their bundle.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::record;
use super::status::{Item, State};
use crate::cli::exit::Failure;
use crate::cli::output::print;
use crate::tls::authority;
use crate::tls::trust::View;

/// One family of distributions.
#[derive(Debug)]
struct Anchors {
    directory: &'static str,
    rebuild: &'static str,
    /// Given when something was taken out.
    when_removed: &'static [&'static str],
}

/// Debian and its kin, Red Hat and its kin, SUSE, Arch.
const FAMILIES: [Anchors; 4] = [
    Anchors {
        directory: "/usr/local/share/ca-certificates",
        rebuild: "update-ca-certificates",
        when_removed: &["--fresh"],
    },
    Anchors { directory: "/etc/pki/ca-trust/source/anchors", rebuild: "update-ca-trust", when_removed: &[] },
    Anchors { directory: "/etc/pki/trust/anchors", rebuild: "update-ca-certificates", when_removed: &["--fresh"] },
    Anchors { directory: "/etc/ca-certificates/trust-source/anchors", rebuild: "update-ca-trust", when_removed: &[] },
];

/// Whether a file had to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Made,
    NotNeeded,
}

pub(super) fn install(pem: &str) -> Result<(), Failure> {
    let anchors = family(&FAMILIES, Path::new("/"))?;
    let file = anchors.file();
    match write(&file, pem)? {
        Change::NotNeeded => print(&format!("{} is in place already", file.display())),
        Change::Made => {
            rebuild(anchors, &[])?;
            print(&format!("wrote {} and ran {}", file.display(), anchors.rebuild))?;
            print(
                "programs that read the host's roots trust Moxie once they start anew; `moxie ca uninstall` undoes this",
            )
        }
    }
}

pub(super) fn uninstall() -> Result<(), Failure> {
    let anchors = family(&FAMILIES, Path::new("/"))?;
    let file = anchors.file();
    let change = remove(&file)?;
    let (shown, ran) = (file.display(), anchors.rebuild);
    if change == Change::NotNeeded && !is_in_bundle() {
        return print(&format!("{shown} is not there, or not Moxie's: nothing to undo"));
    }
    rebuild(anchors, anchors.when_removed)?;
    let is_left = is_in_bundle();
    match change {
        Change::Made => print(&format!("removed {shown} and ran {ran}"))?,
        Change::NotNeeded if is_left => print(&format!("ran {ran}"))?,
        Change::NotNeeded => print(&format!("{shown} was gone already; ran {ran} for the host's bundle"))?,
    }
    if is_left {
        print(&format!(
            "the host's bundle still has an authority of Moxie's, from another file than {shown}: look for it in {}",
            anchors.directory
        ))?;
    }
    Ok(())
}

/// For undoing everything: a host that takes no additions has none.
pub(super) fn uninstall_if_there() -> Result<(), Failure> {
    let is_there = |anchors: &Anchors| is_ours(&anchors.file()) || is_in_bundle();
    if family(&FAMILIES, Path::new("/")).is_ok_and(is_there) { uninstall() } else { Ok(()) }
}

/// What is found in the host's own roots: nothing, or one thing.
pub(super) fn items(authority: &str) -> Vec<Item> {
    let anchors = family(&FAMILIES, Path::new("/")).ok();
    anchors.and_then(|anchors| item(anchors, authority)).into_iter().collect()
}

fn item(anchors: &Anchors, authority: &str) -> Option<Item> {
    let file = anchors.file();
    let item = Item::new("host", "", vec![file.clone()]);
    if !is_ours(&file) {
        let next = "moxie ca uninstall --host".to_owned();
        return is_in_bundle()
            .then(|| item.found(State::Outdated, "its file is gone, and the host's bundle still has it", Some(next)));
    }
    let holds = |path: &Path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(authority.trim_end()));
    if !holds(&file) {
        return Some(item.found(State::Outdated, "it is another authority", Some("moxie ca install --host".into())));
    }
    let bundles = View::Host.bundles();
    if bundles.iter().any(|bundle| holds(bundle)) || bundles.is_empty() {
        return Some(item.found(State::Ok, "in the host's own roots", None));
    }
    Some(item.found(State::Outdated, "it is not in the host's bundle", Some(anchors.rebuild.to_owned())))
}

impl Anchors {
    fn file(&self) -> PathBuf {
        Path::new(self.directory).join("moxie.crt")
    }
}

/// The first family whose directory is below `root`.
fn family<'a>(families: &'a [Anchors], root: &Path) -> Result<&'a Anchors, Failure> {
    let found = families.iter().find(|anchors| root.join(anchors.directory.trim_start_matches('/')).is_dir());
    found.ok_or_else(|| {
        Failure::failed("this host has none of the directories where distributions take additional roots")
            .next("install the package ca-certificates, or use: moxie ca env")
    })
}

fn write(file: &Path, pem: &str) -> Result<Change, Failure> {
    if std::fs::read_to_string(file).is_ok_and(|present| present == pem) {
        return Ok(Change::NotNeeded);
    }
    if file.exists() && !is_ours(file) {
        return Err(Failure::failed(format!("{} is there and no authority of Moxie's: it stays", file.display()))
            .next("rename that file, then try again"));
    }
    std::fs::write(file, pem).map_err(|error| record::refused("write", file, &error))?;
    Ok(Change::Made)
}

fn remove(file: &Path) -> Result<Change, Failure> {
    if !is_ours(file) {
        return Ok(Change::NotNeeded);
    }
    match std::fs::remove_file(file) {
        Ok(()) => Ok(Change::Made),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Change::NotNeeded),
        Err(error) => Err(record::refused("remove", file, &error)),
    }
}

/// Whether a file holds an authority of Moxie's, this one or one before.
fn is_ours(file: &Path) -> bool {
    let certificate = std::fs::read(file).ok().and_then(|text| CertificateDer::from_pem_slice(&text).ok());
    certificate.is_some_and(|certificate| authority::is_one(&certificate))
}

/// Whether the host's bundle holds an authority of Moxie's, whatever became of the file that it came from.
fn is_in_bundle() -> bool {
    View::Host.bundles().iter().any(|bundle| holds_one(bundle))
}

fn holds_one(bundle: &Path) -> bool {
    let certificates = CertificateDer::pem_file_iter(bundle).into_iter().flatten();
    certificates.flatten().any(|certificate| authority::is_one(&certificate))
}

fn rebuild(anchors: &Anchors, arguments: &[&str]) -> Result<(), Failure> {
    let program = anchors.rebuild;
    let done = Command::new(program).args(arguments).output();
    let done = done.map_err(|error| Failure::because(format_args!("cannot run {program}"), &error))?;
    if done.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&done.stderr);
    Err(Failure::failed(format!("{program} failed: {}", done.status)).details(told.lines().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_and_removing_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("moxie.crt");
        let [one, two] = [(); 2].map(|()| authority::Authority::ephemeral().unwrap());
        assert_eq!(write(&file, one.pem()).unwrap(), Change::Made);
        assert_eq!(write(&file, one.pem()).unwrap(), Change::NotNeeded);
        assert_eq!(write(&file, two.pem()).unwrap(), Change::Made);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), two.pem());
        assert_eq!(remove(&file).unwrap(), Change::Made);
        assert_eq!(remove(&file).unwrap(), Change::NotNeeded);
    }

    #[test]
    fn what_is_not_moxies_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("moxie.crt");
        std::fs::write(&file, "somebody else's").unwrap();
        let own = authority::Authority::ephemeral().unwrap();
        assert!(write(&file, own.pem()).is_err());
        assert_eq!(remove(&file).unwrap(), Change::NotNeeded);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "somebody else's");
    }

    #[test]
    fn an_authority_is_found_among_others() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("ca-certificates.crt");
        let other = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
        std::fs::write(&bundle, &other).unwrap();
        assert!(!holds_one(&bundle));
        std::fs::write(&bundle, other + authority::Authority::ephemeral().unwrap().pem()).unwrap();
        assert!(holds_one(&bundle));
    }

    #[test]
    fn the_family_is_told_by_its_directory() {
        for expected in &FAMILIES {
            let root = tempfile::tempdir().unwrap();
            assert!(family(&FAMILIES, root.path()).is_err());
            std::fs::create_dir_all(root.path().join(expected.directory.trim_start_matches('/'))).unwrap();
            assert_eq!(family(&FAMILIES, root.path()).unwrap().directory, expected.directory);
        }
    }
}
