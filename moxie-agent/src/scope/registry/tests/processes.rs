//! Process trees, which have cgroups of their own while they are opted in.

use super::*;

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
