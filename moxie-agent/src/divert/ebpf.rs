//! The eBPF way: hooks on the connects of chosen cgroups, listeners on loopback, and a heartbeat that keeps the two together.
//!
//! Invariant: whatever happens to the agent, a connect goes direct. The listeners die with the process, the links are not pinned, and
//! a process that hangs stops beating.

mod control;
mod home;
mod links;
mod listeners;
mod load;
mod origins;
mod place;
pub mod release;
mod routes;
mod sets;
mod tags;
mod watch;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use moxie_common::{Counter, Mark};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Attachment, Divert, DivertError, Listening, Origin, PortSet, Terms};
use crate::namespace::Namespace;
use crate::paths::FIRST_LISTENER_PORT;
use crate::scope::cgroup::{self, Hierarchy};
use control::Controls;
use home::Home;
use links::{Links, Programs};
use origins::Origins;
use place::Place;
use sets::Sets;
use tags::Tags;
use watch::Watcher;

/// What can be chosen about the eBPF way.
#[derive(Clone, Debug)]
pub struct EbpfOptions {
    /// Destination ports whose connections come to the agent.
    pub ports: PortSet,
    /// Refuse UDP to port 443 where TCP to it is diverted, so that HTTP/3 clients fall back to TCP.
    pub refuse_quic: bool,
    /// A heartbeat older than this diverts nothing; at least five times [`super::HEARTBEAT`].
    pub max_beat_age: Duration,
    /// Forward the kernel half's debug lines to the log. Costs a little at every connect.
    pub kernel_log: bool,
    /// First of the listener ports; if one of them is taken, the next block is tried.
    pub first_port: u16,
}

impl Default for EbpfOptions {
    fn default() -> Self {
        Self {
            ports: PortSet::default(),
            refuse_quic: false,
            max_beat_age: Duration::from_secs(1),
            kernel_log: false,
            first_port: FIRST_LISTENER_PORT,
        }
    }
}

/// The eBPF way, loaded. Dropping it leaves nothing behind: no program, no listener, no cgroup.
///
/// The agent moves into a cgroup of its own for as long as this lives, if it is not alone in one; so there is one for each process.
#[derive(Debug)]
pub struct Ebpf {
    // Closed first, by dropping this: from then on the kernel half sends every connection direct.
    sets: Arc<Sets>,
    programs: Programs,
    controls: Controls,
    origins: Origins,
    log: Option<Mutex<load::KernelLog>>,
    mark: Option<Mark>,
    refuse_quic: bool,
    hierarchy: Hierarchy,
    home: Home,
}

impl Ebpf {
    /// Loads the kernel half and opens the listeners, in the calling thread's network namespace. Nothing is diverted before a
    /// cgroup is attached and the first [`Divert::beat`]. Blocks for some tens of milliseconds.
    ///
    /// # Errors
    /// What the host refused and what to do about it.
    pub fn load(options: &EbpfOptions) -> Result<Self, DivertError> {
        load::check_host()?;
        let mut object = load::object(options.kernel_log)?;
        let hierarchy = Hierarchy::find()?;
        // Before the listeners: a socket belongs for good to the cgroup that its maker was in.
        let home = Home::settle(&hierarchy)?;
        let sets = Arc::new(Sets::open(Tags::new(&mut object)?, options.first_port, Watcher::start()?)?);
        load::write_ports(&mut object, &options.ports)?;
        let log = options.kernel_log.then(|| load::KernelLog::new(&mut object)).transpose()?.map(Mutex::new);
        let controls = Controls::new(&mut object, options, sets.first_port(), cgroup::id_of(home.path())?)?;
        let origins = Origins::new(&mut object)?;
        let programs = Programs::load(object)?;
        programs.attach_agent(home.path())?;
        let (mark, refuse_quic) = (sets.own_mark(), options.refuse_quic);
        Ok(Self { sets, programs, controls, origins, log, mark, refuse_quic, hierarchy, home })
    }

    /// First of the ports that the agent listens on.
    #[must_use]
    pub fn first_listener_port(&self) -> u16 {
        self.controls.first_port()
    }

    /// What [`Divert::origin`] gives, at once.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn origin_of(
        &self,
        accepted: BorrowedFd<'_>,
        namespace: &Arc<Namespace>,
    ) -> Result<Option<Origin>, DivertError> {
        self.origins.of(accepted, namespace)
    }
}

impl Drop for Ebpf {
    fn drop(&mut self) {
        self.sets.close();
    }
}

/// A cgroup on path.
#[derive(Debug)]
struct Attached {
    // Dropped in this order: the hooks before the listeners that they look for.
    _links: Links,
    place: Arc<Place>,
}

impl Attachment for Attached {
    fn refresh(&self) {
        self.place.look();
    }

    fn obstacles(&self) -> Vec<String> {
        self.place.obstacles()
    }
}

#[async_trait]
impl Divert for Ebpf {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn attach(&self, cgroup: &Path, terms: Terms) -> Result<Box<dyn Attachment>, DivertError> {
        let cgroup = self.hierarchy.resolve(cgroup)?;
        if self.home.path().starts_with(&cgroup) {
            return Err(DivertError::ContainsAgent { cgroup, agent: self.home.path().to_owned() });
        }
        let terms = Terms { refuse_quic: terms.refuse_quic || self.refuse_quic };
        let place = Place::new(&cgroup, &self.sets);
        // The listeners before the hooks that look for them.
        place.look();
        let links = self.programs.attach(&cgroup, terms)?;
        Ok(Box::new(Attached { _links: links, place }))
    }

    async fn origin(&self, accepted: &TcpStream, namespace: &Arc<Namespace>) -> Result<Option<Origin>, DivertError> {
        self.origin_of(accepted.as_fd(), namespace)
    }

    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        self.sets.take()
    }

    fn listener_addresses(&self) -> Vec<SocketAddr> {
        let first = self.first_listener_port();
        listeners::ports(first)
            .flat_map(|port| [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
            .collect()
    }

    fn set_enabled(&self, enabled: bool) -> Result<(), DivertError> {
        self.controls.set_enabled(enabled)
    }

    fn is_enabled(&self) -> bool {
        self.controls.is_enabled()
    }

    fn beat(&self) {
        if let Err(error) = self.controls.beat() {
            // The kernel half sees the beat missing and lets connections go direct.
            tracing::warn!(error = &error as &dyn std::error::Error, "heartbeat not written");
        }
        if let Some(log) = &self.log {
            lock(log).flush();
        }
    }

    fn dial_mark(&self) -> Option<u32> {
        self.mark.map(|mark| mark.0)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Counter::ALL.iter().map(|counter| (counter.name(), self.controls.count(*counter))).collect()
    }
}

/// Nothing that holds one of these locks panics halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
