//! Two network namespaces joined by one cable, with no route to anywhere else, and a mount namespace in which names resolve.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::sweep;

/// A named network namespace; its processes are killed and its name removed when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    file: OwnedFd,
}

impl Network {
    pub(crate) fn create(name: String) -> Result<Self> {
        ip(&["netns", "add", &name], "")?;
        let path = Path::new("/run/netns").join(&name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?.into();
        Ok(Self { name, file })
    }

    /// The namespace of a process, which gets a name.
    pub(crate) fn adopt(name: String, pid: u32) -> Result<Self> {
        ip(&["netns", "attach", &name, &pid.to_string()], "")?;
        let path = Path::new("/run/netns").join(&name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?.into();
        Ok(Self { name, file })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Runs lines of `ip` inside this namespace.
    pub(super) fn configure(&self, lines: &str) -> Result<()> {
        ip(&["-n", &self.name, "-batch", "-"], lines)
    }

    /// Calls `work` on a thread of its own that is inside this namespace.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
            work()
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        sweep::namespace(&self.name);
    }
}

fn ip(arguments: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `ip`; install iproute2")?;
    child.stdin.take().context("no pipe to ip")?.write_all(input.as_bytes())?;
    let done = child.wait_with_output()?;
    ensure!(done.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

/// A mount namespace that this process holds open but is not in.
#[derive(Debug)]
pub(super) struct Mounts {
    file: OwnedFd,
}

impl Mounts {
    /// A private copy of the mounts, in which each `(file, over)` pair shows `file` at `over`.
    pub(super) fn create(pairs: &[(&Path, &Path)]) -> Result<Self> {
        let file = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
            let keep = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, keep, None::<&str>).context("cannot make the mounts private")?;
            for (file, over) in pairs {
                bind(file, over)?;
            }
            Ok(File::open("/proc/thread-self/ns/mnt").context("cannot hold the mount namespace")?.into())
        })?;
        Ok(Self { file })
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Calls `work` on a thread of its own that sees these mounts.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            // A thread that shares its root directory with others may not change it.
            unshare(CloneFlags::CLONE_FS).context("cannot stop sharing the root directory")?;
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNS).context("cannot enter the mount namespace")?;
            work()
        })
    }
}

/// Shows `file` at `over`; nothing to do where the system has no `over`.
fn bind(file: &Path, over: &Path) -> Result<()> {
    if fs::metadata(over).is_err() {
        return Ok(());
    }
    mount(Some(file), over, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot mount {} over {}", file.display(), over.display()))
}

/// Shows `path` read-only from now on.
pub(super) fn freeze(path: &Path) -> Result<()> {
    bind(path, path)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot make {} read-only", path.display()))
}

/// Mounts an empty file system of `bytes` at `path`.
pub(super) fn small_disk(path: &Path, bytes: u64) -> Result<()> {
    let size = format!("size={bytes}");
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
        .with_context(|| format!("cannot mount a small disk at {}", path.display()))
}

/// Namespaces are entered per thread, and a thread that entered one is never used for anything else.
fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(_) => bail!("a thread inside the lab panicked"),
    })
}
