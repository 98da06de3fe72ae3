//! The nftables way on the real kernel, with real processes in a scope, inside network namespaces that have no way out.
//!
//! Needs root, a cgroup2 mount and `ip`; says so where it cannot run, and fails then if `CI=true`. No `nft` is needed.
#![cfg(feature = "ebpf")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "netfilter/agent.rs"]
mod agent;
#[path = "kernel/client.rs"]
mod client;
#[expect(dead_code, reason = "its agent is on the eBPF way")]
#[path = "kernel/lab.rs"]
mod lab;
#[path = "netfilter/namespaces.rs"]
mod namespaces;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use moxie_agent::divert::netfilter::NetfilterOptions;
use moxie_agent::divert::{Divert as _, DivertError, PortSet, Terms};
use moxie_agent::namespace::Namespace;
use moxie_agent::scope::cgroup::{Hierarchy, RunCgroup};
use moxie_agent::sock_diag::{SockDiag, Transport};

use agent::{Agent, AgentProcess};
use lab::{DIRECT, DIVERTED, Lab, eventually};

/// The other namespace's addresses, as the application names them.
const V4: &str = "10.9.8.7:443";
const V6: &str = "[fd12::7]:443";
const MAPPED: &str = "[::ffff:10.9.8.7]:443";

fn said(word: &str, peer: &str) -> String {
    format!("peer {peer} said {word}")
}

/// Whether a client was told that its connection is over: it waited in the accept queue, or it was accepted.
fn is_end(answer: &str) -> bool {
    answer == "error ECONNRESET" || answer.ends_with("said")
}

/// A new cgroup below another.
fn below(cgroup: &RunCgroup, name: &str) -> PathBuf {
    let path = cgroup.path().join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

/// The body of a client process (see `lab::Client`); a test only so that this binary can be started as one.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn client_process() {
    client::serve();
}

/// The body of an agent process (see `agent::AgentProcess`).
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn agent_process() {
    agent::serve();
}

#[test]
fn ipv4_is_diverted_and_destination_and_caller_known() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V4} mark=77")), said(DIVERTED, V4));
    let origin = agent.last_origin().expect("an origin");
    assert_eq!(origin.destination, V4.parse().unwrap());
    assert_eq!(origin.pid, Some(client.pid()));
    assert_eq!(origin.cgroup_id, Some(std::fs::metadata(cgroup.path()).unwrap().ino()));
    assert_eq!(origin.mark, 77);
    assert_eq!(origin.source, Some("10.9.8.1".parse().unwrap()));
}

#[test]
fn ipv6_and_mapped_are_diverted_and_destination_and_caller_known() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V6}")), said(DIVERTED, V6));
    let origin = agent.last_origin().unwrap();
    assert_eq!((origin.destination, origin.pid), (V6.parse().unwrap(), Some(client.pid())));
    assert_eq!(client.ask(&format!("tcp {MAPPED}")), said(DIVERTED, MAPPED));
    let origin = agent.last_origin().unwrap();
    assert_eq!(origin.destination, V4.parse().unwrap(), "mapped is given as IPv4");
    assert_eq!(origin.pid, Some(client.pid()));
}

#[test]
fn the_caller_is_told_from_others_in_its_cgroup_and_below() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, _held) = agent.scope();
    let (_first, mut second, mut child) =
        (lab.client(Some(&cgroup)), lab.client(Some(&cgroup)), lab.client(Some(&cgroup)));
    let below = below(&cgroup, "below");
    child.move_to(&below);
    for client in [&mut second, &mut child] {
        assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
        assert_eq!(agent.last_origin().unwrap().pid, Some(client.pid()));
    }
    assert_eq!(agent.last_origin().unwrap().cgroup_id, Some(std::fs::metadata(&below).unwrap().ino()));
}

#[test]
fn a_bound_source_address_is_diverted_and_known() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V4} bind=10.9.8.1")), said(DIVERTED, V4));
    assert_eq!(agent.last_origin().unwrap().source, Some("10.9.8.1".parse().unwrap()));
    assert_eq!(client.ask(&format!("tcp {V6} bind=fd12::1")), said(DIVERTED, V6));
    assert_eq!(agent.last_origin().unwrap().source, Some("fd12::1".parse().unwrap()));
}

