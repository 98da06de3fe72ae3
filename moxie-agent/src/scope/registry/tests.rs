//! Tests of scopes going in and out of force.

mod containers;
mod processes;
mod share;
mod units;

use std::process::{Child, Command};
use std::sync::MutexGuard;

use super::*;
use crate::divert::paper::Paper;
use crate::namespace::Namespace;
use crate::scope::cgroup::RunCgroup;
use crate::scope::container::Container;
use crate::scope::spec::UnitName;

/// Scopes on no path at all.
pub(in crate::scope) fn paper_scopes() -> Arc<Scopes> {
    Arc::new(Scopes::new(Arc::new(Paper::default())))
}

/// One test at a time has the cgroup that is named after this process.
static ALONE: Mutex<()> = Mutex::new(());

/// A cgroup for one test; `None`, and the reason printed, where cgroups cannot be made; that fails with `CI=true`.
pub(in crate::scope) fn own_cgroup() -> Option<(MutexGuard<'static, ()>, RunCgroup)> {
    let alone = lock(&ALONE);
    match RunCgroup::create() {
        Ok(cgroup) => Some((alone, cgroup)),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "cannot run, and CI=true: {error}");
            eprintln!("cannot run: {error}");
            None
        }
    }
}

struct Bench {
    scopes: Arc<Scopes>,
    paper: Arc<Paper>,
    cgroup: RunCgroup,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Option<Self> {
        Self::with(Paper::default(), Defaults::default())
    }

    fn with(paper: Paper, defaults: Defaults) -> Option<Self> {
        let (alone, cgroup) = own_cgroup()?;
        let paper = Arc::new(paper);
        let scopes = Arc::new(Scopes::with(Arc::clone(&paper) as _, defaults));
        Some(Self { scopes, paper, cgroup, _alone: alone })
    }

