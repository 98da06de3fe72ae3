//! Process trees that an agent has left in their cgroups by dying: the next agent moves them back.
//!
//! Who looks after a tree holds a lock on its directory (flock(2)), which the kernel takes away with the last process that has it. So
//! a tree of another agent's on this host, and one on its way from one agent to the next, is told from one that is nobody's.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, getxattr, setxattr};

use super::{Moved, PREFIX};
use crate::scope::cgroup;

/// Attribute of a tree's directory: where those of its processes were that were not in the parent. One that only root may set, since
/// the next agent goes by it.
const BEFORE: &str = "trusted.moxie.before";
/// Most bytes of an attribute (`XATTR_SIZE_MAX`, linux/limits.h).
const LONGEST: usize = 64 * 1024;

/// Says to every agent on the host that somebody looks after a tree.
#[derive(Debug)]
pub(super) struct Hold {
    _directory: File,
}

impl Hold {
    /// `None`: an agent that starts now may take the tree for left.
    pub(super) fn of(path: &Path) -> Option<Self> {
        // Shared: two agents have it while one hands over to the other.
        let directory = File::open(path).ok().filter(|directory| directory.try_lock_shared().is_ok())?;
        Some(Self { _directory: directory })
    }
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
        let (Some(parent), Ok(directory)) = (path.parent(), File::open(&path)) else { continue };
        // Locked until it is gone, so that no two agents move the same.
        if directory.try_lock().is_err() || cgroup::with_descendants(&path).iter().skip(1).any(|below| is_used(below)) {
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

        // Dropped without being kept, as by the kernel.
        drop(received);
        let inner = path.join("moxie-agent-1");
        fs::create_dir(&inner).unwrap();
        sweep(around.path());
        assert_eq!(is_home(), [false, false], "process 1 lives in it, as an agent would");
        fs::remove_dir(&inner).unwrap();

        fs::create_dir(path.join("made-by-it")).unwrap();
        sweep(around.path());
        assert_eq!(is_home(), [true, true]);
        assert!(!path.exists());
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
        sweep(around.path());
        assert!(!outer.exists());
        assert!(around.path().join("moxie-pid-x").exists(), "not one of ours");
    }
}
