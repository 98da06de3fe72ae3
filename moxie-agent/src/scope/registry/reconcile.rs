//! Compares what should be on path with what is, and makes it so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::{Entry, Surroundings};
use super::table::Table;
use super::{Admission, ScopeError, Scopes, systemd};
use crate::chain::Chain;
use crate::divert::{Attachment, DivertError, Terms};
use crate::scope::cgroup::{self, CgroupError, Hierarchy};
use crate::scope::lock;
use crate::scope::place::{Place, Wanted};
use crate::scope::spec::{ScopeId, Target};
use crate::scope::view::Scope;

/// Looks at the host from one question to systemd about a unit that is not found to the next: half a minute.
const LOOKS_PER_QUESTION: u32 = 30;

/// A cgroup that should be on path and is not.
struct Failure {
    path: PathBuf,
    owners: Vec<ScopeId>,
    source: DivertError,
}

impl Scopes {
    /// Puts on path what has appeared since the last look and takes off what has gone: cgroups made anew under their names, as
    /// systemd does when a unit restarts, and containers that have become known. To be called about once a second. Blocks for a
    /// look at every cgroup and at every process on path.
    pub fn refresh(&self) {
        self.end_trees();
        let seen = self.walk();
        {
            let _changing = lock(&self.changing);
            let entries = self.table.load().entries.clone();
            let failures = self.settle(entries, seen, None);
            self.tell(&failures);
        }
        self.ask_systemd();
        for place in &self.table.load_full().places {
            place.refresh();
        }
    }

    /// Ends the scopes of process trees that have ended.
    fn end_trees(&self) {
        for entry in self.table.load_full().entries.iter().filter(|entry| entry.has_ended()) {
            tracing::info!(scope = %entry.id, "its processes have ended, and so has it");
            // Only the configuration's own scope is kept, which is no process tree's.
            let _ = self.remove(&entry.id);
        }
    }

    /// Puts a cgroup that was just made on path if a scope matches it: within a millisecond of its making, so that whatever is
    /// started in it is on path from its first connect.
    pub(in crate::scope) fn appeared(&self, path: &Path) {
        let Ok(cgroup_id) = cgroup::id_of(path) else { return };
        let around = self.surroundings();
        if let Some(stranger) = around.stranger(path) {
            // Nobody listens where there is no runtime.
            let _ = self.strangers.send(stranger.into());
        }
        let table = self.table.load_full();
        let Some(wanted) = self.wanted(&table.entries, path, cgroup_id, &around) else { return };
        if table.place_at(path).is_some_and(|place| place.is(&wanted)) {
            return;
        }
        // At once: whoever changes something else meanwhile may have to wait for a processor. What cannot be is told below.
        let attached = self.attach(path, own(&around).as_deref(), wanted.terms).ok();
        let attached = attached.map(|attachment| Place::new(path.to_owned(), &wanted, attachment));
        let _changing = lock(&self.changing);
        let entries = self.table.load().entries.clone();
        let failures = self.settle(entries, vec![(path.to_owned(), cgroup_id)], attached);
        self.tell(&failures);
    }

    /// Lets go of a cgroup that was removed.
    pub(in crate::scope) fn vanished(&self, path: &Path) {
        if self.table.load().place_at(path).is_some() {
            let _changing = lock(&self.changing);
            let entries = self.table.load().entries.clone();
            self.settle(entries, Vec::new(), None);
        }
    }

    pub(super) fn admit(&self, entry: Entry, admission: Admission) -> Result<(Scope, bool), ScopeError> {
        let entry = Arc::new(entry);
        self.end_trees();
        {
            let _changing = lock(&self.changing);
            let table = self.table.load_full();
            if let Some(existing) = table.entries.iter().find(|other| !other.configured && other.equals(&entry)) {
                return self.existing(existing, &entry, &table);
            }
            entry.isolate()?;
            let mut entries = table.entries.clone();
            entries.push(Arc::clone(&entry));
            let failures = self.settle(entries, self.walk(), None);
            self.tell(&failures);
            let is_nowhere = !self.table.load().has_place_of(&entry.id);
            let failure = failures.into_iter().find(|failure| failure.owners.contains(&entry.id));
            if let (Some(failure), true, Admission::Asked) = (failure, is_nowhere, admission) {
                self.disown(&self.table.load_full(), table.entries.clone(), &entry.id);
                entry.undo();
                return Err(ScopeError::Divert { path: failure.path, source: failure.source });
            }
        }
        self.ask_systemd();
        Ok((entry.scope(&self.table.load(), &self.surroundings()), true))
    }

