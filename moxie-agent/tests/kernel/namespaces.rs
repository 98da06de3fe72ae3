//! Callers in network namespaces of their own: listeners inside, upstream sockets inside, and nothing kept when they have gone.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use moxie_agent::divert::Divert as _;
use moxie_agent::divert::Terms;
use moxie_agent::divert::ebpf::EbpfOptions;
use moxie_agent::namespace::Namespace;
use moxie_agent::scope::cgroup::RunCgroup;
use moxie_agent::tls::originate::Originate;
use moxie_agent::upstream::Upstream;
use nix::sys::socket::{getsockopt, sockopt};

use super::{V4, V6, said};
use crate::lab::agent::Agent;
use crate::lab::{DIRECT, DIVERTED, Lab, eventually};

/// Two cgroups to attach to, and what holds them.
fn two_cgroups() -> (RunCgroup, [PathBuf; 2]) {
    let cgroup = RunCgroup::create().unwrap();
    let below = ["one", "two"].map(|name| cgroup.path().join(name));
    below.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    (cgroup, below)
}

#[test]
fn a_caller_is_diverted_inside_its_own_namespace() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    room.loopback_up();
    let mut client = room.client(&cgroup);
    held.refresh();
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    let origin = agent.last_origin().unwrap();
    assert_eq!(origin.namespace, Namespace::of_process(client.pid()).unwrap());
    assert_eq!(origin.pid, Some(client.pid()));
    assert_eq!(held.obstacles(), Vec::<String>::new());
    // The agent's own namespace goes on as before.
    assert_eq!(lab.client(Some(&cgroup)).ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert_ne!(agent.last_origin().unwrap().namespace, origin.namespace);
}

#[test]
fn a_new_cgroup_is_followed_into_namespaces_without_being_asked_to() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    let mut client = room.client(&cgroup);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4), "loopback is down: a diverted connect would fail");
    room.loopback_up();
    eventually("loopback", || client.ask(&format!("tcp {V4}")) == said(DIVERTED, V4));
    room.ip("link set lo down");
    eventually("no loopback", || !held.obstacles().is_empty());
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
}

#[test]
fn loopback_that_is_down_is_told_of() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    let _client = room.client(&cgroup);
    held.refresh();
    let obstacles = held.obstacles();
    assert!(obstacles.iter().any(|it| it.contains("`ip link set lo up`")), "{obstacles:?}");
    room.loopback_up();
    eventually("no obstacle", || held.obstacles().is_empty());
}

#[test]
fn ipv6_of_a_namespace_follows_its_own_routes_and_loopback() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    room.loopback_up();
    let mut client = room.client(&cgroup);
    held.refresh();
    assert_eq!(client.ask(&format!("tcp {V6}")), "error ENETUNREACH", "as without Moxie; the agent's own has a route");
    room.ip("-6 addr add fd13::1/64 dev mxr0 nodad");
    room.ip("-6 route add fd12::7 via fd13::7");
    eventually("the route", || client.ask(&format!("tcp {V6}")) == said(DIVERTED, V6));
    room.ip("-6 addr del ::1/128 dev lo");
    eventually("no ::1", || client.ask(&format!("tcp {V6}")) != said(DIVERTED, V6));
    room.ip("-6 addr add ::1/128 dev lo");
    eventually("::1 again", || client.ask(&format!("tcp {V6}")) == said(DIVERTED, V6));
    room.ip("-6 route del fd12::7");
    room.ip("-6 addr del fd13::1/64 dev mxr0");
    eventually("no route", || client.ask(&format!("tcp {V6}")) == "error ENETUNREACH");
}

#[test]
fn namespaces_that_share_every_number_do_not_take_each_others_connections() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, held) = agent.scope();
    let rooms = [lab.room(), lab.room()];
    let mut clients: Vec<_> = rooms
        .iter()
        .map(|room| {
            room.loopback_up();
            // So few that the same source ports are used in both.
            room.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40999").unwrap());
            room.client(&cgroup)
        })
        .collect();
    held.refresh();
    const EACH: usize = 2_000;
    for (client, destination) in clients.iter_mut().zip(["10.9.20.7:443", "10.9.21.7:443"]) {
        client.send(&format!("flood {destination} {EACH} rst"));
    }
    for client in &mut clients {
        assert_eq!(client.answer(), format!("connected {EACH}"));
    }
    eventually("every connection accepted", || agent.accepted() == 2 * EACH);
    assert_eq!(agent.missing(), 0, "{:?}", agent.divert().counters());
    let namespaces = clients.iter().map(|client| Namespace::of_process(client.pid()).unwrap());
    for (namespace, destination) in namespaces.zip(["10.9.20.7:443", "10.9.21.7:443"]) {
        let destination = destination.parse().unwrap();
        let there = agent.origins().into_iter().flatten().filter(|origin| origin.namespace == namespace);
        let (right, wrong): (Vec<_>, Vec<_>) = there.partition(|origin| origin.destination == destination);
        assert_eq!((right.len(), wrong.len()), (EACH, 0), "{destination}");
    }
}

#[test]
fn a_namespace_goes_when_its_last_process_has_gone() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    room.loopback_up();
    let mut client = room.client(&cgroup);
    held.refresh();
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    agent.forget_origins();
    drop(client);
    room.forget();
    eventually("the namespace gone, its scope still there", || {
        held.refresh();
        room.is_gone()
    });
}

