//! The original destination of an accepted connection, which the kernel half has put into the socket's own storage.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use aya::Ebpf as Object;
use aya::maps::{MapData, MapError, SkStorage};
use moxie_common::names;

use super::load;
use crate::divert::{DivertError, Origin};

/// The storage, seen from user space: its keys are the descriptors of the accepted sockets.
#[derive(Debug)]
pub(super) struct Origins(SkStorage<MapData, moxie_common::Origin>);

impl Origins {
    pub(super) fn new(object: &mut Object) -> Result<Self, DivertError> {
        load::take_map(object, names::ORIGINS).map(Self)
    }

    pub(super) fn of(&self, accepted: BorrowedFd<'_>) -> Result<Option<Origin>, DivertError> {
        match self.0.get(&accepted, 0) {
            Ok(origin) => Ok(Some(origin.into())),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(DivertError::Map { operation: "read", map: names::ORIGINS, source: source.into() }),
        }
    }
}

impl From<moxie_common::Origin> for Origin {
    fn from(origin: moxie_common::Origin) -> Self {
        Self {
            destination: SocketAddr::new(IpAddr::from(origin.address), origin.port()),
            pid: Some(origin.pid),
            cgroup_id: Some(origin.cgroup_id),
            mark: origin.mark,
        }
    }
}
