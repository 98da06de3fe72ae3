//! Scopes that go from one agent to the next: those that the store does not know, since they end with their processes.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::{Admission, Mode, Scope, ScopeError, ScopeId, ScopeSpec, Scopes, Target};
use crate::rules::HostList;
use crate::scope::container::Container;
use crate::scope::process::{Moved, ProcessTree};

/// A process tree that is opted in, on its way to another agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandedTree {
    id: ScopeId,
    pid: u32,
    mode: Mode,
    #[serde(default)]
    inspect: Vec<String>,
    refuse_quic: Option<bool>,
    created_at: Timestamp,
    moved: Moved,
}

/// The runtimes whose containers are handed over.
const RUNTIMES: [&str; 3] = ["docker", "podman", "containerd"];

impl Scopes {
    /// What the runtimes have told so far, by their names.
    #[must_use]
    pub fn containers(&self) -> Vec<(String, Container)> {
        self.containers.told()
    }

    /// What another agent was told by the runtimes, until they tell this one: scopes that go by it hold from the beginning.
    pub fn receive_containers(&self, containers: Vec<(String, Container)>) {
        for (runtime, container) in containers {
            if let Some(runtime) = RUNTIMES.iter().find(|known| **known == runtime) {
                self.containers.learn(runtime, container);
            }
        }
    }

    /// The process trees that are opted in.
    #[must_use]
    pub fn trees(&self) -> Vec<HandedTree> {
        let table = self.table.load();
        let handed = table.entries.iter().filter_map(|entry| {
            let Target::Pid(pid) = entry.spec.target else { return None };
            let moved = entry.tree(|tree| tree.moved().clone())?;
            let (id, created_at) = (entry.id.clone(), entry.created_at);
            let ScopeSpec { mode, refuse_quic, .. } = entry.spec;
            let inspect = entry.spec.inspect.sources();
            Some(HandedTree { id, pid, mode, inspect, refuse_quic, created_at, moved })
        });
        handed.collect()
    }

    /// Puts another agent's process tree on path here too. Blocks as [`Scopes::add`] does.
    ///
    /// # Errors
    /// As for [`Scopes::restore`].
    pub fn receive(&self, handed: HandedTree) -> Result<Scope, ScopeError> {
        let HandedTree { id, pid, mode, inspect, refuse_quic, created_at, moved } = handed;
        // They were read by the agent that hands them over.
        let inspect = Arc::new(HostList::parse(&inspect).unwrap_or_default());
        let spec = ScopeSpec { mode, inspect, refuse_quic, ..ScopeSpec::of(Target::Pid(pid)) };
        let entry = Entry::of(spec, id, created_at, None);
        entry.holds(ProcessTree::receive(moved));
        self.admit(entry, Admission::Restored).map(|(scope, _)| scope)
    }

    /// Another agent looks after the process trees from now on: they stay in their cgroups when this one ends.
    pub fn release_trees(&self) {
        self.each_tree(ProcessTree::release);
    }

    /// This agent looks after the process trees from now on, those too that it has from another.
    pub fn keep_trees(&self) {
        self.each_tree(ProcessTree::keep);
    }

    fn each_tree(&self, visit: impl Fn(&ProcessTree)) {
        for entry in &self.table.load().entries {
            // One that has none has nothing to look after.
            let _ = entry.tree(&visit);
        }
    }
}
