//! Process trees that an agent has left in their cgroups by dying: the next agent moves them back.
//!
//! Who looks after a tree holds a lock on its directory (flock(2)), which the kernel takes away with the last process that has it. So
//! a tree of another agent's on this host, and one on its way from one agent to the next, is told from one that is nobody's.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{XattrFlags, getxattr, setxattr};

use super::{Moved, PREFIX};
use crate::scope::cgroup::{self, CgroupError};

/// Attribute of a tree's directory: where those of its processes were that were not in the parent. One that only root may set, since
/// the next agent goes by it.
const BEFORE: &str = "trusted.moxie.before";
/// Most bytes of an attribute (`XATTR_SIZE_MAX`, linux/limits.h).
const LONGEST: usize = 64 * 1024;
/// How often a directory is tried that a sweep is about to remove, and the time between.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Says to every agent on the host that somebody looks after a tree.
#[derive(Debug)]
pub(super) struct Hold {
    _directory: File,
}

impl Hold {
    /// Shared: two agents have it while one hands over to the other.
    pub(super) fn of(path: &Path) -> Result<Self, TryLockError> {
        Ok(Self { _directory: locked(path, File::try_lock_shared)? })
    }

    /// Makes a tree's directory; one that was left is made anew. `None`, where directories cannot be locked: nothing is swept there.
    pub(super) fn make(path: &Path) -> Result<Option<Self>, CgroupError> {
        let refused = |source| CgroupError::Make { path: path.to_owned(), source };
        for _ in 0..ATTEMPTS {
            let taken = match fs::create_dir(path) {
                Ok(()) => match Self::of(path) {
                    Ok(hold) => return Ok(Some(hold)),
                    Err(TryLockError::Error(_)) => return Ok(None),
                    Err(TryLockError::WouldBlock) => true,
                },
                // Removed under a lock: a sweep that has it goes by its path, and must not meet a new one there.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => match locked(path, File::try_lock) {
                    Err(TryLockError::WouldBlock) => true,
                    _held => fs::remove_dir(path).map(|()| false).map_err(refused)?,
                },
                Err(error) => return Err(refused(error)),
            };
            if taken {
                thread::sleep(PAUSE);
            }
        }
        Err(refused(io::Error::new(ErrorKind::WouldBlock, "another agent has it")))
    }
}

/// A directory, locked; what was removed meanwhile is another's too.
fn locked(path: &Path, lock: impl FnOnce(&File) -> Result<(), TryLockError>) -> Result<File, TryLockError> {
    let directory = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => TryLockError::WouldBlock,
        _ => TryLockError::Error(error),
    })?;
    lock(&directory)?;
    let opened = directory.metadata().map_err(TryLockError::Error)?;
    let is_there = fs::metadata(path).is_ok_and(|found| found.ino() == opened.ino());
    if is_there { Ok(directory) } else { Err(TryLockError::WouldBlock) }
}

impl Moved {
    /// Leaves word of where the processes were, for whoever finds them left.
    pub(super) fn note(&self) {
        let elsewhere: HashMap<&u32, &PathBuf> =
            self.before.iter().filter(|(_, before)| **before != self.parent).collect();
        let Some(text) = serde_json::to_vec(&elsewhere).ok().filter(|_| !elsewhere.is_empty()) else { return };
        // Without it (too many of them, no privilege) they go to the parent.
        let _ = setxattr(&self.path, BEFORE, &text, XattrFlags::empty());
    }

    /// What was done to a tree that is left.
    fn noted(path: &Path, parent: &Path) -> Self {
        let mut text = vec![0; LONGEST];
        let length = getxattr(path, BEFORE, text.as_mut_slice()).unwrap_or_default();
        let before = text.get(..length).and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default();
        Self { path: path.to_owned(), parent: parent.to_owned(), before }
    }
}

/// Moves back what agents that have died have left at or below `top`, and removes its cgroups. Blocks for a look at every cgroup.
pub fn sweep(top: &Path) {
    // Those inside others first: what is left of them is in use, and keeps those around them.
    for path in cgroup::with_descendants(top).into_iter().rev().filter(|path| is_trees(path) && is_own(path)) {
        // Locked until it is gone, so that no two agents move the same.
        let (Some(parent), Ok(_directory)) = (path.parent(), locked(&path, File::try_lock)) else { continue };
        let tree = cgroup::with_descendants(&path);
        if tree.iter().any(|path| has_unseen(path)) || tree.iter().skip(1).any(|below| is_used(below)) {
            continue;
        }
        let left = Moved::noted(&path, parent);
        tracing::info!(path = %path.display(), "moving back what an agent that has died has left");
        left.undo();
    }
}

