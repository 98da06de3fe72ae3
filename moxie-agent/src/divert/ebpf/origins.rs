//! The original destination of an accepted connection, which the kernel half has put into the socket's own storage.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use aya::Ebpf as Object;
use aya::maps::{MapData, MapError, SkStorage};
use moxie_common::names;

use super::load;
use crate::divert::{DivertError, Origin};
use crate::namespace::Namespace;

/// The storage, seen from user space: its keys are the descriptors of the accepted sockets.
#[derive(Debug)]
pub(super) struct Origins(SkStorage<MapData, moxie_common::Origin>);

impl Origins {
    pub(super) fn new(object: &mut Object) -> Result<Self, DivertError> {
        load::take_map(object, names::ORIGINS).map(Self)
    }

    /// Whether a socket that the agent has dialled with was diverted: then it has reached the agent.
    pub(super) fn has(&self, dialled: BorrowedFd<'_>) -> bool {
        self.0.get(&dialled, 0).is_ok()
    }

    pub(super) fn of(
        &self,
        accepted: BorrowedFd<'_>,
        namespace: &Arc<Namespace>,
    ) -> Result<Option<Origin>, DivertError> {
        match self.0.get(&accepted, 0) {
            Ok(origin) => Ok(Some(known(origin, Arc::clone(namespace)))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(DivertError::Map { operation: "read", map: names::ORIGINS, source: source.into() }),
        }
    }
}

fn known(origin: moxie_common::Origin, namespace: Arc<Namespace>) -> Origin {
    let destination = SocketAddr::new(IpAddr::from(origin.address), origin.port());
    Origin {
        pid: Some(origin.pid),
        cgroup_id: Some(origin.cgroup_id),
        mark: origin.mark,
        // The kernel half stores no more than eight bits.
        tos: u8::try_from(origin.tos).unwrap_or(0),
        source: Some(origin.source).filter(|source| !source.is_unspecified()).map(IpAddr::from),
        ..Origin::to(destination, namespace)
    }
}
