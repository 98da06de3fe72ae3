//! CMD as a child process: started inside its cgroup, given the signals meant for it, waited for.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use nix::sys::signal::{Signal as Name, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::exit::{Exit, Failure};
use crate::cli::launch::{self, Bind};
use crate::cli::output::note;

/// What CMD starts with.
pub(super) struct Start<'a> {
    /// The cgroup to move into, if any.
    pub(super) cgroup: Option<&'a Path>,
    /// The soft limit of open descriptors that CMD shall have: the one that Moxie was started with.
    pub(super) descriptors: u64,
    /// Files to show in place of others.
    pub(super) binds: Vec<Bind>,
    /// Variables to set.
    pub(super) variables: Vec<(String, String)>,
}

/// Runs CMD to its end.
pub(super) async fn run(command: &[OsString], start: Start<'_>) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure::because("cannot wait for signals", &error))?;
    let launch = launch::Arguments {
        cgroup: start.cgroup.map(Path::to_path_buf),
        descriptors: start.descriptors,
        bind: start.binds,
        command: command.to_vec(),
    };
    // The file that this process runs, even if it was replaced meanwhile.
    let mut launcher = Command::new("/proc/self/exe");
    launcher.args(launch.to_argv());
    launcher.envs(start.variables);
    let mut child = launcher.spawn().map_err(|error| Failure::because("cannot start the launcher", &error))?;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| Failure::because("lost the command", &error))?;
                return Ok(exit_of(status));
            }
            name = signals.next() => pass_on(name, child.id()),
        }
    }
}

/// CMD's own code, or 128 and the signal that ended it.
fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Exit::Command(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// What a terminal sends goes to CMD anyway; what was sent to Moxie alone is CMD's too.
fn pass_on(name: Name, child: Option<u32>) {
    let from_terminal = matches!(name, Name::SIGINT | Name::SIGQUIT) && is_in_foreground();
    let pid = child.and_then(|pid| i32::try_from(pid).ok());
    let Some(pid) = pid.filter(|_| !from_terminal) else { return };
    if let Err(error) = kill(Pid::from_raw(pid), name) {
        note(&format!("cannot pass {name} on: {error}"));
    }
}

/// Whether the terminal sends its signals to this process's group, which CMD is in too.
fn is_in_foreground() -> bool {
    std::fs::read_to_string("/proc/self/stat").is_ok_and(|stat| is_foreground_group(&stat))
}

/// Compares `pgrp` and `tpgid` of proc_pid_stat(5); -1 is no terminal.
fn is_foreground_group(stat: &str) -> bool {
    // The name before may hold anything, brackets and blanks too.
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    matches!((fields.get(2), fields.get(5)), (Some(group), Some(foreground)) if group == foreground)
}

/// The signals that would end Moxie before CMD.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Name {
        tokio::select! {
            _ = self.interrupt.recv() => Name::SIGINT,
            _ = self.quit.recv() => Name::SIGQUIT,
            _ = self.terminate.recv() => Name::SIGTERM,
            _ = self.hangup.recv() => Name::SIGHUP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_foreground_group_is_told_from_stat() {
        assert!(is_foreground_group("77 (mo) xie) S 1 42 42 34816 42 4194304"));
        assert!(!is_foreground_group("77 (moxie) S 1 42 42 34816 43 4194304"));
        assert!(!is_foreground_group("77 (moxie) S 1 42 42 0 -1 4194304"));
        assert!(!is_foreground_group(""));
    }

    #[test]
    fn the_exit_is_the_commands_own() {
        for (wait_status, expected) in [(0, 0), (3 << 8, 3), (255 << 8, 255), (9, 137), (15, 143)] {
            assert_eq!(exit_of(ExitStatus::from_raw(wait_status)), Exit::Command(expected), "{wait_status:#x}");
        }
    }
}
