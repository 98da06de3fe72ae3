//! A cgroup for one command of `moxie run`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CgroupError, Hierarchy, dissolve, make, sweep};

/// Names of cgroups made for commands: this, and the process id of `moxie run`.
const PREFIX: &str = "moxie-run-";
/// Agents that live inside `moxie run` are in a cgroup of this name, below the one they were started in.
const AGENT_PREFIX: &str = "moxie-agent-";
/// Names of cgroups that are given up once the process in the name has ended.
pub(super) const PREFIXES: [&str; 2] = [PREFIX, AGENT_PREFIX];

/// A new cgroup beside the caller; dropping it moves what is still in it to the parent, and removes it.
#[derive(Debug)]
pub struct RunCgroup {
    path: PathBuf,
    parent: PathBuf,
}

impl RunCgroup {
    /// Makes `moxie-run-<pid>` below the cgroup that the caller was started in, never below an agent's own.
    ///
    /// # Errors
    /// There is no hierarchy, or the directory cannot be made.
    pub fn create() -> Result<Self, CgroupError> {
        let pid = std::process::id();
        let current = Hierarchy::find()?.of_process(pid)?;
        let is_agent = current.file_name().is_some_and(|name| name.to_string_lossy().starts_with(AGENT_PREFIX));
        let parent = if is_agent { current.parent().unwrap_or(&current).to_owned() } else { current };
        sweep(&parent, PREFIX);
        let path = parent.join(format!("{PREFIX}{pid}"));
        make(&path)?;
        Ok(Self { path, parent })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has `command` start inside: its process moves there before it becomes the program.
    ///
    /// # Errors
    /// The cgroup cannot be opened for that.
    pub fn enter(&self, command: &mut Command) -> Result<(), CgroupError> {
        let path = self.path.join("cgroup.procs");
        let mut procs =
            OpenOptions::new().write(true).open(&path).map_err(|source| CgroupError::Read { path, source })?;
        // SAFETY: the closure runs between fork and exec; it does one write(2) on a descriptor opened before, and allocates
        // nothing. 0 means the process that writes.
        unsafe { command.pre_exec(move || procs.write_all(b"0")) };
        Ok(())
    }
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        dissolve(&self.path, &self.parent);
    }
}
