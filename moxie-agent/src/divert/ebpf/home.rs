//! The cgroup that the agent has to itself: the hook on it sees the agent's sockets and no one else's.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::divert::DivertError;
use crate::scope::cgroup::{self, CgroupError, Hierarchy};

/// `PROC_PID_INIT_INO`: the kernel's number of the pid namespace that it starts with.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// Names of cgroups made for agents: this, and the process id.
const PREFIX: &str = "moxie-agent-";

/// The agent's own cgroup; undone when dropped.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    /// Where the agent was before, if a cgroup had to be made.
    before: Option<PathBuf>,
}

impl Home {
    /// The cgroup the agent is in if it is alone there (a systemd service is), else one made below it. An agent that takes over
    /// is born in its predecessor's, and goes beside it.
    pub(super) fn settle(hierarchy: &Hierarchy) -> Result<Self, DivertError> {
        let current = hierarchy.of_process(std::process::id())?;
        if current != hierarchy.root() && is_alone(&current)? {
            return Ok(Self { path: current, before: None });
        }
        let current = outside_homes(current);
        cgroup::sweep(&current, PREFIX);
        let path = current.join(format!("{PREFIX}{}", std::process::id()));
        cgroup::make(&path).map_err(refused)?;
        // From here on a failure undoes what was done, by dropping this.
        let home = Self { path, before: Some(current) };
        cgroup::move_process(std::process::id(), &home.path).map_err(refused)?;
        Ok(home)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            cgroup::dissolve(&self.path, before);
        }
    }
}

/// The cgroup around the agents' own ones.
fn outside_homes(path: PathBuf) -> PathBuf {
    let is_home = path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(PREFIX));
    match path.parent() {
        Some(around) if is_home => around.to_owned(),
        _ => path,
    }
}

/// This process's id as the kernel half sees it; `None` inside a pid namespace, where it has another that is not known here.
pub(super) fn pid_as_the_kernel_has_it() -> Option<u32> {
    let namespace = std::fs::metadata("/proc/self/ns/pid").ok()?;
    (namespace.ino() == INITIAL_PID_NAMESPACE).then(std::process::id)
}

fn is_alone(path: &Path) -> Result<bool, DivertError> {
    Ok(cgroup::processes(path)? == [std::process::id()])
}

fn refused(error: CgroupError) -> DivertError {
    if error.is_permission() {
        return DivertError::NotPermitted { operation: "make a cgroup for the agent".into(), source: error.into() };
    }
    error.into()
}
