//! The kernel's own list of sockets (`NETLINK_SOCK_DIAG`): whose a connection is, and which sockets a scope has open.
//!
//! Layouts: `linux/sock_diag.h`, `linux/inet_diag.h`. The cgroup of a socket is told since Linux 5.8.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use crate::namespace::Namespace;
use crate::netlink::{self, Answer, DUMP, Netlink, Request, attribute, u32_at};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `struct inet_diag_msg`, before its attributes.
const MESSAGE: usize = 72;
/// `INET_DIAG_TOS`.
const TOS: u16 = 5;
/// `INET_DIAG_TCLASS`.
const TRAFFIC_CLASS: u16 = 6;
/// `INET_DIAG_MARK`; told only to those with `CAP_NET_ADMIN`.
const MARK: u16 = 15;
/// `INET_DIAG_CGROUP_ID`.
const CGROUP_ID: u16 = 21;
/// What is told only if asked for: type of service, traffic class.
const EXTENSIONS: u8 = 1 << (TOS - 1) | 1 << (TRAFFIC_CLASS - 1);
/// `INET_DIAG_NOCOOKIE`, twice: any socket of these addresses.
const ANY_COOKIE: [u8; 8] = [0xff; 8];
/// `TCP_ESTABLISHED`; a connected UDP socket is in it too.
const ESTABLISHED: u8 = 1;

/// Which sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What the kernel tells of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketFacts {
    /// Its own address. A v4-mapped one is given as its IPv4 address.
    pub local: SocketAddr,
    /// Whom it is connected to; unspecified if nobody.
    pub peer: SocketAddr,
    /// The kernel's state: 1 is `TCP_ESTABLISHED`, 10 is `TCP_LISTEN`; a UDP socket is in 1 while it is connected, else in 7.
    pub state: u8,
    /// Inode by which `/proc/PID/fd` names it; 0 if no process has it any more.
    pub inode: u64,
    /// Cgroup v2 id of whoever made it; `None` before Linux 5.8.
    pub cgroup_id: Option<u64>,
    /// Its `SO_MARK`; 0 is none, or that the agent may not see it.
    pub mark: u32,
    /// Its type of service, or its traffic class where its peer's address is IPv6.
    pub tos: u8,
}

impl SocketFacts {
    /// A `struct inet_diag_msg` and its attributes; `None` if it is cut short.
    #[must_use]
    pub fn read(content: &[u8]) -> Option<Self> {
        let (message, attributes) = content.split_at_checked(MESSAGE)?;
        let [family, state, ..] = *message else { return None };
        let is_v4 = i32::from(family) == libc::AF_INET;
        let address = |at: usize, port_at: usize| -> Option<SocketAddr> {
            let octets: [u8; 16] = message.get(at..)?.first_chunk().copied()?;
            let port = u16::from_be_bytes(message.get(port_at..)?.first_chunk().copied()?);
            let [a, b, c, d, ..] = octets;
            let ip = if is_v4 { Ipv4Addr::new(a, b, c, d).into() } else { IpAddr::from(octets).to_canonical() };
            Some(SocketAddr::new(ip, port))
        };
        let (local, peer) = (address(8, 4)?, address(24, 6)?);
        let class = if peer.is_ipv4() { TOS } else { TRAFFIC_CLASS };
        Some(Self {
            local,
            peer,
            state,
            inode: u32_at(message, 68)?.into(),
            cgroup_id: attribute(attributes, CGROUP_ID)
                .and_then(|id| id.first_chunk())
                .map(|id| u64::from_ne_bytes(*id)),
            mark: attribute(attributes, MARK).and_then(|mark| netlink::u32_at(mark, 0)).unwrap_or_default(),
            tos: attribute(attributes, class).and_then(<[u8]>::first).copied().unwrap_or_default(),
        })
    }

    /// Whether it is connected.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.state == ESTABLISHED
    }
}

/// The sockets of one network namespace. Whoever holds one keeps the namespace alive.
#[derive(Debug)]
pub struct SockDiag {
    netlink: Mutex<Netlink>,
}

