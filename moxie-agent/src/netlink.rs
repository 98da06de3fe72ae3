//! Netlink: messages to the kernel and its answers, for the few families that the agent speaks.
//!
//! A netlink request is worked on inside the call that sends it, so an answer is there as soon as that call returns: nothing here
//! waits. Layouts: `linux/netlink.h`.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{Domain, Protocol, Socket, Type};

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`: a refusal, or an acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`.
const TYPE_MASK: u16 = 0x3fff;
/// Length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// Where the flags are in it.
const FLAGS_AT: usize = 6;
/// Length and type of an attribute.
const ATTRIBUTE_HEADER: usize = 4;
/// Messages and attributes begin at multiples of this.
const ALIGNMENT: usize = 4;
/// The kernel puts no more into one datagram.
const LARGEST_DATAGRAM: usize = 65_536;
/// Room for what one request may take; a list of 65,535 ports is the largest.
const SEND_BUFFER: usize = 8 << 20;

/// A netlink socket, of the network namespace that it was made in.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
}

/// What the kernel answered to one message of a request.
#[derive(Debug)]
pub enum Answer<'a> {
    /// It was done.
    Acknowledged,
    /// The dump is whole.
    Done,
    /// It was refused.
    Refused(io::Error),
    /// What was asked for: everything after the message's header.
    Content(&'a [u8]),
}

impl Netlink {
    /// Of the calling thread's network namespace. `family` is a `NETLINK_*` constant.
    pub(crate) fn open(family: c_int) -> io::Result<Self> {
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW.cloexec(), Some(Protocol::from(family)))?;
        Ok(Self { socket })
    }

    /// Lets one request be large.
    pub(crate) fn enlarge(&self) -> io::Result<()> {
        nix::sys::socket::setsockopt(&self.socket, nix::sys::socket::sockopt::SndBufForce, &SEND_BUFFER)?;
        Ok(())
    }

    /// Sends `request` and hands each answer, with the number of the message that it answers, to `take`.
    pub(crate) fn exchange(&self, request: &[u8], mut take: impl FnMut(u32, Answer<'_>)) -> io::Result<()> {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.socket);
        send(fd, request, MsgFlags::empty())?;
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        loop {
            match recv(fd, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => messages(buffer.get(..length).unwrap_or_default(), &mut take),
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Netlink> for OwnedFd {
    fn from(netlink: Netlink) -> Self {
        netlink.socket.into()
    }
}

impl From<OwnedFd> for Netlink {
    fn from(socket: OwnedFd) -> Self {
        Self { socket: socket.into() }
    }
}

/// One or more messages, being written.
#[derive(Debug, Default)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
}

impl Request {
    /// Adds a message: the family's own `header`, then the attributes that `fill` writes.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        header: &[u8],
        fill: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.last = start;
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        // Port 0: the kernel fills in who we are.
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(header);
        self.align();
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.put(start, &length.to_ne_bytes());
    }

    /// Adds flags to the last message.
    pub(crate) fn flag_last(&mut self, flags: u16) {
        let at = self.last + FLAGS_AT;
        if let Some(before) = u16_at(&self.bytes, at) {
            self.put(at, &(before | flags).to_ne_bytes());
        }
    }

    /// Adds an attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.attribute_of(kind, |this| this.bytes.extend_from_slice(value));
    }

    /// Adds an attribute made of the attributes that `fill` writes.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.attribute_of(kind | NESTED, fill);
    }

    /// Adds a text, with the zero byte at its end that the kernel wants.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        self.attribute_of(kind, |this| {
            this.bytes.extend_from_slice(text.as_bytes());
            this.bytes.push(0);
        });
    }

    /// Adds a number in network order.
    pub(crate) fn be32(&mut self, kind: u16, number: u32) {
        self.attribute(kind, &number.to_be_bytes());
    }

    /// Adds a number in network order.
    pub(crate) fn be64(&mut self, kind: u16, number: u64) {
        self.attribute(kind, &number.to_be_bytes());
    }

    /// What is to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn attribute_of(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0_u16.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.put(start, &length.to_ne_bytes());
        self.align();
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// Hands each message of one datagram to `take`, with the number of the message that it answers.
pub fn messages(mut datagram: &[u8], take: &mut impl FnMut(u32, Answer<'_>)) {
    while let (Some(length), Some(kind), Some(sequence)) =
        (u32_at(datagram, 0), u16_at(datagram, 4), u32_at(datagram, 8))
    {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(content) = datagram.get(HEADER..length) else { return };
        take(sequence, answer(kind, content));
        datagram = datagram.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
}

fn answer(kind: u16, content: &[u8]) -> Answer<'_> {
    match kind {
        ERROR => status(content).map_or(Answer::Acknowledged, Answer::Refused),
        DONE => status(content).map_or(Answer::Done, Answer::Refused),
        _ => Answer::Content(content),
    }
}

/// The error number at the beginning, negative in the kernel's manner; 0 is none.
fn status(content: &[u8]) -> Option<io::Error> {
    let status = i32::from_ne_bytes(u32_at(content, 0)?.to_ne_bytes());
    (status < 0).then(|| io::Error::from_raw_os_error(status.saturating_neg()))
}

/// The attributes in `bytes`: type, without its flags, and value. Ends at the first that is cut short.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Two bytes in the host's order.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// Four bytes in the host's order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let mut request = Request::default();
        request.message(7, ACK, 42, &[9; 3], |message| {
            message.text(1, "abc");
            message.nested(2, |inside| {
                inside.be32(3, 0x0102_0304);
                inside.attribute(4, &[5]);
            });
        });
        let mut seen = Vec::new();
        messages(request.bytes(), &mut |sequence, answer| {
            let Answer::Content(content) = answer else { panic!("{answer:?}") };
            assert_eq!(sequence, 42);
            seen = content.to_vec();
        });
        assert_eq!(seen.get(..4), Some(&[9, 9, 9, 0][..]));
        let attributes_seen = &seen[4..];
        assert_eq!(attribute(attributes_seen, 1), Some(&b"abc\0"[..]));
        let inside = attribute(attributes_seen, 2).unwrap();
        assert_eq!(attributes(inside).collect::<Vec<_>>(), [(3, &[1, 2, 3, 4][..]), (4, &[5][..])]);
        assert_eq!(attribute(inside, 5), None);
    }

    #[test]
    fn a_refusal_has_the_kernels_error() {
        assert!(matches!(answer(ERROR, &0_i32.to_ne_bytes()), Answer::Acknowledged));
        let Answer::Refused(error) = answer(ERROR, &(-libc::EPERM).to_ne_bytes()) else { panic!("not refused") };
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert!(matches!(answer(DONE, &[]), Answer::Done));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange_to_read(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            messages(&bytes, &mut |_, answer| {
                if let Answer::Content(content) = answer {
                    attributes(content).for_each(drop);
                }
            });
            attributes(&bytes).for_each(drop);
        }
    }
}
