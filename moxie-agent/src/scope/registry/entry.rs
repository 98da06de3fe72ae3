//! One scope in force: what it matches, and how it is shown.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::table::Table;
use crate::rules::HostList;
use crate::scope::cgroup::{self, Hierarchy};
use crate::scope::container::{Container, Known};
use crate::scope::lock;
use crate::scope::process::{ProcessError, ProcessTree};
use crate::scope::spec::{Label, Mode, ScopeId, ScopeSpec, Target};
use crate::scope::view::{ContainerMatch, Match, Scope};

/// Name of the scope that the configuration makes.
const CONFIGURED: &str = "configured-label";

/// See the module.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: ScopeId,
    pub(super) spec: ScopeSpec,
    pub(super) created_at: Timestamp,
    pub(super) configured: bool,
    pub(super) active: Arc<AtomicU64>,
    /// Why it does not match what it should, or not all of it.
    pub(super) problem: Mutex<Option<String>>,
    /// The one directory that it matches: a named cgroup, a process tree's, a unit's that systemd knows by another name.
    directory: Mutex<Option<PathBuf>>,
    /// Looks at the host since systemd was asked for the unit.
    pub(super) looks: AtomicU32,
    tree: Mutex<Option<ProcessTree>>,
}

/// What directories are compared with.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) hierarchy: Option<Hierarchy>,
    pub(super) known: Arc<Known>,
}

impl Surroundings {
    pub(super) fn container(&self, path: &Path) -> Option<Arc<Container>> {
        self.known.around(self.below(path))
    }

    /// The id of a container whose own cgroup this is, where no runtime has told of it.
    pub(super) fn stranger<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let id = cgroup::id_in_name(path).filter(|_| cgroup::is_container(path))?;
        (!self.known.knows(id)).then_some(id)
    }

    fn below<'a>(&self, path: &'a Path) -> &'a Path {
        self.hierarchy.as_ref().map_or(path, |hierarchy| hierarchy.below(path))
    }
}

impl Entry {
    /// A scope that a user asks for; `named` is the directory of a target that names one.
    pub(super) fn of(spec: ScopeSpec, id: ScopeId, created_at: Timestamp, named: Option<PathBuf>) -> Self {
        Self {
            id,
            spec,
            created_at,
            configured: false,
            active: Arc::default(),
            problem: Mutex::default(),
            directory: Mutex::new(named),
            looks: AtomicU32::new(0),
            tree: Mutex::default(),
        }
    }

    /// The scope of every container that opts itself in by `label`.
    pub(super) fn configured(label: Label) -> Self {
        let spec = ScopeSpec::of(Target::Label(label));
        Self { configured: true, ..Self::of(spec, ScopeId(CONFIGURED.into()), Timestamp::now(), None) }
    }

    /// Moves the process tree of a target that is one.
    pub(super) fn isolate(&self) -> Result<(), ProcessError> {
        let Target::Pid(pid) = self.spec.target else { return Ok(()) };
        if lock(&self.tree).is_none() {
            self.holds(ProcessTree::isolate(pid)?);
        }
        Ok(())
    }

    /// Its process tree is this one, moved already.
    pub(super) fn holds(&self, tree: ProcessTree) {
        *lock(&self.directory) = Some(tree.path().to_owned());
        *lock(&self.tree) = Some(tree);
    }

    /// What `look` sees of its process tree, if it has one.
    pub(super) fn tree<T>(&self, look: impl FnOnce(&ProcessTree) -> T) -> Option<T> {
        lock(&self.tree).as_ref().map(look)
    }

    /// Whether it was a process tree's, and the last process of that has ended: its number may be another's by now.
    pub(super) fn has_ended(&self) -> bool {
        let is_empty = |tree: &ProcessTree| {
            let below = cgroup::with_descendants(tree.path());
            below.iter().all(|path| cgroup::processes(path).is_ok_and(|processes| processes.is_empty()))
        };
        self.tree(is_empty).unwrap_or(false)
    }

    /// Undoes what was made for it; its places are off path.
    pub(super) fn undo(&self) {
        drop(lock(&self.tree).take());
    }

    /// Notes where systemd says that the unit is.
    pub(super) fn found_at(&self, directory: Option<PathBuf>) {
        *lock(&self.directory) = directory;
    }

    /// Whether two scopes opt in the same.
    pub(super) fn equals(&self, other: &Self) -> bool {
        let same_directory = || {
            let (this, other) = (lock(&self.directory).clone(), lock(&other.directory).clone());
            this.is_some() && this == other
        };
        let are_cgroups =
            matches!((&self.spec.target, &other.spec.target), (Target::Cgroup(_), Target::Cgroup(_) | Target::Pid(_)));
        self.spec.target == other.spec.target || (are_cgroups && same_directory())
    }

    /// Whether a directory is one that this scope opts in.
    pub(super) fn matches(&self, path: &Path, around: &Surroundings) -> bool {
        if lock(&self.directory).as_deref() == Some(path) {
            return true;
        }
        let container = || around.known.at(around.below(path));
        match &self.spec.target {
            Target::Cgroup(_) | Target::Pid(_) => false,
            Target::Unit(unit) => is_unit(unit.as_str(), around.below(path)),
            Target::Container(named) => container().is_some_and(|container| around.known.means(named, &container)),
            Target::Label(label) => container().is_some_and(|container| container.has(label)),
        }
    }

