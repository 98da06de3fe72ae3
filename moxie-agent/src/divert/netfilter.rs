//! The nftables way: for chosen cgroups, the first packet of a connection is redirected to the agent, and the kernel's connection
//! tracking knows where it wanted to go.
//!
//! Invariant: whatever happens to the agent, a connect goes direct. The rules belong to a socket of the agent's and go with it, and they
//! divert nothing unless an element is in a set that the kernel empties by itself: a process that hangs stops putting it there.

mod attachment;
mod batch;
mod caller;
mod expressions;
mod listeners;
mod place;
mod places;
mod reserve;
mod rules;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aya::util::KernelVersion;
use moxie_common::{Mark, Tag};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;

use super::{Attachment, Divert, DivertError, Listening, Origin, PortSet, Terms};
use crate::namespace::Namespace;
use crate::paths::FIRST_LISTENER_PORT;
use crate::scope::cgroup::{self, Hierarchy};
use crate::sock_diag::{SockDiag, SocketFacts};
use caller::Processes;
use places::Places;
use table::CgroupKey;

/// The oldest with both a table that is owned (5.12) and a match on the socket's cgroup (5.13).
const OLDEST: KernelVersion = KernelVersion::new(5, 13, 0);

/// What can be chosen about the nftables way.
#[derive(Clone, Debug)]
pub struct NetfilterOptions {
    /// Destination ports whose connections come to the agent.
    pub ports: PortSet,
    /// Refuse UDP to port 443 of every scope, also of those that do not ask for it.
    pub refuse_quic: bool,
    /// Without a heartbeat for so long nothing is diverted; at least five times [`super::HEARTBEAT`].
    pub max_beat_age: Duration,
    /// First of the listener ports; if one of them is taken, the next block is tried.
    pub first_port: u16,
}

impl Default for NetfilterOptions {
    fn default() -> Self {
        Self {
            ports: PortSet::default(),
            refuse_quic: false,
            max_beat_age: Duration::from_secs(1),
            first_port: FIRST_LISTENER_PORT,
        }
    }
}

/// The nftables way, in use. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Netfilter {
    places: Arc<Places>,
    processes: Arc<Processes>,
    hierarchy: Hierarchy,
    mark: Mark,
}

impl Netfilter {
    /// Opens the listeners and makes the rules, in the calling thread's network namespace. Nothing is diverted before a cgroup is
    /// attached and the first [`Divert::beat`].
    ///
    /// # Errors
    /// What the host refused and what to do about it.
    pub fn open(options: NetfilterOptions) -> Result<Self, DivertError> {
        check_kernel()?;
        crate::descriptors::raise();
        let hierarchy = Hierarchy::find()?;
        let mark = random_mark();
        let places = Arc::new(Places::open(options, mark)?);
        Ok(Self { places, processes: Arc::default(), hierarchy, mark })
    }

    /// What [`Divert::origin`] gives, at once. Blocks where the caller's cgroup has several processes: then it reads what they have
    /// open.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn origin_of(
        &self,
        accepted: BorrowedFd<'_>,
        namespace: &Arc<Namespace>,
    ) -> Result<Option<Origin>, DivertError> {
        let Some((mut origin, facts)) = self.locate(accepted, namespace)? else { return Ok(None) };
        origin.pid = facts.and_then(|facts| self.process_search(facts)?());
        Ok(Some(origin))
    }

    /// All but the process.
    fn locate(
        &self,
        accepted: BorrowedFd<'_>,
        namespace: &Arc<Namespace>,
    ) -> Result<Option<(Origin, Option<SocketFacts>)>, DivertError> {
        let socket = socket2::SockRef::from(&accepted);
        let Some(local) = socket.local_addr().ok().and_then(|local| local.as_socket()) else { return Ok(None) };
        let Some(destination) = original_destination(accepted, local.ip())? else { return Ok(None) };
        if destination == local {
            // It was not redirected: somebody has dialled the listener itself.
            return Ok(None);
        }
        let mut origin = Origin::to(destination, Arc::clone(namespace));
        // A client that has reset the connection is not known any more.
        let Some(client) = socket.peer_addr().ok().and_then(|peer| peer.as_socket()) else {
            return Ok(Some((origin, None)));
        };
        // The application's own choice, or what the routes to its destination chose for it: the upstream socket has it too.
        origin.source = Some(client.ip()).filter(|source| !source.is_loopback());
        let facts = self.places.sockets(namespace).and_then(|sockets| look_up(&sockets, client, destination));
        if let Some(facts) = &facts {
            (origin.cgroup_id, origin.mark, origin.tos) = (facts.cgroup_id, facts.mark, facts.tos);
        }
        Ok(Some((origin, facts)))
    }

    /// Finds the process that has the socket; `None` where there is none to find.
    fn process_search(&self, facts: SocketFacts) -> Option<impl FnOnce() -> Option<u32> + Send + use<>> {
        let (inode, id) = (facts.inode, facts.cgroup_id?);
        if inode == 0 {
            return None;
        }
        let (processes, tops) = (Arc::clone(&self.processes), self.places.paths());
        Some(move || processes.having(inode, id, &tops))
    }

    fn key(&self, cgroup: &Path) -> Result<CgroupKey, DivertError> {
        let depth = cgroup.strip_prefix(self.hierarchy.root()).map_or(0, |below| below.components().count());
        Ok(CgroupKey { level: u32::try_from(depth).unwrap_or(u32::MAX), id: cgroup::id_of(cgroup)? })
    }
}

