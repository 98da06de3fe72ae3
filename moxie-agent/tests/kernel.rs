//! The eBPF way on the real kernel, with real processes in a scope, inside network namespaces that have no way out.
//!
//! Needs root, a cgroup2 mount and `ip`; says so where it cannot run, and fails then if `CI=true`.
#![cfg(feature = "ebpf")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "kernel/addresses.rs"]
mod addresses;
#[path = "kernel/client.rs"]
mod client;
#[path = "kernel/foreign.rs"]
mod foreign;
#[path = "kernel/full.rs"]
mod full;
#[path = "kernel/guards.rs"]
mod guards;
#[path = "kernel/lab.rs"]
mod lab;
#[path = "kernel/namespaces.rs"]
mod namespaces;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use moxie_agent::divert::ebpf::EbpfOptions;
use moxie_agent::divert::{Divert as _, DivertError, PortSet, Terms};
use moxie_agent::scope::cgroup::{Hierarchy, RunCgroup};
use moxie_agent::scope::process::ProcessTree;

use lab::agent::Agent;
use lab::{DIRECT, DIVERTED, Lab, eventually, eventually_or};

/// The other namespace's addresses, as the application names them.
const V4: &str = "10.9.8.7:443";
const V6: &str = "[fd12::7]:443";
const MAPPED: &str = "[::ffff:10.9.8.7]:443";

fn said(word: &str, peer: &str) -> String {
    format!("peer {peer} said {word}")
}

/// The body of a client process (see `lab::Client`); a test only so that this binary can be started as one.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn client_process() {
    client::serve();
}

#[test]
fn ipv4_is_diverted_and_the_original_destination_known() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V4} mark=77")), said(DIVERTED, V4));
    let origin = agent.last_origin().expect("an origin");
    assert_eq!(origin.destination, V4.parse().unwrap());
    assert_eq!(origin.pid, Some(client.pid()));
    assert_eq!(origin.cgroup_id, Some(std::fs::metadata(cgroup.path()).unwrap().ino()));
    assert_eq!(origin.mark, 77);
}

#[test]
fn ipv6_and_mapped_are_diverted_and_the_original_destination_known() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V6}")), said(DIVERTED, V6));
    assert_eq!(agent.last_origin().unwrap().destination, V6.parse().unwrap());
    assert_eq!(client.ask(&format!("tcp {MAPPED}")), said(DIVERTED, MAPPED));
    assert_eq!(agent.last_origin().unwrap().destination, V4.parse().unwrap(), "mapped is given as IPv4");
}

#[test]
fn a_bound_source_address_is_diverted() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V4} bind=10.9.8.1")), said(DIVERTED, V4));
    assert_eq!(client.ask(&format!("tcp {V6} bind=fd12::1")), said(DIVERTED, V6));
    assert_eq!(agent.last_origin().unwrap().destination, V6.parse().unwrap());
}

#[test]
fn an_mptcp_socket_is_diverted_and_shows_the_agent_as_its_peer() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let answer = lab.client(Some(&cgroup)).ask(&format!("mptcp {V4}"));
    if !lab.has_mptcp() {
        assert_eq!(answer, "error EPROTONOSUPPORT");
        return;
    }
    // The known gap: the kernel asks no hook for an MPTCP socket's peer.
    assert!(answer.starts_with("peer 127.0.0.1:6") && answer.ends_with(" said diverted"), "{answer}");
    assert_eq!(agent.last_origin().unwrap().destination, V4.parse().unwrap());
}

#[test]
fn what_is_not_wanted_goes_direct() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    let other_port = "10.9.8.7:8443";
    assert_eq!(client.ask(&format!("tcp {other_port}")), said(DIRECT, other_port), "port not wanted");
    let loopback = "127.0.0.1:443";
    assert_eq!(client.ask(&format!("tcp {loopback}")), said(DIRECT, loopback), "loopback");
    assert_eq!(client.ask("tcp 0.0.0.0:443"), said(DIRECT, loopback), "this host");
    assert_eq!(client.ask("tcp [::1]:443"), said(DIRECT, "[::1]:443"), "IPv6 loopback");
    assert_eq!(client.ask(&format!("tcp {V4} device={}", lab.device())), said(DIRECT, V4), "bound device");
    assert_eq!(client.ask(&format!("tcp {V4} bind=127.0.0.1")), "error EINVAL", "as without Moxie");
    assert_eq!(client.ask(&format!("tcp {V4} mark={}", 0x4d58_0010)), said(DIRECT, V4), "the agent's own sockets");
    assert_eq!(agent.accepted(), 0);
    for counter in ["other_port", "excluded_destination", "bound_device", "loopback_source", "exempt"] {
        assert!(agent.count(counter) > 0, "{counter}");
    }
}

#[test]
fn every_port_can_be_wanted() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions { ports: PortSet::All, ..EbpfOptions::default() });
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask("tcp 10.9.8.7:8443"), said(DIVERTED, "10.9.8.7:8443"));
    assert_eq!(client.ask("tcp 10.9.8.7:1"), said(DIVERTED, "10.9.8.7:1"));
    assert_eq!(client.ask("tcp 127.0.0.1:443"), said(DIRECT, "127.0.0.1:443"));
    assert_eq!(agent.accepted(), 2);
}

