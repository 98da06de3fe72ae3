//! A cgroup on path, and the network namespaces that its processes are in.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::lock;
use super::sets::{Set, Sets};
use crate::divert::DivertError;
use crate::namespace::{Namespace, NamespaceId};
use crate::scope::cgroup;

/// Looks in a row at which no process was seen in a namespace before its set is let go: processes come and go between two of them.
const UNSEEN: u8 = 2;
/// A cgroup with more processes than this was not made a moment ago.
const FEW: usize = 32;

/// The cgroup and what it holds open.
#[derive(Debug)]
pub(super) struct Place {
    cgroup: PathBuf,
    sets: Arc<Sets>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<NamespaceId, Held>,
    /// Namespaces without a set, and why.
    closed: BTreeMap<NamespaceId, String>,
    /// Ids of the directories at or below the cgroup at the last look.
    directories: HashSet<u64>,
}

#[derive(Debug)]
struct Held {
    set: Arc<Set>,
    unseen: u8,
}

impl Place {
    pub(super) fn new(cgroup: &Path, sets: &Arc<Sets>) -> Arc<Self> {
        Arc::new(Self { cgroup: cgroup.to_owned(), sets: Arc::clone(sets), inner: Mutex::default() })
    }

    /// Looks at every process: joins the namespaces that are new, leaves those that none is in any more, and has young directories
    /// looked after.
    pub(super) fn look(self: &Arc<Self>) {
        let directories = cgroup::with_descendants(&self.cgroup);
        let mut seen = BTreeSet::new();
        for directory in &directories {
            let processes = cgroup::processes(directory).unwrap_or_default();
            if self.is_new(directory) && processes.len() <= FEW {
                self.sets.watcher().look_after(self, directory.clone());
            }
            seen.extend(self.join(&processes));
        }
        let ids = directories.iter().filter_map(|directory| cgroup::id_of(directory).ok()).collect();
        // Dropped without the lock.
        let left = lock(&self.inner).leave(&seen, ids);
        drop(left);
    }

    /// Joins the namespaces of the processes in `directory` and below it, and tells which they are.
    pub(super) fn follow(&self, directory: &Path) -> BTreeSet<NamespaceId> {
        let directories = cgroup::with_descendants(directory);
        directories.iter().flat_map(|it| self.join(&cgroup::processes(it).unwrap_or_default())).collect()
    }

    pub(super) fn is_own(&self, namespace: NamespaceId) -> bool {
        self.sets.is_own(namespace)
    }

    /// What keeps connections from being diverted, for people.
    pub(super) fn obstacles(&self) -> Vec<String> {
        let inner = lock(&self.inner);
        let lacks = inner.held.values().filter_map(|held| held.set.lack());
        inner.closed.values().cloned().chain(lacks).collect()
    }

    fn is_new(&self, directory: &Path) -> bool {
        cgroup::id_of(directory).is_ok_and(|id| !lock(&self.inner).directories.contains(&id))
    }

    fn join(&self, processes: &[u32]) -> BTreeSet<NamespaceId> {
        let mut seen = BTreeSet::new();
        for pid in processes {
            // One that has ended since is in none; one that may not be looked at is told of below.
            match NamespaceId::of_process(*pid) {
                Ok(id) if self.is_known(id) || seen.contains(&id) => drop(seen.insert(id)),
                Ok(_) => seen.extend(self.enter(*pid)),
                Err(_) => {}
            }
        }
        seen
    }

    fn is_known(&self, namespace: NamespaceId) -> bool {
        self.is_own(namespace) || lock(&self.inner).held.contains_key(&namespace)
    }

    /// The namespace is opened at once and kept: the first process in it may be a short-lived stage of a container runtime's.
    fn enter(&self, pid: u32) -> Option<NamespaceId> {
        let namespace = match Namespace::of_process(pid) {
            Ok(namespace) => namespace,
            Err(error) => {
                self.note_unentered(pid, &error);
                return None;
            }
        };
        let id = namespace.id();
        if self.is_known(id) {
            return Some(id);
        }
        let entered = self.sets.of(&namespace);
        let mut inner = lock(&self.inner);
        match entered {
            Ok(set) => {
                inner.closed.remove(&id);
                inner.held.insert(id, Held { set, unseen: 0 });
            }
            Err(error) => drop(inner.closed.insert(id, told(&error, pid, id))),
        }
        Some(id)
    }

    fn note_unentered(&self, pid: u32, error: &io::Error) {
        // Gone between the look at its directory and this one, unless it is still there.
        let Ok(id) = NamespaceId::of_process(pid) else { return };
        let text = format!(
            "connections of process {pid} go direct: the agent may not enter network namespace {} ({error}); run it with \
             CAP_SYS_ADMIN and CAP_SYS_PTRACE",
            id.inode()
        );
        lock(&self.inner).closed.insert(id, text);
    }
}

impl Inner {
    /// What is let go.
    fn leave(&mut self, seen: &BTreeSet<NamespaceId>, directories: HashSet<u64>) -> Vec<Held> {
        self.directories = directories;
        self.closed.retain(|id, _| seen.contains(id));
        for (id, held) in &mut self.held {
            held.unseen = if seen.contains(id) { 0 } else { held.unseen + 1 };
        }
        let gone: Vec<NamespaceId> =
            self.held.iter().filter(|(_, held)| held.unseen >= UNSEEN).map(|(id, _)| *id).collect();
        gone.iter().filter_map(|id| self.held.remove(id)).collect()
    }
}

fn told(error: &DivertError, pid: u32, id: NamespaceId) -> String {
    let inode = id.inode();
    match error {
        DivertError::Listen { address, .. } if error.is_address_in_use() => format!(
            "connections from network namespace {inode} go direct: something else listens on {address} there; \
             `nsenter -t {pid} -n ss -ltnp` shows it: stop it, and diverting begins by itself"
        ),
        _ => {
            let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("connections from network namespace {inode} go direct: {error}{cause}")
        }
    }
}
