//! The two doors of the API: a Unix socket that looks at its peers, and TCP.

use std::ffi::CString;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::unix::{SocketAddr as UnixAddr, UCred};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::access::Door;
use crate::drain::Drain;
use crate::paths;

/// How long to wait after a failed accept, so that running out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An agent answers on the socket.
    #[error("an agent is listening on {0} already: stop it first, or give this one its own --state-dir")]
    InUse(PathBuf),
    /// Something that is no socket is in the place of the socket.
    #[error("{0} is not a socket: move it away")]
    NotASocket(PathBuf),
    /// The TCP address cannot be had.
    #[error("cannot listen on {address}; give another address with --admin")]
    Address {
        /// Which.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step of making the socket failed.
    #[error("cannot {step} {path}")]
    Socket {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The sockets of the API, listening. What waits in them is answered by whoever serves them, now or later.
#[derive(Debug)]
pub struct Doors {
    unix: StdUnixListener,
    path: PathBuf,
    tcp: StdTcpListener,
}

impl Doors {
    /// Opens both.
    ///
    /// # Errors
    /// The socket cannot be made, or a live agent has it; the address cannot be had.
    pub async fn open(path: &Path, address: SocketAddr) -> Result<Self, ServeError> {
        let tcp = TcpListener::bind(address).await.map_err(|source| ServeError::Address { address, source })?;
        let tcp = tcp.into_std().map_err(|source| ServeError::Address { address, source })?;
        let unix = bind(path).await?.into_std();
        let unix = unix.map_err(|source| ServeError::Socket { step: "listen on", path: path.to_path_buf(), source })?;
        Ok(Self { unix, path: path.to_path_buf(), tcp })
    }

    /// Those of an agent that this one takes over from; one whose address is not the wanted one is opened anew.
    ///
    /// # Errors
    /// As for [`Doors::open`].
    pub async fn receive(unix: OwnedFd, tcp: OwnedFd, path: &Path, address: SocketAddr) -> Result<Self, ServeError> {
        let (unix, mut tcp) = (StdUnixListener::from(unix), StdTcpListener::from(tcp));
        if !tcp.local_addr().is_ok_and(|own| own == address) {
            let anew = TcpListener::bind(address).await.and_then(TcpListener::into_std);
            tcp = anew.map_err(|source| ServeError::Address { address, source })?;
        }
        Ok(Self { unix, path: path.to_path_buf(), tcp })
    }

    /// The sockets, for another agent: Unix, TCP.
    #[must_use]
    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.unix.as_fd(), self.tcp.as_fd()]
    }

    /// Serves `router` on both until `drain` starts. The doors stay open: what comes later waits.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn serve(&self, router: &Router, drain: &Drain) -> Result<(), ServeError> {
        let failed = |source| ServeError::Socket { step: "serve", path: self.path.clone(), source };
        let unix = self.unix.try_clone().and_then(UnixListener::from_std).map_err(failed)?;
        let tcp = self.tcp.try_clone().and_then(TcpListener::from_std).map_err(failed)?;
        serve_unix(unix, router.clone(), drain);
        serve_tcp(tcp, router.clone(), drain);
        Ok(())
    }

    /// Closes them and removes the socket's file.
    pub fn close(self) {
        // An operator may have removed it: that is fine.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves `router` on a Unix socket until `drain` starts; returns at once.
fn serve_unix(listener: UnixListener, router: Router, drain: &Drain) {
    let door = UnixDoor { listener, group: moxie_group() };
    let stop = drain.clone();
    drain.spawn(async move {
        let service = router.into_make_service_with_connect_info::<Door>();
        let served = axum::serve(door, service).with_graceful_shutdown(async move { stop.started().await }).await;
        if let Err(error) = served {
            tracing::error!(%error, "the admin socket is no longer served");
        }
    });
}

/// Serves `router` on `listener` until `drain` starts; returns at once.
fn serve_tcp(listener: TcpListener, router: Router, drain: &Drain) {
    let stop = drain.clone();
    drain.spawn(async move {
        let service = router.into_make_service_with_connect_info::<Door>();
        let served = axum::serve(listener, service).with_graceful_shutdown(async move { stop.started().await }).await;
        if let Err(error) = served {
            tracing::error!(%error, "the admin address is no longer served");
        }
    });
}

async fn bind(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |step| move |source| ServeError::Socket { step, path: path.to_path_buf(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed("make the directory of"))?;
    }
    clear_stale(path).await?;
    let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed("set the mode of"))?;
    if let Some(group) = moxie_group() {
        // Without the right to give the socket away it stays with the agent's own group, and its owner and root can use it.
        if let Err(error) = std::os::unix::fs::chown(path, None, Some(group.as_raw())) {
            tracing::warn!(%error, group = paths::GROUP, "the admin socket stays with the agent's own group");
        }
    }
    Ok(listener)
}

/// Removes the socket that a dead agent left behind; only a connect tells the dead from the living.
async fn clear_stale(path: &Path) -> Result<(), ServeError> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(ServeError::NotASocket(path.to_path_buf()));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|source| ServeError::Socket { step: "remove the dead agent's", path: path.to_path_buf(), source }),
        _ => Err(ServeError::InUse(path.to_path_buf())),
    }
}

fn moxie_group() -> Option<Gid> {
    Group::from_name(paths::GROUP).ok().flatten().map(|group| group.gid)
}

/// A Unix listener that only lets root, the agent's own user and the group in.
///
/// The file mode says the same; this holds when the mode was changed, or the socket was passed into a container.
struct UnixDoor {
    listener: UnixListener,
    group: Option<Gid>,
}

impl Listener for UnixDoor {
    type Io = UnixStream;
    type Addr = UnixAddr;

    async fn accept(&mut self) -> (UnixStream, UnixAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) if self.admits(&stream).await => return (stream, address),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the admin socket cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<UnixAddr> {
        self.listener.local_addr()
    }
}

impl UnixDoor {
    async fn admits(&self, stream: &UnixStream) -> bool {
        let Ok(peer) = stream.peer_cred() else { return false };
        let group = self.group;
        // The user database may be on the network.
        let admitted =
            is_owner(&peer) || tokio::task::spawn_blocking(move || is_member(&peer, group)).await.unwrap_or(false);
        if !admitted {
            tracing::warn!(
                uid = peer.uid(),
                pid = peer.pid(),
                "refused on the admin socket: not root, not the agent's user, not in its group"
            );
        }
        admitted
    }
}

fn is_owner(peer: &UCred) -> bool {
    peer.uid() == 0 || peer.uid() == Uid::effective().as_raw()
}

fn is_member(peer: &UCred, group: Option<Gid>) -> bool {
    let Some(group) = group else { return false };
    if peer.gid() == group.as_raw() {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(peer.uid())) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    nix::unistd::getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group))
}

impl Connected<IncomingStream<'_, UnixDoor>> for Door {
    fn connect_info(_: IncomingStream<'_, UnixDoor>) -> Self {
        Self::Unix
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Door {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        // A socket whose address cannot be read is only reachable by names that need no address.
        let unknown = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        Self::Tcp(stream.io().local_addr().unwrap_or(unknown))
    }
}
