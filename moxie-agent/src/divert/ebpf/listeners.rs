//! Listening sockets on loopback, in one network namespace. They are the configuration: the kernel half diverts to a listening socket
//! that carries the mark of one of the agent's listener sets, and to nothing else.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use moxie_common::{Mark, PORTS_PER_LISTENER_SET};
use socket2::{Domain, Protocol, Socket, Type};

use crate::divert::DivertError;
use crate::namespace::Namespace;

/// Connections that may wait to be accepted; beyond it their SYNs are dropped, and sent again after a second.
const BACKLOG: i32 = 4096;

/// The sockets of one namespace.
#[derive(Debug)]
pub(super) struct Listeners {
    /// For both families.
    pub(super) sockets: Vec<OwnedFd>,
    /// Why there are none for IPv6, where the kernel knows IPv6.
    pub(super) lacks_v6: Option<DivertError>,
}

impl Listeners {
    /// In `namespace`, at `first_port` and the ports after it. The loopback addresses need not be there yet.
    pub(super) fn open(namespace: &Namespace, first_port: u16, mark: Mark) -> Result<Self, DivertError> {
        let inode = namespace.id().inode();
        let opened = namespace.run(move || Self::open_here(first_port, mark));
        opened.map_err(|source| DivertError::Namespace { inode, source })?
    }

    fn open_here(first_port: u16, mark: Mark) -> Result<Self, DivertError> {
        let mut sockets = block(Ipv4Addr::LOCALHOST, first_port, mark)?;
        let lacks_v6 = match block(Ipv6Addr::LOCALHOST, first_port, mark) {
            Ok(v6) => {
                sockets.extend(v6);
                None
            }
            Err(DivertError::Listen { source, .. }) if source.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            Err(error) => Some(error),
        };
        Ok(Self { sockets, lacks_v6 })
    }
}

/// The ports of a listener set.
pub(super) fn ports(first: u16) -> impl Iterator<Item = u16> {
    first..first.saturating_add(PORTS_PER_LISTENER_SET)
}

fn block(address: impl Into<std::net::IpAddr>, first_port: u16, mark: Mark) -> Result<Vec<OwnedFd>, DivertError> {
    let address = address.into();
    ports(first_port).map(|port| listen((address, port).into(), mark).map(OwnedFd::from)).collect()
}

/// Marked before it listens: from the first moment on the kernel half can tell it from a stranger's. No TCP Fast Open: its
/// connections could be accepted before they are established.
fn listen(address: SocketAddr, mark: Mark) -> Result<Socket, DivertError> {
    let open = || {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        // A container's listeners stand before its loopback is up.
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_freebind_v4(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_mark(mark.0)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    open().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => {
            DivertError::NotPermitted { operation: "mark a socket".into(), source: source.into() }
        }
        _ => DivertError::Listen { address, source },
    })
}
