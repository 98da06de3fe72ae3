//! The address lists: by destination, longest prefix first, changed while connections are made.

use moxie_agent::divert::ebpf::EbpfOptions;
use moxie_agent::divert::{AddressLists, Divert as _, MOST_NETWORKS, Network};

use super::{MAPPED, V4, V6, said};
use crate::lab::agent::Agent;
use crate::lab::{DIRECT, DIVERTED, Lab};

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn the_longest_prefix_decides_and_the_lists_change_at_once() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    let mut check = |allow: &[&str], deny: &[&str], v4: &str, v6: &str| {
        let lists = AddressLists { allow: networks(allow), deny: networks(deny) };
        agent.divert().set_addresses(&lists).unwrap();
        for (destination, word) in [(V4, v4), (MAPPED, v4), (V6, v6)] {
            assert_eq!(client.ask(&format!("tcp {destination}")), said(word, destination), "{lists:?}");
        }
    };
    check(&[], &[], DIVERTED, DIVERTED);
    check(&[], &["10.0.0.0/8"], DIRECT, DIVERTED);
    check(&[], &["0.0.0.0/0"], DIRECT, DIVERTED);
    check(&[], &["::/0"], DIVERTED, DIRECT);
    check(&[], &["10.9.8.6", "10.9.8.8/29", "fd12::8/125"], DIVERTED, DIVERTED);
    check(&["10.9.8.7"], &["10.0.0.0/8"], DIVERTED, DIRECT);
    check(&["10.0.0.0/8", "fd12::/16"], &["10.9.8.7/32", "fd12::4/126"], DIRECT, DIRECT);
    check(&["10.9.8.0/24", "0.0.0.0/0"], &["10.9.0.0/16"], DIVERTED, DIRECT);
    check(&["fd12::7"], &[], DIRECT, DIVERTED);
    check(&["::/0", "0.0.0.0/0"], &["fd12::/64"], DIVERTED, DIRECT);
    check(&[], &[], DIVERTED, DIVERTED);
    assert!(agent.count("excluded_address") > 0);
}

#[test]
fn lists_as_long_as_can_be_are_replaced_by_others_as_long() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let (cgroup, _held) = agent.scope();
    let mut client = lab.client(Some(&cgroup));
    for first in [172_u8, 100, 172] {
        let network = |n: usize| format!("{first}.{}.{}.0/24", 16 + n / 256, n % 256).parse().unwrap();
        let mut deny: Vec<Network> = (1..MOST_NETWORKS).map(network).collect();
        deny.push("10.9.8.7".parse().unwrap());
        agent.divert().set_addresses(&AddressLists { allow: Vec::new(), deny }).unwrap();
        assert_eq!(client.ask(&format!("tcp {V4}")), said(DIRECT, V4));
        assert_eq!(client.ask(&format!("tcp {V6}")), said(DIVERTED, V6));
    }
    agent.divert().set_addresses(&AddressLists::default()).unwrap();
    assert_eq!(client.ask(&format!("tcp {V4}")), said(DIVERTED, V4));
}
