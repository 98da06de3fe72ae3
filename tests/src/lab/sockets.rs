//! Sockets that belong to a place of the lab and are connected by this process: what the kernel does for their cgroup it does for them.

use std::io::{IoSliceMut, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::process::Running;
use super::{Lab, Place};
use crate::programs::{self, PYTHON};

/// Gives out sockets of one place, until it is dropped.
#[derive(Debug)]
pub struct Sockets {
    channel: UnixStream,
    _program: Running,
}

impl Lab {
    /// Sockets of the clients' namespace and of `place`.
    ///
    /// # Errors
    /// The program that makes them cannot be started.
    pub fn sockets(&self, place: Place) -> Result<Sockets> {
        let path = self.files().join(format!("sockets-{place:?}"));
        let door = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        let mut command = self.bare_command(PYTHON, place)?;
        command.arg(programs::script("sockets.py")).arg(&path);
        let program = Running::start(command)?;
        let (channel, _) = door.accept()?;
        Ok(Sockets { channel, _program: program })
    }

    /// Listens in the stand-ins' namespace, on a port of `host`'s that was free.
    ///
    /// # Errors
    /// The lab has no such name, or the kernel refused.
    pub fn listen(&self, host: &str) -> Result<TcpListener> {
        let place = super::origins::place(host)?;
        self.net.enter(|| TcpListener::bind((place.address, 0)).with_context(|| format!("cannot listen on {place:?}")))
    }
}

impl Sockets {
    /// A new one, not connected.
    ///
    /// # Errors
    /// The program has ended.
    pub fn fresh(&mut self) -> Result<OwnedFd> {
        self.channel.write_all(b"s")?;
        let (mut octet, mut space) = ([0], nix::cmsg_space!(std::os::fd::RawFd));
        let mut parts = [IoSliceMut::new(&mut octet)];
        let message =
            recvmsg::<()>(self.channel.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(sockets) = control
                && let Some(&socket) = sockets.first()
            {
                // SAFETY: the kernel has just made this descriptor for this process, and nobody else has been told of it.
                return Ok(unsafe { OwnedFd::from_raw_fd(socket) });
            }
        }
        bail!("no socket came")
    }
}
