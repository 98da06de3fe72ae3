//! Tests of reading cgroups and their paths.

use super::*;

/// The host's hierarchy; `None`, and the reason printed, where there is none. That fails with `CI=true`.
pub(in crate::scope) fn hierarchy() -> Option<Hierarchy> {
    let found = Hierarchy::find();
    if let Err(error) = &found {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "cannot run, and CI=true: {error}");
        eprintln!("cannot run: {error}");
    }
    found.ok()
}

#[test]
fn the_mount_is_read_off_mountinfo() {
    let hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
    let found = Hierarchy::of_mount(hybrid).unwrap();
    assert_eq!(found.root(), Path::new("/sys/fs/cgroup/unified"));
    assert_eq!(found.shown, Path::new("/"));
    let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
    assert_eq!(Hierarchy::of_mount(v1), None);
    let bind = "41 31 0:38 /docker/ab /mnt/a\\040b rw - cgroup2 cgroup2 rw";
    let found = Hierarchy::of_mount(bind).unwrap();
    assert_eq!((found.mount.as_path(), found.shown.as_path()), (Path::new("/mnt/a b"), Path::new("/docker/ab")));
}

#[test]
fn a_path_from_the_root_of_the_hierarchy_stays_below_the_mount() {
    let hierarchy = Hierarchy { mount: "/sys/fs/cgroup".into(), shown: "/".into() };
    assert_eq!(
        hierarchy.below_root(Path::new("/system.slice/x.service")),
        Path::new("/sys/fs/cgroup/system.slice/x.service")
    );
    assert_eq!(hierarchy.below_root(Path::new("/")).as_os_str(), "/sys/fs/cgroup");
}

#[test]
fn what_is_no_cgroup_is_refused() {
    let Some(hierarchy) = hierarchy() else { return };
    let refused = hierarchy.resolve(Path::new("/proc"));
    assert!(matches!(refused, Err(CgroupError::NotCgroup { .. })), "{refused:?}");
    let refused = hierarchy.resolve(Path::new("/no-such.slice"));
    assert!(matches!(refused, Err(CgroupError::Read { .. })), "{refused:?}");
    for root in [Path::new("/"), hierarchy.root()] {
        let refused = hierarchy.resolve(root);
        assert!(matches!(refused, Err(CgroupError::Root { .. })), "{refused:?}");
    }
    let refused = hierarchy.resolve(&hierarchy.root().join("cgroup.procs"));
    assert!(matches!(refused, Err(CgroupError::NotCgroup { .. })), "{refused:?}");
}

#[test]
fn a_process_that_is_not_there_is_named() {
    let Some(hierarchy) = hierarchy() else { return };
    assert!(matches!(hierarchy.of_process(u32::MAX), Err(CgroupError::NoProcess { pid: u32::MAX, .. })));
    assert!(hierarchy.of_process(std::process::id()).is_ok_and(|path| path.is_dir()));
}

#[test]
fn a_directory_is_found_by_its_id() {
    let top = tempfile::tempdir().unwrap();
    let below = top.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    fs::create_dir_all(top.path().join("c")).unwrap();
    assert_eq!(find_below(top.path(), id_of(&below).unwrap()), Some(below));
    assert_eq!(find_below(top.path(), u64::MAX), None);
}
