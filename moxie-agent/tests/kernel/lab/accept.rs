//! Accepting from several sockets, in turns.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long the agent and the servers wait before they look at their flags again.
const TURN_MS: u8 = 20;

/// Accepts until told to stop; `each_turn` is called at least every [`TURN_MS`].
pub(super) fn accept_from<L: Listens>(
    listeners: &mut Vec<L>,
    stop: &AtomicBool,
    mut each_turn: impl FnMut(&mut Vec<L>),
    accepted: impl Fn(TcpStream, &L),
) {
    while !stop.load(Ordering::Relaxed) {
        each_turn(listeners);
        let mut waiting: Vec<_> =
            listeners.iter().map(|it| PollFd::new(it.socket().as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut waiting, PollTimeout::from(TURN_MS)).unwrap();
        for listener in listeners.iter() {
            listener.socket().set_nonblocking(true).unwrap();
            // A bounded batch, so that a flood does not keep the heart from beating.
            for _ in 0..64 {
                match listener.socket().accept() {
                    Ok((stream, _)) => accepted(stream, listener),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("accept: {error}"),
                }
            }
        }
    }
}

pub(super) trait Listens {
    fn socket(&self) -> &TcpListener;
}

impl Listens for TcpListener {
    fn socket(&self) -> &TcpListener {
        self
    }
}
