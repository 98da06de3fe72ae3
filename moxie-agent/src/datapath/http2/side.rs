//! One side of the relay: its socket, what came from it and what is to go to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::frame::{Frame, HEAD, Head, PREFACE};
use crate::datapath::http1::wire::Wire;

/// Largest payload that a frame may have here; what either side offers the other is cut to this.
pub(super) const MAX_PAYLOAD: usize = 1024 * 1024;
/// How much may wait for a side before the other is read no further.
pub(super) const ENOUGH: usize = 64 * 1024;
/// How much may wait for a side before it is itself read no further: the agent's own answers to what it says.
pub(super) const TOO_MUCH: usize = 4 * ENOUGH;
/// How much is read at once at first, and while it comes in bulk.
const READ: (usize, usize) = (16 * 1024, 64 * 1024);

/// How a side ended.
#[derive(Debug)]
pub(super) enum End {
    /// It said so.
    Announced,
    /// Its socket ended, but not its TLS.
    Unannounced,
    /// It broke off.
    Broken(io::Error),
}

/// What has come from a side.
#[derive(Debug)]
pub(super) enum Input {
    /// A client's first words.
    Preface,
    /// A frame.
    Frame(Frame),
    /// Something that is no HTTP/2 at all, or a frame that is too long. It stays where it is.
    Strange,
    /// Nothing more will.
    Ended(End),
}

/// One side.
#[derive(Debug)]
pub(super) struct Side<W> {
    /// `None`: not there yet.
    pub(super) io: Option<W>,
    pub(super) input: BytesMut,
    pub(super) out: BytesMut,
    /// A client's preface is due.
    pub(super) preface_due: bool,
    ended: Option<End>,
    /// Whether its end has been told, so that it is read no more.
    is_over: bool,
    /// What is written now goes nowhere.
    is_deaf: bool,
    flush_due: bool,
    shutdown: Shutdown,
    in_bulk: bool,
}

/// Whether the side has been told that no more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    No,
    Due,
    /// Of the socket alone, without a word of TLS's.
    CutDue,
    Done,
}

impl<W: Wire> Side<W> {
    /// A side at `io`, or one that is not there yet.
    pub(super) fn new(io: Option<W>, preface_due: bool) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            out: BytesMut::new(),
            preface_due,
            ended: None,
            is_over: false,
            is_deaf: false,
            flush_due: false,
            shutdown: Shutdown::No,
            in_bulk: false,
        }
    }

    /// What has come whole and has not been looked at.
    pub(super) fn next(&mut self) -> Option<Input> {
        if self.is_over {
            return None;
        }
        self.next_whole().or_else(|| {
            let end = self.ended.take()?;
            self.is_over = true;
            Some(Input::Ended(end))
        })
    }

    /// The next frame, if that is what comes next. Anything else stays.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        match self.next_whole() {
            Some(Input::Frame(frame)) if !self.is_over => Some(frame),
            _ => None,
        }
    }

    fn next_whole(&mut self) -> Option<Input> {
        if self.preface_due {
            let length = self.input.len().min(PREFACE.len());
            if self.input.get(..length) != PREFACE.get(..length) {
                return Some(Input::Strange);
            }
            if length < PREFACE.len() {
                return None;
            }
            self.input.advance(length);
            self.preface_due = false;
            return Some(Input::Preface);
        }
        let head = Head::read(&self.input)?;
        if head.length > MAX_PAYLOAD {
            return Some(Input::Strange);
        }
        let length = HEAD + head.length;
        (self.input.len() >= length).then(|| Input::Frame(Frame { head, raw: self.input.split_to(length).freeze() }))
    }

    /// Sends what waits. `true`: some of it went.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(io) = self.io.as_mut() else { return false };
        if self.is_deaf {
            self.out.clear();
            return false;
        }
        let before = (self.flush_due, self.shutdown);
        let mut went = false;
        let written = loop {
            if self.out.is_empty() {
                break Ok(());
            }
            match poll_write_buf(Pin::new(&mut *io), cx, &mut self.out) {
                Poll::Ready(Ok(0)) => break Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(_)) => (went, self.flush_due) = (true, true),
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Pending => break Ok(()),
            }
        };
        let written =
            written.and_then(|()| Self::poll_finish(io, &self.out, &mut self.flush_due, &mut self.shutdown, cx));
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        // Why it takes nothing more shows when it is read; until then there may be something that it has said before.
        if let Err(error) = written {
            tracing::debug!(%error, "a side of an HTTP/2 connection takes nothing more");
            self.is_deaf = true;
        }
        went || before != (self.flush_due, self.shutdown) || self.is_deaf
    }

    fn poll_finish(
        io: &mut W,
        out: &BytesMut,
        flush_due: &mut bool,
        shutdown: &mut Shutdown,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        if *flush_due && let Poll::Ready(flushed) = Pin::new(&mut *io).poll_flush(cx) {
            flushed?;
            *flush_due = false;
        }
        if !out.is_empty() {
            return Ok(());
        }
        let done = match shutdown {
            Shutdown::Due => Pin::new(io).poll_shutdown(cx),
            Shutdown::CutDue => io.poll_cut(cx),
            Shutdown::No | Shutdown::Done => Poll::Pending,
        };
        if let Poll::Ready(done) = done {
            done?;
            *shutdown = Shutdown::Done;
        }
        Ok(())
    }

    /// Reads once. `true`: there is something new to look at.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ended.is_some() || self.is_over {
            return false;
        }
        let Some(io) = self.io.as_mut() else { return false };
        let due = Head::read(&self.input)
            .map_or(0, |head| (HEAD + head.length.min(MAX_PAYLOAD)).saturating_sub(self.input.len()));
        let most = if self.in_bulk { READ.1 } else { READ.0 };
        self.input.reserve(most.max(due));
        match poll_read_buf(Pin::new(io), cx, &mut self.input) {
            Poll::Pending => {
                self.in_bulk = false;
                // A connection at rest keeps no buffer.
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                return false;
            }
            Poll::Ready(Ok(0)) => self.ended = Some(End::Announced),
            Poll::Ready(Ok(read)) => self.in_bulk = read >= most,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.ended = Some(End::Unannounced)
            }
            Poll::Ready(Err(error)) => self.ended = Some(End::Broken(error)),
        }
        true
    }

    /// After what waits, nothing more goes to this side.
    pub(super) fn shut(&mut self) {
        if self.shutdown == Shutdown::No {
            self.shutdown = Shutdown::Due;
        }
    }

    /// As [`Self::shut`], as a peer does that is cut off: its socket ends, but not its TLS.
    pub(super) fn cut(&mut self) {
        if self.shutdown == Shutdown::No {
            self.shutdown = Shutdown::CutDue;
        }
    }

    /// Whether its end is due, or done.
    pub(super) fn is_shut(&self) -> bool {
        self.shutdown != Shutdown::No
    }

    /// Whether it takes nothing more.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf
    }

    /// Whether everything has gone, and the end too where it was due.
    pub(super) fn is_through(&self) -> bool {
        self.is_deaf
            || self.io.is_none()
            || (self.out.is_empty() && !self.flush_due && matches!(self.shutdown, Shutdown::No | Shutdown::Done))
    }

    /// Whether its end has come and was not told yet.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether its end has come and was told.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }
}
