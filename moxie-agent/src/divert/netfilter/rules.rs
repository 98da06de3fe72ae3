//! What the table has in it: which connections are diverted, in which order that is asked, and what is counted.

use moxie_common::{Mark, Tag};

use super::batch::{Batch, Hook};
use super::expressions::{Expression, Header, Meta, Sense};
use crate::divert::PortSet;

/// The base chain that sees the first packet of every connection.
pub(super) const CONNECT: &str = "connect";
/// The chain for connections of scopes.
const SCOPED: &str = "scoped";
/// The base chain for datagrams; only where a scope has them refused.
const DATAGRAMS: &str = "datagrams";
/// The set that is empty unless the agent lives.
const BEAT: &str = "beat";
/// The set of wanted ports; only where not all are.
const PORTS: &str = "ports";

/// Before other destination NAT (-100), such as that of container and service networks: the address that the application named is
/// looked at, as it is by the eBPF way.
const BEFORE_OTHERS: Hook = Hook { kind: "nat", priority: -101 };
const FILTER: Hook = Hook { kind: "filter", priority: 0 };

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const V4: u8 = 2;
const V6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
const QUIC_PORT: u16 = 443;
/// Where TCP and UDP have their destination port.
const PORT_AT: (u32, u32) = (2, 2);
/// Where IPv4 and IPv6 have their destination address.
const V4_AT: (u32, u32) = (16, 4);
const V6_AT: (u32, u32) = (24, 16);
/// The bits of a mark that make it one of Moxie's.
const MARK_BITS: u32 = 0xffff_0000;
/// And what they are then.
const MOXIES: u32 = match Tag::new(1) {
    Some(tag) => Mark::of(tag).0 & MARK_BITS,
    None => 0,
};
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const NEW: u32 = 8;

/// Names of the counters.
const EXEMPT: &str = "exempt";
const OTHER_PORT: &str = "other_port";
const EXCLUDED: &str = "excluded_destination";
const NOT_BEATING: &str = "not_beating";
const DIVERTED: &str = "diverted";
/// Every counter that has a name.
pub(super) const COUNTERS: [&str; 5] = [DIVERTED, OTHER_PORT, EXCLUDED, NOT_BEATING, EXEMPT];

/// Addresses that connections are never diverted from: what [`moxie_common::Address::exclusion`] says, as prefixes.
const EXCLUDED_V4: [([u8; 4], u8); 5] =
    [([127, 0, 0, 0], 8), ([0, 0, 0, 0], 8), ([169, 254, 0, 0], 16), ([224, 0, 0, 0], 4), ([255; 4], 32)];
const EXCLUDED_V6: [(u128, u8); 4] = [(1, 128), (0, 128), (0xfe80 << 112, 10), (0xff << 120, 8)];

/// What the rules of one network namespace depend on.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    /// Destination ports.
    pub(super) ports: &'a PortSet,
    /// First and last port that the agent listens on.
    pub(super) listeners: (u16, u16),
    /// Whether it listens on `::1` too.
    pub(super) has_v6: bool,
}

/// What is there whoever is in scope.
pub(super) fn foundation<'a>(table: &'a str, wanted: &Wanted<'_>) -> Batch<'a> {
    let mut batch = Batch::new(table).table();
    for counter in COUNTERS {
        batch = batch.counter(counter);
    }
    batch = batch.passing_set(BEAT, 1);
    if let PortSet::List(ports) = wanted.ports {
        let keys: Vec<Vec<u8>> = ports.iter().map(|port| port.to_be_bytes().to_vec()).collect();
        batch = batch.set(PORTS, 2).add_elements(PORTS, &keys, None);
    }
    batch = batch.base_chain(CONNECT, BEFORE_OTHERS).chain(SCOPED);
    batch.rules(CONNECT, &before_scopes()).rules(SCOPED, &within_scope(wanted))
}

/// A table that does nothing but keep the kernel translating the connections that there are: a chain for address translation is
/// there, and an expression that needs connection tracking.
pub(super) fn translation(table: &str) -> Batch<'_> {
    let rule = [Expression::ConnectionState, Expression::Return];
    Batch::new(table).table().base_chain(CONNECT, BEFORE_OTHERS).rule(CONNECT, &rule)
}

