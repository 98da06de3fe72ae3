//! Debian's kernels, and an emulator that boots them all, by apt itself: from the mirror that this machine is set up with, in a
//! state of our own, so without root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Kernel;
use crate::command::{self, program};

/// The package that depends on the suite's newest kernel for virtual machines.
const NEWEST: &str = "linux-image-cloud-amd64";
/// What the name of a kernel's package begins with.
const IMAGE: &str = "linux-image-";
/// Further packages of one kernel: newer suites split it.
const PARTS: [&str; 3] = ["linux-binary-", "linux-modules-", "linux-base-"];

/// The packages of an emulator that has no screen: the program first, its firmware after it.
const EMULATOR: [&str; 3] = ["qemu-system-x86", "qemu-system-data", "seabios"];

/// An unpacked kernel.
pub(super) struct Unpacked {
    /// As `uname -r` will say it.
    pub(super) release: String,
    /// The package's version.
    pub(super) version: String,
    /// What qemu boots.
    pub(super) image: PathBuf,
    /// Its modules, with the index that modprobe reads.
    pub(super) modules: PathBuf,
}

/// Fetches the newest kernel of a suite and unpacks it below `cache`, unless that was done before.
pub(super) fn fetch(kernel: &Kernel, cache: &Path) -> Result<Unpacked> {
    ensure!(command::is_installed("apt-get"), "Debian's kernels are had by apt, which this machine does not have");
    let apt = Apt::at(&cache.join(kernel.suite), kernel.suite)?;
    apt.update()?;
    let parts = apt.parts()?;
    let first = parts.first().with_context(|| format!("{NEWEST} of {} names no kernel", kernel.suite))?;
    let release = first.strip_prefix(IMAGE).unwrap_or(first).to_owned();
    ensure!(
        release.starts_with(kernel.begins),
        "{} has Linux {release} by now, which is not {}: change the table in xtask/src/vm.rs",
        kernel.suite,
        kernel.name
    );
    let version = apt.version(first)?;
    let root = apt.home.join(format!("{release}_{version}").replace([':', '~'], "_"));
    let stamp = root.join("complete");
    if !stamp.is_file() {
        apt.unpack(&parts, &root)?;
        index(&root, &release)?;
        fs::write(stamp, "")?;
    }
    let modules = root.join("lib/modules").join(&release);
    let images = [root.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = images.into_iter().find(|image| image.is_file());
    let image = image.with_context(|| format!("the packages of Linux {release} hold no kernel"))?;
    Ok(Unpacked { release, version, image, modules })
}

/// Unpacks the packages that make up the emulator of a suite below `cache`, unless that was done before, and gives their root.
pub(super) fn fetch_emulator(suite: &str, cache: &Path) -> Result<PathBuf> {
    ensure!(command::is_installed("apt-get"), "Debian's emulator is had by apt, which this machine does not have");
    let apt = Apt::at(&cache.join(suite), suite)?;
    apt.update()?;
    let version = apt.version(EMULATOR[0])?;
    let root = apt.home.join(format!("qemu_{version}").replace([':', '~'], "_"));
    let stamp = root.join("complete");
    if !stamp.is_file() {
        apt.unpack(&EMULATOR.map(str::to_owned), &root)?;
        fs::write(stamp, "")?;
    }
    Ok(root)
}

/// What the packages' own scripts would do on a host: the index that modprobe reads.
fn index(root: &Path, release: &str) -> Result<()> {
    if !root.join("lib").exists() {
        symlink("usr/lib", root.join("lib"))?;
    }
    let mut depmod = program("depmod");
    depmod.arg("--basedir").arg(root).arg(release);
    command::show(depmod)
}

/// An apt with sources, lists and cache of its own.
struct Apt {
    home: PathBuf,
}

impl Apt {
    fn at(home: &Path, suite: &str) -> Result<Self> {
        for directory in ["lists/partial", "cache/archives/partial", "empty"] {
            fs::create_dir_all(home.join(directory))?;
        }
        let home = home.canonicalize()?;
        let source =
            format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\n", mirror()?);
        fs::write(home.join("debian.sources"), source)?;
        fs::write(home.join("status"), "")?;
        Ok(Self { home })
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut apt = program(name);
        for (option, path) in [
            ("Dir::State::Lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::SourceList", "debian.sources"),
            ("Dir::Etc::SourceParts", "empty"),
            ("Dir::Etc::Preferences", "none"),
            ("Dir::Etc::PreferencesParts", "empty"),
        ] {
            apt.arg("-o").arg(format!("{option}={}", self.home.join(path).display()));
        }
        // As root, apt would fetch as a user who may not write here.
        for option in
            ["APT::Sandbox::User=", "APT::Architecture=amd64", "Acquire::Languages=none", "Acquire::Retries=3"]
        {
            apt.args(["-o", option]);
        }
        apt.args(arguments);
        apt
    }

    fn update(&self) -> Result<()> {
        // Without `any`, a mirror that is not reached is a warning, and what follows goes by old lists or none.
        let update = self.command("apt-get", &["-qq", "update", "--error-on=any"]);
        command::read(update).context("the list of Debian's packages cannot be fetched")?;
        Ok(())
    }

    /// The packages that make up the newest kernel; the first is named after its release.
    fn parts(&self) -> Result<Vec<String>> {
        let image = self.depends(NEWEST)?.into_iter().find(|name| name.starts_with(IMAGE));
        let image = image.with_context(|| format!("{NEWEST} depends on no kernel"))?;
        let others = self.depends(&image)?.into_iter().filter(|name| PARTS.iter().any(|part| name.starts_with(part)));
        Ok(std::iter::once(image.clone()).chain(others).collect())
    }

    fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = command::read(self.command("apt-cache", &["depends", "--important", package]))?;
        Ok(text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
    }

    fn version(&self, package: &str) -> Result<String> {
        let text = command::read(self.command("apt-cache", &["show", "--no-all-versions", package]))?;
        let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
        version.map(str::to_owned).with_context(|| format!("{package} has no version"))
    }

    /// Fetches the packages and unpacks them into `root`.
    fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let fetched = self.home.join("fetched");
        for directory in [fetched.as_path(), root] {
            if directory.exists() {
                fs::remove_dir_all(directory)?;
            }
            fs::create_dir_all(directory)?;
        }
        let mut download = self.command("apt-get", &["-qq", "download"]);
        download.args(packages).current_dir(&fetched);
        command::show(download).context("Debian's packages cannot be fetched")?;
        for package in fs::read_dir(&fetched)? {
            let mut extract = program("dpkg-deb");
            extract.arg("--extract").arg(package?.path()).arg(root);
            command::show(extract)?;
        }
        Ok(fs::remove_dir_all(fetched)?)
    }
}

/// The mirror of Debian that this machine's own apt uses.
fn mirror() -> Result<String> {
    let mut targets = program("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
        "Label: Debian",
    ]);
    let mirrors = command::read(targets)?;
    let first = mirrors.lines().next().map(str::to_owned);
    first.context("this machine's apt knows no mirror of Debian; on Debian, `apt-get update` makes it known")
}
