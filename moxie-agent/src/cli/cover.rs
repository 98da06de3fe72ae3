//! `moxie cover` (hidden): shows files in place of others inside the mount namespace of another process.
//!
//! A program of its own, as with [`super::launch`]: a process with one thread can enter a mount namespace, and nothing else runs in it.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::exit::{Exit, Failure};
use super::launch::Bind;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A process in the mount namespace
    #[arg(long, value_name = "PID")]
    pub(super) pid: u32,
    /// A file to show in place of another: the first as this process sees it, the second as that process does
    #[arg(long, value_name = "SRC:DST")]
    pub(super) bind: Vec<Bind>,
    /// A mount to take away again
    #[arg(long, value_name = "PATH")]
    pub(super) uncover: Vec<PathBuf>,
}

impl Arguments {
    /// The arguments that read back to these.
    pub(super) fn to_argv(&self) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec!["cover".into(), "--pid".into(), self.pid.to_string().into()];
        for Bind { source, over } in &self.bind {
            let mut bind = source.clone().into_os_string();
            bind.push(":");
            bind.push(over);
            argv.extend(["--bind".into(), bind]);
        }
        for path in &self.uncover {
            argv.extend(["--uncover".into(), path.into()]);
        }
        argv
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let path = format!("/proc/{}/ns/mnt", arguments.pid);
    let namespace = File::open(&path).map_err(|error| Failure::because(format_args!("cannot open {path}"), &error))?;
    let carried = carry(&arguments.bind)?;
    setns(&namespace, CloneFlags::CLONE_NEWNS)
        .map_err(|error| Failure::because(format_args!("cannot enter {path}"), &error))?;
    for over in &arguments.uncover {
        uncover(over)?;
    }
    for (tree, over) in carried {
        show(&tree, over)?;
    }
    Ok(Exit::Done)
}

/// Each file as a mount of its own that is nowhere yet, and that nobody can write through.
fn carry(binds: &[Bind]) -> Result<Vec<(OwnedFd, &Path)>, Failure> {
    let failed = |error: nix::Error| Failure::because("cannot make a mount namespace to prepare the files in", &error);
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).map_err(failed)?;
    binds.iter().map(|bind| Ok((detached(&bind.source)?, bind.over.as_path()))).collect()
}

/// Read-only before it is seen anywhere: root inside a container is root to a file of the host.
fn detached(source: &Path) -> Result<OwnedFd, Failure> {
    let name = source.display();
    let failed = |error: nix::Error| Failure::because(format_args!("cannot make {name} a read-only mount"), &error);
    mount(Some(source), source, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(None::<&str>, source, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, None::<&str>)
        .map_err(failed)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, source, flags);
    tree.map_err(|error| {
        Failure::because(
            format_args!("cannot take {name} along (Linux 5.2 and later can)"),
            &std::io::Error::from(error),
        )
    })
}

fn show(tree: &OwnedFd, over: &Path) -> Result<(), Failure> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(tree, "", rustix::fs::CWD, over, flags).map_err(|error| {
        Failure::because(format_args!("cannot show it at {} in there", over.display()), &std::io::Error::from(error))
    })
}

fn uncover(over: &Path) -> Result<(), Failure> {
    // Detached: a program that has the file open keeps reading it.
    umount2(over, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|error| Failure::because(format_args!("cannot uncover {} in there", over.display()), &error))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_arguments_read_back() {
        let written = Arguments {
            pid: 42,
            bind: vec!["/tmp/b.pem:/etc/ssl/cert.pem".parse().unwrap()],
            uncover: vec!["/etc/a".into(), "/etc/b".into()],
        };
        let argv = [OsString::from("moxie")].into_iter().chain(written.to_argv());
        let Command::Cover(read) = Cli::try_parse_from(argv).unwrap().command else { panic!("not cover") };
        assert_eq!((read.pid, read.bind, read.uncover), (written.pid, written.bind, written.uncover));
    }
}