    fn existing(&self, existing: &Entry, asked: &Entry, table: &Table) -> Result<(Scope, bool), ScopeError> {
        let (there, asked) = (&existing.spec, &asked.spec);
        if there.mode != asked.mode || there.refuse_quic != asked.refuse_quic || there.inspect != asked.inspect {
            let hosts = if there.inspect == asked.inspect {
                String::new()
            } else {
                format!(" for the hosts {}", there.inspect.sources().join(" "))
            };
            let quic = match there.refuse_quic {
                _ if there.refuse_quic == asked.refuse_quic => "",
                Some(true) => " and UDP to port 443 refused",
                Some(false) => " and UDP to port 443 let through",
                None => " and UDP to port 443 treated as the configuration says",
            };
            let (target, id, mode) = (there.target.clone(), existing.id.clone(), there.mode);
            return Err(ScopeError::OtherTerms { target, id, mode, hosts, quic });
        }
        Ok((existing.scope(table, &self.surroundings()), false))
    }

    /// Takes a scope's places off path, but for those that other scopes have too; `entries` are left.
    pub(super) fn disown(&self, table: &Table, entries: Vec<Arc<Entry>>, id: &ScopeId) {
        let around = self.surroundings();
        let (mut places, mut gone) = (Vec::new(), Vec::new());
        for place in &table.places {
            let wanted =
                place.owners.contains(id).then(|| self.wanted(&entries, &place.path, place.cgroup_id, &around));
            match wanted {
                None => places.push(place.clone()),
                Some(Some(wanted)) => places.push(place.owned_by(wanted.owners)),
                Some(None) => gone.push(place),
            }
        }
        gone.iter().for_each(|place| place.leave());
        self.table.store(Arc::new(Table { entries, places }));
        self.weigh();
    }

    /// Makes `entries` the scopes in force, and puts on path what they match: among `seen`, and among what is on path already; one of
    /// these may be `attached`. Returns what could not be.
    fn settle(&self, entries: Vec<Arc<Entry>>, seen: Vec<(PathBuf, u64)>, mut attached: Option<Place>) -> Vec<Failure> {
        let (table, around) = (self.table.load_full(), self.surroundings());
        // What is on path is looked at again: it may have been made after the walk.
        let held = table.places.iter().filter_map(|place| Some((place.path.clone(), cgroup::id_of(&place.path).ok()?)));
        let all: BTreeMap<PathBuf, u64> = seen.into_iter().chain(held).collect();
        let own = own(&around);
        let (mut places, mut failures) = (Vec::new(), Vec::new());
        for (path, cgroup_id) in all {
            let Some(wanted) = self.wanted(&entries, &path, cgroup_id, &around) else { continue };
            let there = table.place_at(&path);
            if let Some(place) = there.filter(|place| place.is(&wanted)) {
                if attached.as_ref().is_some_and(|other| other.path == path) {
                    place.forget_share();
                }
                places.push(place.owned_by(wanted.owners));
                continue;
            }
            let at_once = attached.take_if(|place| place.path == path && place.is(&wanted));
            let attach = || Ok(Place::new(path.clone(), &wanted, self.attach(&path, own.as_deref(), wanted.terms)?));
            match at_once.map_or_else(attach, Ok) {
                Ok(place) => {
                    tracing::info!(path = %path.display(), scope = ?wanted.owners.first(), "on path");
                    places.push(place.owned_by(wanted.owners));
                }
                // Gone since it was seen.
                Err(DivertError::Cgroup(CgroupError::Read { .. })) if !path.exists() => {}
                Err(source) => {
                    let still = there.filter(|place| place.cgroup_id == cgroup_id);
                    places.extend(still.map(|place| place.owned_by(wanted.owners.clone())));
                    failures.push(Failure { path, owners: wanted.owners, source });
                }
            }
        }
        let gone = table.places.iter().filter(|old| !places.iter().any(|place| place.shares_with(old)));
        for place in gone {
            tracing::info!(path = %place.path.display(), "off path");
            place.leave();
        }
        self.table.store(Arc::new(Table { entries, places }));
        self.weigh();
        failures
    }

