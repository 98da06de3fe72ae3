//! Programs inside the lab: started in their place, bounded in time, and ended by their own process id.

use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sweep;
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
    stdout: Collected,
    stderr: Collected,
}

impl Running {
    /// Starts `command`; what it prints is collected unless the command says otherwise.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let stdout = Collected::from(child.stdout.take());
        let stderr = Collected::from(child.stderr.take());
        Ok(Self { child, stdout, stderr })
    }

    /// Starts `command`, whose output goes where the command says.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start_as_is(mut command: Command) -> Result<Self> {
        let child = spawn(command.stdin(Stdio::null()))?;
        let nothing = || Collected::from(None::<std::io::Empty>);
        Ok(Self { child, stdout: nothing(), stderr: nothing() })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end within `bound`.
    pub fn finish(self, bound: Duration) -> Result<Finished> {
        self.finish_or_tell(bound, String::new)
    }

    /// Like [`Self::finish`]; the error has in it what `evidence` finds while the program still hangs.
    ///
    /// # Errors
    /// It did not end within `bound`.
    pub fn finish_or_tell(mut self, bound: Duration, evidence: impl FnOnce() -> String) -> Result<Finished> {
        let ended = wait::until("a program to end", bound, || Ok(self.child.try_wait()?));
        let evidence = if ended.is_err() { evidence() } else { String::new() };
        if ended.is_err() {
            self.stop();
        }
        let (stdout, stderr) = (self.stdout.whole(), self.stderr.whole());
        let status = ended.with_context(|| format!("stdout:\n{stdout}\nstderr:\n{stderr}\n{evidence}"))?;
        Ok(Finished { status, stdout, stderr })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        self.stdout.so_far()
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

/// Starts `command` unless an interrupt is sweeping.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    let _gate = sweep::gate();
    command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))
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

/// What comes out of a pipe, read as it comes so that the writer is never held up.
#[derive(Debug)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = pipe.map(|pipe| std::thread::spawn(move || collect(pipe, &shared)));
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits for the end of the pipe, but not for what a program has left running that holds it too.
    fn whole(&self) -> String {
        let ended = || Ok(self.reader.as_ref().is_none_or(JoinHandle::is_finished).then_some(()));
        let _ = wait::until("the end of a pipe", bounds::SOON, ended);
        self.so_far()
    }
}

fn collect(mut pipe: impl Read, into: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
    }
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
