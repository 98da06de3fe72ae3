//! Looking at what waits in a socket; it stays there until somebody reads it.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// This many bytes are in the socket, and in the buffer.
    Bytes(usize),
    /// No more will come.
    Closed,
}

/// Waits until more than `seen` bytes are in the socket and copies them; they stay there.
///
/// # Errors
/// The socket's own.
pub async fn beyond(stream: &TcpStream, buffer: &mut [u8], seen: usize) -> io::Result<Peeked> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let peeked = stream.try_io(Interest::READABLE, || {
            let count = recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_PEEK)?;
            // "Would block" makes the runtime wait for the next arrival instead of for what is there already.
            if count > seen { Ok(count) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        match peeked {
            Ok(count) => return Ok(Peeked::Bytes(count)),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if ready.is_read_closed() => return Ok(Peeked::Closed),
            Err(_) => {}
        }
    }
}