#[async_trait]
impl Divert for Netfilter {
    fn name(&self) -> &'static str {
        "netfilter"
    }

    fn attach(&self, cgroup: &Path, terms: Terms) -> Result<Box<dyn Attachment>, DivertError> {
        let cgroup = self.hierarchy.resolve(cgroup)?;
        let agent = self.hierarchy.of_process(std::process::id())?;
        if agent.starts_with(&cgroup) {
            return Err(DivertError::ContainsAgent { cgroup, agent });
        }
        let key = self.key(&cgroup)?;
        Ok(Box::new(attachment::Scope::attach(&self.places, cgroup, key, terms)?))
    }

    async fn origin(&self, accepted: &TcpStream, namespace: &Arc<Namespace>) -> Result<Option<Origin>, DivertError> {
        let Some((mut origin, facts)) = self.locate(accepted.as_fd(), namespace)? else { return Ok(None) };
        if let Some(search) = facts.and_then(|facts| self.process_search(facts)) {
            // A panic there has been reported already; the caller is unknown then.
            origin.pid = spawn_blocking(search).await.ok().flatten();
        }
        Ok(Some(origin))
    }

    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        self.places.take_listeners()
    }

    fn listener_addresses(&self) -> Vec<SocketAddr> {
        self.places.addresses()
    }

    fn set_enabled(&self, enabled: bool) -> Result<(), DivertError> {
        self.places.set_enabled(enabled)
    }

    fn is_enabled(&self) -> bool {
        self.places.is_enabled()
    }

    fn beat(&self) {
        self.places.beat();
    }

    fn dial_mark(&self) -> Option<u32> {
        Some(self.mark.0)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.places.counters()
    }
}

impl Drop for Netfilter {
    fn drop(&mut self) {
        self.places.close();
    }
}

fn check_kernel() -> Result<(), DivertError> {
    if KernelVersion::current().is_ok_and(|current| current < OLDEST) {
        let found = nix::sys::utsname::uname()
            .map_or_else(|_| "of unknown release".into(), |name| name.release().display().to_string());
        return Err(DivertError::TooOldForNetfilter { found });
    }
    Ok(())
}

/// Where connection tracking has an accepted connection from; `None` if it does not know it (any more).
fn original_destination(accepted: BorrowedFd<'_>, local: IpAddr) -> Result<Option<SocketAddr>, DivertError> {
    let told = if local.is_ipv4() {
        getsockopt(&accepted, sockopt::OriginalDst).map(|it| {
            let address = std::net::Ipv4Addr::from(u32::from_be(it.sin_addr.s_addr));
            SocketAddr::new(address.into(), u16::from_be(it.sin_port))
        })
    } else {
        getsockopt(&accepted, sockopt::Ip6tOriginalDst).map(|it| {
            let address = std::net::Ipv6Addr::from(it.sin6_addr.s6_addr);
            SocketAddr::new(address.into(), u16::from_be(it.sin6_port))
        })
    };
    match told {
        Ok(destination) => Ok(Some(destination)),
        Err(nix::Error::ENOENT) => Ok(None),
        Err(error) => Err(DivertError::Netfilter { operation: "read SO_ORIGINAL_DST", source: error.into() }),
    }
}

/// The application's socket: its own address is the accepted socket's peer, its peer the original destination.
fn look_up(sockets: &SockDiag, client: SocketAddr, destination: SocketAddr) -> Option<SocketFacts> {
    let found = sockets.tcp(client, destination);
    found.unwrap_or_else(|error| {
        tracing::debug!(%error, %client, "caller not looked up");
        None
    })
}

/// Tells this agent's tables from another's on the host.
fn random_mark() -> Mark {
    loop {
        if let Some(tag) = Tag::new(rand::random()) {
            return Mark::of(tag);
        }
    }
}
