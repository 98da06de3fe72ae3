//! A process tree moved into a cgroup of its own, so that it can be opted in without what is around it.

mod left;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::cgroup::{self, CgroupError, Hierarchy};
use left::Hold;
pub use left::sweep;

/// Names of cgroups made for process trees: this, and the root process's id.
const PREFIX: &str = "moxie-pid-";
/// Rounds of moving before a tree is given up that forks faster than it can be moved.
const ROUNDS: usize = 64;

/// Why a process tree cannot be opted in.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A step failed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The agent is one of the processes.
    #[error("process {pid} has the agent below it (process {agent}); opt in the service itself, not what started both")]
    ContainsAgent {
        /// What was to be opted in.
        pid: u32,
        /// The agent.
        agent: u32,
    },
    /// A thread was named, which cannot be in another cgroup than its process.
    #[error("{thread} is a thread of process {process}: write {process}")]
    Thread {
        /// What was to be opted in.
        thread: u32,
        /// The process that it belongs to.
        process: u32,
    },
    /// The kernel's own threads make no calls, and stay where they are.
    #[error("{pid} is a kernel thread and cannot be moved: write the id of a process")]
    Kernel {
        /// What was to be opted in.
        pid: u32,
    },
    /// New processes appeared faster than they could be moved.
    #[error("process {pid} forks faster than its children can be moved; opt in its cgroup {} instead", cgroup.display())]
    Forking {
        /// What was to be opted in.
        pid: u32,
        /// Where it is.
        cgroup: PathBuf,
    },
}

/// A process tree in its own cgroup. Dropping it moves everyone back and removes the cgroup.
#[derive(Debug)]
pub struct ProcessTree {
    moved: Moved,
    /// Another agent looks after it now.
    is_released: AtomicBool,
    _hold: Option<Hold>,
}

/// What was done to a process tree, and is to be undone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Moved {
    path: PathBuf,
    /// Below which the cgroup was made; processes born since go there.
    parent: PathBuf,
    /// Where each process was before.
    before: HashMap<u32, PathBuf>,
}

impl ProcessTree {
    /// Moves `pid` and its descendants into `moxie-pid-<pid>`, below the cgroup it is in. Sockets that they have already keep
    /// their old cgroup; only those made from now on are of the new one.
    ///
    /// # Errors
    /// No such process, a thread, the agent is in the tree, or the kernel refuses a move.
    pub fn isolate(pid: u32) -> Result<Self, ProcessError> {
        let hierarchy = Hierarchy::find()?;
        let parent = hierarchy.of_process(pid)?;
        if let Some(process) = process_of(pid).filter(|process| *process != pid) {
            return Err(ProcessError::Thread { thread: pid, process });
        }
        if is_kernels(pid) {
            return Err(ProcessError::Kernel { pid });
        }
        let agent = std::process::id();
        if tree(pid).contains(&agent) {
            return Err(ProcessError::ContainsAgent { pid, agent });
        }
        let path = parent.join(format!("{PREFIX}{pid}"));
        let hold = Hold::make(&path)?;
        // From here on a failure undoes what was done, by dropping this.
        let moved = Moved { path, parent, before: HashMap::new() };
        let mut isolated = Self { moved, is_released: AtomicBool::new(false), _hold: hold };
        isolated.gather(pid, &hierarchy)?;
        isolated.moved.note();
        Ok(isolated)
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.moved.path
    }

    /// What another agent needs to look after it.
    #[must_use]
    pub fn moved(&self) -> &Moved {
        &self.moved
    }

    /// A tree that another agent has isolated, and looks after until [`ProcessTree::keep`].
    #[must_use]
    pub fn receive(moved: Moved) -> Self {
        // The agent that hands it over has it held meanwhile.
        let hold = Hold::of(&moved.path).ok();
        Self { moved, is_released: AtomicBool::new(true), _hold: hold }
    }

    /// Another agent looks after it from now on: dropping this undoes nothing.
    pub fn release(&self) {
        self.is_released.store(true, Ordering::Release);
    }

    /// This agent looks after it from now on.
    pub fn keep(&self) {
        self.is_released.store(false, Ordering::Release);
    }