/// The agent lives: for so many milliseconds from now, connections are diverted.
pub(super) fn beat(table: &str, milliseconds: u64) -> Batch<'_> {
    Batch::new(table).empty_set(BEAT).add_elements(BEAT, &[vec![TCP], vec![UDP]], Some(milliseconds))
}

/// From now on every new connection is direct.
pub(super) fn silence(table: &str) -> Batch<'_> {
    Batch::new(table).empty_set(BEAT)
}

/// Lets cgroups at a depth of the hierarchy be in scope.
pub(super) fn level(batch: Batch<'_>, level: u32) -> Batch<'_> {
    let set = scopes_at(level);
    let rule = [Expression::Cgroup(level), Expression::Lookup(Sense::Is, set.clone()), Expression::Goto(SCOPED)];
    batch.set(&set, 8).rule(CONNECT, &rule)
}

/// Lets the datagrams of cgroups be refused.
pub(super) fn refusal<'a>(batch: Batch<'a>) -> Batch<'a> {
    batch.base_chain(DATAGRAMS, FILTER).rules(DATAGRAMS, &before_refusal())
}

/// Lets the datagrams of cgroups at a depth be refused.
pub(super) fn refusal_level(batch: Batch<'_>, level: u32) -> Batch<'_> {
    let set = refused_at(level);
    let rule = [Expression::Cgroup(level), Expression::Lookup(Sense::Is, set.clone()), Expression::Drop];
    batch.counting_set(&set, 8).rule(DATAGRAMS, &rule)
}

/// The set of cgroups in scope at a depth.
pub(super) fn scopes_at(level: u32) -> String {
    format!("scopes-{level}")
}

/// The set of cgroups at a depth whose QUIC is refused.
pub(super) fn refused_at(level: u32) -> String {
    format!("refused-{level}")
}

fn before_scopes() -> Vec<Vec<Expression>> {
    let mut exempt = has_moxies_mark();
    exempt.extend([Expression::Count(EXEMPT), Expression::Return]);
    vec![unless_protocol(TCP), exempt]
}

fn within_scope(wanted: &Wanted<'_>) -> Vec<Vec<Expression>> {
    let mut rules = vec![[port_is(0), vec![Expression::Return]].concat()];
    if matches!(wanted.ports, PortSet::List(_)) {
        let unwanted =
            [Expression::Lookup(Sense::IsNot, PORTS.into()), Expression::Count(OTHER_PORT), Expression::Return];
        rules.push([vec![destination_port()], unwanted.to_vec()].concat());
    }
    for excluded in exclusions() {
        rules.push([excluded, vec![Expression::Count(EXCLUDED), Expression::Return]].concat());
    }
    if !wanted.has_v6 {
        rules.push([family_is(V6), vec![Expression::Return]].concat());
    }
    rules.push([no_beat(), vec![Expression::Count(NOT_BEATING), Expression::Return]].concat());
    let (first, last) = wanted.listeners;
    rules.push(vec![Expression::Count(DIVERTED), Expression::Redirect(first, last)]);
    rules
}

/// The cheapest first: every packet that leaves comes through here. A flow that was there before goes on.
fn before_refusal() -> Vec<Vec<Expression>> {
    let is_new = Expression::Mask(NEW.to_ne_bytes().to_vec());
    let not_new = Expression::Compare(Sense::IsNot, NEW.to_ne_bytes().to_vec());
    let mut rules = vec![
        unless_protocol(UDP),
        vec![
            destination_port(),
            Expression::Compare(Sense::IsNot, QUIC_PORT.to_be_bytes().to_vec()),
            Expression::Return,
        ],
        vec![Expression::ConnectionState, is_new, not_new, Expression::Return],
        [has_moxies_mark(), vec![Expression::Return]].concat(),
        [no_beat(), vec![Expression::Return]].concat(),
    ];
    rules.extend(exclusions().map(|excluded| [excluded, vec![Expression::Return]].concat()));
    rules
}

fn unless_protocol(protocol: u8) -> Vec<Expression> {
    vec![Expression::Meta(Meta::Protocol), Expression::Compare(Sense::IsNot, vec![protocol]), Expression::Return]
}

fn has_moxies_mark() -> Vec<Expression> {
    vec![
        Expression::Meta(Meta::Mark),
        Expression::Mask(MARK_BITS.to_ne_bytes().to_vec()),
        Expression::Compare(Sense::Is, MOXIES.to_ne_bytes().to_vec()),
    ]
}

fn no_beat() -> Vec<Expression> {
    vec![Expression::Meta(Meta::Protocol), Expression::Lookup(Sense::IsNot, BEAT.into())]
}

fn family_is(family: u8) -> Vec<Expression> {
    vec![Expression::Meta(Meta::Family), Expression::Compare(Sense::Is, vec![family])]
}

fn destination_port() -> Expression {
    let (offset, length) = PORT_AT;
    Expression::Payload(Header::Transport, offset, length)
}

fn port_is(port: u16) -> Vec<Expression> {
    vec![destination_port(), Expression::Compare(Sense::Is, port.to_be_bytes().to_vec())]
}

/// One beginning of a rule for each prefix; the rule goes on where the destination is in it.
fn exclusions() -> impl Iterator<Item = Vec<Expression>> {
    let v4 = EXCLUDED_V4.iter().map(|(network, length)| (V4, V4_AT, network.to_vec(), *length));
    let v6 = EXCLUDED_V6.iter().map(|(network, length)| (V6, V6_AT, network.to_be_bytes().to_vec(), *length));
    v4.chain(v6).map(|(family, (offset, size), network, length)| {
        let mask = mask(length, network.len());
        let mut rule = family_is(family);
        rule.push(Expression::Payload(Header::Network, offset, size));
        rule.extend([Expression::Mask(mask), Expression::Compare(Sense::Is, network)]);
        rule
    })
}

/// `length` bits set, then none, in so many bytes.
fn mask(length: u8, bytes: usize) -> Vec<u8> {
    let bits = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or_default();
    bits.to_be_bytes().into_iter().take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use moxie_common::Address;
    use proptest::prelude::*;

    use super::*;

    fn is_excluded(address: IpAddr) -> bool {
        let within = |octets: &[u8], network: &[u8], length: u8| {
            let mask = mask(length, octets.len());
            octets.iter().zip(&mask).map(|(octet, mask)| octet & mask).eq(network.iter().copied())
        };
        match address {
            IpAddr::V4(v4) => EXCLUDED_V4.iter().any(|(network, length)| within(&v4.octets(), network, *length)),
            IpAddr::V6(v6) => {
                EXCLUDED_V6.iter().any(|(network, length)| within(&v6.octets(), &network.to_be_bytes(), *length))
            }
        }
    }

    fn check(address: IpAddr) {
        assert_eq!(is_excluded(address), Address::from(address).exclusion(443).is_some(), "{address}");
    }

    #[test]
    fn masks_have_their_bits() {
        assert_eq!(mask(8, 4), [255, 0, 0, 0]);
        assert_eq!(mask(4, 4), [240, 0, 0, 0]);
        assert_eq!(mask(32, 4), [255; 4]);
        assert_eq!(mask(10, 16), [[255, 192].as_slice(), &[0; 14]].concat());
        assert_eq!(mask(0, 4), [0; 4]);
    }

    #[test]
    fn every_edge_of_the_prefixes_is_as_the_kernel_half_has_it() {
        for first in 0..=255 {
            for second in [0, 1, 168, 169, 170, 253, 254, 255] {
                check(IpAddr::from([first, second, 0, 0]));
                check(IpAddr::from([first, second, 255, 255]));
            }
        }
        for low in 0..4_u16 {
            check(IpAddr::from([0, 0, 0, 0, 0, 0, 0, low]));
            check(IpAddr::from([0, 0, 0, 1, 0, 0, 0, low]));
        }
        for first in 0xfe00..=0xffff_u16 {
            check(IpAddr::from([first, 0, 0, 0, 0, 0, 0, 0]));
        }
    }

    proptest! {
        #[test]
        fn the_prefixes_say_what_the_kernel_half_says(v4: [u8; 4], v6: [u16; 8]) {
            check(IpAddr::from(v4));
            let v6 = std::net::Ipv6Addr::from(v6);
            prop_assume!(v6.to_ipv4_mapped().is_none());
            check(IpAddr::from(v6));
        }
    }
}
