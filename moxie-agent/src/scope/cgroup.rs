//! Cgroup v2 directories: finding them, reading them, making and removing them, and what their paths tell.

mod label;
mod run;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

pub use label::{container_of, id_in_name, is_container, unit_of};
pub use run::RunCgroup;

/// How much longer each round waits for what keeps a cgroup from being removed.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a cgroup cannot be found, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The host has no cgroup v2 hierarchy mounted.
    #[error(
        "no cgroup2 file system is mounted here; mount it where no other is: `mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )]
    NotMounted,
    /// A process is outside the part of the hierarchy that is mounted here.
    #[error(
        "process {pid} is in cgroup {cgroup:?}, outside what is mounted here; in a container, use the host's cgroup namespace"
    )]
    OutsideMount {
        /// Which process.
        pid: u32,
        /// Its cgroup, as the kernel tells it.
        cgroup: String,
    },
    /// There is no such directory, or it cannot be looked at.
    #[error("cannot read cgroup {}", path.display())]
    Read {
        /// The directory or a file in it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The path is a directory of something else.
    #[error("{} is not a cgroup v2 directory; those are below {}", path.display(), root.display())]
    NotCgroup {
        /// What was named.
        path: PathBuf,
        /// Where the hierarchy is mounted.
        root: PathBuf,
    },
    /// The whole host was named.
    #[error("{} is the root of all cgroups; opt in one below it", path.display())]
    Root {
        /// Where the hierarchy is mounted.
        path: PathBuf,
    },
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// Which.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory cannot be made.
    #[error("cannot make cgroup {}", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A process cannot be moved.
    #[error("cannot move process {pid} into cgroup {}", path.display())]
    Move {
        /// Which process.
        pid: u32,
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl CgroupError {
    /// Whether more privilege would help.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Make { source, .. } | Self::Move { source, .. } => {
                matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
            }
            _ => false,
        }
    }
}

/// The mounted cgroup v2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
    /// Which part of the hierarchy the mount shows; `/` but in containers.
    shown: PathBuf,
}

impl Hierarchy {
    /// The hierarchy that this process sees mounted; on hosts that also have cgroup v1 it is below `/sys/fs/cgroup/unified`.
    ///
    /// # Errors
    /// There is none, or the mounts cannot be read.
    pub fn find() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })?;
        mounts.lines().find_map(Self::of_mount).ok_or(CgroupError::NotMounted)
    }

    /// A line of mountinfo: ids, device, root, mount point, options, tags, `-`, type, source, options.
    #[must_use]
    pub fn of_mount(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        if file_system.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (shown, mount) = (fields.next()?, fields.next()?);
        Some(Self { mount: unescape(mount).into(), shown: unescape(shown).into() })
    }

    /// Where it is mounted: the directory of the root cgroup.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.mount
    }

    /// The directory that a user names, by its absolute path or by its path from the root of the hierarchy
    /// (`/system.slice/payments.service`).
    ///
    /// # Errors
    /// It does not exist, is no cgroup, or is the root.
    pub fn resolve(&self, named: &Path) -> Result<PathBuf, CgroupError> {
        let candidate = if named.starts_with(&self.mount) { named.to_owned() } else { self.below_root(named) };
        // An absolute path elsewhere is looked at as such only if the hierarchy has no directory of that name.
        let candidate = if candidate.exists() || !named.is_absolute() { candidate } else { named.to_owned() };
        let path = fs::canonicalize(&candidate).map_err(|source| CgroupError::Read { path: candidate, source })?;
        if !path.is_dir() || !is_cgroup2(&path) || !path.starts_with(&self.mount) {
            return Err(CgroupError::NotCgroup { path, root: self.mount.clone() });
        }
        if path == self.mount {
            return Err(CgroupError::Root { path });
        }
        Ok(path)
    }

    /// The cgroup that a process is in.
    ///
    /// # Errors
    /// No such process, or one outside the mounted part.
    pub fn of_process(&self, pid: u32) -> Result<PathBuf, CgroupError> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .map_err(|source| CgroupError::NoProcess { pid, source })?;
        let cgroup = text.lines().find_map(|line| line.strip_prefix("0::")).ok_or(CgroupError::NotMounted)?;
        let cgroup = cgroup.strip_suffix(" (deleted)").unwrap_or(cgroup);
        let outside = || CgroupError::OutsideMount { pid, cgroup: cgroup.to_owned() };
        let below = Path::new(cgroup).strip_prefix(&self.shown).map_err(|_| outside())?;
        if below.components().any(|part| part == Component::ParentDir) {
            return Err(outside());
        }
        Ok(self.below_root(below))
    }

    /// The directory that a user names, whether it is there or not.
    #[must_use]
    pub fn name(&self, named: &Path) -> PathBuf {
        if named.starts_with(&self.mount) { named.to_owned() } else { self.below_root(named) }
    }

    /// The path of a directory from the root of the hierarchy, without a slash before it.
    #[must_use]
    pub fn below<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.mount).unwrap_or(path)
    }

    /// Every cgroup but the root, with its id. Directories that vanish during the walk are passed over.
    #[must_use]
    pub fn walk(&self) -> Vec<(PathBuf, u64)> {
        let mut found: Vec<(PathBuf, u64)> = entries(&self.mount).collect();
        let mut next = 0;
        while let Some((path, _)) = found.get(next) {
            let below: Vec<_> = entries(path).collect();
            found.extend(below);
            next += 1;
        }
        found
    }

    fn below_root(&self, path: &Path) -> PathBuf {
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
        // Not `join` on the whole: an absolute path would replace the mount point; and joining nothing would add a slash.
        parts.fold(self.mount.clone(), |path, part| path.join(part))
    }
}

