//! The lab's own cgroups: one subtree of the cgroup v2 hierarchy, with a child for each kind of process.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::sweep;

/// Where a process of the lab is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The cgroup that tests opt in.
    Inside,
    /// A cgroup beside it that nobody opts in.
    Outside,
    /// The cgroup of the agent and of `moxie` commands.
    Agent,
}

impl Place {
    const ALL: [Self; 3] = [Self::Inside, Self::Outside, Self::Agent];

    fn directory(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Outside => "outside",
            Self::Agent => "agent",
        }
    }
}

/// The lab's subtree; removed, with the processes in it, when dropped.
#[derive(Debug)]
pub(super) struct Cgroups {
    root: PathBuf,
}

impl Cgroups {
    pub(super) fn create(name: &str) -> Result<Self> {
        let root = hierarchy()?.join(name);
        let made = Self { root };
        for place in Place::ALL {
            let path = made.path(place);
            fs::create_dir_all(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        }
        Ok(made)
    }

    pub(super) fn path(&self, place: Place) -> PathBuf {
        self.root.join(place.directory())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The file that moves whoever writes `0` to it.
    pub(super) fn door(&self, place: Place) -> Result<OwnedFd> {
        let path = self.path(place).join("cgroup.procs");
        let file = fs::OpenOptions::new().write(true).open(&path);
        Ok(file.with_context(|| format!("cannot open {}", path.display()))?.into())
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // In every hierarchy: containers of the lab have theirs in those of version 1 too.
        sweep::cgroups(&self.root.file_name().unwrap_or_default().to_string_lossy());
    }
}

/// The mount point of the cgroup v2 hierarchy, whether it is the only one or beside version 1.
///
/// # Errors
/// There is none.
pub fn hierarchy() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    mounts.lines().find_map(|line| mounted(line, &["cgroup2"])).context("no cgroup2 file system is mounted here")
}

/// The mount points of all cgroup hierarchies, of both versions.
pub(super) fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(|line| mounted(line, &["cgroup", "cgroup2"])).collect()
}

/// proc(5): `36 35 98:0 /root /mount/point options … - type source options`.
fn mounted(line: &str, types: &[&str]) -> Option<PathBuf> {
    let (mount, file_system) = line.split_once(" - ")?;
    if !types.contains(&file_system.split(' ').next()?) {
        return None;
    }
    mount.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cgroup2_mount_is_taken() {
        let hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(mounted(hybrid, &["cgroup2"]), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let first = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        assert_eq!(mounted(first, &["cgroup2"]), None);
    }
}
