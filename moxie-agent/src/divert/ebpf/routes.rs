//! What a network namespace can reach: its own loopback, and IPv6 destinations beyond its own links.
//!
//! Without this, a diverted connect would succeed or fail where it used to do the opposite: an IPv6 connect where there is no IPv6
//! would succeed, and clients that try IPv6 first would no longer fall back to IPv4; and where loopback is down, a diverted connect
//! would fail.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};

use crate::namespace::Namespace;

const UP: u32 = 0x0001;
/// `RTF_REJECT`: unreachable, blackhole, prohibit.
const REJECT: u32 = 0x0200;
/// `RTF_ANYCAST` and `RTF_LOCAL`: the host's own addresses.
const OWN: u32 = 0x0010_0000 | 0x8000_0000;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE` (rtnetlink(7)): loopback comes up and goes, addresses
/// and routes too.
const GROUPS: u32 = 0x1 | 0x10 | 0x100 | 0x400;
/// Discard; a UDP connect to it sends nothing.
const PROBE_PORT: u16 = 9;

/// What connections of a namespace can be diverted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// There is `127.0.0.1`.
    pub(super) v4: bool,
    /// There is `::1`, and a route of global scope (unique local addresses count).
    pub(super) v6: bool,
}

impl Reach {
    /// Of `namespace`, now.
    pub(super) fn of(namespace: &Namespace) -> io::Result<Self> {
        namespace.run(|| {
            let is_up = loopback_is_up();
            let v6 = is_up && has_address(Ipv6Addr::LOCALHOST.into()) && leads_out_now();
            Self { v4: is_up && has_address(Ipv4Addr::LOCALHOST.into()), v6 }
        })
    }
}

/// Whether the calling thread's namespace has its loopback device up: one that is down keeps its IPv4 address and routes.
fn loopback_is_up() -> bool {
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return false };
    // SAFETY: all zeroes is a valid value of this structure of numbers and unions of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from.cast_signed();
    }
    // SAFETY: the call reads the name and writes the flags, both within the structure.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    // SAFETY: the call has written this member.
    answer == 0 && i32::from(unsafe { request.ifr_ifru.ifru_flags }) & libc::IFF_UP != 0
}

/// Whether the calling thread's namespace has a loopback address: whether it would be the source of what is sent to it.
fn has_address(loopback: IpAddr) -> bool {
    let unbound = match loopback {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let probe = || {
        let socket = UdpSocket::bind((unbound, 0))?;
        socket.connect((loopback, PROBE_PORT))?;
        socket.local_addr()
    };
    probe().is_ok_and(|source| source.ip() == loopback)
}

/// Whether the calling thread's namespace has a route of global scope; a table that cannot be read has none.
fn leads_out_now() -> bool {
    let Ok(table) = File::open("/proc/thread-self/net/ipv6_route") else { return false };
    BufReader::new(table).lines().map_while(Result::ok).any(|line| leads_out(&line))
}

/// Word from the kernel that something of a namespace's links, addresses or IPv6 routes has changed.
#[derive(Debug)]
pub(super) struct News {
    socket: OwnedFd,
}

impl News {
    /// From `namespace`.
    pub(super) fn of(namespace: &Namespace) -> io::Result<Self> {
        namespace.run(Self::here)?
    }

    fn here() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self { socket })
    }

    /// Takes what has come. What it says is not looked at: whatever it is, the namespace is looked at anew.
    pub(super) fn take(&self) {
        let mut message = [0; 8192];
        // Messages that were dropped for want of room (ENOBUFS) are news like others.
        while matches!(recv(self.socket.as_raw_fd(), &mut message, MsgFlags::MSG_TRUNC), Ok(_) | Err(Errno::ENOBUFS)) {}
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One line: destination, its prefix length, source, its prefix length, next hop, metric, two counts, flags (all hex), device.
fn leads_out(line: &str) -> bool {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [destination, prefix, .., flags, device] = fields.as_slice() else { return false };
    let (Ok(destination), Ok(prefix), Ok(flags)) =
        (u128::from_str_radix(destination, 16), u8::from_str_radix(prefix, 16), u32::from_str_radix(flags, 16))
    else {
        return false;
    };
    let is_usable = flags & UP != 0 && flags & (REJECT | OWN) == 0 && *device != "lo";
    let top = destination >> 112;
    let is_link_local = prefix >= 10 && top & 0xffc0 == 0xfe80;
    let is_multicast = prefix >= 8 && top >> 8 == 0xff;
    is_usable && !is_link_local && !is_multicast
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(destination: &str, prefix: &str, flags: &str, device: &str) -> bool {
        let zero = "0".repeat(32);
        leads_out(&format!("{destination} {prefix} {zero} 00 {zero} 00000100 00000001 00000000 {flags} {device}"))
    }

    #[test]
    fn a_default_route_and_global_prefixes_lead_out() {
        assert!(check(&"0".repeat(32), "00", "00000003", "eth0"));
        assert!(check("20010db8000000000000000000000000", "40", "00000001", "eth0"));
        assert!(check("fd120000000000000000000000000000", "40", "00000001", "vk0"));
    }

    #[test]
    fn routes_that_stay_here_do_not() {
        assert!(!check("fe800000000000000000000000000000", "40", "00000001", "eth0"));
        assert!(!check("ff000000000000000000000000000000", "08", "00000001", "eth0"));
        assert!(!check("00000000000000000000000000000001", "80", "80200001", "lo"));
        assert!(!check("fd120000000000000000000000000001", "80", "80200001", "vk0"));
        assert!(!check("fd120000000000000000000000000000", "80", "00100001", "vk0"));
    }

    #[test]
    fn an_unreachable_default_route_does_not() {
        assert!(!check(&"0".repeat(32), "00", "00200200", "lo"));
        assert!(!check(&"0".repeat(32), "00", "00000201", "eth0"));
    }

    #[test]
    fn a_line_that_is_no_route_is_passed_over() {
        assert!(!leads_out(""));
        assert!(!leads_out("not a route"));
    }
}
