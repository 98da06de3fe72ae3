//! Tests of scopes going in and out of force.

use std::process::{Child, Command};

use super::*;
use crate::divert::Share;
use crate::divert::paper::Paper;
use crate::namespace::Namespace;
use crate::rules::HostList;
use crate::scope::Demand;
use crate::scope::cgroup::RunCgroup;
use crate::scope::container::Container;
use crate::scope::spec::UnitName;
use crate::scope::watch::Watch;
use std::sync::MutexGuard;

/// Scopes on no path at all.
pub(in crate::scope) fn paper_scopes() -> Arc<Scopes> {
    Arc::new(Scopes::new(Arc::new(Paper::default())))
}

/// One test at a time has the cgroup that is named after this process.
static ALONE: Mutex<()> = Mutex::new(());

struct Bench {
    scopes: Arc<Scopes>,
    paper: Arc<Paper>,
    cgroup: RunCgroup,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    /// `None`, and the reason printed, where cgroups cannot be made; that fails with `CI=true`.
    fn new() -> Option<Self> {
        Self::with(Paper::default(), Defaults::default())
    }

    fn with(paper: Paper, defaults: Defaults) -> Option<Self> {
        let alone = lock(&ALONE);
        let cgroup = match RunCgroup::create() {
            Ok(cgroup) => cgroup,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "cannot run, and CI=true: {error}");
                eprintln!("cannot run: {error}");
                return None;
            }
        };
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
    assert_eq!(caller, Caller { pid: Some(u32::MAX), ..Caller::default() });
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
fn a_process_gets_a_cgroup_of_its_own_and_goes_back() {
    let Some(bench) = Bench::new() else { return };
    let sleeper = bench.sleeper();
    let (pid, hierarchy) = (sleeper.0.id(), Hierarchy::find().unwrap());
    let spec = || ScopeSpec::of(Target::Pid(pid));
    let (scope, _) = bench.scopes.add(spec(), Timestamp::UNIX_EPOCH).unwrap();
    let path = scope.path.unwrap();
    assert_eq!(path, bench.cgroup.path().join(format!("moxie-pid-{pid}")));
    assert_eq!(hierarchy.of_process(pid).unwrap(), path);
    assert_eq!(bench.scopes.add(spec(), Timestamp::UNIX_EPOCH).unwrap().0.id, scope.id);
    assert_eq!(bench.scopes.caller(&origin(&path, pid)).comm.as_deref(), Some("sleep"));
    bench.scopes.remove(&scope.id).unwrap();
    assert_eq!(hierarchy.of_process(pid).unwrap(), bench.cgroup.path());
    assert!(!path.exists());
}

