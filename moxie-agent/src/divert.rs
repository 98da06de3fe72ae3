//! How connections reach the agent: one trait, one file per way.

pub mod ebpf;

use std::fmt;
use std::net::SocketAddr;

use std::os::fd::OwnedFd;
use std::path::Path;

/// What the kernel remembered of a connection before it changed where the connection lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where the application wanted to go. A v4-mapped destination is given as its IPv4 address.
    pub destination: SocketAddr,
    /// Process (thread group) that called connect(), if the way on path can tell.
    pub pid: Option<u32>,
    /// Cgroup v2 id of that process, if the way on path can tell.
    pub cgroup_id: Option<u64>,
    /// The application socket's own SO_MARK; set again on the upstream socket.
    pub mark: u32,
}

/// Why a way on path cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DivertError {
    /// Replaced by the real list.
    #[error("divert")]
    Unwritten,
}

/// Keeps a cgroup on path; dropping it takes the cgroup off path, connect hooks first.
pub trait Attachment: Send + Sync + fmt::Debug {}

/// A way on path. Every method may be called from any thread.
pub trait Divert: Send + Sync + fmt::Debug {
    /// Its name in `status` and `doctor`: `ebpf`.
    fn name(&self) -> &'static str;

    /// Puts a cgroup (and everything below it) on path.
    ///
    /// # Errors
    /// What the kernel refused and what to do about it.
    fn attach(&self, cgroup: &Path) -> Result<Box<dyn Attachment>, DivertError>;

    /// The original destination of an accepted connection; `None` if the kernel has none for it (then: reset, never guess).
    ///
    /// # Errors
    /// The lookup itself failed.
    fn origin(&self, accepted: std::os::fd::BorrowedFd<'_>) -> Result<Option<Origin>, DivertError>;

    /// The listeners to accept from, non-blocking, each listening. Given out once: later calls give none.
    fn take_listeners(&self) -> Vec<OwnedFd>;

    /// The kill switch: off sends every new connection direct, at once.
    ///
    /// # Errors
    /// The kernel refused the write.
    fn set_enabled(&self, enabled: bool) -> Result<(), DivertError>;

    /// Whether the kill switch is on "divert".
    fn is_enabled(&self) -> bool;

    /// Tells the kernel that the accept loop lives. Called every `HEARTBEAT` by whoever knows that it does.
    fn beat(&self);

    /// Mark for sockets the agent dials with, so that they are never diverted; `None` where the way needs none.
    fn dial_mark(&self) -> Option<u32>;

    /// What the kernel half has counted since it was loaded: (name, count), names stable and lower_snake.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}
