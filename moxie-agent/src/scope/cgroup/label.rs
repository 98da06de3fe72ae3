//! What a cgroup path tells of who is in it: the systemd unit, the container.

use std::path::Path;

/// Hexadecimal digits of a container's id.
const ID_LENGTH: usize = 64;
/// What runtimes put before the id in the name of a scope unit, or of a plain cgroup.
const PREFIXES: [&str; 4] = ["docker-", "libpod-", "cri-containerd-", "crio-"];
/// Under what runtimes put cgroups that are named by the id alone; the last three are namespaces of containerd's.
const PARENTS: [&str; 5] = ["docker", "kubepods", "k8s.io", "default", "moby"];

/// The systemd unit: the last component that is a service or a scope, but not a container's own scope.
#[must_use]
pub fn unit_of(cgroup: &Path) -> Option<String> {
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
    names(cgroup).filter(is_unit).filter(|name| id_after_prefix(name).is_none()).last().map(str::to_owned)
}

/// The container's id, as its runtime writes it.
#[must_use]
pub fn container_of(cgroup: &Path) -> Option<String> {
    let mut parent = "";
    let mut found = None;
    for name in names(cgroup) {
        let is_below_runtime = PARENTS.contains(&parent) || parent.starts_with("pod");
        let by_place = (is_below_runtime && is_id(name)).then_some(name);
        found = id_after_prefix(name).or(by_place).or(found);
        parent = name;
    }
    found.map(str::to_owned)
}

/// Whether a directory is a container's own, and not only below one: its name and its parent's say so.
#[must_use]
pub fn is_container(cgroup: &Path) -> bool {
    let parent = cgroup.parent().unwrap_or(Path::new(""));
    container_of(cgroup).is_some_and(|id| id_in_name(cgroup) == Some(id.as_str()) && id_in_name(parent) != Some(&id))
}

/// The id in a directory's own name, by itself or between a runtime's prefix and suffix.
#[must_use]
pub fn id_in_name(cgroup: &Path) -> Option<&str> {
    let name = cgroup.file_name()?.to_str()?;
    id_after_prefix(name).or_else(|| is_id(name).then_some(name))
}

fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|part| part.as_os_str().to_str())
}

/// `docker-<id>.scope`, `libpod-<id>` and the like.
fn id_after_prefix(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    is_id(id).then_some(id)
}

fn is_id(name: &str) -> bool {
    name.len() == ID_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e9b0c1d2a3f4e9b0c1d2a3f4e9b0c1d2a3f4e9b0c1d2a3f4e9b0c1d2a3f4e";

    fn check(path: &str, unit: Option<&str>, container: Option<&str>) {
        let path = path.replace("ID", ID);
        assert_eq!(unit_of(Path::new(&path)).as_deref(), unit, "unit of {path}");
        assert_eq!(container_of(Path::new(&path)).as_deref(), container, "container of {path}");
    }

    #[test]
    fn units_are_the_last_service_or_scope() {
        check("/sys/fs/cgroup/system.slice/payments.service", Some("payments.service"), None);
        check("/system.slice/payments.service/worker-1", Some("payments.service"), None);
        check("/user.slice/user-1000.slice/user@1000.service/app.slice/a.service", Some("a.service"), None);
        check("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope"), None);
        check("/sys/fs/cgroup/unified/kern/app", None, None);
    }

    #[test]
    fn containers_are_told_by_their_runtimes_names() {
        check("/system.slice/docker-ID.scope", None, Some(ID));
        check("/docker/ID", None, Some(ID));
        check("/docker/ID/init", None, Some(ID));
        check("/machine.slice/libpod-ID.scope/container", None, Some(ID));
        check("/libpod_parent/libpod-ID", None, Some(ID));
        check("/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope", None, Some(ID));
        check("/kubepods/burstable/pod6a4b/ID", None, Some(ID));
    }

    #[test]
    fn a_containers_unit_is_the_one_it_runs_in() {
        check("/system.slice/podman-web.service/libpod-ID.scope", Some("podman-web.service"), Some(ID));
    }

    #[test]
    fn names_that_only_look_alike_are_no_containers() {
        check("/docker/buildkit", None, None);
        check("/system.slice/docker-compose.scope", Some("docker-compose.scope"), None);
        check("/system.slice/docker.service", Some("docker.service"), None);
        check("/ID", None, None);
    }
}
