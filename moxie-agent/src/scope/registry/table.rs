//! Scopes and places at one moment: what the data path reads.

use std::path::Path;
use std::sync::Arc;

use super::super::demand::Scale;
use super::super::place::Place;
use super::entry::{Entry, Surroundings};
use crate::divert::Share;
use crate::scope::ScopeId;
use crate::scope::container::Container;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Oldest first; the configuration's before every other.
    pub(super) entries: Vec<Arc<Entry>>,
    /// By path.
    pub(super) places: Vec<Place>,
}

impl Table {
    pub(super) fn entry(&self, id: &ScopeId) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| entry.id == *id)
    }

    pub(super) fn place_at(&self, path: &Path) -> Option<&Place> {
        self.places.iter().find(|place| place.path == path)
    }

    pub(super) fn has_place_of(&self, scope: &ScopeId) -> bool {
        self.places.iter().any(|place| place.owners.contains(scope))
    }

    /// How much of a place has to come: all of it where one of its scopes wants that, else what rules could act on.
    pub(super) fn share_of(&self, place: &Place, around: &Surroundings, scale: &Scale) -> Share {
        let container = around.container(&place.path);
        let container = container.as_deref();
        let of_its_own = container.and_then(Container::mode);
        let mut owners = place.owners.iter().filter_map(|id| self.entry(id));
        if owners.any(|entry| of_its_own.unwrap_or(entry.spec.mode).wants_all()) {
            return Share::All;
        }
        scale.for_rules(container.and_then(Container::rules).as_deref())
    }

    /// The scope of the innermost place around a cgroup.
    pub(super) fn owner_of(&self, cgroup: &Path) -> Option<ScopeId> {
        let around = self.places.iter().filter(|place| cgroup.starts_with(&place.path));
        around.max_by_key(|place| place.path.components().count())?.owners.first().cloned()
    }
}
