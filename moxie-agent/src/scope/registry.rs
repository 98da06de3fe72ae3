//! The scopes in force, and the cgroups on path for them.
//!
//! A scope may match any number of cgroups, now or later. What should be on path is compared with what is at every change, once a
//! second, and as soon as a cgroup appears (`watch.rs`).

mod callers;
mod entry;
mod handover;
mod reconcile;
mod table;
mod weigh;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use quick_cache::sync::Cache;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

use super::cgroup::{self, CgroupError, Hierarchy};
use super::container::{Container, Containers};
use super::demand::Scale;
use super::guests::{Guests, path_of_guest};
use super::process::{self, ProcessError};
use super::spec::{Label, Mode, ScopeId, ScopeSpec, Target};
use super::view::Scope;
use super::{Caller, lock, systemd};
use crate::divert::{Divert, DivertError, Origin};
use callers::Callers;
use entry::{Entry, Surroundings};
pub use handover::HandedTree;
use table::Table;

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
    /// The same target is opted in on other terms.
    #[error("{target} is opted in already, as scope {id} with mode {mode}{hosts}{quic}; remove that scope first")]
    OtherTerms {
        /// What.
        target: Target,
        /// The scope there is.
        id: ScopeId,
        /// Its mode.
        mode: Mode,
        /// The hosts that it inspects, if that is what differs.
        hosts: String,
        /// What it says of QUIC, if that is what differs.
        quic: &'static str,
    },
    /// The scope is the configuration's.
    #[error(
        "scope {id} is the configuration's; to opt nobody in by label write `label = \"\"` under [scopes] and start the agent again"
    )]
    Configured {
        /// Which.
        id: ScopeId,
    },
}

/// Cgroup ids whose paths are remembered.
const KNOWN_PATHS: usize = 4096;

/// Containers that nobody has told of, waiting for a runtime to be asked.
const STRANGERS: usize = 64;

/// What holds for scopes that do not say.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// The label by which containers opt themselves in; `None`: they cannot.
    pub label: Option<Label>,
    /// Whether UDP to port 443 is refused.
    pub refuse_quic: bool,
}

/// Every scope in force.
#[derive(Debug)]
pub struct Scopes {
    divert: Arc<dyn Divert>,
    defaults: Defaults,
    /// What the runtimes tell.
    pub(super) containers: Containers,
    /// Replaced as a whole by whoever holds `changing`, so that the data path never waits.
    table: ArcSwap<Table>,
    changing: Mutex<()>,
    scale: Scale,
    /// By cgroup id, which the kernel does not use twice.
    paths: Cache<u64, Arc<PathBuf>>,
    callers: Callers,
    pub(super) guests: OnceLock<Guests>,
    hierarchy: OnceLock<Hierarchy>,
    /// Wakes whoever calls [`Scopes::refresh`] once a second before the second is over.
    nudge: Notify,
    /// Ids of containers that have appeared and that no runtime has told of.
    strangers: broadcast::Sender<Arc<str>>,
    /// What the sources of knowledge cannot do now, by source.
    trouble: Mutex<BTreeMap<&'static str, String>>,
}

impl Scopes {
    /// An empty registry that attaches through `divert`; containers do not opt themselves in.
    #[must_use]
    pub fn new(divert: Arc<dyn Divert>) -> Self {
        Self::with(divert, Defaults::default())
    }

    /// An empty registry that attaches through `divert`.
    #[must_use]
    pub fn with(divert: Arc<dyn Divert>, defaults: Defaults) -> Self {
        let configured = defaults.label.clone().map(|label| Arc::new(Entry::configured(label)));
        Self {
            divert,
            defaults,
            containers: Containers::default(),
            table: ArcSwap::from_pointee(Table { entries: configured.into_iter().collect(), places: Vec::new() }),
            changing: Mutex::new(()),
            scale: Scale::default(),
            paths: Cache::new(KNOWN_PATHS),
            callers: Callers::default(),
            guests: OnceLock::new(),
            hierarchy: OnceLock::new(),
            nudge: Notify::new(),
            strangers: broadcast::Sender::new(STRANGERS),
            trouble: Mutex::default(),
        }
    }

    /// Opts in. An equal scope again gives the existing one (`false`: nothing was added). One that matches nothing now is in force
    /// all the same. Blocks for file and bpf calls (milliseconds), and for systemd where it has to be asked.
    ///
    /// # Errors
    /// What cannot be opted in, why, and what to do. A cgroup and a process have to be there.
    pub fn add(&self, spec: ScopeSpec, now: Timestamp) -> Result<(Scope, bool), ScopeError> {
        let entry = match &spec.target {
            Target::Cgroup(path) => {
                let named = Hierarchy::find()?.resolve(Path::new(path))?;
                Entry::of(spec, new_id(), now, Some(named))
            }
            _ => Entry::of(spec, new_id(), now, None),
        };
        let added = self.admit(entry, Admission::Asked)?;
        Ok(added)
    }

    /// Opts in again what an earlier life of the agent had opted in, under the name it had: records and clients go by it.
    /// A scope that equals one in force is that one. What cannot be on path now is tried again. Blocks as [`Self::add`] does.
    ///
    /// # Errors
    /// As for [`Self::add`], where trying again cannot help.
    pub fn restore(&self, spec: ScopeSpec, id: ScopeId, created_at: Timestamp) -> Result<Scope, ScopeError> {
        let named = match &spec.target {
            Target::Cgroup(path) => {
                let hierarchy = Hierarchy::find()?;
                let path = Path::new(path);
                // One that was made by the unit that is not running yet, say.
                Some(hierarchy.resolve(path).unwrap_or_else(|_| hierarchy.name(path)))
            }
            _ => None,
        };
        self.admit(Entry::of(spec, id, created_at, named), Admission::Restored).map(|(scope, _)| scope)
    }

