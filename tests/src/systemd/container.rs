//! The container that a host is: enough rights for systemd and for the agent, but not all of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::daemon::{Client, Daemon};
use crate::lab::{cgroup, origins, process};

/// What the defaults forbid: mounts and the kernel half, the network's setup, other users' processes, going before others.
const RIGHTS: [&str; 11] = [
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--cap-add=SYS_PTRACE",
    "--cap-add=SYS_NICE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--cgroupns=host",
    "--network=none",
    "--sysctl=net.ipv6.conf.all.disable_ipv6=0",
    "--tmpfs=/run",
    "--tmpfs=/tmp",
];

/// A running container; removed when dropped.
#[derive(Debug)]
pub(super) struct Container {
    client: Client,
    id: String,
    pid: u32,
    cgroup: PathBuf,
}

impl Container {
    /// Starts `image` with systemd as its first process.
    pub(super) fn start(daemon: &Daemon, image: &str) -> Result<Self> {
        let hierarchy = cgroup::hierarchy()?;
        let client = daemon.client().clone();
        let mut run = client.command(&[
            "run",
            "--detach",
            "--hostname=moxie-host",
            "--env=container=docker",
            "--stop-signal=SIGRTMIN+3",
        ]);
        run.args(RIGHTS);
        // Only version 2, also where this machine has both: systemd changes the mounts of version 1 for everybody.
        run.arg(format!("--volume={}:/sys/fs/cgroup", hierarchy.display()));
        run.arg(format!("--cgroup-parent=/{}", daemon.name()));
        for place in origins::PLACES {
            run.arg(format!("--add-host={}:{}", place.host, place.address));
        }
        run.args([image, "/sbin/init"]);
        let id = printed(run)?;
        let mut container = Self { client, pid: 0, cgroup: hierarchy.join(daemon.name()).join(&id), id };
        let pid = printed(container.client.command(&["inspect", "--format", "{{.State.Pid}}", &container.id]))?;
        container.pid = pid.parse().context("the container has ended at once")?;
        ensure!(container.pid > 0, "the container has ended at once");
        Ok(container)
    }

    /// The process id of its first process, for this process.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A command inside.
    pub(super) fn exec(&self, words: &[&str]) -> Command {
        let mut command = self.client.command(&["exec", &self.id]);
        command.args(words);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // What is left is ended with the daemon.
        let _ = process::run(self.client.command(&["rm", "--force", &self.id]));
    }
}

fn printed(command: Command) -> Result<String> {
    let done = process::run(command)?;
    ensure!(done.status.success(), "docker: {}\n{}", done.status, done.stderr);
    Ok(done.stdout.trim().to_owned())
}
