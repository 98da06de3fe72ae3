//! Containers: what their runtimes tell of them, and which cgroup directory is whose.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::cgroup;
use super::spec::{Label, Mode};
use crate::rules::HostList;

/// Digits of an id that are enough to name a container by. Fewer are a name: `cafe` must not opt in whoever's id begins so.
const PREFIX_LENGTH: usize = 8;
/// The label of a container that picks its mode.
const MODE_LABEL: &str = "moxie.mode";
/// The label of a container that lists the hosts whose TLS is ended in mode `inspect`: regexes with blanks between them.
const INSPECT_LABEL: &str = "moxie.inspect";
/// The label of a container that names the only rules it meets.
const RULES_LABEL: &str = "moxie.rules";

/// A container, as its runtime tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its id, whole.
    pub id: String,
    /// Its name, if it has one beside the id.
    pub name: Option<String>,
    /// The image it was made from, as its maker named it.
    pub image: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its cgroup, from the root of the hierarchy, where the directory's name does not tell the id.
    pub cgroup: Option<PathBuf>,
    /// The runtime's own namespace that it is in, where ids are good within one only.
    pub namespace: Option<String>,
}

impl Container {
    /// One of which no runtime has told anything but the id that its directory has.
    fn unknown(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// What its runtime knows it by.
    #[must_use]
    pub fn key(&self) -> String {
        self.namespace.as_ref().map_or_else(|| self.id.clone(), |namespace| format!("{namespace}/{}", self.id))
    }

    /// Whether it has a label.
    #[must_use]
    pub fn has(&self, label: &Label) -> bool {
        label.is_had_by(|key| self.labels.get(key).map(String::as_str))
    }

    /// The mode that its own label picks; an odd one picks none.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        Mode::named(self.labels.get(MODE_LABEL)?.trim())
    }

    /// The hosts that its own label has inspected; `None` where it has none, or one that does not read.
    #[must_use]
    pub fn inspect(&self) -> Option<Arc<HostList>> {
        self.listed()?.ok().map(Arc::new)
    }

    fn listed(&self) -> Option<Result<HostList, Vec<(usize, String)>>> {
        let hosts: Vec<&str> = self.labels.get(INSPECT_LABEL)?.split_whitespace().collect();
        Some(HostList::parse(&hosts))
    }

    /// Names of the only rules that it meets; `None`: all.
    #[must_use]
    pub fn rules(&self) -> Option<Arc<[String]>> {
        let names = self.labels.get(RULES_LABEL)?.split(',').map(str::trim);
        Some(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// What is odd about its labels, for people.
    #[must_use]
    pub fn odd_label(&self) -> Option<String> {
        if let Some(mode) = self.labels.get(MODE_LABEL).filter(|_| self.mode().is_none()) {
            let known = "\"rules\", \"observe\" and \"inspect\"";
            return Some(format!("its label {MODE_LABEL}={mode} is none of {known}, so the scope's mode holds"));
        }
        let problem = self.listed()?.err()?.into_iter().next()?.1;
        Some(format!("its label {INSPECT_LABEL} does not read, so the scope's list holds: {problem}"))
    }
}

/// Every container that the runtimes of this host know, kept when a runtime cannot be asked.
#[derive(Debug, Default)]
pub struct Containers {
    known: ArcSwap<Known>,
    changing: Mutex<()>,
}

/// What is known at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// By runtime and key.
    by_runtime: BTreeMap<&'static str, HashMap<String, Arc<Container>>>,
    by_id: HashMap<String, Arc<Container>>,
    by_cgroup: HashMap<PathBuf, Arc<Container>>,
}

impl Containers {
    pub(super) fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// Replaces everything that a runtime has told so far. False: nothing is new.
    pub fn replace(&self, runtime: &'static str, containers: Vec<Container>) -> bool {
        let map: HashMap<_, _> =
            containers.into_iter().map(|container| (container.key(), Arc::new(container))).collect();
        self.change(runtime, |known| {
            let is_new = *known != map;
            *known = map;
            is_new
        })
    }

    /// Everything that the runtimes have told so far, by the runtime's name.
    pub(super) fn told(&self) -> Vec<(String, Container)> {
        let known = self.known.load();
        let of = |(runtime, containers): (&&'static str, &HashMap<String, Arc<Container>>)| {
            containers
                .values()
                .map(|container| ((*runtime).to_owned(), Container::clone(container)))
                .collect::<Vec<_>>()
        };
        known.by_runtime.iter().flat_map(of).collect()
    }

    /// Adds a container, or replaces what was known of it. False: nothing is new.
    pub fn learn(&self, runtime: &'static str, container: Container) -> bool {
        self.change(runtime, |known| {
            let key = container.key();
            let is_new = known.get(&key).is_none_or(|old| **old != container);
            known.insert(key, Arc::new(container));
            is_new
        })
    }

    /// Forgets a container that was removed.
    pub fn forget(&self, runtime: &'static str, key: &str) -> bool {
        self.change(runtime, |known| known.remove(key).is_some())
    }

    fn change(&self, runtime: &'static str, change: impl FnOnce(&mut HashMap<String, Arc<Container>>) -> bool) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = Known::clone(&self.known.load());
        let is_new = change(known.by_runtime.entry(runtime).or_default());
        if is_new {
            known.index();
            self.known.store(Arc::new(known));
        }
        is_new
    }
}

impl Known {
    fn index(&mut self) {
        let all = || self.by_runtime.values().flat_map(HashMap::values);
        let by_id = all().map(|container| (container.id.clone(), Arc::clone(container))).collect();
        let placed = |container: &Arc<Container>| Some((container.cgroup.clone()?, Arc::clone(container)));
        let by_cgroup = all().filter_map(placed).collect();
        (self.by_id, self.by_cgroup) = (by_id, by_cgroup);
    }

