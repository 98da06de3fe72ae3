//! A container daemon of the lab's own: its images are kept, everything else about it goes with the lab.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::lab::{process, sweep};
use crate::{bounds, wait};

/// The daemon sees no other's containerd, and its mounts vanish with it.
const ALONE: &str = "test ! -d /run/containerd || mount -t tmpfs none /run/containerd && exec dockerd \"$@\"";
/// Neither bridges nor packet filter rules: containers of the lab have no way out.
const OPTIONS: [&str; 8] = [
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--exec-opt=native.cgroupdriver=cgroupfs",
    "--shutdown-timeout=2",
    "--log-level=warn",
];

/// A running daemon; ended, with its containers, when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    name: String,
    client: Client,
    child: Child,
    /// Two daemons must not share the images.
    _lock: Flock<File>,
}

/// The client's program, told where the daemon is.
#[derive(Clone, Debug)]
pub(super) struct Client {
    files: PathBuf,
}

impl Client {
    /// A command of the client's with these arguments.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &self.files);
        command.env("DOCKER_HOST", self.address()).args(arguments);
        command
    }

    fn address(&self) -> String {
        format!("unix://{}", self.files.join("docker.sock").display())
    }
}

/// Where the image is kept.
pub(super) fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/systemd")
}

impl Daemon {
    /// Starts one for the lab `name`, whose directory is `files`.
    pub(super) fn start(name: &str, files: &Path) -> Result<Self> {
        let kept = kept();
        fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
        let kept = fs::canonicalize(kept)?;
        let lock = turn(&kept.join("lock"))?;
        let client = Client { files: files.to_path_buf() };
        let log = File::create(files.join("dockerd.log"))?;
        // Not the configuration of a daemon that this machine may have.
        let settings = files.join("dockerd.json");
        fs::write(&settings, "{}")?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", ALONE, "dockerd"])
            .args(OPTIONS)
            .arg(format!("--host={}", client.address()))
            .arg("--config-file")
            .arg(settings)
            .arg("--data-root")
            .arg(kept.join("docker"))
            .arg("--exec-root")
            .arg(files.join("exec"))
            .arg("--pidfile")
            .arg(files.join(sweep::DAEMON))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = process::spawn(&mut command)?;
        let mut daemon = Self { name: name.to_owned(), client, child, _lock: lock };
        daemon.await_ready()?;
        Ok(daemon)
    }

    fn await_ready(&mut self) -> Result<()> {
        let ready = wait::until("the container daemon", bounds::PROGRAM, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("dockerd ended with {status}");
            }
            let answer = process::run(self.client.command(&["version", "--format", "{{.Server.Version}}"]))?;
            Ok(answer.status.success().then_some(()))
        });
        ready.with_context(|| fs::read_to_string(self.client.files.join("dockerd.log")).unwrap_or_default())
    }

    /// The lab's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What talks to it.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        sweep::daemon(&self.name);
        // Gone by now, or killed.
        let _ = self.child.wait();
        sweep::cgroups(&self.name);
    }
}

/// Waits for those before.
fn turn(path: &Path) -> Result<Flock<File>> {
    let mut file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let held = wait::until("the other host in a container to end", bounds::BUILD, || {
        // A failed attempt gives the file back.
        let taken = std::mem::replace(&mut file, File::open(path)?);
        match Flock::lock(taken, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    })?;
    Ok(held)
}