#[test]
fn what_is_not_wanted_goes_direct() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    let other_port = "10.9.8.7:8443";
    assert_eq!(client.ask(&format!("tcp {other_port}")), said(DIRECT, other_port), "port not wanted");
    let loopback = "127.0.0.1:443";
    assert_eq!(client.ask(&format!("tcp {loopback}")), said(DIRECT, loopback), "loopback");
    assert_eq!(client.ask("tcp 0.0.0.0:443"), said(DIRECT, loopback), "this host");
    assert_eq!(client.ask("tcp [::1]:443"), said(DIRECT, "[::1]:443"), "IPv6 loopback");
    assert_eq!(client.ask(&format!("tcp {V4} bind=127.0.0.1")), "error EINVAL", "as without Moxie");
    assert_eq!(client.ask(&format!("tcp {V4} mark={}", 0x4d58_0010)), said(DIRECT, V4), "the agent's own sockets");
    assert_eq!(agent.accepted(), 0);
    for counter in ["other_port", "excluded_destination", "exempt"] {
        assert!(agent.count(counter) > 0, "{counter}");
    }
    assert_eq!(agent.count("diverted"), 0);
}

/// The row "a socket bound to a device" in docs/ways.md: nftables cannot see that, and loopback is not reached from the device.
#[test]
fn a_socket_bound_to_a_device_is_not_diverted_well() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V4} device={}", lab.device())), "error EHOSTUNREACH");
}

#[test]
fn every_port_can_be_wanted() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions { ports: PortSet::All, ..NetfilterOptions::default() });
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask("tcp 10.9.8.7:8443"), said(DIVERTED, "10.9.8.7:8443"));
    assert_eq!(client.ask("tcp 127.0.0.1:443"), said(DIRECT, "127.0.0.1:443"));
    assert_eq!(agent.accepted(), 1);
    let many = (1..=5000).collect();
    drop(agent);
    let agent = Agent::start(&lab, NetfilterOptions { ports: PortSet::List(many), ..NetfilterOptions::default() });
    let held = agent.attach(cgroup.path(), Terms::default());
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert_eq!(client.ask("tcp 10.9.8.7:8443"), said(DIRECT, "10.9.8.7:8443"));
    drop(held);
}

#[test]
fn processes_outside_the_scope_go_direct() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (_cgroup, held) = agent.scope();
    let mut outside = lab.client(None);
    assert_eq!(outside.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    assert_eq!(outside.ask(&format!("tcp {V6}")), said(DIRECT, V6));
    assert_eq!(agent.accepted(), 0);
    drop(held);
}

#[test]
fn scopes_come_and_go_and_may_be_nested() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, outer) = agent.scope();
    let inside = below(&cgroup, "inside");
    let inner = agent.attach(&inside, Terms::default());
    let again = agent.attach(&inside, Terms::default());
    let mut client = lab.client(Some(&cgroup));
    client.move_to(&inside);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert_eq!(agent.count("diverted"), 1, "once, though two scopes have it");
    drop(outer);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4), "the inner scope");
    drop(inner);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4), "the inner scope, opted in twice");
    drop(again);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    let _held = agent.attach(cgroup.path(), Terms::default());
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
}

#[test]
fn a_cgroup_made_anew_is_attached_anew() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let cgroup = RunCgroup::create().unwrap();
    let unit = below(&cgroup, "unit");
    let mut client = lab.client(Some(&cgroup));
    let held = agent.attach(&unit, Terms::default());
    client.move_to(&unit);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    client.move_to(cgroup.path());
    std::fs::remove_dir(&unit).unwrap();
    std::fs::create_dir(&unit).unwrap();
    client.move_to(&unit);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4), "another cgroup, of the same name");
    let _again = agent.attach(&unit, Terms::default());
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    drop(held);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4), "the old one's end does not take the new one off");
}

