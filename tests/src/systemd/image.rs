//! The image that hosts boot from: made once by debootstrap from the mirror that this machine's own apt uses.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::daemon::{self, Daemon};
use crate::bounds;
use crate::lab::{Running, process};

const SUITE: &str = "bookworm";
/// Besides the smallest system: what boots it, and the clients that tests run on it.
const PACKAGES: &[&str] = &["systemd", "systemd-sysv", "dbus", "ca-certificates", "curl", "iproute2", "python3"];
/// Downloads that the installed system has no more use for.
const LEFT_OUT: [&str; 2] = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*"];

/// The name of the image, which is made now if it is not there.
pub(super) fn ensure(daemon: &Daemon) -> Result<String> {
    let name = name();
    if !process::run(daemon.client().command(&["image", "inspect", &name]))?.status.success() {
        make(daemon, &name)?;
    }
    Ok(name)
}

/// Another list of packages is another image.
fn name() -> String {
    let mut hasher = DefaultHasher::new();
    (SUITE, PACKAGES).hash(&mut hasher);
    format!("moxie-host:{SUITE}-{:016x}", hasher.finish())
}

fn make(daemon: &Daemon, name: &str) -> Result<()> {
    let directory = daemon::kept().join("rootfs");
    clear(&directory)?;
    eprintln!("making the image of a Debian host, once: debootstrap {SUITE} with {}", PACKAGES.join(" "));
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={}", PACKAGES.join(",")), SUITE]).arg(&directory);
    debootstrap.args(mirror()?);
    build(debootstrap)?;
    let archive = directory.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&archive).arg("--directory").arg(&directory).args(LEFT_OUT).arg(".");
    build(tar)?;
    let mut import = daemon.client().command(&["import"]);
    import.arg(&archive).arg(name);
    build(import)?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
    clear(&directory)
}

fn clear(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

fn build(command: Command) -> Result<()> {
    let what = command.get_program().to_string_lossy().into_owned();
    let done = Running::start(command)?.finish(bounds::BUILD)?;
    let last: Vec<&str> = done.stdout.lines().rev().take(10).collect();
    ensure!(done.status.success(), "{what}: {}\n{}\n{}", done.status, last.join("\n"), done.stderr);
    Ok(())
}

/// Where apt gets this suite from; nothing, which is debootstrap's own choice, if it does not.
fn mirror() -> Result<Option<String>> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Identifier: Packages"]);
    let listed = process::run(apt)?.stdout;
    let uris = listed.lines().filter_map(|line| line.strip_prefix(&format!("{SUITE} main ")));
    Ok(uris.map(str::to_owned).next())
}
