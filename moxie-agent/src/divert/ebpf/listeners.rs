//! The listening sockets of one network namespace. They are the configuration: the kernel half diverts to a listening socket that
//! carries the mark of one of the agent's listener sets, and to nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use moxie_common::Mark;

use crate::divert::{DivertError, loopback};
use crate::namespace::Namespace;

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
        let mut sockets = block(Ipv4Addr::LOCALHOST.into(), first_port, mark)?;
        let lacks_v6 = match block(Ipv6Addr::LOCALHOST.into(), first_port, mark) {
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

fn block(address: IpAddr, first_port: u16, mark: Mark) -> Result<Vec<OwnedFd>, DivertError> {
    loopback::ports(first_port).map(|port| loopback::listen((address, port).into(), Some(mark))).collect()
}
