//! The eBPF way: hooks on the connects of chosen cgroups, listeners on loopback, and a heartbeat that keeps the two together.
//!
//! Invariant: whatever happens to the agent, a connect goes direct. The listeners die with the process, the links are not pinned, and
//! a process that hangs stops beating.

mod address_map;
mod attached;
mod control;
pub mod foreign;
mod handshakes;
pub mod hints;
mod home;
mod links;
mod listeners;
mod load;
mod origins;
mod place;
mod refusals;
pub mod release;
pub mod rivals;
mod routes;
mod sets;
mod shares;
mod tags;
mod watch;

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use moxie_common::{Counter, Mark, listed};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    AddressLists, Attachment, Divert, DivertError, HINTS_OFF, Listening, Names, Origin, PortSet, Share, Sightings,
    Terms, loopback,
};
use crate::chain::Chain;
use crate::namespace::Namespace;
use crate::paths::FIRST_LISTENER_PORT;
use crate::scope::cgroup::{self, Hierarchy};
use address_map::AddressMap;
use attached::Attached;
use control::Controls;
use handshakes::Handshakes;
use hints::Hints;
use home::Home;
use links::Programs;
use origins::Origins;
use place::Place;
use refusals::Refusals;
use sets::Sets;
use shares::Shares;
use tags::Tags;
use watch::Watcher;

/// What can be chosen about the eBPF way.
#[derive(Clone, Debug)]
pub struct EbpfOptions {
    /// Destination ports whose connections come to the agent.
    pub ports: PortSet,
    /// A heartbeat older than this diverts nothing; at least five times [`super::HEARTBEAT`].
    pub max_beat_age: Duration,
    /// Forward the kernel half's debug lines to the log. Costs a little at every connect.
    pub kernel_log: bool,
    /// First of the listener ports; if one of them is taken, the next block is tried.
    pub first_port: u16,
    /// Leave direct what DNS answers tell to be of no name that a rule could name.
    pub dns_hints: bool,
    /// How many connections may be between their SYN and the end of their handshake; more go direct.
    pub handshakes: u32,
    /// How long a handshake is believed to be under way: longer than the kernel goes on to send SYNs (`tcp_syn_retries`, some two
    /// minutes). One that ends later is reset.
    pub handshake_patience: Duration,
    /// What keeps the agent from diverting itself. For tests of one guard without the others; there is no setting for it.
    pub guards: Guards,
}

/// Guards against a loop, each enough without the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// [`Divert::attach`] refuses a cgroup that the agent is in.
    pub attach: bool,
    /// The kernel half lets pass what processes in the agent's own cgroup dial.
    pub cgroup: bool,
    /// The agent's upstream sockets carry its mark, and the kernel half lets pass what does.
    pub mark: bool,
    /// The agent resets what it has dialled and what it has accepted if that is a connection of its own that came back.
    pub dial: bool,
}

impl Guards {
    /// As in service.
    pub const ALL: Self = Self { attach: true, cgroup: true, mark: true, dial: true };
}

