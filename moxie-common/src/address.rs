//! Addresses as the kernel holds them, and which of them may be diverted.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The third word of a v4-mapped address, `::ffff:0:0`, in network order.
const MAPPED: u32 = 0xffff_u32.to_be();
/// An IP address as four words in network order, the way the kernel hands them to a program; IPv4 is in its v4-mapped form.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub [u32; 4]);

/// Why no connection to an address is ever diverted: it does not leave the host or the link, or is not one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// 0.0.0.0/8 and ::, which mean "this host" to connect().
    ThisHost,
    /// 169.254.0.0/16 and fe80::/10; cloud metadata services live there.
    LinkLocal,
    /// 224.0.0.0/4, ff00::/8 and 255.255.255.255.
    ManyHosts,
    /// Port 0 is no destination.
    NoPort,
}

impl Address {
    /// `127.0.0.1`, where listeners for IPv4 destinations are.
    pub const LOCALHOST_V4: Self = Self::v4(0x7f00_0001_u32.to_be());
    /// `::1`, where listeners for IPv6 destinations are.
    pub const LOCALHOST_V6: Self = Self([0, 0, 0, 1_u32.to_be()]);

    /// An IPv4 address given as a word in network order.
    #[must_use]
    #[inline(always)]
    pub const fn v4(network_order: u32) -> Self {
        Self([0, 0, MAPPED, network_order])
    }

    /// Whether this is an IPv4 address, in its v4-mapped form.
    #[must_use]
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    /// Whether the address is the host's own loopback.
    #[must_use]
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() { u32::from_be(self.0[3]) >> 24 == 127 } else { self.is_v6_low(1) }
    }

    /// Whether the address is `0.0.0.0` or `::`.
    #[must_use]
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        if self.is_v4() { self.0[3] == 0 } else { self.is_v6_low(0) }
    }

    /// The one scope predicate: why a connection to this address and port (host order) is never diverted; `None` if it may be.
    #[must_use]
    #[inline(always)]
    pub const fn exclusion(&self, port: u16) -> Option<Exclusion> {
        if port == 0 {
            return Some(Exclusion::NoPort);
        }
        if self.is_v4() { self.v4_exclusion() } else { self.v6_exclusion() }
    }

    #[inline(always)]
    const fn v4_exclusion(&self) -> Option<Exclusion> {
        let address = u32::from_be(self.0[3]);
        let first = address >> 24;
        if first == 127 {
            Some(Exclusion::Loopback)
        } else if first == 0 {
            Some(Exclusion::ThisHost)
        } else if address >> 16 == 0xa9fe {
            Some(Exclusion::LinkLocal)
        } else if first >> 4 == 0xe || address == u32::MAX {
            Some(Exclusion::ManyHosts)
        } else {
            None
        }
    }

    #[inline(always)]
    const fn v6_exclusion(&self) -> Option<Exclusion> {
        let first = u32::from_be(self.0[0]);
        if self.is_v6_low(1) {
            Some(Exclusion::Loopback)
        } else if self.is_v6_low(0) {
            Some(Exclusion::ThisHost)
        } else if first >> 22 == 0xfe80 >> 6 {
            Some(Exclusion::LinkLocal)
        } else if first >> 24 == 0xff {
            Some(Exclusion::ManyHosts)
        } else {
            None
        }
    }

    #[inline(always)]
    const fn is_v6_low(&self, low: u32) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && u32::from_be(self.0[3]) == low
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes))
    }
}

impl From<Address> for IpAddr {
    /// An IPv4 address comes out as one, not in its v4-mapped form.
    fn from(address: Address) -> Self {
        let [a, b, c, d] = address.0.map(u32::from_be);
        if address.is_v4() {
            return IpAddr::V4(Ipv4Addr::from_bits(d));
        }
        let high = u128::from(a) << 96 | u128::from(b) << 64;
        IpAddr::V6(Ipv6Addr::from_bits(high | u128::from(c) << 32 | u128::from(d)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: Option<Exclusion>) {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(Address::from(address).exclusion(443), expected, "{address}");
    }

    #[test]
    fn hosts_elsewhere_may_be_diverted() {
        for address in ["198.51.100.7", "10.9.8.7", "1.0.0.0", "169.253.1.1", "223.255.255.255", "240.0.0.1", "fd12::7"]
        {
            check(address, None);
        }
        for address in ["2001:db8::1", "fec0::1", "fe7f::1", "::2", "::1:0:0:1", "::ffff:198.51.100.7"] {
            check(address, None);
        }
    }

    #[test]
    fn what_stays_on_the_host_or_link_is_excluded() {
        check("127.0.0.1", Some(Exclusion::Loopback));
        check("127.255.255.254", Some(Exclusion::Loopback));
        check("::1", Some(Exclusion::Loopback));
        check("0.0.0.0", Some(Exclusion::ThisHost));
        check("0.1.2.3", Some(Exclusion::ThisHost));
        check("::", Some(Exclusion::ThisHost));
        check("169.254.169.254", Some(Exclusion::LinkLocal));
        check("fe80::1", Some(Exclusion::LinkLocal));
        check("febf::1", Some(Exclusion::LinkLocal));
    }

    #[test]
    fn groups_of_hosts_are_excluded() {
        check("224.0.0.1", Some(Exclusion::ManyHosts));
        check("239.255.255.250", Some(Exclusion::ManyHosts));
        check("255.255.255.255", Some(Exclusion::ManyHosts));
        check("ff02::1", Some(Exclusion::ManyHosts));
    }

    #[test]
    fn a_v4_mapped_address_is_judged_as_ipv4() {
        check("::ffff:127.0.0.1", Some(Exclusion::Loopback));
        check("::ffff:0.0.0.0", Some(Exclusion::ThisHost));
        check("::ffff:169.254.169.254", Some(Exclusion::LinkLocal));
        check("::ffff:224.0.0.1", Some(Exclusion::ManyHosts));
    }

    #[test]
    fn port_zero_is_no_destination() {
        let address = Address::from(IpAddr::from([198, 51, 100, 7]));
        assert_eq!(address.exclusion(0), Some(Exclusion::NoPort));
        assert_eq!(address.exclusion(1), None);
    }

    #[test]
    fn unspecified_addresses_are_known_in_every_form() {
        for (address, expected) in [("0.0.0.0", true), ("::", true), ("::ffff:0.0.0.0", true), ("0.0.0.1", false)] {
            assert_eq!(Address::from(address.parse::<IpAddr>().unwrap()).is_unspecified(), expected, "{address}");
        }
        assert!(!Address::LOCALHOST_V6.is_unspecified());
    }

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["198.51.100.7", "2001:db8::ff00:42:8329", "::1", "127.0.0.1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(address)), address);
        }
        assert_eq!(IpAddr::from(Address::LOCALHOST_V4), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(IpAddr::from(Address::LOCALHOST_V6), IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
}