#[test]
fn a_process_that_cannot_be_put_on_path_goes_back() {
    let Some(bench) = Bench::with(Paper::refusing(), Defaults::default()) else { return };
    let sleeper = bench.sleeper();
    let refused = bench.scopes.add(ScopeSpec::of(Target::Pid(sleeper.0.id())), Timestamp::UNIX_EPOCH);
    assert!(matches!(refused, Err(ScopeError::Divert { .. })), "{refused:?}");
    assert_eq!(Hierarchy::find().unwrap().of_process(sleeper.0.id()).unwrap(), bench.cgroup.path());
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
fn a_unit_is_on_path_whenever_and_wherever_it_runs() {
    let Some(bench) = Bench::new() else { return };
    let name = format!("shop-{}.service", std::process::id());
    let scope = bench.add_unit(&name);
    assert_eq!((scope.path, scope.problem, scope.matches.len()), (None, None, 0));
    assert_eq!(bench.add_unit(&name).id, scope.id);
    let path = bench.below(&format!("system.slice/{name}"));
    bench.below(&format!("system.slice/{name}/worker"));
    bench.scopes.refresh();
    assert_eq!(bench.attached(), std::slice::from_ref(&path));
    let shown = bench.scope(&scope.id);
    assert_eq!((shown.path.as_ref(), shown.matches[0].unit.as_deref()), (Some(&path), Some(name.as_str())));
    assert_eq!(bench.scopes.caller(&origin(&path.join("worker"), 1)).scope, Some(scope.id.clone()));
    let other = bench.below(&format!("user.slice/{name}"));
    bench.scopes.refresh();
    assert_eq!(bench.attached(), [path, other], "the same name in another manager is a unit of that name too");
}

#[test]
fn a_slice_has_all_of_its_units() {
    let Some(bench) = Bench::new() else { return };
    let name = format!("pay{}.slice", std::process::id());
    let (slice, unit) = (bench.below(&name), bench.below(&format!("{name}/a.service")));
    let scope = bench.add_unit(&name);
    assert_eq!(bench.attached(), [slice]);
    let caller = bench.scopes.caller(&origin(&unit, 1));
    assert_eq!((caller.scope, caller.unit.as_deref()), (Some(scope.id), Some("a.service")));
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
fn a_unit_that_comes_to_hold_the_agent_is_left_out() {
    let Some(bench) = Bench::new() else { return };
    let own = Hierarchy::find().unwrap().of_process(std::process::id()).unwrap();
    // The agent is this process; a unit is made around the place that it is moved to.
    let name = format!("agent-{}.service", std::process::id());
    let scope = bench.add_unit(&name);
    let path = bench.below(&name);
    cgroup::move_process(std::process::id(), &path).unwrap();
    bench.scopes.refresh();
    let (attached, shown) = (bench.attached(), bench.scope(&scope.id));
    let asked = bench.scopes.add(spec(&path, Mode::Rules), Timestamp::UNIX_EPOCH);
    cgroup::move_process(std::process::id(), &own).unwrap();
    assert!(attached.is_empty(), "{attached:?}");
    assert!(shown.problem.unwrap().contains("contains the agent itself"));
    let refused = matches!(asked, Err(ScopeError::Divert { source: DivertError::ContainsAgent { .. }, .. }));
    assert!(refused, "{asked:?}");
    bench.scopes.refresh();
    assert_eq!((bench.attached(), bench.scope(&scope.id).problem), (vec![path], None), "it holds the agent no more");
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

fn container(bench: &Bench, id: char, name: &str, labels: &[(&str, &str)]) -> (Container, PathBuf) {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let id = format!("{:08x}", std::process::id()) + &id.to_string().repeat(56);
    let cgroup = bench.cgroup.path().join(format!("docker/{id}"));
    (Container { id, name: Some(name.into()), image: Some("shop:1".into()), labels, ..Container::default() }, cgroup)
}

#[test]
fn containers_are_matched_by_name_id_and_label_as_they_become_known() {
    let label = Label::parse("moxie.intercept=true").ok();
    let Some(bench) = Bench::with(Paper::default(), Defaults { label, ..Defaults::default() }) else { return };
    let name = format!("shop-{}", std::process::id());
    let (shop, shop_cgroup) = container(&bench, 'a', &name, &[("team", "pay"), ("moxie.rules", "slow")]);
    let (itself, itself_cgroup) =
        container(&bench, 'b', "other", &[("moxie.intercept", "true"), ("moxie.mode", "observe")]);
    let add = |target| bench.scopes.add(ScopeSpec::of(target), Timestamp::UNIX_EPOCH).unwrap().0;
    let by_name = add(Target::Container(name.clone()));
    assert_eq!(bench.scopes.list().len(), 1, "the configuration's is not shown while it matches nothing");
    std::fs::create_dir_all(&shop_cgroup).unwrap();
    std::fs::create_dir_all(&itself_cgroup).unwrap();
    bench.scopes.refresh();
    assert!(bench.attached().is_empty(), "no runtime has told its name");
    bench.scopes.containers.replace("docker", vec![shop.clone(), itself.clone()]);
    bench.scopes.refresh();
    assert_eq!(bench.attached(), [shop_cgroup.clone(), itself_cgroup.clone()]);

    let shown = bench.scope(&by_name.id).matches.remove(0);
    assert_eq!(shown.container.unwrap().name, shop.name);
    assert_eq!(shown.rules.as_deref(), Some(&["slow".to_owned()][..]));
    let caller = bench.scopes.caller(&origin(&shop_cgroup, 1));
    assert_eq!((caller.container, caller.container_id), (shop.name, Some(shop.id.clone())));
    assert_eq!((caller.image.as_deref(), caller.scope), (Some("shop:1"), Some(by_name.id.clone())));
    assert_eq!(caller.rules.as_deref(), Some(&["slow".to_owned()][..]));

    let configured = bench.scopes.list().remove(0);
    assert!(configured.configured);
    assert_eq!((configured.matches.len(), configured.matches[0].mode), (1, Mode::Observe));
    let refused = bench.scopes.remove(&configured.id);
    assert!(matches!(refused, Err(ScopeError::Configured { .. })), "{refused:?}");

    bench.scopes.remove(&by_name.id).unwrap();
    assert_eq!(bench.attached(), std::slice::from_ref(&itself_cgroup));
    add(Target::Container(shop.id[..12].to_owned()));
    assert_eq!(bench.attached().len(), 2);
    let by_label = add(Target::Label(Label::parse("team").unwrap()));
    assert_eq!(bench.scope(&by_label.id).path, Some(shop_cgroup));
}

#[test]
fn a_cgroup_is_on_path_as_soon_as_it_is_made_and_off_once_it_is_removed() {
    let Some(bench) = Bench::new() else { return };
    let name = format!("soon-{}.service", std::process::id());
    bench.add_unit(&name);
    let (known, cgroup) = container(&bench, 'c', &name, &[]);
    bench.scopes.add(ScopeSpec::of(Target::Container(known.id)), Timestamp::UNIX_EPOCH).unwrap();
    let _watch = Watch::start(&bench.scopes).unwrap();
    for _ in 0..20 {
        // Nobody calls refresh; the slice is made together with what is in it.
        let path = bench.below(&format!("soon.slice/{name}"));
        bench.await_attached(std::slice::from_ref(&path));
        std::fs::create_dir_all(&cgroup).unwrap();
        bench.await_attached(&[path.clone(), cgroup.clone()]);
        std::fs::remove_dir(&cgroup).unwrap();
        std::fs::remove_dir(&path).unwrap();
        std::fs::remove_dir(path.parent().unwrap()).unwrap();
        bench.await_attached(&[]);
    }
    assert_eq!(bench.scopes.warnings(), Vec::<String>::new());
}

#[test]
fn a_process_trees_scope_ends_with_its_last_process() {
    let Some(bench) = Bench::new() else { return };
    let sleeper = bench.sleeper();
    let (scope, _) = bench.scopes.add(ScopeSpec::of(Target::Pid(sleeper.0.id())), Timestamp::UNIX_EPOCH).unwrap();
    bench.scopes.refresh();
    assert_eq!(bench.scopes.list().len(), 1);
    drop(sleeper);
    bench.scopes.refresh();
    assert!(bench.scopes.list().is_empty() && bench.attached().is_empty());
    assert!(!scope.path.unwrap().exists(), "its cgroup is gone");
}

/// Rules by their names: those that could act now.
#[derive(Debug, Default)]
struct Armed(Mutex<Vec<&'static str>>);

impl Demand for Armed {
    fn is_wanted(&self, only: Option<&[String]>) -> bool {
        lock(&self.0).iter().any(|name| only.is_none_or(|only| only.iter().any(|one| one == name)))
    }
}

#[test]
fn as_much_is_diverted_as_a_mode_or_a_rule_asks_for() {
    let Some(bench) = Bench::new() else { return };
    let (shop, shop_cgroup) = container(&bench, 'e', "shop", &[("moxie.rules", "slow")]);
    let (seen, seen_cgroup) = container(&bench, 'f', "seen", &[("moxie.mode", "observe")]);
    let unit = bench.below("a.service");
    for path in [&shop_cgroup, &seen_cgroup] {
        std::fs::create_dir_all(path).unwrap();
    }
    bench.scopes.containers.replace("docker", vec![shop, seen]);
    let shares = || {
        let mut shown: Vec<_> = bench.scopes.list().into_iter().flat_map(|scope| scope.matches).collect();
        shown.sort_by_key(|one| [&shop_cgroup, &seen_cgroup, &unit].iter().position(|path| **path == one.cgroup));
        shown.into_iter().map(|one| one.diverted).collect::<Vec<_>>()
    };
    for path in [&shop_cgroup, &seen_cgroup, &unit] {
        bench.add(path, Mode::Rules).unwrap();
    }
    assert_eq!(shares(), [Share::All; 3], "nobody has told of rules");
    let armed = Arc::new(Armed::default());
    bench.scopes.heed(Arc::clone(&armed) as _);
    assert_eq!(shares(), [Share::None, Share::All, Share::None]);
    lock(&armed.0).push("busy");
    bench.scopes.weigh();
    assert_eq!(shares(), [Share::None, Share::All, Share::Named], "its label names other rules");
    lock(&armed.0).push("slow");
    bench.scopes.weigh();
    assert_eq!(shares(), [Share::Named, Share::All, Share::Named]);
    lock(&armed.0).clear();
    bench.scopes.refresh();
    assert_eq!(shares(), [Share::None, Share::All, Share::None], "looked at again without a change");
    let unit_name = unit.file_name().unwrap().to_str().unwrap();
    let observing =
        ScopeSpec { mode: Mode::Observe, ..ScopeSpec::of(Target::Unit(UnitName::parse(unit_name).unwrap())) };
    let (observing, _) = bench.scopes.add(observing, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(bench.scope(&observing.id).matches[0].diverted, Share::All, "for the sake of one of its scopes");
    bench.scopes.remove(&observing.id).unwrap();
    assert_eq!(shares(), [Share::None, Share::All, Share::None]);
}

#[test]
fn a_caller_has_the_hosts_of_its_scope_or_of_its_own_label_inspected() {
    let Some(bench) = Bench::new() else { return };
    let labels = [("moxie.mode", "inspect"), ("moxie.inspect", r"own\.example  b\.example")];
    let (own, own_cgroup) = container(&bench, '7', "own", &labels);
    let unit = bench.below("b.service");
    std::fs::create_dir_all(&own_cgroup).unwrap();
    bench.scopes.containers.replace("docker", vec![own]);
    let list = Arc::new(HostList::parse(&[r"listed\.example"]).unwrap());
    let of = |path: &Path| ScopeSpec { inspect: Arc::clone(&list), ..spec(path, Mode::Inspect) };
    bench.scopes.add(of(&unit), Timestamp::UNIX_EPOCH).unwrap();
    bench.add(&own_cgroup, Mode::Rules).unwrap();
    let inspects = |path: &Path, host: &str| bench.scopes.caller(&origin(path, 1)).inspects(host);
    assert!(inspects(&unit, "listed.example") && !inspects(&unit, "own.example"));
    assert!(inspects(&own_cgroup, "own.example") && inspects(&own_cgroup, "b.example"));
    assert!(!inspects(&own_cgroup, "listed.example"));
    let other = ScopeSpec { inspect: Arc::default(), ..of(&unit) };
    let refused = bench.scopes.add(other, Timestamp::UNIX_EPOCH).unwrap_err().to_string();
    assert!(refused.contains(r"mode inspect for the hosts listed\.example; remove"), "{refused}");
}
