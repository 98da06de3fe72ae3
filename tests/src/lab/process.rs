//! Programs inside the lab: started in their place, bounded in time, and ended by their own process id.

use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{bounds, wait};

/// What a program did.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Finished {
    /// Its exit code; none if a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts `command`; what it prints is collected unless the command says otherwise.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Ok(Self { child, stdout, stderr })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end within `bound`.
    pub fn finish(mut self, bound: Duration) -> Result<Finished> {
        let ended = wait::until("a program to end", bound, || Ok(self.child.try_wait()?));
        if ended.is_err() {
            self.stop();
        }
        let text = |reader: Option<JoinHandle<String>>| reader.and_then(|thread| thread.join().ok()).unwrap_or_default();
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        let status = ended.with_context(|| format!("stdout:\n{stdout}\nstderr:\n{stderr}"))?;
        Ok(Finished { status, stdout, stderr })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(pid(&self.child)?, signal)?)
    }

    fn stop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs `command` to its end.
///
/// # Errors
/// It cannot be started or takes longer than [`bounds::PROGRAM`].
pub fn run(command: Command) -> Result<Finished> {
    Running::start(command)?.finish(bounds::PROGRAM)
}

pub(super) fn pid(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before the pipe broke is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Makes `command` enter a cgroup, a mount namespace and a network namespace before it executes.
pub(super) fn settle(command: &mut Command, cgroup: OwnedFd, mounts: &OwnedFd, network: &OwnedFd) -> Result<()> {
    let (mounts, network) = (mounts.try_clone()?, network.try_clone()?);
    let enter = move || {
        join(cgroup.as_raw_fd())?;
        setns(&mounts, CloneFlags::CLONE_NEWNS)?;
        setns(&network, CloneFlags::CLONE_NEWNET)?;
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, on descriptors that the closure owns; nothing allocates.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

/// Writes `0`, which stands for the writer, to a `cgroup.procs` file.
fn join(procs: RawFd) -> std::io::Result<()> {
    // SAFETY: the descriptor is open for as long as the caller's closure lives, and is not closed here.
    let file = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(procs) });
    nix::unistd::write(&*file, b"0")?;
    Ok(())
}
