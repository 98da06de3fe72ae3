//! A Debian host in a container: systemd is its first process, and one cable leads to the stand-ins and nowhere else.
//!
//! It boots in seconds from an image that is made once (`debootstrap`, the only step that needs a network) and kept below
//! `target/systemd`. One host runs at a time for a working copy; whoever comes second waits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::lab::authority::Authority;
use crate::lab::namespace::Network;
use crate::lab::{self, Files, Finished, Origins, Running, process, sweep};
use crate::rest::Rest;
use crate::{bounds, wait};

mod container;
mod daemon;
mod image;

use container::Container;
use daemon::Daemon;
pub use image::Image;

/// Where the host's clients find the certificate of the lab's authority.
pub const AUTHORITY: &str = "/usr/local/share/ca-certificates/lab.crt";
/// The host's bundle of roots; the lab's authority is in it.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A booted host. Whatever runs on it is killed when it is dropped.
#[derive(Debug)]
pub struct Host {
    // Dropped in this order: the container, the servers, the namespaces, the daemon with its cgroups, the files.
    container: Container,
    origins: Origins,
    _app: Network,
    _net: Network,
    _daemon: Daemon,
    _files: Files,
}

impl Host {
    /// Boots a host and waits until systemd says that it is running. Needs root.
    ///
    /// # Errors
    /// What the system refused; a test that gets this error fails with it.
    pub fn boot() -> Result<Self> {
        Self::boot_from(Image::Small)
    }

    /// Like [`Host::boot`], with more installed.
    ///
    /// # Errors
    /// As [`Host::boot`].
    pub fn boot_from(image: Image) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "the lab boots a host in a container, so it needs root");
        sweep::stale();
        sweep::on_interrupt();
        let name = sweep::name();
        let files = Files::create(&name)?;
        let daemon = Daemon::start(&name, files.path())?;
        let image = image::ensure(&daemon, image)?;
        let container = Container::start(&daemon, &image)?;
        let net = Network::create(format!("{name}-net"))?;
        let app = Network::adopt(format!("{name}-app"), container.pid())?;
        lab::join(&app, &net)?;
        let (trusted, unknown) = (Authority::create("Lab authority")?, Authority::create("Unknown authority")?);
        let origins = Origins::start(&net, &trusted, &unknown)?;
        let host = Self { container, origins, _app: app, _net: net, _daemon: daemon, _files: files };
        host.write(AUTHORITY, trusted.pem())?;
        let roots = fs::read_to_string(host.path(BUNDLE))?;
        host.write(BUNDLE, &(roots + trusted.pem()))?;
        host.await_running()?;
        Ok(host)
    }

    fn await_running(&self) -> Result<()> {
        wait::until("systemd to be running", bounds::PROGRAM, || {
            let state = self.run(&["systemctl", "is-system-running"])?;
            let failed = || self.run(&["systemctl", "--failed", "--no-legend"]).map(|units| units.stdout);
            ensure!(state.stdout.trim() != "degraded", "units failed: {}", failed()?);
            Ok((state.stdout.trim() == "running").then_some(()))
        })
    }

    /// The stand-ins; their names resolve on the host.
    #[must_use]
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// The path by which this process reaches a file of the host.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside.trim_start_matches('/'))
    }

    /// The host's file system, as this process sees it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.container.pid()))
    }

    /// The host's own part of the cgroup hierarchy, as this process sees it.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        self.container.cgroup()
    }

    /// Writes a file of the host; directories that are missing are made.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, inside: &str, text: &str) -> Result<()> {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, text).with_context(|| format!("cannot write {inside} of the host"))
    }

    /// Copies a file onto the host, with its mode.
    ///
    /// # Errors
    /// The file system's.
    pub fn copy(&self, file: &Path, inside: &str) -> Result<()> {
        let copied = fs::copy(file, self.path(inside));
        copied.with_context(|| format!("cannot copy {} to {inside} of the host", file.display()))?;
        Ok(())
    }

    /// Writes a unit file and tells systemd of it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn unit(&self, name: &str, text: &str) -> Result<()> {
        self.write(&format!("/etc/systemd/system/{name}"), text)?;
        self.must(&["systemctl", "daemon-reload"])?;
        Ok(())
    }

    /// A command on the host, as root and outside every unit.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        self.container.exec(words)
    }

    /// Runs a command on the host to its end, whichever that is.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn run(&self, words: &[&str]) -> Result<Finished> {
        process::run(self.command(words))
    }

    /// Starts a command on the host.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, words: &[&str]) -> Result<Running> {
        Running::start(self.command(words))
    }

    /// What a command on the host prints; it has to succeed.
    ///
    /// # Errors
    /// It did not.
    pub fn must(&self, words: &[&str]) -> Result<String> {
        let done = self.run(words)?;
        ensure!(done.status.success(), "{}: {}\n{}{}", words.join(" "), done.status, done.stdout, done.stderr);
        Ok(done.stdout)
    }

    /// A property of a unit (systemctl(1), `show`).
    ///
    /// # Errors
    /// systemd does not answer.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        Ok(self.must(&["systemctl", "show", "--value", "--property", name, unit])?.trim().to_owned())
    }

    /// The journal of a unit.
    ///
    /// # Errors
    /// journald does not answer.
    pub fn journal(&self, unit: &str) -> Result<String> {
        self.must(&["journalctl", "--no-pager", "--output", "cat", "--unit", unit])
    }

    /// The admin API of the agent that the host runs as a service.
    #[must_use]
    pub fn rest(&self) -> Rest {
        Rest::unix(self.path("/run/moxie/admin.sock"))
    }
}
