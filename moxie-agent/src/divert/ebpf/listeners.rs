//! The agent's listeners on loopback. They are the configuration: the kernel half diverts to a listening socket that carries the
//! agent's mark, and to nothing else.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use moxie_common::{Mark, PORTS_PER_LISTENER_SET};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::routes::Routes;
use crate::divert::{DivertError, Listening};
use crate::namespace::Namespace;

/// From one block of ports to the next.
const STRIDE: u16 = 16;
/// Blocks of ports that are tried.
const BLOCKS: u16 = 8;
/// Connections that may wait to be accepted; beyond it their SYNs are dropped, and sent again after a second.
const BACKLOG: i32 = 4096;
/// How long the last look at the IPv6 routes is good for.
const ROUTES_GOOD_FOR: Duration = Duration::from_secs(1);

/// The listeners of one network namespace.
#[derive(Debug)]
pub(super) struct Listeners {
    waiting: Option<UnboundedReceiver<Listening>>,
    first_port: u16,
    v6: Option<ListenersV6>,
}

/// Marks of the IPv6 listeners follow the namespace's routes. The sockets here are second descriptors of those given out, so IPv6
/// listeners end with the way itself, not when the data path lets go of its own.
#[derive(Debug)]
struct ListenersV6 {
    sockets: Vec<Socket>,
    mark: Mark,
    routes: Routes,
    checked: Option<Instant>,
}

impl Listeners {
    /// In the calling thread's namespace, at `first_port` and the ports after it, or at the next block where one of them is taken.
    pub(super) fn open(first_port: u16, mark: Mark) -> Result<Self, DivertError> {
        let blocks = (0..BLOCKS).map_while(|block| first_port.checked_add(block * STRIDE));
        let mut last = first_port;
        for base in blocks.filter(|base| base.checked_add(PORTS_PER_LISTENER_SET).is_some()) {
            last = base + PORTS_PER_LISTENER_SET - 1;
            match Self::open_block(base, mark) {
                Err(DivertError::Listen { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
                opened => return opened,
            }
        }
        Err(DivertError::NoFreePorts { count: PORTS_PER_LISTENER_SET, first: first_port, last })
    }

    fn open_block(first_port: u16, mark: Mark) -> Result<Self, DivertError> {
        let namespace = Namespace::own()
            .map_err(|source| DivertError::Listen { address: (Ipv4Addr::LOCALHOST, first_port).into(), source })?;
        let mut waiting = Vec::new();
        for port in ports(first_port) {
            waiting.push(listen((Ipv4Addr::LOCALHOST, port).into(), mark)?.into());
        }
        let v6 = ListenersV6::open(first_port, mark)?;
        if let Some(v6) = &v6 {
            for socket in &v6.sockets {
                let address = (Ipv6Addr::LOCALHOST, first_port).into();
                let copy = socket.try_clone().map_err(|source| DivertError::Listen { address, source })?;
                waiting.push(copy.into());
            }
        }
        let mut listeners = Self { waiting: Some(waiting_in(namespace, waiting)), first_port, v6 };
        listeners.refresh_v6();
        Ok(listeners)
    }

    pub(super) fn first_port(&self) -> u16 {
        self.first_port
    }

    /// The listeners to accept from, once.
    pub(super) fn take(&mut self) -> Option<UnboundedReceiver<Listening>> {
        self.waiting.take()
    }

    /// Lets IPv6 destinations be diverted exactly while there is a route to any; looks at most once a second.
    pub(super) fn refresh_v6(&mut self) {
        let Some(v6) = &mut self.v6 else { return };
        let now = Instant::now();
        if v6.checked.is_some_and(|checked| now.duration_since(checked) < ROUTES_GOOD_FOR) {
            return;
        }
        v6.checked = Some(now);
        v6.follow_routes();
    }
}

impl ListenersV6 {
    /// `None` where the namespace has no IPv6, or no `::1`: then no IPv6 connect is diverted.
    fn open(first_port: u16, mark: Mark) -> Result<Option<Self>, DivertError> {
        let Some(routes) = Routes::open() else { return Ok(None) };
        let mut sockets = Vec::new();
        for port in ports(first_port) {
            match listen((Ipv6Addr::LOCALHOST, port).into(), mark) {
                Ok(socket) => sockets.push(socket),
                Err(DivertError::Listen { source, .. }) if is_absence_of_v6(&source) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Self { sockets, mark, routes, checked: None }))
    }

    fn follow_routes(&mut self) {
        let mark = match self.routes.reach_out() {
            Ok(reach_out) => self.mark.routed_v6(reach_out),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "IPv6 routes not read; IPv6 goes direct");
                self.mark.routed_v6(false)
            }
        };
        if mark == self.mark {
            return;
        }
        for socket in &self.sockets {
            if let Err(error) = SockRef::from(socket).set_mark(mark.0) {
                tracing::warn!(error = &error as &dyn std::error::Error, "IPv6 listener not marked; tried again");
                return;
            }
        }
        self.mark = mark;
    }
}

fn waiting_in(namespace: Arc<Namespace>, sockets: Vec<OwnedFd>) -> UnboundedReceiver<Listening> {
    let (sender, receiver) = unbounded_channel();
    for socket in sockets {
        let listening = Listening { socket, namespace: Arc::clone(&namespace), closing: CancellationToken::new() };
        // The receiver is held right here.
        let _ = sender.send(listening);
    }
    receiver
}

fn ports(first: u16) -> impl Iterator<Item = u16> {
    first..first.saturating_add(PORTS_PER_LISTENER_SET)
}

/// Marked before it listens: from the first moment on the kernel half can tell it from a stranger's. No TCP Fast Open: its
/// connections could be accepted before they are established.
fn listen(address: SocketAddr, mark: Mark) -> Result<Socket, DivertError> {
    let open = || {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_mark(mark.0)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    open().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => {
            DivertError::NotPermitted { operation: "mark a socket".into(), source: source.into() }
        }
        _ => DivertError::Listen { address, source },
    })
}

fn is_absence_of_v6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}
