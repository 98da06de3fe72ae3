//! The scopes in force: each holds its cgroup and its place on the kernel's path until it is removed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Caller;
use super::cgroup::{self, CgroupError, Hierarchy};
use super::process::{self, ProcessError, ProcessTree};
use crate::divert::{Attachment, Divert, DivertError, Origin, Terms};
pub use handover::HandedTree;

mod handover;

/// Opaque name of a scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ScopeId(pub String);

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What of a scope's traffic has to come to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Only what an enabled rule can name.
    #[default]
    Rules,
    /// Everything; TLS that no rule names is not touched.
    Observe,
}

impl fmt::Display for Mode {
    /// As the API writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rules => "rules",
            Self::Observe => "observe",
        })
    }
}

/// What is opted in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A cgroup v2 directory, absolute, with everything below it.
    Cgroup(String),
    /// A process and its descendants, moved into a cgroup of their own.
    Pid(u32),
}

/// What a user asks for: `{"cgroup": …}` or `{"pid": …}`, and a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSpec {
    /// What.
    pub target: Target,
    /// How much of it.
    pub mode: Mode,
}

/// A scope as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Scope {
    /// Its name.
    pub id: ScopeId,
    /// What is opted in, as asked: one of `cgroup` and `pid`.
    #[serde(flatten)]
    pub target: Target,
    /// How much of it.
    pub mode: Mode,
    /// The cgroup directory on path.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Connections of this scope that are open in the agent now.
    pub active_connections: u64,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Why a scope cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// The cgroup cannot be found or used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The process tree cannot be moved.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The cgroup cannot be put on path.
    #[error("cannot opt in {}", path.display())]
    Divert {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: DivertError,
    },
    /// The same target is opted in with another mode.
    #[error("{} is opted in already, as scope {id} with mode {mode}; remove that scope first", path.display())]
    OtherMode {
        /// The cgroup.
        path: PathBuf,
        /// The scope there is.
        id: ScopeId,
        /// Its mode.
        mode: Mode,
    },
}

/// Cgroup ids whose paths are remembered.
const KNOWN_PATHS: usize = 4096;

/// Every scope in force.
#[derive(Debug)]
pub struct Scopes {
    divert: Arc<dyn Divert>,
    /// Replaced as a whole by whoever holds `changing`, so that the data path never waits.
    entries: ArcSwap<Vec<Arc<Entry>>>,
    changing: Mutex<()>,
    /// By cgroup id, which the kernel does not use twice.
    paths: Cache<u64, Arc<PathBuf>>,
}

#[derive(Debug)]
struct Entry {
    id: ScopeId,
    target: Target,
    mode: Mode,
    path: PathBuf,
    created_at: Timestamp,
    active: Arc<AtomicU64>,
    /// `None` once the scope is removed.
    hold: Mutex<Option<Hold>>,
}

/// What keeps a scope in force. Dropped in this order: off path first, then the process tree moves back.
#[derive(Debug)]
struct Hold {
    attachment: Box<dyn Attachment>,
    /// Id of the directory that is on path: one made later under the same name is another.
    cgroup_id: u64,
    tree: Option<ProcessTree>,
}

impl Entry {
    fn scope(&self) -> Scope {
        Scope {
            id: self.id.clone(),
            target: self.target.clone(),
            mode: self.mode,
            path: self.path.clone(),
            active_connections: self.active.load(Ordering::Relaxed),
            created_at: self.created_at,
        }
    }

    /// Whether a cgroup that was made anew under the scope's name is not on path yet.
    fn is_stale(&self) -> bool {
        let (Target::Cgroup(_), Ok(id)) = (&self.target, cgroup::id_of(&self.path)) else { return false };
        lock(&self.hold).as_ref().is_some_and(|hold| hold.cgroup_id != id)
    }
}

impl Scopes {
    /// An empty registry that attaches through `divert`.
    #[must_use]
    pub fn new(divert: Arc<dyn Divert>) -> Self {
        Self { divert, entries: ArcSwap::default(), changing: Mutex::new(()), paths: Cache::new(KNOWN_PATHS) }
    }

    /// Opts in. An equal scope again gives the existing one (`false`: nothing was added). Blocks for file and bpf calls (milliseconds).
    ///
    /// # Errors
    /// What cannot be opted in, why, and what to do.
    pub fn add(&self, spec: ScopeSpec, now: Timestamp) -> Result<(Scope, bool), ScopeError> {
        self.admit(spec, ScopeId(Uuid::now_v7().simple().to_string()), now)
    }