    /// Opts out: off path first, then what `add` made is undone. `None`: there is no such scope.
    ///
    /// # Errors
    /// The scope is the configuration's.
    pub fn remove(&self, id: &ScopeId) -> Result<Option<Scope>, ScopeError> {
        let _changing = lock(&self.changing);
        let table = self.table.load_full();
        let Some(entry) = table.entry(id).cloned() else { return Ok(None) };
        if entry.configured {
            return Err(ScopeError::Configured { id: id.clone() });
        }
        let scope = entry.scope(&table, &self.surroundings());
        let entries = table.entries.iter().filter(|other| other.id != *id).cloned().collect();
        self.disown(&table, entries, id);
        entry.undo();
        Ok(Some(scope))
    }

    /// Every scope, oldest first. The configuration's own is among them only while it matches something.
    #[must_use]
    pub fn list(&self) -> Vec<Scope> {
        let (table, around) = (self.table.load(), self.surroundings());
        let shown = table.entries.iter().filter(|entry| !entry.configured || table.has_place_of(&entry.id));
        shown.map(|entry| entry.scope(&table, &around)).collect()
    }

    /// Who made the connection that `origin` tells of.
    #[must_use]
    pub fn caller(&self, origin: &Origin) -> Arc<Caller> {
        let (table, around) = (self.table.load_full(), self.surroundings());
        self.callers.caller(origin, &table, &around.known, || self.make_out(origin, &table, &around))
    }

    fn make_out(&self, origin: &Origin, table: &Table, around: &Surroundings) -> Caller {
        let path = origin.cgroup_id.and_then(|id| self.path_of(id)).or_else(|| path_of_guest(origin));
        let path = path.as_ref().map(|path| path.as_path());
        let container = path.and_then(|path| around.container(path));
        let container = container.as_deref();
        let scope = path.and_then(|path| table.owner_of(path));
        Caller {
            inspect: scope.as_ref().and_then(|id| table.entry(id)?.inspect(container)),
            scope: scope.or_else(|| self.guests_of(origin)),
            unit: path.and_then(cgroup::unit_of),
            container: container.map(|container| container.name.as_ref().unwrap_or(&container.id).clone()),
            container_id: container.map(|container| container.id.clone()),
            image: container.and_then(|container| container.image.clone()),
            pid: origin.pid,
            comm: origin.pid.and_then(process::comm_of),
            rules: container.and_then(|container| container.rules()),
        }
    }

    /// Searched for below the places only: whoever reaches the agent is in one of them.
    fn path_of(&self, cgroup_id: u64) -> Option<Arc<PathBuf>> {
        if let Some(known) = self.paths.get(&cgroup_id) {
            return Some(known);
        }
        let table = self.table.load();
        let found = table.places.iter().find_map(|place| cgroup::find_below(&place.path, cgroup_id))?;
        let found = Arc::new(found);
        self.paths.insert(cgroup_id, Arc::clone(&found));
        Some(found)
    }

    /// Counts a connection of `scope` as open until the guard is dropped.
    #[must_use]
    pub fn connection_opened(&self, scope: Option<&ScopeId>) -> OpenConnection {
        let active = scope.and_then(|id| {
            let entry = self.table.load().entry(id).map(|entry| Arc::clone(&entry.active));
            entry.or_else(|| self.active_guests(id))
        });
        if let Some(active) = &active {
            active.fetch_add(1, Ordering::Relaxed);
        }
        OpenConnection { active }
    }

    /// What does not work as it should, for people: a runtime that cannot be asked, say.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        lock(&self.trouble).values().cloned().collect()
    }

    /// Notes what a source of knowledge cannot do now; `None`: nothing. Logged where it is new.
    pub(super) fn note(&self, source: &'static str, trouble: Option<String>) {
        let mut all = lock(&self.trouble);
        if all.get(source) == trouble.as_ref() {
            return;
        }
        match trouble {
            Some(trouble) => {
                tracing::warn!("{trouble}");
                all.insert(source, trouble);
            }
            None => {
                tracing::info!(source, "works again");
                all.remove(source);
            }
        }
    }

    /// Returns when somebody has learned something that scopes may match.
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// Takes over all that a runtime tells of its containers.
    pub(super) fn told_all(&self, runtime: &'static str, containers: Vec<Container>) {
        if self.containers.replace(runtime, containers) {
            self.nudge.notify_one();
        }
    }

    /// Takes over what a runtime tells of one container.
    pub(super) fn told(&self, runtime: &'static str, container: Container) {
        if self.containers.learn(runtime, container) {
            self.nudge.notify_one();
        }
    }

    /// Forgets a container that a runtime has removed.
    pub(super) fn told_removed(&self, runtime: &'static str, id: &str) {
        if self.containers.forget(runtime, id) {
            self.nudge.notify_one();
        }
    }

    /// Containers that appear from now on without a runtime having told of them.
    pub(super) fn strangers(&self) -> broadcast::Receiver<Arc<str>> {
        self.strangers.subscribe()
    }
}

/// Who wants a scope in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// A user, now, who is told what does not work.
    Asked,
    /// A user, in an earlier life of the agent.
    Restored,
}

fn new_id() -> ScopeId {
    ScopeId(Uuid::now_v7().simple().to_string())
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
pub(in crate::scope) mod tests;
