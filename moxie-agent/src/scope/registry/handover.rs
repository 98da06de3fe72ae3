//! Scopes that go from one agent to the next: those that the store does not know, since they end with their processes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Mode, Scope, ScopeError, ScopeId, Scopes, Target, lock};
use crate::scope::process::{Moved, ProcessTree};

/// A process tree that is opted in, on its way to another agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandedTree {
    id: ScopeId,
    target: Target,
    mode: Mode,
    created_at: Timestamp,
    moved: Moved,
}

impl Scopes {
    /// The process trees that are opted in.
    #[must_use]
    pub fn trees(&self) -> Vec<HandedTree> {
        let entries = self.entries.load();
        let handed = entries.iter().filter_map(|entry| {
            let hold = lock(&entry.hold);
            let moved = hold.as_ref()?.tree.as_ref()?.moved().clone();
            let (id, target) = (entry.id.clone(), entry.target.clone());
            Some(HandedTree { id, target, mode: entry.mode, created_at: entry.created_at, moved })
        });
        handed.collect()
    }

    /// Puts another agent's process tree on path here too. Blocks as [`Scopes::add`] does.
    ///
    /// # Errors
    /// As for [`Scopes::add`].
    pub fn receive(&self, handed: HandedTree) -> Result<Scope, ScopeError> {
        let HandedTree { id, target, mode, created_at, moved } = handed;
        let tree = ProcessTree::receive(moved);
        self.place(id, target, mode, created_at, tree.path().to_owned(), Some(tree))
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
        for entry in self.entries.load().iter() {
            if let Some(tree) = lock(&entry.hold).as_ref().and_then(|hold| hold.tree.as_ref()) {
                visit(tree);
            }
        }
    }

    /// Looks at every scope once: what its processes need to be diverted is there on return.
    pub fn look_around(&self) {
        for entry in self.entries.load().iter() {
            if let Some(hold) = lock(&entry.hold).as_ref() {
                hold.attachment.refresh();
            }
        }
    }
}
