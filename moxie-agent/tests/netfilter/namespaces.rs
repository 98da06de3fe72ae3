//! Callers in network namespaces of their own, as containers have them.

use moxie_agent::divert::netfilter::NetfilterOptions;
use moxie_agent::divert::{Divert as _, Terms};
use moxie_agent::namespace::Namespace;
use moxie_agent::scope::cgroup::RunCgroup;

use super::{V4, below, said};
use crate::agent::Agent;
use crate::lab::{DIRECT, DIVERTED, Lab, eventually};

#[test]
fn a_caller_is_diverted_inside_its_own_namespace() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    room.loopback_up();
    let mut client = room.client(&cgroup);
    held.refresh();
    assert_eq!(client.ask(&format!("tcp {V4} mark=77")), said(DIVERTED, V4));
    let origin = agent.last_origin().unwrap();
    assert_eq!(origin.namespace, Namespace::of_process(client.pid()).unwrap());
    assert_eq!((origin.pid, origin.mark), (Some(client.pid()), 77));
    assert_eq!(held.obstacles(), Vec::<String>::new());
    // The agent's own namespace goes on as before.
    assert_eq!(lab.client(Some(&cgroup)).ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert_ne!(agent.last_origin().unwrap().namespace, origin.namespace);
}

#[test]
fn others_in_the_same_namespace_go_direct() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let cgroup = RunCgroup::create().unwrap();
    let [opted_in, other] = ["opted-in", "other"].map(|name| below(&cgroup, name));
    let held = agent.attach(&opted_in, Terms::default());
    let room = lab.room();
    room.loopback_up();
    let (mut client, mut neighbour) = (room.client(&cgroup), room.client(&cgroup));
    client.move_to(&opted_in);
    neighbour.move_to(&other);
    held.refresh();
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert_eq!(neighbour.ask(&format!("tcp {V4}")), said(DIRECT, V4));
}

#[test]
fn a_new_cgroup_is_followed_without_being_asked_to_and_not_before_loopback_is_up() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    let mut client = room.client(&cgroup);
    eventually("word of loopback", || held.obstacles().iter().any(|it| it.contains("`ip link set lo up`")));
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4), "a diverted connect would fail");
    room.loopback_up();
    eventually("loopback", || client.ask(&format!("tcp {V4}")) == said(DIVERTED, V4));
    assert_eq!(held.obstacles(), Vec::<String>::new());
}

#[test]
fn a_namespace_goes_with_its_last_process_and_its_last_connection() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    room.loopback_up();
    let mut client = room.client(&cgroup);
    held.refresh();
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    let before = agent.count("diverted");
    drop(client);
    room.forget();
    held.refresh();
    held.refresh();
    assert!(!room.is_gone(), "a connection is still known");
    agent.forget();
    eventually("the namespace gone", || room.is_gone());
    assert_eq!(agent.count("diverted"), before, "what was counted there");
}

#[test]
fn a_stranger_on_the_ports_of_a_namespace_is_stepped_over() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, NetfilterOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    room.loopback_up();
    let first = agent.first_port();
    let _stranger = room.inside(|| std::net::TcpListener::bind(("127.0.0.1", first)).unwrap());
    let mut client = room.client(&cgroup);
    held.refresh();
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert!(agent.divert().listener_addresses().iter().any(|address| address.port() == first + 16));
}

#[test]
fn a_scope_that_goes_leaves_its_connections_in_peace() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start_silent(&lab, NetfilterOptions::default());
    let (cgroup, held) = agent.scope();
    let room = lab.room();
    room.loopback_up();
    let mut client = room.client(&cgroup);
    held.refresh();
    client.send(&format!("tcp {V4}"));
    eventually("the connection accepted", || agent.accepted() == 1);
    drop(held);
    assert_eq!(room.client(&cgroup).ask(&format!("tcp {V4}")), said(DIRECT, V4));
    agent.speak();
    assert_eq!(client.answer(), said(DIVERTED, V4));
}