    fn attach(&self, path: &Path, own: Option<&Path>, terms: Terms) -> Result<Box<dyn Attachment>, DivertError> {
        if let Some(own) = own.filter(|own| own.starts_with(path)) {
            return Err(DivertError::ContainsAgent { cgroup: path.to_owned(), agent: own.to_owned() });
        }
        self.divert.attach(path, terms)
    }

    /// How a directory has to be on path; `None`: not at all.
    fn wanted(&self, entries: &[Arc<Entry>], path: &Path, cgroup_id: u64, around: &Surroundings) -> Option<Wanted> {
        let mut matching: Vec<&Arc<Entry>> = entries.iter().filter(|entry| entry.matches(path, around)).collect();
        // Calls are the first owner's: a scope that somebody asked for goes before the configuration's.
        matching.sort_by_key(|entry| entry.configured);
        let refuses = |entry: &&Arc<Entry>| entry.spec.refuse_quic.unwrap_or(self.defaults.refuse_quic);
        let terms = Terms { refuse_quic: matching.iter().any(refuses) };
        let owners: Vec<ScopeId> = matching.iter().map(|entry| entry.id.clone()).collect();
        (!owners.is_empty()).then_some(Wanted { cgroup_id, terms, owners })
    }

    /// Notes at each scope why it is not where it should be.
    fn tell(&self, failures: &[Failure]) {
        let (table, around) = (self.table.load(), self.surroundings());
        for entry in &table.entries {
            let mut own = failures.iter().filter(|failure| failure.owners.contains(&entry.id)).peekable();
            let problem = if own.peek().is_some() {
                Some(own.map(|failure| failure.source.to_string()).collect::<Vec<_>>().join("; "))
            } else {
                let is_nowhere = !table.has_place_of(&entry.id);
                is_nowhere.then(|| entry.why_nothing(&around)).flatten()
            };
            let mut told = lock(&entry.problem);
            // What systemd said stays until the unit is found.
            let is_systemds = matches!(entry.spec.target, Target::Unit(_)) && !table.has_place_of(&entry.id);
            if problem.is_none() && is_systemds {
                continue;
            }
            if *told != problem {
                for failure in failures.iter().filter(|failure| failure.owners.contains(&entry.id)) {
                    tracing::warn!(scope = %entry.id, path = %failure.path.display(), cause = %Chain(&failure.source), "not on path");
                }
                *told = problem;
            }
        }
    }

    /// Asks systemd about units that no directory is named after: the name may be an alias, or nobody's.
    fn ask_systemd(&self) {
        let table = self.table.load_full();
        let mut is_new = false;
        for entry in table.entries.iter().filter(|entry| !table.has_place_of(&entry.id)) {
            let Target::Unit(unit) = &entry.spec.target else { continue };
            if entry.looks.fetch_add(1, Ordering::Relaxed) % LOOKS_PER_QUESTION != 0 {
                continue;
            }
            let Some(found) = systemd::unit(unit.as_str()) else { continue };
            let directory = found.control_group.as_deref().zip(self.hierarchy());
            let directory = directory.map(|(group, hierarchy)| hierarchy.name(Path::new(group)));
            is_new |= directory.is_some();
            entry.found_at(directory);
            *lock(&entry.problem) = found.problem;
        }
        if is_new {
            let _changing = lock(&self.changing);
            let entries = self.table.load().entries.clone();
            let failures = self.settle(entries, self.walk(), None);
            self.tell(&failures);
        }
    }

    fn walk(&self) -> Vec<(PathBuf, u64)> {
        self.hierarchy().map(Hierarchy::walk).unwrap_or_default()
    }

    /// The hierarchy, looked for until it is found.
    pub(in crate::scope) fn hierarchy(&self) -> Option<&Hierarchy> {
        if let Some(found) = self.hierarchy.get() {
            return Some(found);
        }
        let found = Hierarchy::find().ok()?;
        Some(self.hierarchy.get_or_init(|| found))
    }

    pub(super) fn surroundings(&self) -> Surroundings {
        Surroundings { hierarchy: self.hierarchy().cloned(), known: self.containers.known() }
    }
}

/// The agent's own cgroup.
fn own(around: &Surroundings) -> Option<PathBuf> {
    around.hierarchy.as_ref().and_then(|hierarchy| hierarchy.of_process(std::process::id()).ok())
}