impl SockDiag {
    /// Of `namespace`. Blocks for a moment.
    ///
    /// # Errors
    /// The kernel was built without it, or the namespace cannot be worked in.
    pub fn open(namespace: &Namespace) -> io::Result<Self> {
        let netlink = namespace.run(|| Netlink::open(libc::NETLINK_SOCK_DIAG))??;
        Ok(Self { netlink: Mutex::new(netlink) })
    }

    /// The TCP socket with these two addresses, if there is one.
    ///
    /// # Errors
    /// The kernel refused to tell.
    pub fn tcp(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<SocketFacts>> {
        match self.ask(0, &query(Transport::Tcp, local, peer)) {
            Ok(found) => Ok(found.into_iter().next()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every socket that is not closed, whoever has it.
    ///
    /// # Errors
    /// The kernel refused to tell.
    pub fn all(&self, transport: Transport) -> io::Result<Vec<SocketFacts>> {
        let mut all = Vec::new();
        for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let any = SocketAddr::new(any, 0);
            all.extend(self.ask(DUMP, &query(transport, any, any))?);
        }
        Ok(all)
    }

    fn ask(&self, flags: u16, query: &[u8]) -> io::Result<Vec<SocketFacts>> {
        let mut request = Request::default();
        request.message(BY_FAMILY, flags, 1, query, |_| ());
        let (mut found, mut refused) = (Vec::new(), None);
        let netlink = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        netlink.exchange(request.bytes(), |_, answer| match answer {
            Answer::Content(content) => found.extend(SocketFacts::read(content)),
            Answer::Refused(error) => refused = Some(error),
            Answer::Acknowledged | Answer::Done => {}
        })?;
        refused.map_or(Ok(found), Err)
    }
}

/// `struct inet_diag_req_v2`. In a dump the addresses are not looked at.
fn query(transport: Transport, local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let protocol = match transport {
        Transport::Tcp => libc::IPPROTO_TCP,
        Transport::Udp => libc::IPPROTO_UDP,
    };
    let low_byte = |number: i32| number.to_le_bytes().first().copied().unwrap_or_default();
    let mut query = vec![low_byte(family), low_byte(protocol), EXTENSIONS, 0];
    let every_state = u32::MAX;
    query.extend_from_slice(&every_state.to_ne_bytes());
    query.extend_from_slice(&local.port().to_be_bytes());
    query.extend_from_slice(&peer.port().to_be_bytes());
    query.extend_from_slice(&words(local.ip()));
    query.extend_from_slice(&words(peer.ip()));
    let any_device = 0_u32;
    query.extend_from_slice(&any_device.to_ne_bytes());
    query.extend_from_slice(&ANY_COOKIE);
    query
}

/// An address in the 16 bytes there are for it.
fn words(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd as _;

    use proptest::prelude::*;

    use super::*;

    fn inode(socket: &impl std::os::fd::AsRawFd) -> u64 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let name = link.to_str().unwrap();
        name.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).unwrap().parse().unwrap()
    }

    fn own() -> SockDiag {
        SockDiag::open(&Namespace::own().unwrap()).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own loopback connection")]
    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn a_connection_is_found_by_its_two_addresses() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let (client, _server) = pair(&listener);
            socket2::SockRef::from(&client)
                .set_tos_v4(0x20)
                .or_else(|_| socket2::SockRef::from(&client).set_tclass_v6(0x20))
                .unwrap();
            let (local, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let found = own().tcp(local, peer).unwrap().unwrap();
            assert_eq!((found.local, found.peer, found.inode), (local, peer, inode(&client)));
            assert!(found.is_established());
            assert_eq!(own().tcp(local, local).unwrap(), None);
        }
    }

    #[test]
    fn every_socket_is_listed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, server) = pair(&listener);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect("127.0.0.1:9").unwrap();
        let tcp = own().all(Transport::Tcp).unwrap();
        for socket in [listener.as_raw_fd(), client.as_raw_fd(), server.as_raw_fd()] {
            assert!(tcp.iter().any(|found| found.inode == inode(&socket)));
        }
        let found = own().all(Transport::Udp).unwrap().into_iter().find(|found| found.inode == inode(&udp)).unwrap();
        assert_eq!(found.peer, "127.0.0.1:9".parse().unwrap());
        assert!(found.is_established());
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange_to_read(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            let _ = SocketFacts::read(&bytes);
        }
    }
}
