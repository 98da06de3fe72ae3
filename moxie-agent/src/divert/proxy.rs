//! The proxy way: an explicit HTTP proxy on loopback. It needs no privilege, and only clients that are told of it use it.
//!
//! It is told names, so it is the one way on path that resolves them. What it takes of a connection is the head of a CONNECT, to the
//! byte; everything after that, and requests in absolute-form, are for the data path, as on every other way.

pub mod guest;
pub mod head;
mod names;
mod refusal;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::unistd::geteuid;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Asked, Attachment, Divert, DivertError, Form, Listening, Origin, Terms};
use crate::namespace::Namespace;
use crate::peek::{self, Peeked};
use guest::{Guest, Guests};
use head::Head;
pub(crate) use head::{destination, split};
pub use names::{ParseStandInError, StandIn, StandIns};
pub use refusal::Refusal;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a client may keep a connection open before it asks for anything: clients open some in advance.
const FIRST_BYTE: Duration = Duration::from_mins(1);
/// How long a head may take from its first byte to its last.
const WHOLE_HEAD: Duration = Duration::from_secs(10);
/// First size of the buffer that a head is peeked into.
const FIRST_BUFFER: usize = 1024;
/// Longest head of a CONNECT, or of the first request.
const MAX_HEAD: usize = 64 * 1024;

/// The proxy way, listening.
#[derive(Debug)]
pub struct Proxy {
    door: SocketAddr,
    listener: Mutex<Option<(OwnedFd, Arc<Namespace>)>>,
    names: StandIns,
    guests: Arc<Guests>,
    is_enabled: AtomicBool,
    counted: Counted,
}

#[derive(Debug, Default)]
struct Counted {
    tunnels: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
}

impl Proxy {
    /// Listens on `door` (port 0: any), in the calling thread's network namespace, and finds names by `names` first.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn open(door: SocketAddr, names: StandIns) -> Result<Self, DivertError> {
        let refused = |source| DivertError::ListenProxy { address: door, source };
        let (listener, door) = listen(door).map_err(refused)?;
        let namespace = Namespace::own().map_err(refused)?;
        Ok(Self {
            door,
            listener: Mutex::new(Some((listener, namespace))),
            names,
            guests: Arc::default(),
            is_enabled: AtomicBool::new(true),
            counted: Counted::default(),
        })
    }

    async fn welcome(&self, client: &TcpStream) -> Result<Guest, DivertError> {
        let lost = |source| DivertError::Client { source };
        let (guests, door) = (Arc::clone(&self.guests), self.door);
        let from = client.peer_addr().map_err(lost)?;
        // A panic there leaves the client unknown, which is no reason not to serve it.
        let guest = spawn_blocking(move || guests.find(from, door)).await.unwrap_or_default();
        match guest.uid {
            Some(uid) if !serves(uid) => Err(Refusal::Stranger { uid, own: geteuid().as_raw() }.into()),
            _ => Ok(guest),
        }
    }

    async fn ask(&self, client: &TcpStream, namespace: &Arc<Namespace>) -> Result<Origin, DivertError> {
        let guest = self.welcome(client).await?;
        let Head { form, host, port, length } = first_head(client).await?;
        if form == Form::Tunnel {
            consume(client, length).await.map_err(|source| DivertError::Client { source })?;
        }
        let addresses = self.names.find(&host, port).await;
        let asked = Asked { form, host, port, addresses };
        let origin = Origin::to(asked.destination(), Arc::clone(namespace));
        Ok(Origin { pid: guest.pid, cgroup_id: guest.cgroup_id, asked: Some(asked), ..origin })
    }
}

/// An agent of root's serves everyone on the host, any other its own user and root: it must not lend its user's network to others.
fn serves(uid: u32) -> bool {
    let own = geteuid();
    own.is_root() || uid == 0 || uid == own.as_raw()
}

fn listen(door: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(door), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&door.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(door);
    Ok((socket.into(), bound))
}

