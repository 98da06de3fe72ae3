//! Containers to come: one Container Device Interface specification, and `--device moxie.dev/ca=all` gives a container all of it.
//!
//! Format: github.com/cncf-tags/container-device-interface, `SPEC.md`. Docker 25 and later, Podman 4.1 and later and containerd 1.7 and
//! later read `/etc/cdi` and `/run/cdi`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::record::{self, Moment, Record};
use super::status::{Item, State};
use super::{env, users};
use crate::cli::destination::followed;
use crate::cli::exit::Failure;
use crate::cli::output::print;
use crate::tls::trust::{self, Place, Trust, View};

/// Where the specification is written unless asked for elsewhere; gone after a reboot, as `/run` is.
pub(super) const FILE: &str = "/run/cdi/moxie.json";
/// The other place that runtimes read.
const LASTING: &str = "/etc/cdi/moxie.json";
const KIND: &str = "moxie.dev/ca";
const DEVICE: &str = "moxie.dev/ca=all";

pub(super) fn install(file: &Path, authority: &str, trust: &Path) -> Result<(), Failure> {
    let file = &target(file)?;
    if file.exists() && !is_ours(file) {
        return Err(Failure::failed(format!("{} is there and not Moxie's: it stays", file.display()))
            .next("another name: moxie ca install --cdi FILE"));
    }
    let prepared = env::for_any_container(authority, trust)?;
    record::write_public(file, &format!("{:#}\n", specification(&prepared, trust)))?;
    let mut files = known(trust);
    if !files.contains(file) {
        files.push(file.clone());
    }
    Record { name: DEVICE.into(), changed: Moment::now(), files, ..Record::default() }.write(&record_file(trust))?;
    print(&format!("wrote {}", file.display()))?;
    if file.parent().is_none_or(|directory| directory != Path::new("/run/cdi") && directory != Path::new("/etc/cdi")) {
        print("runtimes look into /etc/cdi and /run/cdi, unless they are told of another directory")?;
    }
    print(&format!("  next: docker run --device {DEVICE} … (Docker 25 and later; podman run takes the same)"))
}

pub(super) fn uninstall(file: Option<&Path>, trust: &Path) -> Result<(), Failure> {
    let all = match file {
        Some(file) => vec![target(file)?],
        None => known(trust),
    };
    let mut removed = 0;
    for file in all.iter().filter(|file| is_ours(file)) {
        record::remove(file)?;
        print(&format!("removed {}", file.display()))?;
        removed += 1;
    }
    if removed == 0 {
        print("there is no specification of Moxie's: nothing to undo")?;
    }
    let was_installed = removed > 0 || record_file(trust).exists();
    let left: Vec<PathBuf> = known(trust).into_iter().filter(|file| is_ours(file)).collect();
    if !left.is_empty() {
        return Record { name: DEVICE.into(), changed: Moment::now(), files: left, ..Record::default() }
            .write(&record_file(trust));
    }
    record::remove(&record_file(trust))?;
    let dir = env::any_container(trust);
    if !was_installed || !dir.exists() {
        return Ok(());
    }
    if env::is_handed_out(&dir) {
        return print(&format!("{} stays: `moxie ca env` has handed it out", dir.display()));
    }
    if !users::of(&dir).is_empty() {
        return print(&format!("{} stays: containers that were made with it run", dir.display()));
    }
    record::remove_dir(&dir)
}

/// The file that is meant, by no symbolic link at its end.
fn target(file: &Path) -> Result<PathBuf, Failure> {
    followed(file)
        .and_then(std::path::absolute)
        .map_err(|error| Failure::because(format_args!("cannot use {}", file.display()), &error))
}

