//! How much of each cgroup is diverted, and which hosts are looked into.

use super::*;
use crate::divert::Share;
use crate::rules::HostList;
use crate::scope::Demand;

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