/// The kernel's id of a cgroup directory.
///
/// # Errors
/// The directory cannot be looked at.
pub fn id_of(path: &Path) -> Result<u64, CgroupError> {
    let metadata = fs::metadata(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })?;
    Ok(metadata.ino())
}

/// The directory at or below `top` that has this id. Directories that vanish during the search are passed over.
#[must_use]
pub fn find_below(top: &Path, id: u64) -> Option<PathBuf> {
    if id_of(top).ok()? == id {
        return Some(top.to_owned());
    }
    children(top).into_iter().find_map(|child| find_below(&child, id))
}

/// A directory and every one below it, those above first. Directories that vanish meanwhile are passed over.
pub(crate) fn with_descendants(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next) {
        let below = children(path);
        found.extend(below);
        next += 1;
    }
    found
}

/// The processes directly in a cgroup; 0 for one that is in a pid namespace which is not seen from this one.
///
/// # Errors
/// The directory cannot be read.
pub fn processes(path: &Path) -> Result<Vec<u32>, CgroupError> {
    let path = path.join("cgroup.procs");
    let text = fs::read_to_string(&path).map_err(|source| CgroupError::Read { path, source })?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// The processes in a cgroup and in those below it; what vanishes meanwhile is passed over.
#[must_use]
pub fn processes_below(top: &Path) -> Vec<u32> {
    let below = children(top);
    let own = processes(top).unwrap_or_default();
    own.into_iter().chain(below.iter().flat_map(|child| processes_below(child))).collect()
}

/// Makes the directory; one that a dead process of the same id has left is made anew.
///
/// # Errors
/// It cannot be made, or is there and in use.
pub fn make(path: &Path) -> Result<(), CgroupError> {
    let refused = |source| CgroupError::Make { path: path.to_owned(), source };
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_dir(path).and_then(|()| fs::create_dir(path)).map_err(refused)
        }
        made => made.map_err(refused),
    }
}

/// Moves a process, with all of its threads.
///
/// # Errors
/// The kernel refused, or the process is gone or not seen here.
pub fn move_process(pid: u32, path: &Path) -> Result<(), CgroupError> {
    let refused = |source| CgroupError::Move { pid, path: path.to_owned(), source };
    // The kernel takes 0 for the process that writes it.
    if pid == 0 {
        return Err(refused(io::Error::from_raw_os_error(libc::ESRCH)));
    }
    fs::write(path.join("cgroup.procs"), pid.to_string()).map_err(refused)
}

/// Moves what is left in a cgroup, and in those below it, to `heir`, and removes it. What cannot be removed is logged: there is
/// nobody left to handle it.
pub fn dissolve(path: &Path, heir: &Path) {
    for child in children(path) {
        dissolve(&child, heir);
    }
    // A process may fork while it is moved: the child is seen in the next round. A thread that is just ending is not moved, and is
    // gone in a moment.
    for round in 0..16 {
        for pid in processes(path).unwrap_or_default() {
            // One that has ended since needs no moving, and one that is not seen here is not this agent's to move.
            let _ = move_process(pid, heir);
        }
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => thread::sleep(round * PAUSE),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "cgroup not removed");
                return;
            }
            Ok(()) => return,
        }
    }
    tracing::warn!(path = %path.display(), "cgroup not removed: its processes keep forking");
}

/// Removes the empty cgroups directly below `parent` that dead processes have left: those named `prefix` and a process id.
pub(crate) fn sweep(parent: &Path, prefix: &str) {
    for path in children(parent) {
        if process_in_name(&path, prefix).is_some_and(is_dead) {
            // Fails while anything is in it, which is as it should be.
            let _ = fs::remove_dir(&path);
        }
    }
}

/// Whether it is an agent's own, or one of `moxie run`, and that process has not ended.
pub(super) fn is_lived_in(path: &Path) -> bool {
    run::PREFIXES.iter().any(|prefix| process_in_name(path, prefix).is_some_and(|pid| !is_dead(pid)))
}

/// The process id that a cgroup is named after, behind `prefix`.
pub(super) fn process_in_name(path: &Path, prefix: &str) -> Option<u32> {
    path.file_name().and_then(OsStr::to_str)?.strip_prefix(prefix)?.parse().ok()
}

/// Whether a process has ended, even if nobody has waited for it yet: after the name, its state is `Z` (proc_pid_stat(5)).
fn is_dead(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('Z')))
}

/// The directories in a directory.
pub(crate) fn children(path: &Path) -> Vec<PathBuf> {
    entries(path).map(|(path, _)| path).collect()
}

/// The directories in a directory, with their ids.
fn entries(path: &Path) -> impl Iterator<Item = (PathBuf, u64)> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| (entry.path(), entry.ino()))
}

fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|statfs| statfs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Mountinfo writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
pub(in crate::scope) mod tests;
