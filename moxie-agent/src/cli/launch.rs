//! `moxie launch` (hidden): becomes CMD, inside a cgroup where one is given, with the trust bundle over the host's bundle paths.
//!
//! A program of its own, so that everything happens in the process that CMD will be, before CMD runs, without `unsafe`.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use clap::Args;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::exit::{Exit, Failure, MOXIE_FAILED, NOT_EXECUTABLE, NOT_FOUND};
use super::output;
use crate::descriptors;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The cgroup directory to move into
    #[arg(long, value_name = "DIR")]
    pub(super) cgroup: Option<PathBuf>,
    /// A file to show in place of another
    #[arg(long, value_name = "SRC:DST")]
    pub(super) bind: Vec<Bind>,
    /// The soft limit of open descriptors to go on with
    #[arg(long, value_name = "N")]
    pub(super) descriptors: u64,
    /// What to become
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

/// One file over another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) source: PathBuf,
    pub(super) over: PathBuf,
}

impl FromStr for Bind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((source, over)) if source.starts_with('/') && over.starts_with('/') => {
                Ok(Self { source: source.into(), over: over.into() })
            }
            _ => Err("write SRC:DST, both absolute"),
        }
    }
}

impl Arguments {
    /// The arguments that read back to these.
    pub(super) fn to_argv(&self) -> Vec<OsString> {
        let mut argv = vec!["launch".into(), "--descriptors".into(), self.descriptors.to_string().into()];
        if let Some(cgroup) = &self.cgroup {
            argv.extend(["--cgroup".into(), cgroup.clone().into()]);
        }
        for Bind { source, over } in &self.bind {
            let mut bind = source.clone().into_os_string();
            bind.push(":");
            bind.push(over);
            argv.extend(["--bind".into(), bind]);
        }
        argv.push("--".into());
        argv.extend(self.command.iter().cloned());
        argv
    }
}

/// Becomes the command; comes back only with why it could not.
pub(super) fn run(arguments: Arguments) -> Failure {
    let procs = arguments.cgroup.as_ref().map(|cgroup| cgroup.join("cgroup.procs"));
    // 0 is the process that writes, whatever its id is called in this pid namespace.
    if let Some(procs) = procs
        && let Err(error) = std::fs::write(&procs, "0")
    {
        return Failure::because(format_args!("cannot enter {}", procs.display()), &error).with_exit(MOXIE_FAILED);
    }
    if !arguments.bind.is_empty()
        && let Err(error) = cover(&arguments.bind)
    {
        // CMD may still trust the authority by its variables; it must run all the same.
        output::note(&format!("the bundle of roots is not in place, some programs will not trust Moxie: {error}"));
    }
    descriptors::set(arguments.descriptors);
    let [program, rest @ ..] = arguments.command.as_slice() else {
        return Failure::usage("there is no command to run");
    };
    let error = Command::new(program).args(rest).exec();
    Failure::because(format_args!("cannot run {}", program.display()), &error).with_exit(exec_exit(&error))
}

/// Makes the binds in a mount namespace that only this process and its children see.
fn cover(binds: &[Bind]) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Slave: what the host mounts later still shows up, what is mounted here does not get out.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    for Bind { source, over } in binds {
        if let Err(error) = mount(Some(source), over, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
            output::note(&format!("{} keeps its own roots: {error}", over.display()));
        }
    }
    Ok(())
}

/// As in sh(1) and env(1).
fn exec_exit(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_arguments_read_back() {
        let written = Arguments {
            cgroup: Some("/sys/fs/cgroup/moxie/run 1".into()),
            descriptors: 1024,
            bind: vec!["/tmp/b.pem:/etc/ssl/cert.pem".parse().unwrap()],
            command: ["sh", "-c", "exit 3", "--", "--cgroup"].map(OsString::from).to_vec(),
        };
        let argv = [OsString::from("moxie")].into_iter().chain(written.to_argv());
        let Command::Launch(read) = Cli::try_parse_from(argv).unwrap().command else { panic!("not launch") };
        assert_eq!((read.cgroup, read.bind, read.command), (written.cgroup, written.bind, written.command));
        assert_eq!(read.descriptors, written.descriptors);
    }

    #[test]
    fn a_bind_is_two_absolute_paths() {
        for text in ["", "/a", "a:/b", "/a:b"] {
            assert!(Bind::from_str(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_run_has_the_exit_of_a_shell() {
        let failing = |path: &str| std::process::Command::new(path).spawn().unwrap_err();
        assert_eq!(exec_exit(&failing("/nonexistent/program")), NOT_FOUND);
        assert_eq!(exec_exit(&failing("/etc")), NOT_EXECUTABLE);
    }

    #[test]
    fn a_cgroup_that_cannot_be_entered_is_moxies_failure() {
        let arguments = Arguments {
            cgroup: Some("/nonexistent".into()),
            descriptors: 64,
            bind: vec![],
            command: vec!["true".into()],
        };
        assert_eq!(run(arguments).exit(), MOXIE_FAILED);
    }
}