    /// The container whose own cgroup is at `below_root`, a path from the root of the hierarchy. One that no runtime has told
    /// of is known by its id alone.
    pub(super) fn at(&self, below_root: &Path) -> Option<Arc<Container>> {
        if let Some(placed) = self.by_cgroup.get(below_root) {
            return Some(Arc::clone(placed));
        }
        let id = cgroup::id_in_name(below_root)?;
        let known = self.by_id.get(id).cloned();
        known.or_else(|| cgroup::is_container(below_root).then(|| Arc::new(Container::unknown(id))))
    }

    /// The container that a cgroup is in: the innermost.
    pub(super) fn around(&self, below_root: &Path) -> Option<Arc<Container>> {
        below_root.ancestors().find_map(|path| self.at(path))
    }

    /// Whether `container` is whom `named` means: by its whole id, else by its name, else by the beginning of its id.
    pub(super) fn means(&self, named: &str, container: &Container) -> bool {
        if container.id == named {
            return true;
        }
        if self.by_id.contains_key(named) {
            return false;
        }
        let mut by_name = self.by_id.values().filter(|other| other.name.as_deref() == Some(named)).peekable();
        if by_name.peek().is_some() {
            return by_name.any(|other| other.id == container.id);
        }
        is_prefix(named) && container.id.starts_with(named) && self.ambiguous(named).is_none()
    }

    /// Why `named` means nobody though ids begin so.
    pub(super) fn ambiguous(&self, named: &str) -> Option<String> {
        let count = self.by_id.keys().filter(|id| id.starts_with(named)).count();
        (is_prefix(named) && count > 1).then(|| format!("{count} containers' ids begin with {named}; give more of it"))
    }

    /// Whether a runtime has told of the container with this id.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }
}

fn is_prefix(named: &str) -> bool {
    named.len() >= PREFIX_LENGTH && named.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(start: &str) -> String {
        format!("{start:0<64}")
    }

    fn named(start: &str, name: &str) -> Container {
        Container { id: id(start), name: Some(name.into()), ..Container::default() }
    }

    fn known(containers: Vec<Container>) -> Arc<Known> {
        let all = Containers::default();
        assert!(all.replace("docker", containers));
        all.known()
    }

    #[test]
    fn an_id_goes_before_a_name_and_a_name_before_the_beginning_of_an_id() {
        let known = known(vec![named("abcdef01", "shop"), named("12345678aa", "abcdef01"), named("12345678bb", "db")]);
        let means = |name: &str, start: &str| known.means(name, &known.by_id[&id(start)]);
        assert!(means("shop", "abcdef01"));
        assert!(!means("shop", "12345678bb"));
        assert!(means(&id("12345678bb"), "12345678bb"));
        assert!(means("12345678b", "12345678bb"));
        assert!(means("abcdef01", "12345678aa"), "somebody has it for a name");
        assert!(!means("abcdef01", "abcdef01"));
        assert!(!means("12345678", "12345678bb"), "two begin so");
        assert!(known.ambiguous("12345678").unwrap().contains("2 containers"));
        assert!(!means("1234567", "12345678bb"), "too short for an id");
    }

    #[test]
    fn a_directory_is_told_by_its_name_or_by_what_the_runtime_said() {
        let known = known(vec![
            named("ab", "shop"),
            Container { id: "web".into(), cgroup: Some("default/web".into()), ..Container::default() },
        ]);
        let at = |path: String| known.at(Path::new(&path)).map(|container| container.id.clone());
        assert_eq!(at(format!("docker/{}", id("ab"))), Some(id("ab")));
        assert_eq!(at(format!("own.slice/{}", id("ab"))), Some(id("ab")), "its parent may be anything");
        assert_eq!(at(format!("system.slice/docker-{}.scope", id("cd"))), Some(id("cd")), "nobody told of it");
        assert_eq!(at(format!("own.slice/{}", id("cd"))), None);
        assert_eq!(at(format!("docker/{}/init", id("ab"))), None, "below it");
        assert_eq!(at("default/web".into()).as_deref(), Some("web"));
        assert_eq!(at("other/web".into()), None);
        assert_eq!(known.around(Path::new("default/web/x/y")).unwrap().id, "web");
    }

    #[test]
    fn labels_pick_mode_and_rules() {
        let with = |labels: &[(&str, &str)]| Container {
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..Container::default()
        };
        let container = with(&[("moxie.mode", "observe"), ("moxie.rules", "slow, ,down")]);
        assert_eq!(container.mode(), Some(Mode::Observe));
        assert_eq!(container.rules().as_deref(), Some(&["slow".to_owned(), "down".to_owned()][..]));
        assert_eq!(container.odd_label(), None);
        assert_eq!(with(&[("moxie.rules", "")]).rules().as_deref(), Some(&[][..]), "no rule at all");
        let odd = with(&[("moxie.mode", "all")]);
        assert_eq!((odd.mode(), odd.rules()), (None, None));
        assert!(odd.odd_label().unwrap().contains("moxie.mode=all"));
    }

    #[test]
    fn what_one_runtime_says_leaves_what_others_said() {
        let all = Containers::default();
        assert!(all.replace("docker", vec![named("aa", "one")]));
        assert!(!all.replace("docker", vec![named("aa", "one")]), "nothing new");
        assert!(all.learn("podman", named("bb", "two")));
        assert!(all.replace("docker", vec![]));
        assert_eq!(all.known().by_id.len(), 1);
        assert!(all.forget("podman", &id("bb")));
        assert!(!all.forget("podman", &id("bb")));
    }
}
