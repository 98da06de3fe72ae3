//! More handshakes under way than there is room for: further connections go direct, and are diverted again once there is room.

use std::thread;
use std::time::Duration;

use moxie_agent::divert::ebpf::EbpfOptions;

use crate::lab::agent::Agent;
use crate::lab::{Client, DIRECT, DIVERTED, Lab, eventually};
use crate::{V4, said};

/// Handshakes that may be under way.
const ROOM: u32 = 8;

/// Begins connections whose handshakes do not end, until there is no room for another.
fn fill(agent: &Agent, client: &mut Client) {
    let before = agent.count("handshakes_full");
    agent.be_deaf(true);
    eventually("a handshake for which there is no room", || {
        assert_eq!(client.ask(&format!("begin {V4}")), "begun");
        agent.count("handshakes_full") > before
    });
}

#[test]
fn what_finds_no_room_goes_direct_and_nobody_is_lost() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions { handshakes: ROOM, ..EbpfOptions::default() });
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    fill(&agent, &mut client);
    for _ in 0..2 * ROOM {
        assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
    }
    let diverted = agent.count("diverted");
    assert!(diverted >= u64::from(ROOM), "{diverted}");
    assert_eq!(agent.count("handshakes_full"), 1 + 2 * u64::from(ROOM));
    agent.be_deaf(false);
    let told = client.ask("end");
    let heard = |word| told.split(' ').filter(|said| *said == word).count() as u64;
    assert_eq!((heard(DIVERTED), heard(DIRECT)), (diverted - 1, 1), "{told}");
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    assert_eq!((agent.missing(), agent.count("no_handshake"), agent.count("not_announced")), (0, 0, 0));
}

#[test]
fn handshakes_that_came_to_nothing_give_their_room_back() {
    let Some(lab) = Lab::new() else { return };
    let handshake_patience = Duration::from_secs(1);
    let agent = Agent::start(&lab, EbpfOptions { handshakes: ROOM, handshake_patience, ..EbpfOptions::default() });
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    for _ in 0..2 {
        fill(&agent, &mut client);
        assert!(client.ask("abandon").starts_with("abandoned"));
        agent.be_deaf(false);
        eventually("diverting again", || client.ask(&format!("tcp {V4}")) == said(DIVERTED, V4));
    }
}

#[test]
fn handshakes_that_end_after_all_are_diverted_all_the_same() {
    let Some(lab) = Lab::new() else { return };
    let handshake_patience = Duration::from_secs(1);
    let agent = Agent::start(&lab, EbpfOptions { handshakes: 8 * ROOM, handshake_patience, ..EbpfOptions::default() });
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    fill(&agent, &mut client);
    let diverted = agent.count("diverted");
    eventually("room again, since the first were forgotten", || {
        // Each of them keeps a descriptor of the client, which has few.
        thread::sleep(handshake_patience / 10);
        assert_eq!(client.ask(&format!("begin {V4}")), "begun");
        agent.count("diverted") > diverted
    });
    agent.be_deaf(false);
    let told = client.ask("end");
    let heard = told.split(' ').filter(|said| *said == DIVERTED).count() as u64;
    assert_eq!(heard, agent.count("diverted"));
    assert!(agent.count("announced_again") > 0);
    assert_eq!((agent.missing(), agent.count("no_handshake"), agent.count("not_announced")), (0, 0, 0));
}

#[test]
fn many_connections_at_once_leave_no_handshake_behind() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions { handshakes: ROOM, ..EbpfOptions::default() });
    let (cgroup, _held) = agent.scope();
    let mut clients: Vec<Client> = (0..4).map(|_| lab.client(Some(&cgroup))).collect();
    // Many times more than there is room for: a count that is off by one now and then would have filled it.
    for client in &mut clients {
        client.send(&format!("flood {V4} 2000 rst"));
    }
    for client in &mut clients {
        assert_eq!(client.answer(), "connected 2000");
    }
    for _ in 0..2 * ROOM {
        assert_eq!(clients[0].ask(&format!("tcp {V4}")), said(DIVERTED, V4));
    }
    assert_eq!((agent.missing(), agent.count("no_handshake"), agent.count("not_announced")), (0, 0, 0));
}
