//! Whoever else is on this host: other programs on its cgroups, and what runs its containers.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::Check;
use crate::config;
use crate::divert::ebpf::foreign;
use crate::scope::cgroup::Hierarchy;

/// Where containerd listens.
const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// How many programs are named.
const NAMED: usize = 3;

pub(super) fn checks(settings: &config::Scopes) -> Vec<Check> {
    let mut checks = vec![programs()];
    let runtimes = [("docker", settings.docker.as_deref()), ("podman", settings.podman.as_deref())];
    checks.extend(runtimes.into_iter().map(|(name, socket)| match socket {
        Some(socket) => runtime(name, socket),
        None => Check::ok(name, "not asked, as configured"),
    }));
    checks.push(runtime("containerd", Path::new(CONTAINERD)));
    checks
}

/// Programs that leave no room for another on a cgroup, or below it.
fn programs() -> Check {
    let Ok(hierarchy) = Hierarchy::find() else { return Check::ok("programs", "no cgroup v2, so none on it") };
    match foreign::keepers(hierarchy.root()) {
        Ok(keepers) if keepers.is_empty() => Check::ok("programs", "no other eBPF program keeps a cgroup to itself"),
        Ok(keepers) => {
            let named: Vec<String> = keepers.iter().take(NAMED).map(ToString::to_string).collect();
            let more = keepers.len().saturating_sub(NAMED);
            let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
            Check::warn(
                "programs",
                format!("not to be diverted by ebpf: {}{rest}", named.join(", ")),
                "attach them with the \"multi\" flag, or take another way for these: --via netfilter",
            )
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Check::warn("programs", "other eBPF programs cannot be seen by this user", "sudo moxie doctor")
        }
        Err(error) => Check::warn("programs", format!("cannot be looked at: {error}"), "bpftool cgroup tree"),
    }
}

fn runtime(name: &'static str, socket: &Path) -> Check {
    let at = socket.display();
    match UnixStream::connect(socket) {
        Ok(_) => Check::ok(name, format!("listens at {at}")),
        Err(error) if error.kind() == ErrorKind::NotFound => Check::ok(name, format!("not there: nothing at {at}")),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Check::warn(name, format!("this user may not talk to {at}"), "sudo moxie doctor")
        }
        Err(error) => {
            Check::warn(name, format!("nobody answers at {at}: {error}"), format!("sudo systemctl start {name}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_runtime_is_there_or_down_or_not_installed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        assert_eq!(runtime("docker", &socket).verdict, Verdict::Ok);
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(runtime("docker", &socket).found.starts_with("listens at"));
        drop(listener);
        let down = runtime("docker", &socket);
        assert_eq!((down.verdict, down.fix.as_deref()), (Verdict::Warn, Some("sudo systemctl start docker")));
    }
}