#[test]
fn quic_is_refused_only_where_asked_to_and_counted_by_scope() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let cgroup = RunCgroup::create().unwrap();
    let [refusing, other] = ["refusing", "other"].map(|name| below(&cgroup, name));
    let held = agent.attach(&refusing, Terms { refuse_quic: true });
    let held_other = agent.attach(&other, Terms::default());
    let (mut client, mut unbothered) = (lab.client(Some(&cgroup)), lab.client(Some(&cgroup)));
    client.move_to(&refusing);
    unbothered.move_to(&other);
    for destination in [V4, V6, MAPPED] {
        assert_eq!(client.ask(&format!("udp-connect {destination}")), "error EPERM", "{destination}");
        assert_eq!(client.ask(&format!("udp-send {destination}")), "error EPERM", "{destination}");
        assert_eq!(unbothered.ask(&format!("udp-send {destination}")), "sent", "{destination}");
    }
    assert_eq!((held.quic_refused(), held_other.quic_refused()), (6, 0));
    assert_eq!(agent.count("quic_refused"), 6);
    for destination in ["10.9.8.7:53", "127.0.0.1:443"] {
        assert_eq!(client.ask(&format!("udp-send {destination}")), "sent", "{destination}");
    }
    agent.divert().set_enabled(false).unwrap();
    assert_eq!(client.ask(&format!("udp-send {V4}")), "sent", "switched off");
    agent.divert().set_enabled(true).unwrap();
    assert_eq!(client.ask(&format!("udp-send {V4}")), "error EPERM");
    drop(held);
    assert_eq!(client.ask(&format!("udp-send {V4}")), "sent", "out of scope");
    assert_eq!(agent.count("quic_refused"), 7, "what a scope that has gone had counted");
}

#[test]
fn the_kill_switch_sends_the_next_connection_direct_and_back() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert!(agent.divert().is_enabled());
    for _ in 0..20 {
        agent.divert().set_enabled(false).unwrap();
        assert!(!agent.divert().is_enabled());
        assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
        agent.divert().set_enabled(true).unwrap();
        assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    }
    assert_eq!(agent.count("not_beating"), 20);
}

#[test]
fn an_agent_that_stops_beating_costs_no_connection() {
    let Some(lab) = Lab::new() else { return };
    let options = NetfilterOptions { max_beat_age: Duration::from_millis(500), ..NetfilterOptions::default() };
    let agent = Agent::start(&lab, options);
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
    agent.beat_again();
    eventually("a new heartbeat", || client.ask(&format!("tcp {V4}")) == said(DIVERTED, V4));
}

#[test]
fn an_agent_that_is_stopped_costs_no_new_connection() {
    let Some(lab) = Lab::new() else { return };
    let cgroup = RunCgroup::create().unwrap();
    let agent = AgentProcess::start(&lab, cgroup.path());
    let mut client = lab.client(Some(&cgroup));
    nix::sys::signal::kill(agent.pid(), nix::sys::signal::Signal::SIGSTOP).unwrap();
    // A connection that is made before the kernel has forgotten the last beat waits in vain for an answer.
    eventually("the last beat forgotten", || client.ask(&format!("tcp {V4}")) == said(DIRECT, V4));
    for destination in [V4, V6, MAPPED] {
        assert_eq!(client.ask(&format!("tcp {destination}")), said(DIRECT, destination));
    }
}

#[test]
fn an_agent_that_is_killed_costs_only_what_was_under_way_and_that_is_ended() {
    let Some(lab) = Lab::new() else { return };
    let cgroup = RunCgroup::create().unwrap();
    for _ in 0..5 {
        let agent = AgentProcess::start(&lab, cgroup.path());
        let (mut under_way, mut client) = (lab.client(Some(&cgroup)), lab.client(Some(&cgroup)));
        under_way.send(&format!("tcp {V4}"));
        let mut under_way_v6 = lab.client(Some(&cgroup));
        under_way_v6.send(&format!("tcp {V6}"));
        eventually("both are under way", || {
            let open =
                lab.inside(|| SockDiag::open(&Namespace::current().unwrap()).unwrap().all(Transport::Tcp).unwrap());
            [V4, V6]
                .iter()
                .all(|peer| open.iter().any(|socket| socket.is_established() && socket.peer == peer.parse().unwrap()))
        });
        agent.kill();
        assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
        assert_eq!(client.ask(&format!("tcp {V6}")), said(DIRECT, V6));
        for answer in [under_way.answer(), under_way_v6.answer()] {
            assert!(is_end(&answer), "{answer}");
        }
    }
}

