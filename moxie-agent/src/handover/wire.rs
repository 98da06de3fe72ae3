//! Messages between two agents: lines of JSON on a socket, with descriptors beside them.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Descriptors that one message may bring.
const DESCRIPTORS: usize = 8;
/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side is gone.
    #[error("the other agent closed the socket")]
    Closed,
    /// The socket does not work.
    #[error("the socket between the agents broke")]
    Socket(#[source] io::Error),
    /// What came is no message.
    #[error("the other agent said what this one does not understand")]
    Message(#[source] serde_json::Error),
    /// A message of another step.
    #[error("the other agent said {0} out of turn")]
    OutOfTurn(String),
}

/// Both ends of a socket, as readers and writers.
pub(super) fn pair(stream: StdUnixStream) -> io::Result<(Reader, Writer)> {
    stream.set_nonblocking(true)?;
    let stream = Arc::new(UnixStream::from_std(stream)?);
    Ok((Reader { stream: Arc::clone(&stream), read: Vec::new(), descriptors: VecDeque::new() }, Writer { stream }))
}

/// Where messages come from.
#[derive(Debug)]
pub(super) struct Reader {
    stream: Arc<UnixStream>,
    read: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Reader {
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(WireError::Message);
            }
            let (piece, descriptors) = self
                .stream
                .async_io(Interest::READABLE, || read(self.stream.as_raw_fd()))
                .await
                .map_err(WireError::Socket)?;
            if piece.is_empty() {
                return Err(WireError::Closed);
            }
            self.read.extend(piece);
            self.descriptors.extend(descriptors);
        }
    }

    /// The next descriptor that came beside the messages so far.
    pub(super) fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }
}

/// Where messages go.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    stream: Arc<UnixStream>,
}

impl Writer {
    pub(super) async fn send(&self, message: &impl Serialize) -> Result<(), WireError> {
        self.send_with(message, &[]).await
    }

    /// One at a time: two at once would mix.
    pub(super) async fn send_with(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), WireError> {
        let mut line = serde_json::to_vec(message).map_err(WireError::Message)?;
        line.push(b'\n');
        let mut descriptors: Vec<RawFd> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
        let mut left = line.as_slice();
        while !left.is_empty() {
            let write = || write(self.stream.as_raw_fd(), left, &descriptors);
            let sent = self.stream.async_io(Interest::WRITABLE, write).await.map_err(WireError::Socket)?;
            // They went with the first byte.
            descriptors.clear();
            left = left.get(sent..).unwrap_or_default();
        }
        Ok(())
    }
}

fn write(socket: RawFd, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    Ok(sendmsg::<UnixAddr>(socket, &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

fn read(socket: RawFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut piece = vec![0; PIECE];
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS]);
    let mut buffers = [IoSliceMut::new(&mut piece)];
    let message = recvmsg::<UnixAddr>(socket, &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows of them.
            descriptors.extend(received.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    let length = message.bytes;
    piece.truncate(length);
    Ok((piece, descriptors))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[tokio::test]
    async fn messages_and_descriptors_come_as_they_were_sent() {
        let (here, there) = StdUnixStream::pair().unwrap();
        let ((_, writer), (mut reader, answers)) = (pair(here).unwrap(), pair(there).unwrap());
        let long = "x".repeat(1 << 20);
        let file = tempfile::tempfile().unwrap();
        let sending = async {
            writer.send(&long).await.unwrap();
            writer.send_with(&7, &[file.as_fd()]).await.unwrap();
        };
        let ((), (text, number)) = tokio::join!(sending, async {
            (reader.receive::<String>().await.unwrap(), reader.receive::<u32>().await.unwrap())
        });
        assert_eq!((text, number), (long, 7));
        assert!(reader.descriptor().is_some() && reader.descriptor().is_none());
        drop((answers, writer));
    }

    #[tokio::test]
    async fn an_end_and_nonsense_are_told_apart() {
        let (here, there) = StdUnixStream::pair().unwrap();
        let (mut reader, _writer) = pair(there).unwrap();
        let (other, writer) = pair(here).unwrap();
        writer.send(&"text").await.unwrap();
        assert!(matches!(reader.receive::<u32>().await, Err(WireError::Message(_))));
        drop((other, writer));
        assert!(matches!(reader.receive::<u32>().await, Err(WireError::Closed)));
    }
}