/// Peeks until the first head is whole.
async fn first_head(client: &TcpStream) -> Result<Head, DivertError> {
    let mut buffer = vec![0; FIRST_BUFFER];
    let mut seen = timeout(FIRST_BYTE, more(client, &mut buffer, 0)).await.map_err(|_| Refusal::Silent)??;
    let rest = async {
        loop {
            if let Some(head) = head::parse(buffer.get(..seen).unwrap_or_default())? {
                return Ok(head);
            }
            if seen == buffer.len() {
                if seen >= MAX_HEAD {
                    return Err(Refusal::TooLarge.into());
                }
                buffer.resize((seen * 4).min(MAX_HEAD), 0);
            }
            seen = more(client, &mut buffer, seen).await?;
        }
    };
    timeout(WHOLE_HEAD, rest).await.map_err(|_| Refusal::Silent)?
}

async fn more(client: &TcpStream, buffer: &mut [u8], seen: usize) -> Result<usize, DivertError> {
    match peek::beyond(client, buffer, seen).await {
        Ok(Peeked::Bytes(count)) => Ok(count),
        Ok(Peeked::Closed) => Err(DivertError::Client { source: io::ErrorKind::UnexpectedEof.into() }),
        Err(source) => Err(DivertError::Client { source }),
    }
}

/// Reads `length` bytes that have been peeked.
async fn consume(client: &TcpStream, length: usize) -> io::Result<()> {
    let mut buffer = vec![0; length];
    let mut rest = buffer.as_mut_slice();
    while !rest.is_empty() {
        client.readable().await?;
        match client.try_read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[async_trait]
impl Divert for Proxy {
    fn name(&self) -> &'static str {
        super::Way::Proxy.name()
    }

    fn attach(&self, _: &Path, _: Terms) -> Result<Box<dyn Attachment>, DivertError> {
        Ok(Box::new(Invited { door: self.door }))
    }

    async fn origin(&self, accepted: &TcpStream, namespace: &Arc<Namespace>) -> Result<Option<Origin>, DivertError> {
        let asked = self.ask(accepted, namespace).await;
        let counter = match asked.as_ref().map(|origin| origin.asked.as_ref().map(|asked| asked.form)) {
            Ok(Some(Form::Tunnel)) => &self.counted.tunnels,
            Ok(_) => &self.counted.requests,
            Err(_) => &self.counted.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        asked.map(Some)
    }

    async fn find(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        self.names.find(host, port).await
    }

    fn door(&self) -> Option<SocketAddr> {
        Some(self.door)
    }

    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        let (socket, namespace) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (sender, receiver) = unbounded_channel();
        // The receiver is still here.
        let _ = sender.send(Listening { socket, namespace, closing: CancellationToken::new() });
        Some(receiver)
    }

    fn listener_addresses(&self) -> Vec<SocketAddr> {
        vec![self.door]
    }

    /// Off, the proxy still serves, but lets everything pass: its clients have no other way.
    fn set_enabled(&self, enabled: bool) -> Result<(), DivertError> {
        self.is_enabled.store(enabled, Ordering::Release);
        Ok(())
    }

    fn is_enabled(&self) -> bool {
        self.is_enabled.load(Ordering::Acquire)
    }

    fn beat(&self) {}

    fn dial_mark(&self) -> Option<u32> {
        None
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counted { tunnels, requests, refused } = &self.counted;
        [("proxy_tunnels", tunnels), ("proxy_requests", requests), ("proxy_refused", refused)]
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
            .to_vec()
    }
}

/// A cgroup whose programs may use the proxy; nothing in the kernel makes them.
#[derive(Debug)]
struct Invited {
    door: SocketAddr,
}

impl Attachment for Invited {
    fn obstacles(&self) -> Vec<String> {
        vec![format!(
            "the way on path is the proxy: only programs that are told to use it come to the agent; \
             set HTTP_PROXY and HTTPS_PROXY to http://{} for them",
            self.door
        )]
    }
}

#[cfg(test)]
mod tests;
