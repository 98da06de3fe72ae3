//! How connections reach the agent: one trait, one file per way.

mod addresses;
mod asked;
mod choose;
pub mod ebpf;
mod loopback;
pub mod netfilter;
#[cfg(test)]
pub(crate) mod paper;
mod ports;
pub mod proxy;
mod sightings;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::namespace::Namespace;
use crate::scope::cgroup::CgroupError;

pub use addresses::{AddressLists, MOST_NETWORKS, Network, ParseNetworkError};
pub use asked::{Asked, Form};
pub use choose::{NoWay, Opened, ParseViaError, PassedOver, Via, Way, open};
pub use ports::{ParsePortSetError, PortSet};
pub use sightings::Sightings;

/// What is known of a connection from before it was made to land elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where the application wanted to go. A v4-mapped destination is given as its IPv4 address.
    pub destination: SocketAddr,
    /// Process (thread group) that called connect(), if the way on path can tell.
    pub pid: Option<u32>,
    /// Cgroup v2 id of that process, if the way on path can tell.
    pub cgroup_id: Option<u64>,
    /// The application socket's own SO_MARK; set again on the upstream socket. 0: none.
    pub mark: u32,
    /// The application socket's type of service (IPv4) or traffic class (IPv6); set again on the upstream socket. 0: none.
    pub tos: u8,
    /// The address that the application had bound its socket to; the upstream socket is bound to it too.
    pub source: Option<IpAddr>,
    /// The application's network namespace; the upstream socket is made in it.
    pub namespace: Arc<Namespace>,
    /// What the client asked for, where it is an explicit proxy's and so told a name; `None` on every other way.
    pub asked: Option<Asked>,
}

impl Origin {
    /// A connection to `destination` from `namespace`, of which nothing else is known.
    #[must_use]
    pub fn to(destination: SocketAddr, namespace: Arc<Namespace>) -> Self {
        Self { destination, pid: None, cgroup_id: None, mark: 0, tos: 0, source: None, namespace, asked: None }
    }

    /// The port that the application asked for.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.asked.as_ref().map_or(self.destination.port(), |asked| asked.port)
    }

    /// The host that the application asked for: a name where it told one, else an address.
    #[must_use]
    pub fn host(&self) -> String {
        self.asked.as_ref().map_or_else(|| self.destination.ip().to_string(), |asked| asked.host.clone())
    }

    /// Whether it is known where the destination is; an explicit proxy may be told a name that stands for nothing.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.asked.as_ref().is_none_or(|asked| !asked.addresses.is_empty())
    }

    /// Where the destination may be dialled, best first.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.asked.as_ref().map_or(std::slice::from_ref(&self.destination), |asked| &asked.addresses)
    }
}

/// A socket to accept diverted connections from.
#[derive(Debug)]
pub struct Listening {
    /// Non-blocking, and listening.
    pub socket: OwnedFd,
    /// The network namespace that it is in, and with it whoever reaches it.
    pub namespace: Arc<Namespace>,
    /// Once cancelled: accept what waits, then close the socket, so that a dead container's namespace is not kept.
    pub closing: CancellationToken,
}

/// How a cgroup is to be on path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// UDP to port 443 is refused where TCP to it is diverted, so that clients of HTTP/3 fall back to TCP.
    pub refuse_quic: bool,
}

/// What of a cgroup's connections is diverted, of those that may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Every one.
    #[default]
    All,
    /// Those that a rule could name, and those of which that is not known.
    Named,
    /// None: no rule could act on any.
    None,
}