    /// As the API shows it.
    pub(super) fn scope(&self, table: &Table, around: &Surroundings) -> Scope {
        let places = table.places.iter().filter(|place| place.owners.contains(&self.id));
        let matches: Vec<Match> = places
            .map(|place| {
                let container = around.container(&place.path);
                let ((mut obstacles, quic_refused), container) = (place.state(), container.as_deref());
                obstacles.extend(container.and_then(Container::odd_label));
                let known = place.known();
                Match {
                    cgroup: place.path.clone(),
                    unit: cgroup::unit_of(&place.path),
                    mode: container.and_then(Container::mode).unwrap_or(self.spec.mode),
                    rules: container.and_then(|container| Some(container.rules()?.to_vec())),
                    container: container.map(ContainerMatch::of),
                    diverted: place.share(),
                    known_addresses: known.addresses,
                    hints_obstacle: known.obstacle,
                    refuse_quic: place.terms.refuse_quic,
                    quic_refused,
                    obstacles,
                }
            })
            .collect();
        Scope {
            id: self.id.clone(),
            target: self.spec.target.clone(),
            mode: self.spec.mode,
            inspect: self.spec.inspect.sources(),
            refuse_quic: self.spec.refuse_quic,
            path: matches.first().map(|first| first.cgroup.clone()),
            matches,
            problem: self.whole_problem(table, around),
            configured: self.configured,
            active_connections: self.active.load(Ordering::Relaxed),
            created_at: self.created_at,
        }
    }

    /// What is wrong with it, and which calls of what it matches are not its own.
    fn whole_problem(&self, table: &Table, around: &Surroundings) -> Option<String> {
        let own = lock(&self.problem).clone();
        let all: Vec<String> = own.into_iter().chain(self.outranked(table, around)).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// The older scopes on other terms that calls of what it matches belong to, for people.
    fn outranked(&self, table: &Table, around: &Surroundings) -> Vec<String> {
        if self.configured {
            return Vec::new();
        }
        let mut places = 0;
        let mut lost: Vec<(&Entry, Vec<String>)> = Vec::new();
        for place in table.places.iter().filter(|place| place.owners.contains(&self.id)) {
            places += 1;
            let Some(older) = place.owners.first().and_then(|first| table.entry(first)) else { continue };
            if older.id == self.id || !self.differs(older, around.container(&place.path).as_deref()) {
                continue;
            }
            let path = place.path.display().to_string();
            match lost.iter_mut().find(|(other, _)| other.id == older.id) {
                Some((_, paths)) => paths.push(path),
                None => lost.push((older, vec![path])),
            }
        }
        let told = lost.into_iter().map(|(older, paths)| {
            let calls = if paths.len() == places { String::new() } else { format!(" in {}", paths.join(", ")) };
            let (id, mode) = (&older.id, older.spec.mode);
            format!("its calls{calls} are scope {id}'s, which is older (mode {mode}): remove that one first")
        });
        told.collect()
    }

    /// Whether another scope has other terms for what both match; a container's own labels go before both.
    fn differs(&self, other: &Self, container: Option<&Container>) -> bool {
        let mode = |entry: &Self| container.and_then(Container::mode).unwrap_or(entry.spec.mode);
        mode(self) != mode(other)
            || self.inspect(container) != other.inspect(container)
            || self.spec.refuse_quic != other.spec.refuse_quic
    }

    /// Why it matches nothing, where that is known.
    pub(super) fn why_nothing(&self, around: &Surroundings) -> Option<String> {
        match &self.spec.target {
            Target::Container(named) => around.known.ambiguous(named),
            _ => None,
        }
    }

    /// The hosts that a caller of it has inspected: those of its container's labels, where they say so, else its own.
    pub(super) fn inspect(&self, container: Option<&Container>) -> Option<Arc<HostList>> {
        let mode = container.and_then(Container::mode).unwrap_or(self.spec.mode);
        let hosts = || container.and_then(Container::inspect).unwrap_or_else(|| Arc::clone(&self.spec.inspect));
        (mode == Mode::Inspect).then(hosts).filter(|hosts| !hosts.is_empty())
    }
}

/// Whether a directory is this unit's own: named like it, outermost, and not a unit of a systemd inside a container.
fn is_unit(unit: &str, below_root: &Path) -> bool {
    let is_named = |path: &Path| path.file_name().is_some_and(|name| name == unit);
    is_named(below_root)
        && !below_root.ancestors().skip(1).any(is_named)
        && (cgroup::container_of(below_root).is_none() || cgroup::is_container(below_root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_its_directory_and_not_one_below_it_or_in_a_container() {
        let id = "3f".repeat(32);
        for (path, is) in [
            ("system.slice/shop.service".to_owned(), true),
            ("user.slice/user-1.slice/user@1.service/app.slice/shop.service".to_owned(), true),
            ("system.slice/shop.service/shop.service".to_owned(), false),
            ("system.slice/shop.service/worker".to_owned(), false),
            ("system.slice/myshop.service".to_owned(), false),
            (format!("docker/{id}/system.slice/shop.service"), false),
        ] {
            assert_eq!(is_unit("shop.service", Path::new(&path)), is, "{path}");
        }
        let own = format!("docker-{id}.scope");
        assert!(is_unit(&own, Path::new("system.slice").join(&own).as_path()), "a container's own scope is a unit too");
    }
}