#[test]
fn no_connect_fails_while_agents_are_killed() {
    let Some(lab) = Lab::new() else { return };
    let cgroup = RunCgroup::create().unwrap();
    let mut client = lab.client(Some(&cgroup));
    for _ in 0..10 {
        let agent = AgentProcess::start(&lab, cgroup.path());
        client.send(&format!("flood {V4} 3000 rst"));
        // A moment in the middle: which one, differs from run to run.
        std::thread::yield_now();
        agent.kill();
        assert_eq!(client.answer(), "connected 3000");
    }
}

#[test]
fn no_origin_is_ever_missing_however_short_the_connection() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut clients = [lab.client(Some(&cgroup)), lab.client(Some(&cgroup))];
    const EACH: usize = 2_000;
    for end in ["fin", "rst"] {
        for client in &mut clients {
            client.send(&format!("flood {V4} {EACH} {end}"));
        }
        for client in &mut clients {
            assert_eq!(client.answer(), format!("connected {EACH}"), "{end}");
        }
    }
    eventually("every connection accepted", || agent.accepted() == 4 * EACH);
    assert_eq!(agent.missing(), 0, "{:?}", agent.divert().counters());
    assert_eq!(agent.wrong(V4.parse().unwrap()), 0);
    assert_eq!(agent.count("diverted"), 4 * EACH as u64);
}

#[test]
fn a_connection_that_was_not_redirected_has_no_origin() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let mut outside = lab.client(None);
    outside.ask(&format!("tcp 127.0.0.1:{}", agent.first_port()));
    eventually("the connection accepted", || agent.accepted() == 1);
    assert_eq!(agent.last_origin(), None);
}

#[test]
fn taken_ports_are_stepped_over() {
    let Some(lab) = Lab::new() else { return };
    let first = NetfilterOptions::default().first_port;
    let _strangers = lab.squat(first + 2..first + 3);
    let agent = Agent::start(&lab, NetfilterOptions::default());
    assert_eq!(agent.first_port(), first + 16);
    let (cgroup, _held) = agent.scope();
    assert_eq!(lab.client(Some(&cgroup)).ask(&format!("tcp {V4}")), said(DIVERTED, V4));
}

#[test]
fn a_cgroup_that_contains_the_agent_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let hierarchy = Hierarchy::find().unwrap();
    let refused = agent.divert().attach(hierarchy.root(), Terms::default());
    assert!(matches!(refused, Err(DivertError::Cgroup(_))), "{refused:?}");
    let cgroup = RunCgroup::create().unwrap();
    let own = hierarchy.of_process(std::process::id()).unwrap();
    moxie_agent::scope::cgroup::move_process(std::process::id(), cgroup.path()).unwrap();
    let refused = agent.divert().attach(cgroup.path(), Terms::default());
    moxie_agent::scope::cgroup::move_process(std::process::id(), &own).unwrap();
    assert!(matches!(refused, Err(DivertError::ContainsAgent { .. })), "{refused:?}");
}

#[test]
fn two_agents_do_not_take_each_others_connections() {
    let Some(lab) = Lab::new() else { return };
    let outer = Agent::start(&lab, NetfilterOptions::default());
    let inner = Agent::start(&lab, NetfilterOptions::default());
    assert_eq!(inner.first_port(), outer.first_port() + 16);
    let cgroup = RunCgroup::create().unwrap();
    let [first, second] = ["first", "second"].map(|name| below(&cgroup, name));
    let _held_by_outer = outer.attach(&first, Terms::default());
    let _held_by_inner = inner.attach(&second, Terms::default());
    let mut client = lab.client(Some(&cgroup));
    client.move_to(&first);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert_eq!((outer.accepted(), inner.accepted()), (1, 0));
    client.move_to(&second);
    assert_eq!(client.ask(&format!("tcp {V6}")), said(DIVERTED, V6));
    assert_eq!((outer.accepted(), inner.accepted()), (1, 1));
}