/// How often the accept loop calls [`Divert::beat`] while it makes progress.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// Why a way on path cannot do what it was asked. Each message ends with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DivertError {
    /// This build was made with `--no-default-features`.
    #[error(
        "this build has no kernel half; use a build with the `ebpf` feature: `cargo xtask setup`, then `cargo build`"
    )]
    NoKernelHalf,
    /// The kernel is older than the hooks that are needed.
    #[error("Linux {found} is too old to divert with eBPF: 5.10 is the oldest that works, 5.15 the oldest supported")]
    KernelTooOld {
        /// The running kernel's release.
        found: String,
    },
    /// The kernel wants more privilege.
    #[error("not permitted to {operation}: run as root or with CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN")]
    NotPermitted {
        /// What was refused.
        operation: String,
        /// The refusal.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel half cannot be loaded, though permitted.
    #[error("cannot load {what} into the kernel; `moxie doctor` tells what this kernel lacks")]
    Load {
        /// The object, map or program.
        what: &'static str,
        /// What the kernel or the verifier said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The embedded object is not the one this build was made for.
    #[error("the kernel object has no {name}: it does not belong to this build; rebuild the agent")]
    WrongObject {
        /// The map or program that is missing.
        name: &'static str,
    },
    /// The kernel is older than what the nftables way needs of it.
    #[error(
        "Linux {found} is too old to divert with nftables, which takes 5.13 (tables that go with their owner, and rules for \
         cgroups); `--via proxy` works with any"
    )]
    TooOldForNetfilter {
        /// The running kernel's release.
        found: String,
    },
    /// The kernel was built without a part of nftables.
    #[error(
        "this kernel cannot {operation} with nftables; load its modules: \
         `modprobe -a nf_tables nft_socket nft_redir nft_ct nft_objref tcp_diag`"
    )]
    NetfilterLacks {
        /// What was to be done.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not do something of nftables, for another reason.
    #[error("cannot {operation} for nftables; `moxie doctor` tells what this host lacks")]
    Netfilter {
        /// What was to be done.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no usable cgroup v2 hierarchy.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Another program has the cgroup to itself.
    #[error(
        "another eBPF program keeps {} at {hook} to itself (attached without the \"multi\" flag, there or above); \
         `bpftool cgroup tree` shows it; detach it, or attach it again with that flag",
        cgroup.display()
    )]
    ForeignProgram {
        /// Where.
        cgroup: PathBuf,
        /// At which hook.
        hook: &'static str,
        /// The refusal.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel does not attach there, for another reason.
    #[error("cannot attach {hook} to {}", cgroup.display())]
    Attach {
        /// Where.
        cgroup: PathBuf,
        /// At which hook.
        hook: &'static str,
        /// The refusal.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Diverting the agent's own connections to itself would never end.
    #[error(
        "{} contains the agent itself (in {}); opt in a cgroup that does not, or run the agent elsewhere",
        cgroup.display(),
        agent.display()
    )]
    ContainsAgent {
        /// What was to be attached to.
        cgroup: PathBuf,
        /// The agent's own cgroup.
        agent: PathBuf,
    },
    /// A network namespace cannot be worked in.
    #[error(
        "cannot work in network namespace {inode}: the agent needs CAP_SYS_ADMIN and CAP_SYS_PTRACE over it, and threads"
    )]
    Namespace {
        /// Which, as `lsns` names it.
        inode: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// This way diverts whatever its ports say.
    #[error(
        "the way on path `{way}` has no address lists; clear `divert.allow` and `divert.deny`, or use `via = \"ebpf\"`"
    )]
    NoAddressLists {
        /// Its name.
        way: &'static str,
    },
    /// DNS answers cannot be followed.
    #[error("cannot read DNS answers: raise the limits of threads and descriptors")]
    Hints {
        /// What the kernel said.
        source: io::Error,
    },
    /// Changes of network namespaces cannot be followed.
    #[error("cannot watch network namespaces: raise the limits of threads and descriptors")]
    Watch {
        /// What the kernel said.
        source: io::Error,
    },
    /// A listener cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The explicit proxy's address cannot be had.
    #[error("the proxy cannot listen on {address}; give another address as `divert.proxy` (MOXIE_PROXY)")]
    ListenProxy {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The client of an explicit proxy is not served; it has to be told.
    #[error("the client is not served")]
    NotServed(#[from] proxy::Refusal),
    /// The client went away before it had asked for anything.
    #[error("the client hung up before it asked for anything")]
    Client {
        /// How.
        source: io::Error,
    },
    /// Every block of listener ports that was tried has a port in use.
    #[error("no {count} free ports in a row on loopback between {first} and {last}; stop what listens there")]
    NoFreePorts {
        /// How many are needed.
        count: u16,
        /// First port tried.
        first: u16,
        /// Last port tried.
        last: u16,
    },
    /// A map of the kernel half cannot be read or written.
    #[error("cannot {operation} the kernel half's map {map}")]
    Map {
        /// `read` or `write`.
        operation: &'static str,
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DivertError {
    /// Whether somebody else has the address.
    pub(crate) fn is_address_in_use(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// [`Known::obstacle`] where the configuration wants it so.
pub const HINTS_OFF: &str = "`divert.dns_hints` is false";

/// What is left direct because of the names that DNS answers tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Addresses that are left direct now.
    pub addresses: usize,
    /// Why none are; `None` where there may be some.
    pub obstacle: Option<String>,
}

/// Who can tell which names rules are for.
pub trait Names: Send + Sync + fmt::Debug {
    /// Whether any rule could name what a client asks for that has looked up this name (lower case, without a closing dot). In doubt: yes.
    fn could_be_named(&self, name: &str) -> bool;
}

/// Keeps a cgroup on path; dropping it takes the cgroup off path, connect hooks first.
pub trait Attachment: Send + Sync + fmt::Debug {
    /// Follows the cgroup's processes into network namespaces that were not there at the last look, and out of those that they
    /// have left. Blocks for a look at every process; to be called about once a second.
    fn refresh(&self) {}

    /// Diverts this much of it from the next connect on; all of it until this is called.
    ///
    /// # Errors
    /// The kernel refused the write: it is as it was.
    fn divert(&self, share: Share) -> Result<(), DivertError> {
        let _ = share;
        Ok(())
    }

    /// What keeps connections of this cgroup from being diverted though it is on path, for people, each with what to do.
    fn obstacles(&self) -> Vec<String> {
        Vec::new()
    }

    /// What of it is left direct because of its name though a rule could act on others.
    fn known(&self) -> Known {
        Known::default()
    }

    /// Whether connections to an address are left direct because of its name, or were.
    fn knows(&self, address: IpAddr) -> bool {
        let _ = address;
        false
    }

    /// UDP datagrams and connects to port 443 refused so far.
    fn quic_refused(&self) -> u64 {
        0
    }
}

/// A way on path. Every method may be called from any thread.
#[async_trait]
pub trait Divert: Send + Sync + fmt::Debug {
    /// Its name in `status` and `doctor`, as of [`Way::name`].
    fn name(&self) -> &'static str;

    /// Puts a cgroup (and everything below it) on path.
    ///
    /// # Errors
    /// What the kernel refused and what to do about it.
    fn attach(&self, cgroup: &Path, terms: Terms) -> Result<Box<dyn Attachment>, DivertError>;

    /// The original destination of a connection that was accepted in `namespace`; `None` if there is none to trust (then: reset,
    /// never guess).
    ///
    /// # Errors
    /// The lookup itself failed.
    async fn origin(&self, accepted: &TcpStream, namespace: &Arc<Namespace>) -> Result<Option<Origin>, DivertError>;

    /// Where the name that a client asks for is, best address first: for a way whose clients tell names. Empty: not found.
    async fn find(&self, _host: &str, _port: u16) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Where clients have to be told to connect; `None` where the kernel sends them.
    fn door(&self) -> Option<SocketAddr> {
        None
    }

    /// The listeners to accept from: those there are, then others as network namespaces join. Given out once.
    ///
    /// To end without costing anyone a connection: first [`Divert::set_enabled`] off (or drop every [`Attachment`]), then accept
    /// what still waits, then close them.
    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>>;

    /// Where its listeners are, in each namespace that has any: addresses that are never dialled.
    fn listener_addresses(&self) -> Vec<SocketAddr>;

    /// The kill switch: off sends every new connection direct, at once.
    ///
    /// # Errors
    /// The kernel refused the write.
    fn set_enabled(&self, enabled: bool) -> Result<(), DivertError>;

    /// Diverts by destination, from the next connect on; the lists take the place of those before, as one.
    ///
    /// # Errors
    /// The kernel refused the write, or this way cannot (then: nothing is changed).
    fn set_addresses(&self, lists: &AddressLists) -> Result<(), DivertError> {
        if lists.is_empty() { Ok(()) } else { Err(DivertError::NoAddressLists { way: self.name() }) }
    }

    /// Whether the kill switch is on "divert".
    fn is_enabled(&self) -> bool;

    /// From now on addresses that DNS answers tell to be of no name that a rule could name may be left direct where a cgroup is diverted
    /// as [`Share::Named`]. Said once.
    ///
    /// # Errors
    /// The kernel refused the write: nothing is left direct.
    fn heed_names(&self, names: Arc<dyn Names>) -> Result<(), DivertError> {
        let _ = names;
        Ok(())
    }

    /// The rules are others: what names were judged by no longer counts, from the next connect on.
    ///
    /// # Errors
    /// The kernel refused the write: it counts still.
    fn forget_names(&self) -> Result<(), DivertError> {
        Ok(())
    }

    /// Which names were seen at which addresses, for the agent that takes over, which has to hear the answers itself by now. Blocks for
    /// milliseconds.
    fn sightings(&self) -> Sightings {
        Sightings::default()
    }

    /// What the agent before this one has seen counts here too, from the next connect on.
    ///
    /// # Errors
    /// The kernel refused the write: it may not count.
    fn receive_sightings(&self, sightings: Sightings) -> Result<(), DivertError> {
        let _ = sightings;
        Ok(())
    }

    /// Another agent diverts from now on: closes the listeners, and lets go of namespaces that nothing is open in. What was diverted
    /// here goes on; nothing is again.
    fn retire(&self) {}

    /// Tells the kernel that the accept loop lives. Called every [`HEARTBEAT`] by whoever knows that it does.
    fn beat(&self);

    /// Sends every new connection direct, at once, until the next [`Divert::beat`].
    fn rest(&self) {}

    /// Mark for sockets the agent dials with, so that they are never diverted; `None` where the way needs none.
    fn dial_mark(&self) -> Option<u32>;

    /// Whether a socket that the agent has dialled with was diverted to the agent itself: the last guard against a loop.
    fn came_back(&self, dialled: BorrowedFd<'_>) -> bool {
        let _ = dialled;
        false
    }

    /// Whether a diverted connection is the agent's own.
    fn is_agents_own(&self, origin: &Origin) -> bool {
        let _ = origin;
        false
    }

    /// What the kernel half has counted since it was loaded: (name, count), names stable and lower_snake.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}