#[test]
fn a_namespace_goes_with_the_last_attachment_that_has_processes_there() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, [one, two]) = two_cgroups();
    let held = agent.divert().attach(&one, Terms::default()).unwrap();
    let other_held = agent.divert().attach(&two, Terms::default()).unwrap();
    let room = lab.room();
    room.loopback_up();
    let (mut client, mut other_client) = (room.client(&cgroup), room.client(&cgroup));
    client.move_to(&one);
    other_client.move_to(&two);
    held.refresh();
    other_held.refresh();
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    drop(held);
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4), "its scope is gone");
    assert_eq!(other_client.ask(&format!("tcp {V4}")), said(DIVERTED, V4), "the other's listeners are the same");
    agent.forget_origins();
    drop((client, other_client, other_held));
    room.forget();
    eventually("the namespace gone", || room.is_gone());
}

#[test]
fn a_port_that_is_taken_in_a_namespace_sends_it_direct_and_is_told_of() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    room.loopback_up();
    let stranger = room.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, agent.first_port() + 1)).unwrap());
    let mut client = room.client(&cgroup);
    held.refresh();
    for _ in 0..16 {
        assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    }
    let address = format!("127.0.0.1:{}", agent.first_port() + 1);
    let obstacles = held.obstacles();
    assert!(obstacles.iter().any(|it| it.contains(&address) && it.contains("nsenter -t")), "{obstacles:?}");
    drop(stranger);
    eventually("diverted once the port is free", || {
        held.refresh();
        client.ask(&format!("tcp {V4}")) == said(DIVERTED, V4)
    });
    assert_eq!(held.obstacles(), Vec::<String>::new());
}

#[test]
fn another_agents_listeners_in_a_namespace_are_not_used() {
    let Some(lab) = Lab::new() else { return };
    // Both have the same ports at home, which is another's home each; so they meet in the room.
    let outside = lab.room();
    outside.loopback_up();
    let near = Agent::start(&lab, EbpfOptions::default());
    let other = Agent::start_in(|work| outside.inside(work), EbpfOptions::default());
    assert_eq!(near.first_port(), other.first_port());
    let (cgroup, [one, two]) = two_cgroups();
    let held = near.divert().attach(&one, Terms::default()).unwrap();
    let others_held = other.divert().attach(&two, Terms::default()).unwrap();
    let room = lab.room();
    room.loopback_up();
    let (mut client, mut others_client) = (room.client(&cgroup), room.client(&cgroup));
    client.move_to(&one);
    others_client.move_to(&two);
    held.refresh();
    others_held.refresh();
    let answers = [client.ask(&format!("tcp {V4}")), others_client.ask(&format!("tcp {V4}"))];
    assert!(answers.contains(&said(DIVERTED, V4)) && answers.contains(&said(DIRECT, V4)), "{answers:?}");
    assert_eq!(near.missing() + other.missing(), 0);
}

#[test]
fn upstream_sockets_are_the_callers_in_all_but_the_process() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    room.loopback_up();
    room.ip("-6 addr add fd13::1/64 dev mxr0 nodad");
    room.ip("-6 route add fd12::7 via fd13::7");
    room.ip("addr add 10.9.20.2/24 dev mxr0");
    let mut client = room.client(&cgroup);
    held.refresh();
    let destination = "10.9.20.7:443";
    assert_eq!(client.ask(&format!("tcp {destination} bind=10.9.20.2 mark=77 tos=40")), said(DIVERTED, destination));
    let origin = agent.last_origin().unwrap();
    assert_eq!((origin.mark, origin.tos), (77, 40));
    assert_eq!(origin.source, Some("10.9.20.2".parse().unwrap()));
    // Reachable from that namespace only.
    let upstream = Upstream::new(agent.divert().clone(), Vec::new(), Originate::load(&[]).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dialled = runtime.block_on(upstream.dial(&origin)).unwrap();
    assert_eq!(dialled.local_addr().unwrap().ip(), "10.9.20.2".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(getsockopt(&dialled, sockopt::Mark).unwrap(), 77);
    assert_eq!(getsockopt(&dialled, sockopt::Ipv4Tos).unwrap(), 40);

    eventually("the route", || client.ask(&format!("tcp {V6}")) == said(DIVERTED, V6));
    assert_eq!(client.ask(&format!("tcp {V6} tos=40")), said(DIVERTED, V6));
    let origin = agent.last_origin().unwrap();
    assert_eq!((origin.mark, origin.tos, origin.source), (0, 40, None));
}

#[test]
fn a_cgroup_made_below_a_scope_is_followed_too() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let cgroup = RunCgroup::create().unwrap();
    // Not an empty cgroup, so nothing of it is young but what is made below it.
    let _elder = lab.client(Some(&cgroup));
    let held = agent.divert().attach(cgroup.path(), Terms::default()).unwrap();
    let inner = cgroup.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    held.refresh();
    let room = lab.room();
    room.loopback_up();
    let mut client = room.client(&cgroup);
    client.move_to(&inner);
    eventually("diverted", || client.ask(&format!("tcp {V4}")) == said(DIVERTED, V4));
}
