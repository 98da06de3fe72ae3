//! Units and slices, wherever systemd has them.

use super::*;

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
    assert_eq!((&caller.scope, caller.unit.as_deref()), (&Some(scope.id), Some("a.service")));
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
