//! What the agent has in one network namespace: listeners, a table with rules that lead to them, and the list of sockets there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::NetfilterOptions;
use super::listeners::{Block, last_port};
use super::reserve::Reserve;
use super::rules::Wanted;
use super::table::Table;
use crate::divert::{DivertError, Listening, loopback};
use crate::namespace::Namespace;
use crate::sock_diag::SockDiag;

/// One network namespace.
#[derive(Debug)]
pub(super) struct Place {
    // Dropped in this order: rules, then listeners.
    pub(super) table: Table,
    pub(super) sockets: Arc<SockDiag>,
    pub(super) namespace: Arc<Namespace>,
    first_port: u16,
    closing: CancellationToken,
    loopback: Loopback,
}

/// Without loopback a redirected connection has nowhere to go: nothing is to be redirected then.
#[derive(Clone, Copy, Debug, Default)]
struct Loopback {
    is_up: bool,
    looked: Option<Instant>,
}

/// How long a look at loopback that was up is good for: it goes up once, and hardly ever down.
const GOOD_FOR: Duration = Duration::from_secs(1);

impl Place {
    /// Opens listeners in `namespace`, gives them to `accept`, and makes a table called `name`.
    pub(super) fn open(
        namespace: Arc<Namespace>,
        name: &str,
        options: &NetfilterOptions,
        accept: &UnboundedSender<Listening>,
        reserve: &mut Reserve,
    ) -> Result<Self, DivertError> {
        let block = Block::open(&namespace, options.first_port)?;
        let sockets = SockDiag::open(&namespace)
            .map_err(|source| DivertError::Netfilter { operation: "list sockets (inet_diag, tcp_diag)", source })?;
        let first_port = block.first_port;
        let listeners = (first_port, last_port(first_port));
        let wanted = Wanted { ports: &options.ports, listeners, has_v6: block.has_v6 };
        let table = Table::make(&namespace, name, &wanted, reserve)?;
        let closing = CancellationToken::new();
        for socket in block.sockets {
            let listening = Listening { socket, namespace: Arc::clone(&namespace), closing: closing.clone() };
            // Whoever accepts has ended: then so has the agent.
            let _ = accept.send(listening);
        }
        Ok(Self { table, sockets: Arc::new(sockets), namespace, first_port, closing, loopback: Loopback::default() })
    }

    /// Tells the kernel that the agent lives, if connections can reach it.
    pub(super) fn beat(&mut self, max_age: Duration) -> Result<(), DivertError> {
        let now = Instant::now();
        let is_fresh = self.loopback.looked.is_some_and(|looked| now.duration_since(looked) < GOOD_FOR);
        if !(self.loopback.is_up && is_fresh) {
            let was_up = std::mem::replace(&mut self.loopback.is_up, loopback_is_up(&self.namespace));
            self.loopback.looked = Some(now);
            if was_up && !self.loopback.is_up {
                self.table.silence()?;
            }
        }
        if self.loopback.is_up { self.table.beat(max_age) } else { Ok(()) }
    }

    /// What keeps connections from being diverted, for people.
    pub(super) fn obstacle(&self) -> Option<String> {
        let is_down = self.loopback.looked.is_some() && !self.loopback.is_up;
        is_down.then(|| loopback::is_down(self.namespace.id().inode()))
    }

    /// Ends it all.
    pub(super) fn end(self, reserve: &mut Reserve) {
        self.closing.cancel();
        self.table.end(reserve);
    }

    /// Ends the listeners, once what waits there is accepted. Connections that there are go on for as long as this is kept.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Whether a connection of this namespace is still in the agent.
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.namespace) > 1
    }

    /// Where its listeners are.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        loopback::addresses(self.first_port)
    }
}

/// Whether 127.0.0.1 is there, on a device that is up.
fn loopback_is_up(namespace: &Namespace) -> bool {
    let look = || {
        getifaddrs().is_ok_and(|mut addresses| {
            addresses.any(|it| {
                let ip = it.address.as_ref().and_then(|address| address.as_sockaddr_in()).map(|address| address.ip());
                it.flags.contains(InterfaceFlags::IFF_UP) && ip == Some(Ipv4Addr::LOCALHOST)
            })
        })
    };
    namespace.run(look).unwrap_or(false)
}
