//! How much of each cgroup on path has to come: what its scopes ask for, and whether any rule could act on what is done there.
//!
//! Weighed anew after each change of the rules, before whoever changed them is answered, so that a new rule holds for the next
//! connect; at each change of the scopes; and once a second, for rules that have expired or are spent.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::{Scopes, lock};
use crate::chain::Chain;
use crate::scope::Demand;

impl Scopes {
    /// From now on what no rule could act on is not diverted, unless its scope wants it all. To be called again after each change of
    /// the rules: [`Scopes::weigh`].
    pub fn heed(&self, demand: Arc<dyn Demand>) {
        self.scale.set(demand);
        self.weigh();
    }

    /// Whether connections of a cgroup on path to an address are left direct because of its name, or were.
    #[must_use]
    pub fn knows(&self, cgroup: &Path, address: IpAddr) -> bool {
        self.table.load().place_at(cgroup).is_some_and(|place| place.knows(address))
    }

    /// Addresses that are left direct now because of their names, over all scopes.
    #[must_use]
    pub fn known_addresses(&self) -> usize {
        self.table.load().places.iter().map(|place| place.known().addresses).sum()
    }

    /// Diverts of each cgroup on path as much as has to come now, from the next connect on. Blocks for a system call or a few for each
    /// of which that has changed.
    pub fn weigh(&self) {
        let _weighing = lock(&self.scale.weighing);
        let (table, around) = (self.table.load_full(), self.surroundings());
        let mut failed = None;
        for place in &table.places {
            let share = table.share_of(place, &around, &self.scale);
            if let Err(error) = place.divert(share) {
                failed = Some(format!("{} is not diverted as it should be: {}", place.path.display(), Chain(&error)));
            }
        }
        self.note("kernel", failed);
    }
}
