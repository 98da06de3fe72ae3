//! The agent's listeners in one network namespace: where a redirected connection arrives.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use moxie_common::PORTS_PER_LISTENER_SET;

use crate::divert::{DivertError, loopback};
use crate::namespace::Namespace;

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
        let work = move || loopback::first_free(first_port, |first_port| Self::open_at(first_port).map(Some));
        let inode = namespace.id().inode();
        namespace.run(work).map_err(|source| DivertError::Namespace { inode, source })?
    }

    fn open_at(first_port: u16) -> Result<Self, DivertError> {
        let mut sockets = Vec::new();
        for port in loopback::ports(first_port) {
            sockets.push(loopback::listen((Ipv4Addr::LOCALHOST, port).into(), None)?);
        }
        let mut has_v6 = true;
        for port in loopback::ports(first_port) {
            match loopback::listen((Ipv6Addr::LOCALHOST, port).into(), None) {
                Ok(socket) => sockets.push(socket),
                Err(DivertError::Listen { source, .. }) if is_absence_of_v6(&source) => has_v6 = false,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { sockets, first_port, has_v6 })
    }
}

/// The last of the ports of a block.
pub(super) fn last_port(first: u16) -> u16 {
    first.saturating_add(PORTS_PER_LISTENER_SET - 1)
}

fn is_absence_of_v6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}
