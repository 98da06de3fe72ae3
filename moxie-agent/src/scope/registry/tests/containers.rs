//! Containers as the runtimes tell of them, and cgroups as the host does.

use super::*;
use crate::scope::watch::Watch;

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
    assert_eq!((&caller.container, &caller.container_id), (&shop.name, &Some(shop.id.clone())));
    assert_eq!((caller.image.as_deref(), &caller.scope), (Some("shop:1"), &Some(by_name.id.clone())));
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
