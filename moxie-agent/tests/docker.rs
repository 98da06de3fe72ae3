//! Containers of a real dockerd on a bridge network: the first connect of each entrypoint is diverted.
//!
//! Needs root, a cgroup2 mount, `ip`, dockerd and a static busybox; says so where it cannot run, and fails then if `CI=true`.
#![cfg(feature = "ebpf")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "of the laboratory that is shared with the other test, not everything is used here")]

#[path = "kernel/client.rs"]
mod client;
#[path = "kernel/daemon.rs"]
mod daemon;
#[expect(unreachable_pub, reason = "for the library that it is a part of too")]
#[path = "../../tests/src/evidence.rs"]
mod evidence;
#[path = "kernel/lab.rs"]
mod lab;

use moxie_agent::divert::ebpf::EbpfOptions;

use daemon::Daemon;
use lab::agent::Agent;
use lab::{DIVERTED, Lab, eventually};

/// How many containers are started.
const STARTS: usize = 24;

/// The body of a client process (see `lab::Client`); a test only so that this binary can be started as one.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn client_process() {
    client::serve();
}

#[test]
fn the_first_connect_of_an_entrypoint_on_a_bridge_network_is_diverted() {
    let Some(lab) = Lab::new() else { return };
    let Some(daemon) = Daemon::start(&lab) else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let attaching = daemon.attach_what_appears(&agent);
    for (network, starts) in [("none", 4), (daemon.network(), STARTS)] {
        for start in 0..starts {
            let said = daemon.run(network, &["/bin/busybox", "nc", daemon.gateway(), "443"], &agent);
            assert_eq!(said, DIVERTED, "start {start}, network {network}\n{}", daemon.evidence(&agent));
        }
    }
    let seen = agent.origins();
    let missing = seen.iter().filter(|origin| origin.is_none()).count();
    assert_eq!(missing, 0);
    agent.forget_origins();
    attaching.finish();
    drop(seen);
    eventually("every container's namespace gone", || daemon.cables() == 0);
}
