//! Lists of networks whose connections are diverted, and of those whose are not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many networks both lists together may have; as many as the kernel half has room for, twice over.
pub const MOST_NETWORKS: usize = 4096;

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network, with what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworkError {
    /// No address.
    #[error("`{0}` is no network: write an address or a prefix, such as 10.0.0.0/8, 198.51.100.7 or 2001:db8::/32")]
    NotAddress(String),
    /// A length that its family does not have.
    #[error("`{text}` has no such prefix length: write a number from 0 to {longest} after the slash")]
    Prefix {
        /// What was written.
        text: String,
        /// 32 or 128.
        longest: u8,
    },
    /// Bits are set beyond the prefix.
    #[error("`{text}` has bits set beyond its prefix: write {network}, or {} for the one address", network.narrowest(*address))]
    HostBits {
        /// What was written.
        text: String,
        /// Its address.
        address: IpAddr,
        /// The network without those bits.
        network: Network,
    },
}

impl Network {
    /// Its first address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits of the address count.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }

    fn narrowest(self, address: IpAddr) -> IpAddr {
        address
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError::NotAddress(text.to_owned()))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|length| *length <= longest && prefix.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| ParseNetworkError::Prefix { text: text.to_owned(), longest })?,
        };
        let (address, prefix) = canonical(address, prefix);
        let network = Self { address: masked(address, prefix), prefix };
        if network.address != address {
            return Err(ParseNetworkError::HostBits { text: text.to_owned(), address, network });
        }
        Ok(network)
    }
}

/// An IPv4-mapped network (RFC 4291, section 2.5.5.2) is the IPv4 network; one shorter than /96 has other addresses too and stays.
fn canonical(address: IpAddr, prefix: u8) -> (IpAddr, u8) {
    match (address.to_canonical(), prefix.checked_sub(96)) {
        (IpAddr::V4(v4), Some(rest)) if address.is_ipv6() => (v4.into(), rest),
        _ => (address, prefix),
    }
}

/// The address with the bits beyond the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is diverted, by destination. The longest prefix that an address matches decides; one that matches none is diverted, unless
/// there is an `allow` list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressLists {
    /// Diverted. If this is not empty, everything else is direct.
    pub allow: Vec<Network>,
    /// Direct.
    pub deny: Vec<Network>,
}

impl AddressLists {
    /// Whether there is nothing in them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether connections to `address` are diverted.
    #[must_use]
    pub fn diverts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let longest = |list: &[Network]| list.iter().filter(|it| it.contains(address)).map(|it| it.prefix).max();
        match (longest(&self.allow), longest(&self.deny)) {
            (None, None) => self.allow.is_empty(),
            (allow, deny) => allow > deny,
        }
    }

    /// What cannot be meant, for people: a network on both lists, or more networks than there is room for.
    ///
    /// # Errors
    /// What to write instead.
    pub fn check(&self) -> Result<(), String> {
        if let Some(both) = self.allow.iter().find(|network| self.deny.contains(network)) {
            return Err(format!("{both} is on both lists: write it on one of them"));
        }
        if self.allow.len() + self.deny.len() > MOST_NETWORKS {
            return Err(format!(
                "has more than {MOST_NETWORKS} networks on both lists together: write shorter prefixes"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let parsed = text.parse::<Network>();
        assert_eq!(parsed.map_or_else(|error| error.to_string(), |network| network.to_string()), expected, "{text}");
    }

    #[test]
    fn networks_read_back() {
        check("10.0.0.0/8", "10.0.0.0/8");
        check("0.0.0.0/0", "0.0.0.0/0");
        check("198.51.100.7", "198.51.100.7/32");
        check("2001:db8::/32", "2001:db8::/32");
        check("::/0", "::/0");
        check("2001:DB8::7", "2001:db8::7/128");
    }

    #[test]
    fn a_mapped_network_is_the_ipv4_network() {
        check("::ffff:198.51.100.10", "198.51.100.10/32");
        check("::ffff:198.51.100.0/120", "198.51.100.0/24");
        check("::ffff:0:0/96", "0.0.0.0/0");
        check("::/96", "::/96");
        check(
            "::ffff:198.51.100.10/120",
            "`::ffff:198.51.100.10/120` has bits set beyond its prefix: write 198.51.100.0/24, or 198.51.100.10 for the one address",
        );
        check(
            "::ffff:0:0/95",
            "`::ffff:0:0/95` has bits set beyond its prefix: write ::fffe:0:0/95, or ::ffff:0.0.0.0 for the one address",
        );
        let lists = AddressLists { allow: vec!["::ffff:198.51.100.0/120".parse().unwrap()], deny: vec![] };
        for (address, is) in [("198.51.100.7", true), ("::ffff:198.51.100.7", true), ("198.51.101.7", false)] {
            assert_eq!(lists.diverts(address.parse().unwrap()), is, "{address}");
        }
    }

    #[test]
    fn what_is_no_network_is_told_what_to_write() {
        let no_network = |text: &str| {
            format!(
                "`{text}` is no network: write an address or a prefix, such as 10.0.0.0/8, 198.51.100.7 or 2001:db8::/32"
            )
        };
        for text in ["", "shop", "10.0.0/8", "10.0.0.0.0", "api.example.com", " 10.0.0.0/8"] {
            check(text, &no_network(text));
        }
        for prefix in ["33", "", "-1", "+8", "x", "8 "] {
            let text = format!("10.0.0.0/{prefix}");
            check(&text, &format!("`{text}` has no such prefix length: write a number from 0 to 32 after the slash"));
        }
        check("::/129", "`::/129` has no such prefix length: write a number from 0 to 128 after the slash");
        check(
            "10.1.2.3/8",
            "`10.1.2.3/8` has bits set beyond its prefix: write 10.0.0.0/8, or 10.1.2.3 for the one address",
        );
    }

    #[test]
    fn a_network_may_be_on_one_list_only() {
        let network = |text: &str| vec![text.parse().unwrap()];
        let lists = AddressLists { allow: network("10.0.0.0/8"), deny: network("10.0.0.0/8") };
        assert_eq!(lists.check(), Err("10.0.0.0/8 is on both lists: write it on one of them".into()));
        let lists = AddressLists { allow: network("10.0.0.0/8"), deny: network("10.1.0.0/16") };
        assert_eq!(lists.check(), Ok(()));
    }
}
