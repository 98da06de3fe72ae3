//! What is told where a container does not do what it should: who holds what, in the daemon, the kernel and the agent.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::Docker;
use crate::lab::{Finished, Place, Running};
use crate::{Agent, bounds, evidence, wait};

/// Packages of the daemon's that a container's life goes through.
const PACKAGES: [&str; 4] = ["docker/daemon", "libcontainerd", "libnetwork", "containerd/cio"];
/// What the agent is asked for.
const ASKED: [&str; 5] =
    ["api/v1/status", "api/v1/scopes", "api/v1/connections?limit=20", "api/v1/exchanges?limit=5", "metrics"];

impl Docker<'_> {
    /// Like [`Docker::run`]; where the client does not end, the error has all that can be known of it while it still hangs.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn run_watched(&self, arguments: &[&str], agent: &Agent<'_>) -> Result<Finished> {
        Running::start(self.command(arguments)?)?.finish_or_tell(bounds::PROGRAM, || self.evidence(agent))
    }

    /// What the daemon, its containers, the kernel and the agent can say of what goes on now.
    #[must_use]
    pub fn evidence(&self, agent: &Agent<'_>) -> String {
        let files = self.lab.files();
        let host = format!("unix://{}", self.socket().display());
        let docker = |words: &[&str]| evidence::said("docker", &[&["--host", &host][..], words].concat());
        let containers = self.lab.cgroup(Place::Outside).with_file_name("docker");
        let mut told = docker(&["ps", "--all", "--no-trunc"]);
        for id in ids(&containers) {
            told += &docker(&["inspect", "--format", "{{json .State}} {{json .NetworkSettings.Networks}}", &id]);
            told += &docker(&["logs", "--timestamps", &id]);
        }
        told += &evidence::of_cgroup(&containers);
        told += &evidence::of_command(&files.to_string_lossy());
        told += &self.goroutines().unwrap_or_else(|error| format!("no goroutines of the daemon: {error:#}\n"));
        told + &evidence::tail(&files.join("dockerd.log")) + &agent.evidence()
    }

    /// What the daemon's goroutines wait for, of those that have to do with containers.
    fn goroutines(&self) -> Result<String> {
        self.daemon.as_ref().context("the daemon is down")?.signal(Signal::SIGUSR1)?;
        let directory = self.lab.files().join("exec");
        let whole = wait::until("the daemon's stacks", bounds::SOON, || Ok(stacks(&directory)))?;
        let concerned = whole.split("\n\n").filter(|one| PACKAGES.iter().any(|package| one.contains(package)));
        Ok(format!("--- the daemon's goroutines:\n{}\n", concerned.collect::<Vec<_>>().join("\n\n")))
    }
}

/// The containers that have a cgroup.
fn ids(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.len() == 64).collect()
}

/// What the daemon wrote of its stacks last, once it is whole.
fn stacks(directory: &Path) -> Option<String> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    let is_of_stacks = |path: &PathBuf| path.to_string_lossy().contains("goroutine-stacks");
    let last = entries.map(|entry| entry.path()).filter(is_of_stacks).max()?;
    fs::read_to_string(last).ok().filter(|text| text.ends_with('\n'))
}

impl Agent<'_> {
    /// What the agent can say of itself, and the kernel of it.
    #[must_use]
    pub fn evidence(&self) -> String {
        let socket = self.visible("admin.sock").to_string_lossy().into_owned();
        let ask = |path: &&str| {
            let address = format!("http://localhost/{path}");
            evidence::said("curl", &["-sS", "--max-time", "5", "--unix-socket", &socket, &address])
        };
        let told: String = ASKED.iter().map(ask).collect();
        let pid = u32::try_from(self.pid().as_raw()).unwrap_or_default();
        told + &evidence::of_process(pid) + &evidence::sockets(pid) + &evidence::tail(&self.log_file())
    }
}
