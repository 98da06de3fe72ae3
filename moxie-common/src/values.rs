//! Keys and values of the maps.

use crate::Address;

/// Words in the port bitmap: one bit for each of the 65,536 ports.
pub const PORT_WORDS: usize = 65_536 / 64;

/// Listeners for one address family. One `(address, port)` holds about 28,000 connections of one namespace before the ephemeral
/// ports run out; a power of two lets the kernel half choose with a mask.
pub const PORTS_PER_LISTENER_SET: u16 = 4;
const _: () = assert!(PORTS_PER_LISTENER_SET.is_power_of_two());

/// Where `port` is in the bitmap: the word's index, and the bit in that word.
#[must_use]
#[inline(always)]
pub const fn port_bit(port: u16) -> (u32, u64) {
    ((port >> 6) as u32, 1 << (port & 63))
}

/// Heartbeat and switches, written by the agent and read at every connect.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// `CLOCK_MONOTONIC` of the last heartbeat, in nanoseconds; 0 before the first.
    pub last_beat_ns: u64,
    /// A heartbeat older than this diverts nothing.
    pub max_age_ns: u64,
    /// Cgroup v2 id of the agent's own cgroup: what its processes dial is never diverted. 0: not looked at.
    pub agent_cgroup: u64,
    /// The kill switch: 0 diverts nothing.
    pub enabled: u32,
    /// First of the [`PORTS_PER_LISTENER_SET`] listener ports, the same in every network namespace.
    pub first_port: u32,
    /// What becomes of addresses that are on neither list; one of [`listed`].
    pub unlisted: u32,
    /// Which generation of the address lists counts.
    pub generation: u32,
    /// Which generation of hints counts; another one with each change of the rules. 0: none.
    pub hints: u64,
    /// How many handshakes may be under way; more connections go direct.
    pub handshakes: u64,
    /// How many handshakes came to nothing and were taken out of their map by the agent.
    pub forgotten: u64,
}
const _: () = assert!(size_of::<Control>() == 64);

/// How many handshakes have been put into their map and taken out again by the kernel half, which alone writes this.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Put in.
    pub begun: u64,
    /// Taken out at their end.
    pub ended: u64,
}
const _: () = assert!(size_of::<UnderWay>() == 16);

impl UnderWay {
    /// How many are in the map, of which the agent has taken out `forgotten`. The three are not read at one moment: never below 0.
    #[must_use]
    #[inline(always)]
    pub const fn left(self, forgotten: u64) -> u64 {
        self.begun.saturating_sub(self.ended.wrapping_add(forgotten))
    }
}

/// What an address list says of an address, or of those on none.
pub mod listed {
    /// There are no lists.
    pub const NO_LISTS: u32 = 0;
    /// Its connections are diverted.
    pub const ALLOWED: u32 = 1;
    /// Its connections are direct.
    pub const DENIED: u32 = 2;
}

/// Entries of the address lists: two generations of them while they change.
pub const ADDRESS_ENTRIES: usize = 2 * 4096;

/// Where the trie of the address lists is asked: the list's own bits first, so that a prefix never reaches into another generation or
/// family.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressKey {
    /// Generation and family; matched whole.
    list: u32,
    /// The address.
    address: Address,
}
const _: () = assert!(size_of::<AddressKey>() == 20);

impl AddressKey {
    /// How many bits of it come before the address.
    pub const LIST_BITS: u32 = u32::BITS;
    /// All of its bits.
    pub const BITS: u32 = Self::LIST_BITS + 128;
    /// The highest generation.
    pub const GENERATIONS: u32 = u32::MAX >> 1;

    /// The key of `address` in the lists of `generation`.
    #[must_use]
    #[inline(always)]
    pub const fn new(generation: u32, address: Address, v4: bool) -> Self {
        Self { list: generation << 1 | v4 as u32, address }
    }
}

/// What of a cgroup's connections is diverted. All bits are 0 until the agent has said.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// One of [`share`].
    pub of: u32,
    /// The agent's number of the cgroup.
    pub place: u32,
}
const _: () = assert!(size_of::<Share>() == 8);

/// What [`Share::of`] may be.
pub mod share {
    /// Every connection that may be diverted is.
    pub const ALL: u32 = 0;
    /// None is.
    pub const NOTHING: u32 = 1;
    /// Every one is, but to addresses that [hints](crate::hints) tell of.
    pub const NAMED: u32 = 2;
}

