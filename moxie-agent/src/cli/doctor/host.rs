//! What the host offers: kernel release, cgroups, type information, ports, IPv6.

use std::fs::read_to_string;
use std::path::Path;

use super::Check;
use crate::divert::ebpf::release::{Fitness, fitness};
use crate::paths::FIRST_LISTENER_PORT;

pub(super) fn checks() -> Vec<Check> {
    let read = |path: &str| read_to_string(path).unwrap_or_default();
    vec![
        kernel(&read("/proc/sys/kernel/osrelease")),
        cgroups(&read("/proc/self/mounts")),
        type_information(Path::new("/sys/kernel/btf/vmlinux").exists()),
        ports(&read("/proc/sys/net/ipv4/ip_local_port_range")),
        ipv6(&read("/proc/net/if_inet6")),
    ]
}

fn kernel(release: &str) -> Check {
    let found = format!("Linux {}", release.trim());
    match fitness(release) {
        Fitness::Supported => Check::ok("kernel", found),
        Fitness::BestEffort => Check::warn(
            "kernel",
            format!(
                "{found}: works as far as tested, without DNS hints, and can miss connections where cgroup v1 is used too"
            ),
            "boot Linux 5.15 or newer",
        ),
        Fitness::TooOld => Check::warn(
            "kernel",
            format!("{found}: too old to divert with eBPF, which takes 5.10, or nftables, which takes 5.13"),
            "boot Linux 5.15 or newer",
        ),
        Fitness::Unknown => Check::warn("kernel", "the kernel does not tell its release", "uname -r"),
    }
}

fn cgroups(mounts: &str) -> Check {
    let of_kind = |kind: &str| {
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        fields
            .filter_map(|fields| (fields.get(2) == Some(&kind)).then(|| fields.get(1).copied().unwrap_or_default()))
            .next()
    };
    match (of_kind("cgroup2"), of_kind("cgroup")) {
        (None, _) => Check::warn(
            "cgroups",
            "cgroup v2 is not mounted: only the proxy works",
            "boot with systemd.unified_cgroup_hierarchy=1, or: mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
        (Some(at), None) => Check::ok("cgroups", format!("v2 at {at}")),
        (Some(at), Some(_)) => Check::ok("cgroups", format!("hybrid, v2 at {at}: opt in with paths below it")),
    }
}

fn type_information(exists: bool) -> Check {
    if exists {
        return Check::ok("btf", "the kernel describes its types");
    }
    Check::ok("btf", "the kernel does not describe its types; Moxie's programs do not need it")
}

fn ports(range: &str) -> Check {
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    match (bounds.next(), bounds.next()) {
        (Some(low), Some(high)) if (low..=high).contains(&FIRST_LISTENER_PORT) => Check::warn(
            "ports",
            format!(
                "the kernel gives out {low} to {high}, among them Moxie's from {FIRST_LISTENER_PORT}: another block may be taken"
            ),
            format!("sysctl -w net.ipv4.ip_local_port_range=\"{low} {}\"", FIRST_LISTENER_PORT - 1),
        ),
        (Some(low), Some(high)) => Check::ok(
            "ports",
            format!("the kernel gives out {low} to {high}, Moxie listens from {FIRST_LISTENER_PORT}"),
        ),
        _ => Check::warn(
            "ports",
            "the kernel does not tell which ports it gives out",
            "sysctl net.ipv4.ip_local_port_range",
        ),
    }
}

fn ipv6(interfaces: &str) -> Check {
    if interfaces.trim().is_empty() {
        return Check::ok("ipv6", "not in use: only IPv4 connections are diverted");
    }
    if interfaces.lines().all(|line| line.ends_with(" lo")) {
        return Check::ok("ipv6", "only on loopback: connections over IPv6 fail here, as they would without Moxie");
    }
    Check::ok("ipv6", "in use, diverted as IPv4 is")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn kernels_are_judged_by_their_release() {
        for (release, expected) in [
            ("6.18.44-generic\n", Verdict::Ok),
            ("5.15.0", Verdict::Ok),
            ("5.10.0-28-amd64", Verdict::Warn),
            ("5.9.16", Verdict::Warn),
            ("4.19.0", Verdict::Warn),
            ("", Verdict::Warn),
        ] {
            assert_eq!(kernel(release).verdict, expected, "{release}");
        }
    }

    #[test]
    fn cgroup_v2_is_found_wherever_it_is_mounted() {
        let v1 = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n";
        let v2 = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroups(v1).verdict, Verdict::Warn);
        assert_eq!(cgroups(v2).found, "v2 at /sys/fs/cgroup/unified");
        assert!(cgroups(&format!("{v1}{v2}")).found.starts_with("hybrid, v2 at /sys/fs/cgroup/unified"));
    }

    #[test]
    fn ipv6_is_in_use_if_more_than_loopback_has_it() {
        let of_loopback = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let of_cable = "fd006d6f786900000000000000000002 02 40 00 80    cable\n";
        assert!(ipv6("").found.starts_with("not in use"));
        assert!(ipv6(of_loopback).found.starts_with("only on loopback"));
        assert!(ipv6(&format!("{of_loopback}{of_cable}")).found.starts_with("in use"));
    }

    #[test]
    fn listener_ports_are_held_against_the_kernels_own() {
        assert_eq!(ports("32768\t60999\n").verdict, Verdict::Ok);
        let overlapping = ports("1024\t65535\n");
        assert_eq!(overlapping.verdict, Verdict::Warn);
        assert!(overlapping.fix.unwrap().ends_with("\"1024 61000\""));
        assert_eq!(ports("").verdict, Verdict::Warn);
    }
}