    /// Opts in again what an earlier life of the agent had opted in, under the name it had: records and clients go by it.
    /// A scope that equals one in force is that one. Blocks as [`Self::add`] does.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn restore(&self, spec: ScopeSpec, id: ScopeId, created_at: Timestamp) -> Result<Scope, ScopeError> {
        self.admit(spec, id, created_at).map(|(scope, _)| scope)
    }

    fn admit(&self, spec: ScopeSpec, id: ScopeId, created_at: Timestamp) -> Result<(Scope, bool), ScopeError> {
        let _changing = lock(&self.changing);
        let named = match &spec.target {
            Target::Cgroup(path) => Some(Hierarchy::find()?.resolve(Path::new(path))?),
            Target::Pid(_) => None,
        };
        if let Some(existing) = self.find(|entry| named.as_ref() == Some(&entry.path) || entry.target == spec.target) {
            return existing_with(&existing, spec.mode);
        }
        let tree = match spec.target {
            Target::Pid(pid) => Some(ProcessTree::isolate(pid)?),
            Target::Cgroup(_) => None,
        };
        let path = tree.as_ref().map(|tree| tree.path().to_owned()).or(named).unwrap_or_default();
        Ok((self.place(id, spec.target, spec.mode, created_at, path, tree)?, true))
    }

    fn place(
        &self,
        id: ScopeId,
        target: Target,
        mode: Mode,
        created_at: Timestamp,
        path: PathBuf,
        tree: Option<ProcessTree>,
    ) -> Result<Scope, ScopeError> {
        let hold = Mutex::new(Some(self.hold(&path, tree)?));
        let entry = Arc::new(Entry { id, target, mode, created_at, active: Arc::default(), hold, path });
        self.change(|entries| entries.push(Arc::clone(&entry)));
        Ok(entry.scope())
    }

    fn hold(&self, path: &Path, tree: Option<ProcessTree>) -> Result<Hold, ScopeError> {
        let cgroup_id = cgroup::id_of(path)?;
        let attachment = self
            .divert
            .attach(path, Terms::default())
            .map_err(|source| ScopeError::Divert { path: path.to_owned(), source })?;
        Ok(Hold { attachment, cgroup_id, tree })
    }

    /// Opts out: off path first, then what `add` made is undone. `None`: there is no such scope.
    pub fn remove(&self, id: &ScopeId) -> Option<Scope> {
        let _changing = lock(&self.changing);
        let entry = self.find(|entry| entry.id == *id)?;
        drop(lock(&entry.hold).take());
        self.change(|entries| entries.retain(|other| other.id != *id));
        Some(entry.scope())
    }

    /// Puts cgroups on path again that were made anew under their names, as systemd does when a unit restarts. Costs one look at
    /// a directory for each scope; to be called about once a second.
    pub fn refresh(&self) {
        let _changing = lock(&self.changing);
        for entry in self.entries.load().iter().filter(|entry| entry.is_stale()) {
            match self.hold(&entry.path, None) {
                Ok(hold) => {
                    *lock(&entry.hold) = Some(hold);
                    tracing::info!(scope = %entry.id, path = %entry.path.display(), "cgroup was made anew; on path again");
                }
                Err(error) => {
                    tracing::warn!(scope = %entry.id, error = &error as &dyn std::error::Error, "new cgroup not on path");
                }
            }
        }
    }

    /// Every scope, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Scope> {
        self.entries.load().iter().map(|entry| entry.scope()).collect()
    }

    /// A scope's mode; that of no scope is the default.
    #[must_use]
    pub fn mode(&self, scope: Option<&ScopeId>) -> Mode {
        scope.and_then(|id| self.find(|entry| entry.id == *id)).map_or_else(Mode::default, |entry| entry.mode)
    }

    /// Who made the connection that `origin` tells of.
    #[must_use]
    pub fn caller(&self, origin: &Origin) -> Caller {
        let path = origin.cgroup_id.and_then(|id| self.path_of(id));
        let path = path.as_ref().map(|path| path.as_path());
        Caller {
            scope: path.and_then(|path| self.scope_of(path)),
            unit: path.and_then(cgroup::unit_of),
            container: path.and_then(cgroup::container_of),
            pid: origin.pid,
            comm: origin.pid.and_then(process::comm_of),
        }
    }

    /// Searched for below the scopes only: whoever reaches the agent is in one of them.
    fn path_of(&self, cgroup_id: u64) -> Option<Arc<PathBuf>> {
        if let Some(known) = self.paths.get(&cgroup_id) {
            return Some(known);
        }
        let found = self.entries.load().iter().find_map(|entry| cgroup::find_below(&entry.path, cgroup_id))?;
        let found = Arc::new(found);
        self.paths.insert(cgroup_id, Arc::clone(&found));
        Some(found)
    }

    /// The innermost scope around a cgroup.
    fn scope_of(&self, cgroup: &Path) -> Option<ScopeId> {
        let entries = self.entries.load();
        let around = entries.iter().filter(|entry| cgroup.starts_with(&entry.path));
        around.max_by_key(|entry| entry.path.components().count()).map(|entry| entry.id.clone())
    }

    /// Counts a connection of `scope` as open until the guard is dropped.
    #[must_use]
    pub fn connection_opened(&self, scope: Option<&ScopeId>) -> OpenConnection {
        let active = scope.and_then(|id| self.find(|entry| entry.id == *id)).map(|entry| Arc::clone(&entry.active));
        if let Some(active) = &active {
            active.fetch_add(1, Ordering::Relaxed);
        }
        OpenConnection { active }
    }

    fn find(&self, is_it: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        self.entries.load().iter().find(|entry| is_it(entry)).cloned()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Entry>>)) {
        let mut entries = Vec::clone(&self.entries.load());
        change(&mut entries);
        self.entries.store(Arc::new(entries));
    }
}

fn existing_with(entry: &Entry, mode: Mode) -> Result<(Scope, bool), ScopeError> {
    if entry.mode != mode {
        return Err(ScopeError::OtherMode { path: entry.path.clone(), id: entry.id.clone(), mode: entry.mode });
    }
    Ok((entry.scope(), false))
}

/// Nothing that holds one of these locks panics halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One open connection of a scope.
#[derive(Debug)]
pub struct OpenConnection {
    active: Option<Arc<AtomicU64>>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(active) = &self.active {
            active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
