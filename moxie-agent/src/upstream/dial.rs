//! Dialling the address that the service chose: marked, so that it is never diverted, and never one of Moxie's own sockets.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::probe::Known;
use crate::divert::{Divert, Origin};
use crate::socket_options;
use crate::tls::originate::Originate;

/// How long an address of a name is tried while there is another.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// How long the last one is.
const LAST_PATIENCE: Duration = Duration::from_secs(30);

/// Why a destination was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The destination is one of the agent's own sockets.
    #[error("{0} is one of the agent's own sockets")]
    OwnSocket(SocketAddr),
    /// The connection was diverted to the agent itself.
    #[error("the agent's own connection to {0} came back to it; it must not be in a cgroup that is opted in")]
    CameBack(SocketAddr),
    /// The name that an explicit proxy was told stands for no address.
    #[error("{0} was not found")]
    NotFound(String),
    /// The local socket could not be made.
    #[error("cannot make a socket for {destination}")]
    Socket {
        /// Where it should have gone.
        destination: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The destination refused, did not answer or is not reachable.
    #[error("cannot connect to {destination}")]
    Connect {
        /// Where it should have gone.
        destination: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The way to destinations.
#[derive(Debug)]
pub struct Upstream {
    divert: Arc<dyn Divert>,
    own: Vec<SocketAddr>,
    pub(super) tls: Originate,
    pub(super) known: Known,
}

impl Upstream {
    /// Dials past `divert`, verifies with `tls`, and refuses the addresses `own` (an unspecified IP stands for every local one).
    #[must_use]
    pub fn new(divert: Arc<dyn Divert>, own: Vec<SocketAddr>, tls: Originate) -> Self {
        Self { divert, own, tls, known: Known::default() }
    }

    /// Whether `destination` is one of the agent's own sockets, by whatever local address it is spelt.
    #[must_use]
    pub fn is_own(&self, destination: SocketAddr) -> bool {
        self.own.iter().any(|own| own.port() == destination.port() && reaches(*own, destination))
    }

    /// Connects to the original destination, from a socket that carries the application's own mark where it had set one. A name
    /// that an explicit proxy was told is tried at each of its addresses in turn, for a bounded time.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, origin: &Origin) -> Result<TcpStream, DialError> {
        if origin.asked.is_none() {
            return self.dial_address(origin.destination, origin).await;
        }
        let Some((last, before)) = origin.addresses().split_last() else {
            return Err(DialError::NotFound(origin.host()));
        };
        for destination in before {
            if let Ok(Ok(stream)) = timeout(FIRST_PATIENCE, self.dial_address(*destination, origin)).await {
                return Ok(stream);
            }
        }
        let late = |_| DialError::Connect { destination: *last, source: io::ErrorKind::TimedOut.into() };
        timeout(LAST_PATIENCE, self.dial_address(*last, origin)).await.map_err(late)?
    }

    async fn dial_address(&self, destination: SocketAddr, origin: &Origin) -> Result<TcpStream, DialError> {
        if self.is_own(destination) {
            return Err(DialError::OwnSocket(destination));
        }
        let socket = self.socket(destination, origin).await;
        let socket = socket.map_err(|source| DialError::Socket { destination, source })?;
        let stream = socket.connect(destination).await.map_err(|source| DialError::Connect { destination, source })?;
        if self.divert.came_back(stream.as_fd()) {
            // Both of its ends are the agent's; the other one is to go at once.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return Err(DialError::CameBack(destination));
        }
        socket_options::carry(&stream);
        Ok(stream)
    }

    /// In the application's namespace, with what it had set on its own socket.
    async fn socket(&self, destination: SocketAddr, origin: &Origin) -> io::Result<TcpSocket> {
        let socket = origin.namespace.socket_to(destination).await?;
        let mark = if origin.mark == 0 { self.divert.dial_mark() } else { Some(origin.mark) };
        if let Some(mark) = mark {
            SockRef::from(&socket).set_mark(mark)?;
        }
        set_tos(&socket, origin)?;
        if let Some(source) = origin.source {
            // The port is chosen at connect(), when the destination is known: two connections may share one.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(SocketAddr::new(source, 0))?;
        }
        Ok(socket)
    }
}

fn set_tos(socket: &TcpSocket, origin: &Origin) -> io::Result<()> {
    match origin.tos {
        0 => Ok(()),
        tos if origin.destination.is_ipv4() => SockRef::from(socket).set_tos_v4(tos.into()),
        class => SockRef::from(socket).set_tclass_v6(class.into()),
    }
}

/// Whether dialling `destination` would end at a socket bound to `own` (the ports are equal already).
fn reaches(own: SocketAddr, destination: SocketAddr) -> bool {
    let ip = destination.ip().to_canonical();
    own.ip() == ip
        || (is_local(destination) && (own.ip().is_unspecified() || ip.is_unspecified() || own.ip().is_loopback()))
}

/// Whether an address is one of this host's: only those can be bound.
fn is_local(destination: SocketAddr) -> bool {
    destination.ip().is_loopback() || UdpSocket::bind(SocketAddr::new(destination.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(addresses: &[&str], destination: &str) -> bool {
        let own: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let destination: SocketAddr = destination.parse().unwrap();
        own.iter().any(|own| own.port() == destination.port() && reaches(*own, destination))
    }

    #[test]
    fn every_spelling_of_an_own_socket_is_refused() {
        for spelling in ["127.0.0.1:8480", "0.0.0.0:8480", "[::ffff:127.0.0.1]:8480", "127.0.0.2:8480", "[::1]:8480"] {
            assert!(own(&["127.0.0.1:8480"], spelling), "{spelling}");
        }
    }

    #[test]
    fn others_on_the_same_port_are_not_ours() {
        assert!(!own(&["127.0.0.1:8480"], "198.51.100.7:8480"));
        assert!(!own(&["0.0.0.0:8480"], "198.51.100.7:8480"));
        assert!(!own(&["127.0.0.1:8480"], "127.0.0.1:8481"));
    }
}