#[test]
fn processes_outside_the_scope_go_direct() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (_cgroup, _held) = agent.scope();
    let mut outside = lab.client(None);
    assert_eq!(outside.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    assert_eq!(outside.ask(&format!("tcp {V6}")), said(DIRECT, V6));
    assert_eq!(agent.accepted(), 0);
}

#[test]
fn a_socket_that_connects_again_is_diverted_again_and_shows_no_stale_peer() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    let (other, direct) = ("10.9.8.9:443", "10.9.8.7:8443");
    assert_eq!(client.ask(&format!("again {V4} {other}")), said(DIVERTED, other));
    // The first connection may be accepted after the second: they can be with two listeners.
    assert!(agent.has_seen(other.parse().unwrap()));
    assert_eq!(client.ask(&format!("again {V4} {direct}")), said(DIRECT, direct));
}

#[test]
fn nested_scopes_divert_once() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let inner = cgroup.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let _held_inside = agent.divert().attach(&inner, Terms::default()).unwrap();
    let mut client = lab.client(Some(&cgroup));
    client.move_to(&inner);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert_eq!(agent.last_origin().unwrap().destination, V4.parse().unwrap());
}

#[test]
fn quic_is_refused_only_in_scopes_that_ask_for_it_and_counted() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let cgroup = RunCgroup::create().unwrap();
    let [strict, lenient] = ["strict", "lenient"].map(|name| cgroup.path().join(name));
    let attach = |path: &Path, refuse_quic| {
        std::fs::create_dir(path).unwrap();
        agent.divert().attach(path, Terms { refuse_quic }).unwrap()
    };
    let (held_strict, held_lenient) = (attach(&strict, true), attach(&lenient, false));
    let mut client = lab.client(Some(&cgroup));
    for (path, answer) in [(&lenient, "sent"), (&strict, "error EPERM")] {
        client.move_to(path);
        for destination in [V4, V6, MAPPED] {
            assert_eq!(client.ask(&format!("udp-connect {destination}")), answer, "{destination}");
            assert_eq!(client.ask(&format!("udp-send {destination}")), answer, "{destination}");
        }
        for destination in ["10.9.8.7:53", "127.0.0.1:443"] {
            assert_eq!(client.ask(&format!("udp-send {destination}")), "sent", "{destination}");
        }
        assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4), "TCP goes on");
    }
    assert_eq!((held_strict.quic_refused(), held_lenient.quic_refused()), (6, 0));
    assert_eq!(agent.count("quic_refused"), 6);
    agent.divert().set_enabled(false).unwrap();
    assert_eq!(client.ask(&format!("udp-send {V4}")), "sent", "switched off");
    assert_eq!(held_strict.quic_refused(), 6);
}

#[test]
fn the_kill_switch_sends_the_next_connection_direct_and_back() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert!(agent.divert().is_enabled());
    agent.divert().set_enabled(false).unwrap();
    assert!(!agent.divert().is_enabled());
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    assert!(agent.count("disabled") > 0);
    agent.divert().set_enabled(true).unwrap();
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
}

#[test]
fn an_agent_that_stops_beating_costs_no_connection() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions { max_beat_age: Duration::from_millis(500), ..EbpfOptions::default() });
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    agent.stop_beating();
    eventually("a stale heartbeat", || {
        let answer = client.ask(&format!("tcp {V4}"));
        assert!(!answer.starts_with("error"), "{answer}");
        answer == said(DIRECT, V4)
    });
    assert!(agent.count("not_beating") > 0);
}

#[test]
fn a_stranger_on_the_listener_ports_is_not_used() {
    let Some(lab) = Lab::new() else { return };
    let mut agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    let ports = agent.close_listeners();
    let _strangers = lab.squat(ports);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    assert!(agent.count("no_listener") > 0);
}

#[test]
fn taken_ports_are_stepped_over() {
    let Some(lab) = Lab::new() else { return };
    let first = EbpfOptions::default().first_port;
    let _strangers = lab.squat(first + 2..first + 3);
    let agent = Agent::start(&lab, EbpfOptions::default());
    assert_eq!(agent.first_port(), first + 16);
    let (cgroup, _held) = agent.scope();
    assert_eq!(lab.client(Some(&cgroup)).ask(&format!("tcp {V4}")), said(DIVERTED, V4));
}

#[test]
fn ipv6_goes_direct_while_there_is_no_route_to_any() {
    let Some(lab) = Lab::new() else { return };
    lab.remove_v6();
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V6}")), "error ENETUNREACH", "as without Moxie");
    assert!(agent.count("no_route_v6") > 0);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    lab.add_v6();
    eventually("the new route", || client.ask(&format!("tcp {V6}")) == said(DIVERTED, V6));
}

