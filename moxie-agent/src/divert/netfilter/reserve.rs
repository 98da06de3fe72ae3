//! Low descriptors, kept for sockets that must be the last that the kernel closes of a process that is killed: it closes those with
//! high numbers first (since 4.4: what a task leaves behind is worked off from the end).

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::unistd::dup3;

use crate::netlink::Netlink;

/// As many network namespaces as are likely; those beyond have what number comes.
const KEPT: usize = 64;

/// Opened before anything else is.
#[derive(Debug)]
pub(super) struct Reserve {
    free: Vec<OwnedFd>,
}

impl Reserve {
    pub(super) fn keep() -> Self {
        // With fewer descriptors there are fewer.
        let free = (0..KEPT).map_while(|_| File::open("/dev/null").ok()).map(OwnedFd::from).collect();
        Self { free }
    }

    /// Gives a socket the lowest number there is.
    pub(super) fn lower(&mut self, netlink: Netlink) -> Netlink {
        let Some(mut low) = (!self.free.is_empty()).then(|| self.free.remove(0)) else { return netlink };
        match dup3(&netlink, &mut low, OFlag::O_CLOEXEC) {
            Ok(()) => low.into(),
            Err(_) => netlink,
        }
    }

    /// Takes the number back, and closes the socket.
    pub(super) fn give_back(&mut self, netlink: Netlink) {
        let mut low = OwnedFd::from(netlink);
        if self.free.len() < KEPT
            && let Ok(null) = File::open("/dev/null")
            && dup3(&null, &mut low, OFlag::O_CLOEXEC).is_ok()
        {
            self.free.push(low);
        }
    }
}