    /// Whoever is forked by a process that was moved is born in the new cgroup, so each round has fewer left to move.
    fn gather(&mut self, root: u32, hierarchy: &Hierarchy) -> Result<(), ProcessError> {
        for _ in 0..ROUNDS {
            let inside: HashSet<u32> = cgroup::processes(self.path())?.into_iter().collect();
            let outside: Vec<u32> = tree(root).into_iter().filter(|pid| !inside.contains(pid)).collect();
            if outside.is_empty() {
                return Ok(());
            }
            for pid in outside {
                self.take_in(pid, hierarchy, pid == root)?;
            }
        }
        Err(ProcessError::Forking { pid: root, cgroup: self.moved.parent.clone() })
    }

    fn take_in(&mut self, pid: u32, hierarchy: &Hierarchy, is_root: bool) -> Result<(), CgroupError> {
        let moved = hierarchy.of_process(pid).and_then(|before| {
            cgroup::move_process(pid, &self.moved.path)?;
            self.moved.before.insert(pid, before);
            Ok(())
        });
        match moved {
            // A descendant that has ended meanwhile is no loss.
            Err(_) if !is_root && !is_alive(pid) => Ok(()),
            moved => moved,
        }
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        if !self.is_released.load(Ordering::Acquire) {
            self.moved.undo();
        }
    }
}

impl Moved {
    fn undo(&self) {
        for pid in cgroup::processes(&self.path).unwrap_or_default() {
            let Some(before) = self.before.get(&pid) else { continue };
            // What cannot go back (its cgroup may be gone) goes to the parent below.
            let _ = cgroup::move_process(pid, before);
        }
        cgroup::dissolve(&self.path, &self.parent);
    }
}

/// A process and all of its descendants that are alive, parents first.
fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let born = children.remove(pid).unwrap_or_default();
        found.extend(born);
        next += 1;
    }
    found
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent_of(pid: u32) -> Option<u32> {
    stat(pid, 1)
}

/// A number from `/proc/PID/stat`, counted from the field after the name, which is in parentheses and may itself hold any character.
fn stat(pid: u32, field: usize) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(field)?.parse().ok()
}

/// The process that a thread belongs to, which a process's first thread is named after.
fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Whether it is one of the kernel's own threads: PF_KTHREAD (include/linux/sched.h).
fn is_kernels(pid: u32) -> bool {
    stat(pid, 6).is_some_and(|flags| flags & 0x0020_0000 != 0)
}

/// The short name of a process that is still there.
pub(super) fn comm_of(pid: u32) -> Option<String> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.trim_end_matches('\n').to_owned())
}

/// Neither gone nor a zombie, which cannot be moved and does nothing any more.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_tree_has_the_children_of_children() {
        // The shell waits for the sleep, which is its child.
        let mut shell = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while tree(shell.id()).len() < 2 && tokio::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let (found, below) = (tree(std::process::id()), tree(shell.id()));
        for pid in below.iter().rev() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        shell.wait().unwrap();
        assert_eq!(below.len(), 2);
        assert!(below.iter().all(|pid| found.contains(pid)), "{below:?} in {found:?}");
    }

    #[test]
    fn a_thread_is_told_from_its_process_and_from_the_kernels() {
        let own = std::process::id();
        let (thread, stop) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let running = std::thread::spawn(move || {
            thread.0.send(nix::unistd::gettid().as_raw() as u32).unwrap();
            let _ = stop.1.recv();
        });
        let id = thread.1.recv().unwrap();
        assert_eq!((process_of(id), process_of(own)), (Some(own), Some(own)));
        if crate::scope::cgroup::tests::hierarchy().is_some() {
            let refused = ProcessTree::isolate(id).unwrap_err();
            assert_eq!(refused.to_string(), format!("{id} is a thread of process {own}: write {own}"));
        }
        drop(stop.0);
        running.join().unwrap();
        assert!(!is_kernels(own));
        for pid in
            all().filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "kthreadd\n"))
        {
            assert!(is_kernels(pid), "{pid}");
        }
    }

    #[test]
    fn the_agents_own_ancestors_are_refused() {
        if crate::scope::cgroup::tests::hierarchy().is_none() {
            return;
        }
        let refused = ProcessTree::isolate(nix::unistd::getppid().as_raw() as u32);
        assert!(matches!(refused, Err(ProcessError::ContainsAgent { .. } | ProcessError::Cgroup(_))), "{refused:?}");
        let refused = ProcessTree::isolate(std::process::id());
        assert!(matches!(refused, Err(ProcessError::ContainsAgent { .. })), "{refused:?}");
    }
}
