//! Bytes both ways between two connections, as they come and without a look at them; what ends one side ends the other likewise.
//!
//! - What is small is copied, what comes in bulk is moved by the kernel through a [`Pipes`] pipe (splice(2)). While nothing moves, a
//!   relay holds neither: it waits until bytes are there and borrows then. It keeps what could not be written yet, which is at most
//!   [`MOST_HELD`] in its own memory for each direction, and reads nothing more meanwhile.
//! - FIN is passed on as soon as the bytes before it are, for that direction alone; there is no time limit on what stays half open.
//! - RST (or any other way to break off) on one side is a reset of the other, at once, also while the relay waits for something else.
//!
//! Never: changes, holds back or invents a byte.

mod direction;
mod ending;
mod pipe;
mod streams;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::downstream::Bytes;
use direction::{Broken, Count, Direction, Way};

pub use direction::{MOST_HELD, Urgent};
pub(super) use ending::ask_whether_there;
pub use pipe::Pipes;
pub use streams::streams;

/// Which side broke off, and how. The other one has been reset.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The application's.
    #[error("the application broke off")]
    Downstream(#[source] io::Error),
    /// The destination's.
    #[error("the destination broke off")]
    Upstream(#[source] io::Error),
}

/// Relays between two sockets until both have ended, then closes them. Bytes that the application sent and somebody has peeked at
/// are the first to go.
///
/// # Errors
/// One side broke off.
pub async fn both(
    downstream: TcpStream,
    upstream: TcpStream,
    urgent: Urgent,
    bytes: &Bytes,
    pipes: &Pipes,
) -> Result<(), Error> {
    let mut relay = Relay::new(&downstream, &upstream, urgent, bytes, pipes);
    let relayed = relay.run().await;
    let Err(error) = relayed else { return Ok(()) };
    match &error {
        Error::Downstream(_) => {
            relay.up.flush(&relay.upward);
            let is_closed = relay.up.is_closed();
            ending::follow(upstream, is_closed);
        }
        Error::Upstream(_) => {
            relay.down.flush(&relay.downward);
            let is_closed = relay.down.is_closed();
            ending::follow(downstream, is_closed);
        }
    }
    Err(error)
}

/// Two sockets with a direction each way.
struct Relay<'a> {
    upward: Way<'a>,
    downward: Way<'a>,
    up: Direction,
    down: Direction,
    /// Whether the application has ended its direction and the other one goes on.
    is_half_open: bool,
}

impl<'a> Relay<'a> {
    fn new(
        downstream: &'a TcpStream,
        upstream: &'a TcpStream,
        urgent: Urgent,
        bytes: &'a Bytes,
        pipes: &'a Pipes,
    ) -> Self {
        Self {
            upward: Way { from: downstream, to: upstream, pipes, urgent, count: Count::Read(&bytes.up) },
            downward: Way { from: upstream, to: downstream, pipes, urgent, count: Count::Written(&bytes.down) },
            // The runtime has told of what was peeked at, and will not tell again.
            up: Direction::with_bytes_waiting(),
            down: Direction::default(),
            is_half_open: false,
        }
    }

    async fn run(&mut self) -> Result<(), Error> {
        let (downstream, upstream) = (self.upward.from, self.upward.to);
        let mut downstream_breaks = pin!(downstream.ready(Interest::ERROR));
        let mut upstream_breaks = pin!(upstream.ready(Interest::ERROR));
        poll_fn(|cx| {
            if let Poll::Ready(relayed) = self.poll_bytes(cx) {
                return Poll::Ready(relayed);
            }
            // A direction that waits to write, or has ended, does not read, so it would not learn of a reset.
            if downstream_breaks.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Error::Downstream(ending::cause(downstream))));
            }
            if upstream_breaks.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Error::Upstream(ending::cause(upstream))));
            }
            Poll::Pending
        })
        .await
    }

    /// Ready once both directions have ended, or one broke.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let up = self.up.poll(cx, &self.upward).map_err(|broken| match broken {
            Broken::From(error) => Error::Downstream(error),
            Broken::To(error) => Error::Upstream(error),
        })?;
        let down = self.down.poll(cx, &self.downward).map_err(|broken| match broken {
            Broken::From(error) => Error::Upstream(error),
            Broken::To(error) => Error::Downstream(error),
        })?;
        match (up, down) {
            (Poll::Ready(()), Poll::Ready(())) => return Poll::Ready(Ok(())),
            (Poll::Ready(()), Poll::Pending) if !self.is_half_open => {
                self.is_half_open = true;
                ending::ask_whether_there(self.upward.from);
            }
            _ => {}
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