#[test]
fn no_origin_is_ever_missing_however_short_the_connection() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut clients = [lab.client(Some(&cgroup)), lab.client(Some(&cgroup))];
    let before = listen_overflows();
    const EACH: usize = 5_000;
    for end in ["fin", "rst"] {
        for client in &mut clients {
            client.send(&format!("flood {V4} {EACH} {end}"));
        }
        for client in &mut clients {
            assert_eq!(client.answer(), format!("connected {EACH}"), "{end}");
        }
    }
    // On a machine that has no time for the agent's heart some have gone direct. One that is reset while the accept queue is full never
    // was a connection to the listening side, here or directly.
    let diverted = agent.count("diverted");
    assert!(diverted > EACH as u64, "{diverted} diverted");
    let overflows = || listen_overflows() - before;
    let reached = || {
        let (accepted, overflows) = (agent.accepted(), overflows());
        format!("every connection accepted: {accepted} were, {overflows} overflows; {:?}", agent.divert().counters())
    };
    eventually_or(reached, || {
        let accepted = agent.accepted() as u64;
        accepted == agent.count("handed_over") && accepted + overflows() >= diverted
    });
    assert_eq!(agent.missing(), 0, "{:?}", agent.divert().counters());
    assert_eq!(agent.wrong(V4.parse().unwrap()), 0);
}

/// How often a full accept queue has made the kernel drop what would have established a connection, in this namespace.
fn listen_overflows() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut columns = names.split(' ').zip(values.split(' '));
    columns.find(|(name, _)| *name == "ListenOverflows").unwrap().1.parse().unwrap()
}

#[test]
fn a_connection_nobody_announced_has_no_origin() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let mut outside = lab.client(None);
    outside.ask(&format!("tcp 127.0.0.1:{}", agent.first_port()));
    eventually("the connection accepted", || agent.accepted() == 1);
    assert_eq!(agent.last_origin(), None);
}

#[test]
fn a_cgroup_that_contains_the_agent_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let hierarchy = Hierarchy::find().unwrap();
    let own = hierarchy.of_process(std::process::id()).unwrap();
    let refused = agent.divert().attach(&own, Terms::default());
    assert!(matches!(refused, Err(DivertError::ContainsAgent { .. })), "{refused:?}");
    let refused = agent.divert().attach(hierarchy.root(), Terms::default());
    assert!(matches!(refused, Err(DivertError::Cgroup(_))), "{refused:?}");
}

#[test]
fn a_process_tree_is_diverted_and_put_back() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let cgroup = RunCgroup::create().unwrap();
    let mut client = lab.client(Some(&cgroup));
    let tree = ProcessTree::isolate(client.pid()).unwrap();
    let made = tree.path().to_owned();
    let held = agent.divert().attach(&made, Terms::default()).unwrap();
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    drop(held);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    drop(tree);
    assert!(!made.exists());
    assert_eq!(Hierarchy::find().unwrap().of_process(client.pid()).unwrap(), cgroup.path());
}

#[test]
fn nothing_is_left_behind() {
    let Some(lab) = Lab::new() else { return };
    let hierarchy = Hierarchy::find().unwrap();
    let before = hierarchy.of_process(std::process::id()).unwrap();
    let others = lab::programs();
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, held) = agent.scope();
    let (home, scope) = (hierarchy.of_process(std::process::id()).unwrap(), cgroup.path().to_owned());
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    let ours: Vec<u32> = lab::programs().into_iter().filter(|id| !others.contains(id)).collect();
    assert!(ours.len() >= 8, "{ours:?}");
    // The agent goes first, as when it is killed: the link alone must not cost a connection.
    drop(agent);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    drop(held);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    drop((client, cgroup));
    assert_eq!(hierarchy.of_process(std::process::id()).unwrap(), before);
    assert!(!scope.exists());
    assert!(home == before || !home.exists(), "{}", Path::display(&home));
    eventually("the programs gone", || lab::programs().iter().all(|id| !ours.contains(id)));
}

#[test]
fn the_kernel_half_passes_the_verifier_with_its_log_on() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions { kernel_log: true, ..EbpfOptions::default() });
    let (cgroup, _held) = agent.scope();
    assert_eq!(lab.client(Some(&cgroup)).ask(&format!("tcp {V4}")), said(DIVERTED, V4));
}

#[test]
fn two_agents_do_not_take_each_others_connections() {
    let Some(lab) = Lab::new() else { return };
    let outer = Agent::start(&lab, EbpfOptions::default());
    let inner = Agent::start(&lab, EbpfOptions::default());
    assert_eq!(inner.first_port(), outer.first_port() + 16);
    let (cgroup, _held) = outer.scope();
    let inside = cgroup.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let _held_inside = inner.divert().attach(&inside, Terms::default()).unwrap();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert_eq!((outer.accepted(), inner.accepted()), (1, 0));
    client.move_to(&inside);
    assert_eq!(client.ask(&format!("tcp {V6}")), said(DIVERTED, V6));
    assert_eq!((outer.accepted(), inner.accepted()), (1, 1));
    assert_eq!(inner.last_origin().unwrap().destination, V6.parse().unwrap());
}
