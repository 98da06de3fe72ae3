//! Listening sockets on loopback, where what is diverted arrives: a block of ports in each network namespace, the same for both
//! families.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use moxie_common::{Mark, PORTS_PER_LISTENER_SET};
use socket2::{Domain, Protocol, Socket, Type};

use super::DivertError;

/// From one block of ports to the next.
const STRIDE: u16 = 16;
/// Blocks of ports that are tried.
const BLOCKS: u16 = 8;
/// Connections that may wait to be accepted; beyond it their SYNs are dropped, and sent again after a second.
const BACKLOG: i32 = 4096;

/// The ports of a block.
pub(super) fn ports(first: u16) -> impl Iterator<Item = u16> {
    first..first.saturating_add(PORTS_PER_LISTENER_SET)
}

/// The addresses of a block.
pub(super) fn addresses(first: u16) -> impl Iterator<Item = SocketAddr> {
    ports(first).flat_map(|port| [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
}

/// What `open` makes of the block that begins at `first`, or of the next one where a port is taken: an error says so, or `None`.
pub(super) fn first_free<T>(
    first: u16,
    mut open: impl FnMut(u16) -> Result<Option<T>, DivertError>,
) -> Result<T, DivertError> {
    let blocks = (0..BLOCKS).map_while(|block| first.checked_add(block * STRIDE));
    let mut last = first;
    for base in blocks.filter(|base| base.checked_add(PORTS_PER_LISTENER_SET).is_some()) {
        last = base + PORTS_PER_LISTENER_SET - 1;
        match open(base) {
            Ok(None) => {}
            Ok(Some(opened)) => return Ok(opened),
            Err(error) if error.is_address_in_use() => {}
            Err(error) => return Err(error),
        }
    }
    Err(DivertError::NoFreePorts { count: PORTS_PER_LISTENER_SET, first, last })
}

/// Listens in the calling thread's namespace. The address need not be there yet: a container's listeners stand before its loopback is
/// up. With a mark it is marked before it listens: from the first moment on the kernel half can tell it from a stranger's. No TCP Fast
/// Open: its connections could be accepted before they are established.
pub(super) fn listen(address: SocketAddr, mark: Option<Mark>) -> Result<OwnedFd, DivertError> {
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
        if let Some(mark) = mark {
            socket.set_mark(mark.0)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied if mark.is_some() => {
            DivertError::NotPermitted { operation: "mark a socket".into(), source: source.into() }
        }
        _ => DivertError::Listen { address, source },
    })
}

/// What is said of a namespace in which nothing can arrive.
pub(super) fn is_down(inode: u64) -> String {
    format!("network namespace {inode} has no 127.0.0.1, so its connections go direct: `ip link set lo up` in it")
}
