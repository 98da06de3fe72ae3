//! Tests of scopes going in and out of force.

use std::net::SocketAddr;
use std::process::{Child, Command};

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::divert::Listening;
use crate::namespace::Namespace;
use crate::scope::cgroup::RunCgroup;

/// Attaches anything but what it was told to refuse, and remembers what is attached now.
#[derive(Debug, Default)]
struct Pretence {
    attached: Arc<Mutex<Vec<PathBuf>>>,
    refuses: bool,
}

#[derive(Debug)]
struct Held(Arc<Mutex<Vec<PathBuf>>>, PathBuf);

impl Attachment for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.0).retain(|path| *path != self.1);
    }
}

#[async_trait]
impl Divert for Pretence {
    fn name(&self) -> &'static str {
        "pretence"
    }
    fn attach(&self, cgroup: &Path, _: Terms) -> Result<Box<dyn Attachment>, DivertError> {
        if self.refuses {
            return Err(DivertError::NoKernelHalf);
        }
        lock(&self.attached).push(cgroup.to_owned());
        Ok(Box::new(Held(Arc::clone(&self.attached), cgroup.to_owned())))
    }
    async fn origin(&self, _: &TcpStream, _: &Arc<Namespace>) -> Result<Option<Origin>, DivertError> {
        Ok(None)
    }
    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        None
    }
    fn listener_addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }
    fn set_enabled(&self, _enabled: bool) -> Result<(), DivertError> {
        Ok(())
    }
    fn is_enabled(&self) -> bool {
        true
    }
    fn beat(&self) {}
    fn dial_mark(&self) -> Option<u32> {
        None
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// One test at a time has the cgroup that is named after this process.
static ALONE: Mutex<()> = Mutex::new(());

struct Bench {
    scopes: Scopes,
    attached: Arc<Mutex<Vec<PathBuf>>>,
    cgroup: RunCgroup,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    /// `None`, and the reason printed, where cgroups cannot be made; that fails with `CI=true`.
    fn new(refuses: bool) -> Option<Self> {
        let alone = lock(&ALONE);
        let cgroup = match RunCgroup::create() {
            Ok(cgroup) => cgroup,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "cannot run, and CI=true: {error}");
                eprintln!("cannot run: {error}");
                return None;
            }
        };
        let pretence = Pretence { refuses, ..Pretence::default() };
        let attached = Arc::clone(&pretence.attached);
        Some(Self { scopes: Scopes::new(Arc::new(pretence)), attached, cgroup, _alone: alone })
    }

    fn below(&self, name: &str) -> PathBuf {
        let path = self.cgroup.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn add(&self, path: &Path, mode: Mode) -> Result<(Scope, bool), ScopeError> {
        self.scopes.add(spec(path, mode), Timestamp::UNIX_EPOCH)
    }

    fn attached(&self) -> Vec<PathBuf> {
        lock(&self.attached).clone()
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
    ScopeSpec { target: Target::Cgroup(path.to_str().unwrap().to_owned()), mode }
}

fn origin(cgroup: &Path, pid: u32) -> Origin {
    let destination = "198.51.100.7:443".parse().unwrap();
    let cgroup_id = Some(cgroup::id_of(cgroup).unwrap());
    Origin { pid: Some(pid), cgroup_id, ..Origin::to(destination, Namespace::own().unwrap()) }
}

#[test]
fn an_equal_scope_again_is_the_existing_one() {
    let Some(bench) = Bench::new(false) else { return };
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
    assert!(matches!(refused, Err(ScopeError::OtherMode { .. })), "{refused:?}");
    assert_eq!(bench.attached(), [path]);
}

#[test]
fn a_removed_scope_is_off_path() {
    let Some(bench) = Bench::new(false) else { return };
    let (scope, _) = bench.add(&bench.below("a.service"), Mode::Rules).unwrap();
    assert_eq!(bench.scopes.remove(&scope.id).map(|scope| scope.id), Some(scope.id.clone()));
    assert!(bench.attached().is_empty());
    assert!(bench.scopes.list().is_empty());
    assert!(bench.scopes.remove(&scope.id).is_none());
}

#[test]
fn what_cannot_be_put_on_path_is_no_scope() {
    let Some(bench) = Bench::new(true) else { return };
    let refused = bench.add(&bench.below("a.service"), Mode::Rules);
    assert!(matches!(refused, Err(ScopeError::Divert { source: DivertError::NoKernelHalf, .. })), "{refused:?}");
    let refused = bench.add(Path::new("/no-such.service"), Mode::Rules);
    assert!(matches!(refused, Err(ScopeError::Cgroup(CgroupError::Read { .. }))), "{refused:?}");
    assert!(bench.scopes.list().is_empty());
}

#[test]
fn a_caller_is_told_by_its_cgroup() {
    let Some(bench) = Bench::new(false) else { return };
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
    let (inner_scope, _) = bench.add(&inner, Mode::Observe).unwrap();
    assert_eq!(bench.scopes.caller(&origin(&inner, 1)).scope, Some(inner_scope.id.clone()), "the innermost");
    assert_eq!(bench.scopes.mode(Some(&inner_scope.id)), Mode::Observe);
}

#[test]
fn a_caller_outside_every_scope_has_none() {
    let Some(bench) = Bench::new(false) else { return };
    let (here, there) = (bench.below("here.service"), bench.below("here.service-too"));
    bench.add(&here, Mode::Rules).unwrap();
    let caller = bench.scopes.caller(&origin(&there, u32::MAX));
    assert_eq!(caller, Caller { pid: Some(u32::MAX), ..Caller::default() });
}

#[test]
fn a_cgroup_made_anew_is_put_on_path_again() {
    let Some(bench) = Bench::new(false) else { return };
    let path = bench.below("a.service");
    let (scope, _) = bench.add(&path, Mode::Rules).unwrap();
    std::fs::remove_dir(&path).unwrap();
    bench.scopes.refresh();
    assert_eq!(bench.attached().len(), 1, "nothing to attach to");
    let path = bench.below("a.service");
    bench.scopes.refresh();
    bench.scopes.refresh();
    assert_eq!(bench.scopes.caller(&origin(&path, 1)).scope, Some(scope.id.clone()));
    bench.scopes.remove(&scope.id);
    assert!(bench.attached().is_empty());
}

#[test]
fn a_process_gets_a_cgroup_of_its_own_and_goes_back() {
    let Some(bench) = Bench::new(false) else { return };
    let sleeper = bench.sleeper();
    let (pid, hierarchy) = (sleeper.0.id(), Hierarchy::find().unwrap());
    let spec = || ScopeSpec { target: Target::Pid(pid), mode: Mode::Rules };
    let (scope, _) = bench.scopes.add(spec(), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(scope.path, bench.cgroup.path().join(format!("moxie-pid-{pid}")));
    assert_eq!(hierarchy.of_process(pid).unwrap(), scope.path);
    assert_eq!(bench.scopes.add(spec(), Timestamp::UNIX_EPOCH).unwrap().0.id, scope.id);
    assert_eq!(bench.scopes.caller(&origin(&scope.path, pid)).comm.as_deref(), Some("sleep"));
    bench.scopes.remove(&scope.id);
    assert_eq!(hierarchy.of_process(pid).unwrap(), bench.cgroup.path());
    assert!(!scope.path.exists());
}

#[test]
fn a_process_that_cannot_be_put_on_path_goes_back() {
    let Some(bench) = Bench::new(true) else { return };
    let sleeper = bench.sleeper();
    let refused =
        bench.scopes.add(ScopeSpec { target: Target::Pid(sleeper.0.id()), mode: Mode::Rules }, Timestamp::UNIX_EPOCH);
    assert!(matches!(refused, Err(ScopeError::Divert { .. })), "{refused:?}");
    assert_eq!(Hierarchy::find().unwrap().of_process(sleeper.0.id()).unwrap(), bench.cgroup.path());
}

#[test]
fn open_connections_are_counted_until_they_end() {
    let Some(bench) = Bench::new(false) else { return };
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
