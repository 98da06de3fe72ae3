//! The host's own roots: where distributions take additions, and what rebuilds their bundle.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::print;

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
    match remove(&file)? {
        Change::NotNeeded => print(&format!("{} is not there: nothing to undo", file.display())),
        Change::Made => {
            rebuild(anchors, anchors.when_removed)?;
            print(&format!("removed {} and ran {}", file.display(), anchors.rebuild))
        }
    }
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
    std::fs::write(file, pem).map_err(|error| refused("write", file, &error))?;
    Ok(Change::Made)
}

fn remove(file: &Path) -> Result<Change, Failure> {
    match std::fs::remove_file(file) {
        Ok(()) => Ok(Change::Made),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Change::NotNeeded),
        Err(error) => Err(refused("remove", file, &error)),
    }
}

fn refused(verb: &str, file: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::because(format_args!("cannot {verb} {}", file.display()), error);
    if error.kind() == ErrorKind::PermissionDenied {
        return failure.with_exit(Exit::Denied).next("sudo moxie ca install (or uninstall)");
    }
    failure
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
        assert_eq!(write(&file, "one").unwrap(), Change::Made);
        assert_eq!(write(&file, "one").unwrap(), Change::NotNeeded);
        assert_eq!(write(&file, "two").unwrap(), Change::Made);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(remove(&file).unwrap(), Change::Made);
        assert_eq!(remove(&file).unwrap(), Change::NotNeeded);
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