fn is_trees(path: &Path) -> bool {
    cgroup::process_in_name(path, PREFIX).is_some()
}

/// Whether this user made it: another's is not this agent's to take away.
fn is_own(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.uid() == nix::unistd::geteuid().as_raw())
}

/// Whether somebody is in it whom this agent cannot see, and so not move.
fn has_unseen(path: &Path) -> bool {
    cgroup::processes(path).is_ok_and(|processes| processes.contains(&0))
}

/// Whether a cgroup inside a tree's is one of Moxie's that somebody needs where it is.
fn is_used(path: &Path) -> bool {
    is_trees(path) || cgroup::is_lived_in(path)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::super::{ProcessTree, tree};
    use super::*;
    use crate::scope::cgroup::{Hierarchy, RunCgroup, move_process};
    use crate::scope::registry::tests::own_cgroup;

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            for pid in tree(self.0.id()) {
                // One that has ended since is no trouble.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::SIGKILL);
            }
            let _ = self.0.wait();
        }
    }

    /// A shell in one cgroup and its child in another.
    fn family(around: &RunCgroup) -> (Sleeper, [(u32, PathBuf); 2]) {
        let [shells, childs] = ["shell", "child"].map(|name| around.path().join(name));
        for path in [&shells, &childs] {
            fs::create_dir(path).unwrap();
        }
        let shell = Sleeper(Command::new("sh").args(["-c", "sleep 600 & wait"]).spawn().unwrap());
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        let child = loop {
            match tree(shell.0.id())[..] {
                [_, child] => break child,
                _ => assert!(tokio::time::Instant::now() < deadline, "no child"),
            }
            std::thread::yield_now();
        };
        let homes = [(shell.0.id(), shells), (child, childs)];
        homes.iter().for_each(|(pid, home)| move_process(*pid, home).unwrap());
        (shell, homes)
    }

    /// Whether sweeping makes it so, once no process that was forked in another test holds a lock any more that was let go here.
    fn is_swept(top: &Path, is_so: impl Fn() -> bool) -> bool {
        (0..10_000).any(|_| {
            sweep(top);
            std::thread::yield_now();
            is_so()
        })
    }

    #[test]
    fn a_tree_that_nobody_looks_after_goes_back_where_it_was() {
        let Some((_alone, around)) = own_cgroup() else { return };
        let hierarchy = Hierarchy::find().unwrap();
        let (shell, homes) = family(&around);
        let is_home =
            || homes.iter().map(|(pid, home)| hierarchy.of_process(*pid).unwrap() == *home).collect::<Vec<_>>();
        let moved = ProcessTree::isolate(shell.0.id()).unwrap();
        let path = moved.path().to_owned();
        sweep(around.path());
        assert_eq!(is_home(), [false, false], "its agent lives");

        let received = ProcessTree::receive(moved.moved().clone());
        moved.release();
        drop(moved);
        sweep(around.path());
        assert_eq!(is_home(), [false, false], "the agent that it was handed to lives");

        // From here on another test's agent may sweep at any time.
        let inner = path.join("moxie-agent-1");
        fs::create_dir(&inner).unwrap();
        fs::create_dir(path.join("made-by-it")).unwrap();
        // Dropped without being kept, as by the kernel.
        drop(received);
        // Once it could be locked, as a sweep does: else that would pass it over whatever is in it.
        assert!((0..10_000).any(|_| {
            std::thread::yield_now();
            locked(&path, File::try_lock).is_ok()
        }));
        sweep(around.path());
        assert_eq!(is_home(), [false, false], "process 1 lives in it, as an agent would");
        fs::remove_dir(&inner).unwrap();

        assert!(is_swept(around.path(), || !path.exists()));
        assert_eq!(is_home(), [true, true]);
    }

    #[test]
    fn what_is_empty_goes_and_what_is_in_it_goes_first() {
        let Some((_alone, around)) = own_cgroup() else { return };
        let outer = around.path().join("moxie-pid-7");
        fs::create_dir_all(outer.join("moxie-pid-8")).unwrap();
        let held = Hold::of(&outer.join("moxie-pid-8")).unwrap();
        fs::create_dir(around.path().join("moxie-pid-x")).unwrap();
        sweep(around.path());
        assert!(outer.join("moxie-pid-8").exists());
        drop(held);
        assert!(is_swept(around.path(), || !outer.exists()));
        assert!(around.path().join("moxie-pid-x").exists(), "not one of ours");
    }
}
