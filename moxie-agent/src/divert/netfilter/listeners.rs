//! The agent's listeners in one network namespace: on loopback, where a redirected connection arrives.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use moxie_common::PORTS_PER_LISTENER_SET;
use socket2::{Domain, Protocol, Socket, Type};

use crate::divert::DivertError;
use crate::namespace::Namespace;

/// From one block of ports to the next.
const STRIDE: u16 = 16;
/// Blocks of ports that are tried.
const BLOCKS: u16 = 8;
/// Connections that may wait to be accepted; beyond it their SYNs are dropped, and sent again after a second.
const BACKLOG: i32 = 4096;

/// A block of ports, listened on.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) first_port: u16,
    /// Whether the namespace has IPv6.
    pub(super) has_v6: bool,
}

impl Block {
    /// In `namespace`, at `first_port` and the ports after it, or at the next block where one of them is taken.
    pub(super) fn open(namespace: &Namespace, first_port: u16) -> Result<Self, DivertError> {
        let work = move || Self::open_here(first_port);
        let inode = namespace.id().inode();
        namespace.run(work).map_err(|source| DivertError::Namespace { inode, source })?
    }

    fn open_here(first_port: u16) -> Result<Self, DivertError> {
        let blocks = (0..BLOCKS).map_while(|block| first_port.checked_add(block * STRIDE));
        let mut last = first_port;
        for base in blocks.filter(|base| base.checked_add(PORTS_PER_LISTENER_SET).is_some()) {
            last = last_port(base);
            match Self::open_at(base) {
                Err(error) if error.is_address_in_use() => {}
                opened => return opened,
            }
        }
        Err(DivertError::NoFreePorts { count: PORTS_PER_LISTENER_SET, first: first_port, last })
    }

    fn open_at(first_port: u16) -> Result<Self, DivertError> {
        let mut sockets = Vec::new();
        for port in first_port..=last_port(first_port) {
            sockets.push(listen((Ipv4Addr::LOCALHOST, port).into())?);
        }
        let mut has_v6 = true;
        for port in first_port..=last_port(first_port) {
            match listen((Ipv6Addr::LOCALHOST, port).into()) {
                Ok(socket) => sockets.push(socket),
                Err(DivertError::Listen { source, .. }) if is_absence_of_v6(&source) => has_v6 = false,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { sockets, first_port, has_v6 })
    }

    /// The addresses.
    pub(super) fn addresses(first_port: u16) -> impl Iterator<Item = SocketAddr> {
        let ports = first_port..=last_port(first_port);
        ports.flat_map(|port| [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
    }
}

/// The last of the ports of a block.
pub(super) fn last_port(first: u16) -> u16 {
    first.saturating_add(PORTS_PER_LISTENER_SET - 1)
}

/// Where the address is not there yet, it listens all the same: in a container's namespace loopback comes up last.
fn listen(address: SocketAddr) -> Result<OwnedFd, DivertError> {
    let open = || {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_freebind_v4(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source: io::Error| DivertError::Listen { address, source })
}

fn is_absence_of_v6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}