    fn below(&self, name: &str) -> PathBuf {
        let path = self.cgroup.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn add(&self, path: &Path, mode: Mode) -> Result<(Scope, bool), ScopeError> {
        self.scopes.add(spec(path, mode), Timestamp::UNIX_EPOCH)
    }

    /// Asks for a unit that no other test has.
    fn add_unit(&self, name: &str) -> Scope {
        let unit = UnitName::parse(name).unwrap();
        self.scopes.add(ScopeSpec::of(Target::Unit(unit)), Timestamp::UNIX_EPOCH).unwrap().0
    }

    fn scope(&self, id: &ScopeId) -> Scope {
        self.scopes.list().into_iter().find(|scope| scope.id == *id).unwrap()
    }

    /// Waits until exactly `paths` are on path.
    #[track_caller]
    fn await_attached(&self, paths: &[PathBuf]) {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while self.attached() != paths {
            assert!(tokio::time::Instant::now() < deadline, "{:?} is on path, not {paths:?}", self.attached());
            std::thread::yield_now();
        }
    }

    fn attached(&self) -> Vec<PathBuf> {
        self.paper.attached()
    }

    fn sleeper(&self) -> Sleeper {
        let mut command = Command::new("sleep");
        command.arg("600");
        self.cgroup.enter(&mut command).unwrap();
        Sleeper(command.spawn().unwrap())
    }
}

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spec(path: &Path, mode: Mode) -> ScopeSpec {
    ScopeSpec { mode, ..ScopeSpec::of(Target::Cgroup(path.to_str().unwrap().to_owned())) }
}

fn origin(cgroup: &Path, pid: u32) -> Origin {
    let destination = "198.51.100.7:443".parse().unwrap();
    let cgroup_id = Some(cgroup::id_of(cgroup).unwrap());
    Origin { pid: Some(pid), cgroup_id, ..Origin::to(destination, Namespace::own().unwrap()) }
}

/// A container and the cgroup that it will have.
fn container(bench: &Bench, id: char, name: &str, labels: &[(&str, &str)]) -> (Container, PathBuf) {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let id = format!("{:08x}", std::process::id()) + &id.to_string().repeat(56);
    let cgroup = bench.cgroup.path().join(format!("docker/{id}"));
    (Container { id, name: Some(name.into()), image: Some("shop:1".into()), labels, ..Container::default() }, cgroup)
}

#[test]
fn an_equal_scope_again_is_the_existing_one() {
    let Some(bench) = Bench::new() else { return };
    let path = bench.below("a.service");
    let (first, added) = bench.add(&path, Mode::Rules).unwrap();
    assert!(added);
    let (second, added) = bench.add(&path.join("."), Mode::Rules).unwrap();
    assert!(!added);
    let from_root = Path::new("/").join(path.strip_prefix(Hierarchy::find().unwrap().root()).unwrap());
    let (third, added) = bench.add(&from_root, Mode::Rules).unwrap();
    assert!(!added);
    assert_eq!((&first.id, &first.id), (&second.id, &third.id));
    let refused = bench.add(&path, Mode::Observe);
    assert!(matches!(refused, Err(ScopeError::OtherTerms { .. })), "{refused:?}");
    assert_eq!(bench.attached(), [path]);
}

#[test]
fn a_removed_scope_is_off_path() {
    let Some(bench) = Bench::new() else { return };
    let (scope, _) = bench.add(&bench.below("a.service"), Mode::Rules).unwrap();
    assert_eq!(bench.scopes.remove(&scope.id).unwrap().map(|scope| scope.id), Some(scope.id.clone()));
    assert!(bench.attached().is_empty());
    assert!(bench.scopes.list().is_empty());
    assert!(bench.scopes.remove(&scope.id).unwrap().is_none());
}

#[test]
fn what_cannot_be_put_on_path_is_no_scope() {
    let Some(bench) = Bench::with(Paper::refusing(), Defaults::default()) else { return };
    let refused = bench.add(&bench.below("a.service"), Mode::Rules);
    assert!(matches!(refused, Err(ScopeError::Divert { source: DivertError::NoKernelHalf, .. })), "{refused:?}");
    let refused = bench.add(Path::new("/no-such.service"), Mode::Rules);
    assert!(matches!(refused, Err(ScopeError::Cgroup(CgroupError::Read { .. }))), "{refused:?}");
    assert!(bench.scopes.list().is_empty());
}

#[test]
fn a_caller_is_told_by_its_cgroup() {
    let Some(bench) = Bench::new() else { return };
    let unit = bench.below("pay.service");
    let inner = bench.below("pay.service/worker");
    let (outer_scope, _) = bench.add(&unit, Mode::Rules).unwrap();
    let caller = bench.scopes.caller(&origin(&inner, std::process::id()));
    assert_eq!(caller.scope, Some(outer_scope.id));
    assert_eq!(caller.unit.as_deref(), Some("pay.service"));
    assert_eq!(caller.container, None);
    assert_eq!(caller.pid, Some(std::process::id()));
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(caller.comm.as_deref(), Some(comm.trim_end()));
    let (inner_scope, _) = bench.add(&inner, Mode::Rules).unwrap();
    assert_eq!(bench.scopes.caller(&origin(&inner, 1)).scope, Some(inner_scope.id.clone()), "the innermost");
}

#[test]
fn a_caller_outside_every_scope_has_none() {
    let Some(bench) = Bench::new() else { return };
    let (here, there) = (bench.below("here.service"), bench.below("here.service-too"));
    bench.add(&here, Mode::Rules).unwrap();
    let caller = bench.scopes.caller(&origin(&there, u32::MAX));
    assert_eq!(*caller, Caller { pid: Some(u32::MAX), ..Caller::default() });
}

#[test]
fn a_cgroup_made_anew_is_put_on_path_again() {
    let Some(bench) = Bench::new() else { return };
    let path = bench.below("a.service");
    let (scope, _) = bench.add(&path, Mode::Rules).unwrap();
    std::fs::remove_dir(&path).unwrap();
    bench.scopes.refresh();
    assert!(bench.attached().is_empty(), "nothing to attach to");
    assert_eq!(bench.scope(&scope.id).path, None);
    let path = bench.below("a.service");
    bench.scopes.refresh();
    bench.scopes.refresh();
    assert_eq!(bench.scopes.caller(&origin(&path, 1)).scope, Some(scope.id.clone()));
    bench.scopes.remove(&scope.id).unwrap();
    assert!(bench.attached().is_empty());
}

#[test]
fn open_connections_are_counted_until_they_end() {
    let Some(bench) = Bench::new() else { return };
    let (scope, _) = bench.add(&bench.below("a.service"), Mode::Rules).unwrap();
    let active = || bench.scopes.list().first().unwrap().active_connections;
    let (one, two) = (bench.scopes.connection_opened(Some(&scope.id)), bench.scopes.connection_opened(Some(&scope.id)));
    let _of_nobody = bench.scopes.connection_opened(None);
    assert_eq!(active(), 2);
    drop(one);
    assert_eq!(active(), 1);
    drop(two);
    assert_eq!(active(), 0);
}

#[test]
fn two_scopes_share_a_cgroup_until_the_last_lets_go() {
    let Some(bench) = Bench::new() else { return };
    let name = format!("both-{}.service", std::process::id());
    let path = bench.below(&name);
    let (first, _) = bench.add(&path, Mode::Rules).unwrap();
    let second = bench.add_unit(&name);
    assert_ne!(first.id, second.id);
    assert_eq!(bench.attached(), std::slice::from_ref(&path));
    assert_eq!(bench.scopes.caller(&origin(&path, 1)).scope, Some(first.id.clone()), "the older one's");
    bench.scopes.remove(&first.id).unwrap();
    bench.scopes.refresh();
    assert_eq!(bench.attached(), std::slice::from_ref(&path));
    assert_eq!(bench.scopes.caller(&origin(&path, 1)).scope, Some(second.id.clone()));
    bench.scopes.remove(&second.id).unwrap();
    assert!(bench.attached().is_empty());
}

#[test]
fn a_scope_whose_calls_are_an_older_ones_on_other_terms_says_so() {
    let Some(bench) = Bench::new() else { return };
    let name = format!("older-{}.service", std::process::id());
    let path = bench.below(&name);
    let older = bench.add_unit(&name);
    let inspect = || ScopeSpec {
        inspect: Arc::new(crate::rules::HostList::parse(&["a"]).unwrap()),
        ..spec(&path, Mode::Inspect)
    };
    let (newer, _) = bench.scopes.add(inspect(), Timestamp::UNIX_EPOCH).unwrap();
    let says = format!("its calls are scope {}'s, which is older (mode rules): remove that one first", older.id);
    assert_eq!(newer.problem.as_ref(), Some(&says));
    assert_eq!(bench.scopes.add(inspect(), Timestamp::UNIX_EPOCH).unwrap().0.problem, Some(says), "the existing one");
    assert_eq!(bench.scope(&older.id).problem, None);
    bench.scopes.remove(&older.id).unwrap();
    assert_eq!(bench.scope(&newer.id).problem, None);
    let same = ScopeSpec { target: older.target, ..inspect() };
    let (same, _) = bench.scopes.add(same, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(same.problem, None, "on the same terms");
}

#[test]
fn quic_is_refused_where_one_of_the_scopes_says_so() {
    let Some(bench) = Bench::new() else { return };
    let name = format!("quic-{}.service", std::process::id());
    let path = bench.below(&name);
    bench.add_unit(&name);
    let strict = ScopeSpec { refuse_quic: Some(true), ..spec(&path, Mode::Rules) };
    let (strict_scope, _) = bench.scopes.add(strict.clone(), Timestamp::UNIX_EPOCH).unwrap();
    let terms = || bench.paper.terms().iter().map(|terms| terms.refuse_quic).collect::<Vec<_>>();
    assert_eq!((terms(), bench.attached()), (vec![false, true], vec![path.clone()]));
    let lax = ScopeSpec { refuse_quic: None, ..strict };
    let refused = bench.scopes.add(lax, Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(refused.to_string().contains("UDP to port 443 refused; remove"), "{refused}");
    bench.scopes.remove(&strict_scope.id).unwrap();
    bench.scopes.refresh();
    assert_eq!((terms(), bench.attached()), (vec![false, true, false], vec![path]));
}

#[test]
fn what_was_opted_in_before_is_in_force_before_it_is_there() {
    let Some(bench) = Bench::new() else { return };
    let path = bench.cgroup.path().join("later.service");
    let restored = |id: &str| bench.scopes.restore(spec(&path, Mode::Rules), ScopeId(id.into()), Timestamp::UNIX_EPOCH);
    let scope = restored("one").unwrap();
    assert_eq!((scope.id.0.as_str(), scope.path), ("one", None));
    assert_eq!(restored("two").unwrap().id.0, "one");
    bench.below("later.service");
    bench.scopes.refresh();
    assert_eq!(bench.attached(), [path]);
}
