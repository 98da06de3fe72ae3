//! Containers in a lab: Podman with files of its own, in the lab's namespaces and cgroups, with this machine's file system as image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Lab;
use crate::lab::{Finished, Place, cgroup, process};

/// Where programs keep what lasts until a reboot, CDI specifications among it.
const RUN: &str = "/run";
/// What this machine may forbid itself, and what a container does not need for making calls.
const OPTIONS: [&str; 7] = [
    "--network=host",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--ulimit=nofile=1024:4096",
    "--ulimit=nproc=512:1024",
    "--log-driver=none",
    "--pull=never",
];

/// Podman in a lab; its containers are removed when it is dropped.
#[derive(Debug)]
pub struct Podman<'lab> {
    lab: &'lab Lab,
    variables: [(&'static str, PathBuf); 2],
}

impl Lab {
    /// Podman, with its state among this lab's files; from now on the lab's programs have a `/run` of their own.
    ///
    /// # Errors
    /// The file system's.
    pub fn podman(&self) -> Result<Podman<'_>> {
        let files = self.files().join("podman");
        fs::create_dir_all(&files)?;
        let (engine, storage) = (files.join("containers.conf"), files.join("storage.conf"));
        let at = |name: &str| files.join(name).display().to_string();
        let settings = format!(
            "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\ntmp_dir = {:?}\n\
             static_dir = {:?}\nvolume_path = {:?}\n",
            at("tmp"),
            at("static"),
            at("volumes")
        );
        fs::write(&engine, settings)?;
        let (run, graph) = (at("run"), at("graph"));
        fs::write(&storage, format!("[storage]\ndriver = \"vfs\"\nrunroot = {run:?}\ngraphroot = {graph:?}\n"))?;
        self.small_disk(Path::new(RUN), 1 << 26)?;
        Ok(Podman { lab: self, variables: [("CONTAINERS_CONF", engine), ("CONTAINERS_STORAGE_CONF", storage)] })
    }
}

impl Podman<'_> {
    /// What a program has to know in order to ask this Podman.
    #[must_use]
    pub fn variables(&self) -> &[(&'static str, PathBuf)] {
        &self.variables
    }

    /// A command of Podman's with these arguments.
    ///
    /// # Errors
    /// The place cannot be opened.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.lab.bare_command("podman", Place::Agent)?;
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).args(arguments);
        Ok(command)
    }

    /// Runs `words` in a new container that is opted in with [`Place::Inside`], and which sees `shared` as it is.
    ///
    /// # Errors
    /// It does not end.
    pub fn run(&self, options: &[&str], shared: &Path, words: &[String]) -> Result<Finished> {
        let mut command = self.new_container(&["--rm"], shared)?;
        command.args(options).args(["--rootfs", "/:O"]).args(words);
        process::run(command)
    }

    /// Starts a container that does nothing, called `name`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, name: &str, options: &[&str], shared: &Path) -> Result<()> {
        let mut command = self.new_container(&["--detach", "--name", name], shared)?;
        command.args(options).args(["--rootfs", "/:O", "/bin/sleep", "600"]);
        let done = process::run(command)?;
        ensure!(done.status.success(), "podman run: {done:?}");
        Ok(())
    }

    fn new_container(&self, options: &[&str], shared: &Path) -> Result<Command> {
        let hierarchy = cgroup::hierarchy()?;
        let inside = self.lab.cgroup(Place::Inside);
        let parent = inside.strip_prefix(&hierarchy).context("a cgroup outside the hierarchy")?;
        let mut command = self.command(&["run"])?;
        command.args(options).args(OPTIONS).arg(format!("--cgroup-parent=/{}", parent.display()));
        command.arg(format!("--volume={0}:{0}:ro", shared.display()));
        Ok(command)
    }

    /// Runs `words` in a running container.
    ///
    /// # Errors
    /// It does not end.
    pub fn exec(&self, name: &str, words: &[String]) -> Result<Finished> {
        let mut command = self.command(&["exec", name])?;
        command.args(words);
        process::run(command)
    }

    /// Restarts a container.
    ///
    /// # Errors
    /// It does not start again.
    pub fn restart(&self, name: &str) -> Result<()> {
        let done = process::run(self.command(&["restart", "--time=0", name])?)?;
        ensure!(done.status.success(), "podman restart: {done:?}");
        Ok(())
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        // What is left ends with the lab.
        let _ = self.command(&["rm", "--all", "--force", "--time=0"]).and_then(process::run);
    }
}
