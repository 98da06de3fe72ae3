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
/// One client of each kind that reads roots in a way of its own.
const RUNTIMES: &[&str] = &[
    "git",
    "liblwp-protocol-https-perl",
    "libwww-perl",
    "nodejs",
    "openjdk-17-jre-headless",
    // What debootstrap does not find by itself, since it is a virtual package that is asked for.
    "perl-openssl-defaults",
    "php-cli",
    "php-curl",
    "python3-aiohttp",
    "python3-httpx",
    "python3-requests",
    "ruby",
    "wget",
];
/// Downloads that the installed system has no more use for.
const LEFT_OUT: [&str; 2] = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*"];

/// What is installed on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The smallest system that boots, with curl and Python.
    Small,
    /// The same with the runtimes whose trust is tested.
    Runtimes,
}

impl Image {
    fn packages(self) -> Vec<&'static str> {
        match self {
            Self::Small => PACKAGES.to_vec(),
            Self::Runtimes => [PACKAGES, RUNTIMES].concat(),
        }
    }
}

/// The name of the image, which is made now if it is not there.
pub(super) fn ensure(daemon: &Daemon, image: Image) -> Result<String> {
    let packages = image.packages();
    let name = name(&packages);
    if !process::run(daemon.client().command(&["image", "inspect", &name]))?.status.success() {
        make(daemon, &name, &packages)?;
    }
    Ok(name)
}

/// Another list of packages is another image.
fn name(packages: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    (SUITE, packages).hash(&mut hasher);
    format!("moxie-host:{SUITE}-{:016x}", hasher.finish())
}

fn make(daemon: &Daemon, name: &str, packages: &[&str]) -> Result<()> {
    let directory = daemon::kept().join("rootfs");
    clear(&directory)?;
    eprintln!("making the image of a Debian host, once: debootstrap {SUITE} with {}", packages.join(" "));
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={}", packages.join(",")), SUITE]).arg(&directory);
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
