//! Whoever else is on this host: other programs on its cgroups, and what runs its containers.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::Check;
use crate::config;
use crate::divert::ebpf::foreign::{self, Keeper};
use crate::divert::ebpf::rivals::{self, Contested};
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

/// Programs that leave no room for another on a cgroup, or below it, and agents that share one.
fn programs() -> Check {
    let Ok(hierarchy) = Hierarchy::find() else { return Check::ok("programs", "no cgroup v2, so none on it") };
    let root = hierarchy.root();
    match foreign::keepers(root).and_then(|keepers| Ok((keepers, rivals::contested(root)?))) {
        Ok((keepers, contested)) => judged(&keepers, &contested),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Check::warn("programs", "other eBPF programs cannot be seen by this user", "sudo moxie doctor")
        }
        Err(error) => Check::warn("programs", format!("cannot be looked at: {error}"), "bpftool cgroup tree"),
    }
}

fn judged(keepers: &[Keeper], contested: &[Contested]) -> Check {
    let (mut found, mut fixes) = (Vec::new(), Vec::new());
    if !keepers.is_empty() {
        found.push(format!("not to be diverted by ebpf: {}", some_of(keepers)));
        fixes.push("attach them with the \"multi\" flag, or take another way for these: --via netfilter");
    }
    if !contested.is_empty() {
        found.push(format!("more than one agent of Moxie's diverts {}", some_of(contested)));
        fixes.push("remove the scope of one of them, or stop one: what one diverts does not come to the next");
    }
    if found.is_empty() {
        return Check::ok("programs", "no other eBPF program keeps a cgroup to itself, and no two agents share one");
    }
    Check::warn("programs", found.join("; "), fixes.join("; "))
}

/// The first few, and how many more there are.
fn some_of(all: &[impl ToString]) -> String {
    let named: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    let more = all.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
    named.join(", ") + &rest
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
    use crate::divert::ebpf::rivals::Agent;

    #[test]
    fn one_line_has_all_that_is_wrong_with_programs() {
        assert_eq!(judged(&[], &[]).verdict, Verdict::Ok);
        let kept = |name: &str| Keeper { cgroup: name.into(), hook: "connect4", leaves_room_below: true };
        let four = judged(&["/a", "/b", "/c", "/d"].map(kept), &[]);
        assert_eq!(four.found, "not to be diverted by ebpf: /a (connect4), /b (connect4), /c (connect4), and 1 more");
        let agents = ["first", "second"].map(|_| Agent::default()).to_vec();
        let both = judged(&[kept("/a")], &[Contested { cgroup: "/b".into(), agents }]);
        assert_eq!(both.verdict, Verdict::Warn);
        assert!(both.found.contains("; more than one agent of Moxie's diverts /b (a process"), "{}", both.found);
        assert!(both.fix.is_some_and(|fix| fix.contains("netfilter; remove the scope")));
    }

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