impl Default for EbpfOptions {
    fn default() -> Self {
        Self {
            ports: PortSet::default(),
            max_beat_age: Duration::from_secs(1),
            kernel_log: false,
            first_port: FIRST_LISTENER_PORT,
            dns_hints: true,
            handshakes: 16_384,
            handshake_patience: Duration::from_secs(150),
            guards: Guards::ALL,
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
    programs: Arc<Programs>,
    controls: Arc<Controls>,
    /// Or why there are none.
    hints: Result<Arc<Hints>, String>,
    origins: Origins,
    refusals: Arc<Refusals>,
    shares: Arc<Shares>,
    addresses: Mutex<AddressMap>,
    handshakes: Handshakes,
    log: Option<Mutex<load::KernelLog>>,
    mark: Option<Mark>,
    guards: Guards,
    pid: Option<u32>,
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
        let mut object = load::object(options)?;
        let hierarchy = Hierarchy::find()?;
        // Before the listeners: a socket belongs for good to the cgroup that its maker was in.
        let home = Home::settle(&hierarchy)?;
        let sets = Arc::new(Sets::open(Tags::new(&mut object)?, options.first_port, Watcher::start()?)?);
        load::write_ports(&mut object, &options.ports)?;
        let log = options.kernel_log.then(|| load::KernelLog::new(&mut object)).transpose()?.map(Mutex::new);
        let agent_cgroup = if options.guards.cgroup { cgroup::id_of(home.path())? } else { 0 };
        let controls = Arc::new(Controls::new(&mut object, options, sets.first_port(), agent_cgroup)?);
        let refusals = Arc::new(Refusals::new(&mut object)?);
        let shares = Arc::new(Shares::new(&mut object)?);
        let addresses = Mutex::new(AddressMap::new(&mut object)?);
        let handshakes = Handshakes::new(&mut object, options)?;
        let origins = Origins::new(&mut object)?;
        let hints = options.dns_hints.then(|| Hints::start(&mut object, &controls)).transpose()?;
        let programs = Arc::new(Programs::load(object)?);
        let hints = hints.ok_or_else(|| HINTS_OFF.to_owned()).and_then(|hints| {
            if let Some(obstacle) = load::hints_obstacle() {
                return Err(obstacle);
            }
            let loaded = programs.load_answering().map_err(|error| Chain(&error).to_string());
            loaded.map(|()| Arc::new(hints))
        });
        programs.attach_agent(home.path())?;
        let mark = sets.own_mark().filter(|_| options.guards.mark);
        let (guards, pid) = (options.guards, home::pid_as_the_kernel_has_it());
        Ok(Self {
            sets,
            programs,
            controls,
            hints,
            origins,
            refusals,
            shares,
            addresses,
            handshakes,
            log,
            mark,
            guards,
            pid,
            hierarchy,
            home,
        })
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

#[async_trait]
impl Divert for Ebpf {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn attach(&self, cgroup: &Path, terms: Terms) -> Result<Box<dyn Attachment>, DivertError> {
        let cgroup = self.hierarchy.resolve(cgroup)?;
        if self.guards.attach && self.home.path().starts_with(&cgroup) {
            return Err(DivertError::ContainsAgent { cgroup, agent: self.home.path().to_owned() });
        }
        let cgroup_id = cgroup::id_of(&cgroup)?;
        let place = Place::new(&cgroup, &self.sets);
        // The listeners before the hooks that look for them.
        place.look();
        let links = self.programs.attach(&cgroup, terms)?;
        let (refusals, shares) = (Arc::clone(&self.refusals), Arc::clone(&self.shares));
        // Of what may have been said of it before nothing counts.
        shares.set(cgroup_id, Share::All, 0)?;
        let (hinted, programs, hints) = (Mutex::default(), Arc::clone(&self.programs), self.hints.clone());
        let root = self.hierarchy.root().to_owned();
        Ok(Box::new(Attached {
            _links: links,
            hinted,
            programs,
            hints,
            cgroup,
            root,
            place,
            cgroup_id,
            refusals,
            shares,
        }))
    }

    async fn origin(&self, accepted: &TcpStream, namespace: &Arc<Namespace>) -> Result<Option<Origin>, DivertError> {
        self.origin_of(accepted.as_fd(), namespace)
    }

    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        self.sets.take()
    }

    fn listener_addresses(&self) -> Vec<SocketAddr> {
        loopback::addresses(self.first_listener_port()).collect()
    }

    fn set_enabled(&self, enabled: bool) -> Result<(), DivertError> {
        self.controls.set_enabled(enabled)
    }

    fn set_addresses(&self, lists: &AddressLists) -> Result<(), DivertError> {
        let unlisted = match lists {
            none if none.is_empty() => listed::NO_LISTS,
            lists if lists.allow.is_empty() => listed::ALLOWED,
            _ => listed::DENIED,
        };
        lock(&self.addresses).set(lists, |generation| self.controls.set_lists(generation, unlisted))
    }

    fn is_enabled(&self) -> bool {
        self.controls.is_enabled()
    }

    fn heed_names(&self, names: Arc<dyn Names>) -> Result<(), DivertError> {
        self.hints.as_ref().map_or(Ok(()), |hints| hints.heed(names))
    }

    fn forget_names(&self) -> Result<(), DivertError> {
        self.hints.as_ref().map_or(Ok(()), |hints| hints.forget_judgements())
    }

    fn sightings(&self) -> Sightings {
        let namespaces = self.sets.tags().into_iter().map(|(namespace, tag)| (tag.index(), namespace)).collect();
        self.hints.as_ref().map(|hints| hints.sightings(&namespaces)).unwrap_or_default()
    }

    fn receive_sightings(&self, sightings: Sightings) -> Result<(), DivertError> {
        let tags = self.sets.tags().into_iter().map(|(namespace, tag)| (namespace, tag.index())).collect();
        self.hints.as_ref().map_or(Ok(()), |hints| hints.receive(sightings, &tags))
    }

    fn retire(&self) {
        self.sets.close();
    }

    fn beat(&self) {
        if let Err(error) = self.controls.beat() {
            // The kernel half sees the beat missing and lets connections go direct.
            tracing::warn!(error = &error as &dyn std::error::Error, "heartbeat not written");
        }
        if let Err(error) = self.handshakes.sweep(&self.controls) {
            tracing::warn!(error = &error as &dyn std::error::Error, "handshakes that came to nothing keep their room");
        }
        if let Some(log) = &self.log {
            lock(log).flush();
        }
    }

    fn rest(&self) {
        if let Err(error) = self.controls.rest() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "new connections are diverted though they cannot be served"
            );
        }
    }

    fn dial_mark(&self) -> Option<u32> {
        self.mark.map(|mark| mark.0)
    }

    fn came_back(&self, dialled: BorrowedFd<'_>) -> bool {
        self.guards.dial && self.origins.has(dialled)
    }

    fn is_agents_own(&self, origin: &Origin) -> bool {
        self.guards.dial && self.pid.is_some() && origin.pid == self.pid
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Counter::ALL.iter().map(|counter| (counter.name(), self.controls.count(*counter))).collect()
    }
}

/// Nothing that holds one of these locks panics halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
