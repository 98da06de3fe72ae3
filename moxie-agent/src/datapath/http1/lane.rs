//! One direction's bytes on their way from one socket to the other: what was read and not yet written, and how much of it may go.
//!
//! A lane reads into one buffer and writes from it; it holds none while nothing is on its way, so that a kept connection without a
//! request costs none. Buffers are lent out by each thread, zeroed once.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once.
pub(super) const CHUNK: usize = 32 * 1024;
/// Buffers that a thread keeps for the next to need one.
const SPARE: usize = 16;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Of our own making, to be written before what was read.
    own: [Bytes; 2],
    /// Its whole length is room; empty while nothing is on its way.
    buffer: Vec<u8>,
    /// `start..passed` may be written, `passed..end` is held.
    start: usize,
    passed: usize,
    end: usize,
    flush_due: bool,
}

impl Lane {
    /// What was read and may not be written yet.
    pub(super) fn held(&self) -> &[u8] {
        self.buffer.get(self.passed..self.end).unwrap_or_default()
    }

    /// Lets the first `len` held bytes go.
    pub(super) fn pass(&mut self, len: usize) {
        self.passed = (self.passed + len).min(self.end);
    }

    /// Lets every held byte go.
    pub(super) fn pass_all(&mut self) {
        self.passed = self.end;
    }

    /// Drops the first `len` held bytes. Whatever was let go before them must have been written: see [`Lane::is_clear`].
    pub(super) fn drop_held(&mut self, len: usize) {
        self.passed = (self.passed + len).min(self.end);
        self.start = self.passed;
    }

    /// Puts bytes of ours before the held ones. Whatever was let go before them must have been written.
    pub(super) fn insert(&mut self, first: Bytes, then: Bytes) {
        self.own = [first, then];
    }

    /// Whether everything that may go has been handed to the other socket.
    pub(super) fn is_clear(&self) -> bool {
        self.start == self.passed && self.own.iter().all(Bytes::is_empty)
    }

    /// Whether that has left our own buffers too.
    pub(super) fn is_drained(&self) -> bool {
        self.is_clear() && !self.flush_due
    }

    /// Whether more can be read without a larger buffer.
    pub(super) fn has_room(&self) -> bool {
        self.end - self.start < CHUNK
    }

    /// Forgets everything that was not written.
    pub(super) fn discard(&mut self) {
        *self = Self::default();
    }

    /// Reads what is there; 0 is the end. The buffer grows if it is full of bytes that are held.
    pub(super) fn poll_fill<S>(&mut self, from: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        self.make_room();
        let mut room = ReadBuf::new(self.buffer.get_mut(self.end..).unwrap_or_default());
        let read = Pin::new(from).poll_read(cx, &mut room);
        let len = room.filled().len();
        self.end += len;
        if len == 0 {
            self.give_back();
        }
        read.map_ok(|()| len)
    }

    /// Writes what may go, and flushes.
    pub(super) fn poll_drain<S>(&mut self, to: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while !self.is_clear() {
            let written = ready!(self.poll_write(to, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.flush_due = true;
            self.written(written);
        }
        if self.flush_due {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.flush_due = false;
        }
        self.give_back();
        Poll::Ready(Ok(()))
    }

    fn poll_write<S>(&self, to: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncWrite + Unpin,
    {
        let passed = self.buffer.get(self.start..self.passed).unwrap_or_default();
        let [first, then] = &self.own;
        let parts = [first.as_ref(), then.as_ref(), passed];
        let mut filled = parts.into_iter().filter(|part| !part.is_empty());
        match (filled.next(), filled.next()) {
            (Some(only), None) => Pin::new(to).poll_write(cx, only),
            _ => Pin::new(to).poll_write_vectored(cx, &parts.map(IoSlice::new)),
        }
    }

    fn written(&mut self, mut len: usize) {
        for own in &mut self.own {
            let part = len.min(own.len());
            own.advance(part);
            len -= part;
            if own.is_empty() {
                // Lets go of what it was a part of.
                *own = Bytes::new();
            }
        }
        self.start += len;
    }

    fn make_room(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; CHUNK]);
        }
        if self.start > 0 && self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.passed, self.end, self.start) = (self.passed - self.start, self.end - self.start, 0);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end * 2, 0);
        }
    }

    /// The buffer is another lane's while this one holds nothing.
    fn give_back(&mut self) {
        if self.start < self.end {
            return;
        }
        (self.start, self.passed, self.end) = (0, 0, 0);
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() == CHUNK {
            SPARES.with_borrow_mut(|spares| {
                if spares.len() < SPARE {
                    spares.push(buffer);
                }
            });
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.end = self.start;
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What comes out of a lane that holds `hold` bytes before it lets any go, drops the next `drop` and puts ours in their place.
    async fn moved(bytes: Vec<u8>, segment: usize, hold: usize, drop: usize) -> Vec<u8> {
        let (mut sender, mut from) = tokio::io::duplex(segment);
        let (mut to, mut receiver) = tokio::io::duplex(segment);
        let sends = async {
            sender.write_all(&bytes).await.unwrap();
            std::mem::drop(sender);
        };
        let relays = async {
            let mut lane = Lane::default();
            while lane.held().len() < hold + drop {
                assert!(poll_fn(|task| lane.poll_fill(&mut from, task)).await.unwrap() > 0);
            }
            lane.pass(hold);
            poll_fn(|task| lane.poll_drain(&mut to, task)).await.unwrap();
            lane.drop_held(drop);
            lane.insert(Bytes::from_static(b"<ours"), Bytes::from_static(b">"));
            loop {
                lane.pass_all();
                poll_fn(|task| lane.poll_drain(&mut to, task)).await.unwrap();
                if poll_fn(|task| lane.poll_fill(&mut from, task)).await.unwrap() == 0 {
                    break;
                }
            }
            assert!(lane.buffer.is_empty(), "a lane without bytes has no buffer");
            to.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (_, (), ()) = tokio::join!(receiver.read_to_end(&mut read), sends, relays);
        read
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_goes_in_comes_out_but_for_what_was_replaced(
            length in 0..3 * CHUNK, segment in 1..2 * CHUNK, hold in 0..2 * CHUNK, drop in 0..100_usize,
        ) {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let hold = hold.min(length);
            let drop = drop.min(length - hold);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let expected = [&bytes[..hold], b"<ours>", &bytes[hold + drop..]].concat();
            prop_assert!(runtime.block_on(moved(bytes, segment.max(64), hold, drop)) == expected);
        }
    }
}