/// What connections may be diverted to a listener set; bits of a word. 0: there is no such set.
pub mod reach {
    /// Connections to IPv4 destinations: the namespace has `127.0.0.1`.
    pub const V4: u32 = 1;
    /// Connections to IPv6 destinations: the namespace has `::1`, and a route to the world.
    pub const V6: u32 = 2;
    /// The set is there, and of this agent.
    pub const LIVE: u32 = 4;
}

impl Control {
    /// Whether `port` (host order) is one of the listeners'.
    #[must_use]
    #[inline(always)]
    pub const fn is_listener_port(&self, port: u16) -> bool {
        (port as u32).wrapping_sub(self.first_port) < PORTS_PER_LISTENER_SET as u32
    }
}

/// What the kernel half remembers of a diverted connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where the application wanted to go.
    pub address: Address,
    /// The port there, in network order, as the kernel's contexts have it.
    pub port: u32,
    /// The socket's own mark.
    pub mark: u32,
    /// Cgroup v2 id of the process that called connect().
    pub cgroup_id: u64,
    /// That process (thread group), in the initial pid namespace.
    pub pid: u32,
    /// [`Mark::identity`](crate::Mark::identity) of the listener that the connection was pointed at.
    pub listener: u32,
    /// The address that the application had bound the socket to; unspecified if it had not.
    pub source: Address,
    /// The socket's type of service (IPv4) or traffic class (IPv6).
    pub tos: u32,
    /// When the application called connect(), or its SYN was answered: the lower half of `CLOCK_MONOTONIC` in milliseconds.
    pub began_ms: u32,
}
const _: () = assert!(size_of::<Origin>() == 64);

impl Origin {
    /// The destination port in host order.
    #[must_use]
    pub const fn port(&self) -> u16 {
        u16::from_be(self.port as u16)
    }
}

/// Names a handshake between the moment before its SYN and the moment before it can be accepted; both ends can tell all of it.
/// The listener port is a part of it: connections to different listener ports may share a source port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeKey {
    /// Source address.
    pub source: Address,
    /// [`Mark::identity`](crate::Mark::identity) of the listener: tells agents and their namespaces apart.
    pub listener: u32,
    /// Source port in the lower half, listener port in the upper, both in host order.
    pub ports: u32,
}
const _: () = assert!(size_of::<HandshakeKey>() == 24);

impl HandshakeKey {
    /// The key of the handshake from `source`:`source_port` to `listener_port` (host order).
    #[must_use]
    #[inline(always)]
    pub const fn new(listener: u32, source: Address, source_port: u16, listener_port: u16) -> Self {
        Self { source, listener, ports: source_port as u32 | (listener_port as u32) << 16 }
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{AddressKey, Control, HandshakeKey, Origin, Share, UnderWay};
    use crate::hints::{Hint, HintKey, QuestionKey};

    // SAFETY: repr(C), Copy, without padding (the sizes asserted above are the sums of the fields) and valid for any bytes.
    unsafe impl aya::Pod for Control {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Origin {}
    // SAFETY: as above.
    unsafe impl aya::Pod for HandshakeKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for AddressKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for UnderWay {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Share {}
    // SAFETY: as above.
    unsafe impl aya::Pod for HintKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Hint {}
    // SAFETY: as above.
    unsafe impl aya::Pod for QuestionKey {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_own_bit() {
        let mut words = [0_u64; PORT_WORDS];
        for port in 0..=u16::MAX {
            let (word, bit) = port_bit(port);
            assert_eq!(words[word as usize] & bit, 0, "port {port}");
            words[word as usize] |= bit;
        }
        assert!(words.iter().all(|word| *word == u64::MAX));
    }

    #[test]
    fn only_the_listeners_ports_are_theirs() {
        let control = Control { first_port: 61_001, ..Control::default() };
        assert!((61_001..61_005).all(|port| control.is_listener_port(port)));
        assert!(!control.is_listener_port(61_000) && !control.is_listener_port(61_005) && !control.is_listener_port(0));
    }

    #[test]
    fn what_is_under_way_is_never_less_than_nothing() {
        assert_eq!(UnderWay { begun: 7, ended: 3 }.left(1), 3);
        assert_eq!(UnderWay { begun: 7, ended: 7 }.left(1), 0);
    }

    #[test]
    fn the_listener_port_is_part_of_a_handshakes_name() {
        let key = |listener_port| HandshakeKey::new(1, Address::LOCALHOST_V4, 40_000, listener_port);
        assert_ne!(key(61_001), key(61_002));
    }
}