/// The usual places, and those that were asked for.
fn known(trust: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = [FILE, LASTING].map(PathBuf::from).into_iter().filter(|file| is_ours(file)).collect();
    for file in Record::read(&record_file(trust)).into_iter().flat_map(|record| record.files) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

fn record_file(trust: &Path) -> PathBuf {
    trust.join("cdi.json")
}

fn is_ours(file: &Path) -> bool {
    // Reading what is no regular file may take for ever.
    let content = file.is_file().then(|| std::fs::read(file).ok()).flatten();
    let content = content.and_then(|content| serde_json::from_slice::<Value>(&content).ok());
    content.is_some_and(|content| content["kind"] == KIND)
}

/// 0.3.0 is the first version of the format that all those runtimes take.
pub(super) fn specification(prepared: &Trust, trust: &Path) -> Value {
    let variables = prepared.variables.iter().map(|(name, value)| json!(format!("{name}={value}")));
    let mounts = env::mounts(prepared, &env::any_container(trust)).into_iter().map(|(host, container)| {
        json!({"hostPath": host, "containerPath": container, "options": ["ro", "bind", "nosuid", "nodev", "noexec"]})
    });
    let edits = json!({"env": variables.collect::<Vec<_>>(), "mounts": mounts.collect::<Vec<_>>()});
    json!({"cdiVersion": "0.3.0", "kind": KIND, "devices": [{"name": "all", "containerEdits": edits}]})
}

pub(super) fn items(authority: &str, trust: &Path) -> Vec<Item> {
    known(trust).iter().map(|file| item(file, authority, trust)).collect()
}

fn item(file: &Path, authority: &str, trust: &Path) -> Item {
    let dir = env::any_container(trust);
    let name = file.display().to_string();
    let item = Item::new("cdi", &name, vec![file.to_path_buf(), dir.clone()]);
    let again = format!("moxie ca install --cdi {name}");
    if !is_ours(file) {
        return item.found(State::Gone, "the specification is gone, as after a reboot", Some(again));
    }
    let place = Place { dir: &dir, shown: Path::new(super::SHOWN), view: &View::Host };
    match trust::is_current(place, authority, |_| None) {
        Ok(true) => item.found(State::Ok, format!("for containers made with --device {DEVICE}"), None),
        Ok(false) => item.found(State::Outdated, "the authority or the host's roots have changed", Some(again)),
        Err(error) => item.found(State::Outdated, crate::cli::exit::chain(&error), Some(again)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::tls::authority::Authority;

    #[test]
    fn a_symbolic_link_stays_and_what_is_no_specification_of_ours_too() {
        let authority = Authority::ephemeral().unwrap();
        let root = tempfile::tempdir().unwrap();
        let (trust, file, link) = (root.path().join("trust"), root.path().join("moxie.json"), root.path().join("link"));
        symlink("moxie.json", &link).unwrap();
        for _ in 0..2 {
            install(&link, authority.pem(), &trust).unwrap();
            assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink() && is_ours(&file));
        }
        uninstall(Some(&link), &trust).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink() && !file.exists());

        let fifo = root.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(install(&fifo, authority.pem(), &trust).is_err());
        uninstall(Some(&fifo), &trust).unwrap();
        assert!(fifo.exists());
    }

    #[test]
    fn what_was_handed_out_outlives_what_is_uninstalled() {
        let authority = Authority::ephemeral().unwrap();
        let root = tempfile::tempdir().unwrap();
        let (trust, file) = (root.path().join("trust"), root.path().join("moxie.json"));
        let bundle = env::any_container(&trust).join("bundle.pem");
        let remove = || uninstall(Some(&file), &trust).unwrap();

        env::for_any_container(authority.pem(), &trust).unwrap();
        remove();
        assert!(bundle.exists(), "nothing was installed");

        install(&file, authority.pem(), &trust).unwrap();
        remove();
        assert!(!file.exists() && !bundle.exists(), "what was installed used it alone");

        install(&file, authority.pem(), &trust).unwrap();
        env::hand_out(&env::any_container(&trust));
        remove();
        assert!(!file.exists() && bundle.exists(), "handed out meanwhile");
    }
}
