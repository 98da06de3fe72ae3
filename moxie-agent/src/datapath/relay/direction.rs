//! One direction between two sockets: from what arrives on one to what the other takes.

use std::io::{self, ErrorKind};
use std::mem::{MaybeUninit, take};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipe::{self, Pipe, Pipes};

/// Most bytes that a direction keeps in memory when they cannot be written yet, and that it copies at once.
pub const MOST_HELD: usize = 16 * 1024;
/// Bytes that have come without a gap before the kernel is left to move them.
const BULK: usize = 4 * MOST_HELD;
/// A pipe that got less was not worth it.
const WORTH_A_PIPE: usize = MOST_HELD;

/// What a direction works on.
#[derive(Debug)]
pub(super) struct Way<'a> {
    pub(super) from: &'a TcpStream,
    pub(super) to: &'a TcpStream,
    pub(super) pipes: &'a Pipes,
    pub(super) urgent: Urgent,
    pub(super) count: Count<'a>,
}

/// Whether the two sides may send urgent bytes (RFC 9293 section 3.8.5). The kernel ends a read before one, however much is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgent {
    /// A read that did not fill its buffer says nothing of what is behind it: it costs another call to know.
    Possible,
    /// They speak a protocol that has none: such a read took all there was.
    Never,
}

/// Which bytes are counted, and where.
#[derive(Debug)]
pub(super) enum Count<'a> {
    /// As they are read.
    Read(&'a AtomicU64),
    /// As they are written.
    Written(&'a AtomicU64),
}

/// Which end of a direction broke off.
#[derive(Debug)]
pub(super) enum Broken {
    From(io::Error),
    To(io::Error),
}

/// One direction of a relay.
#[derive(Debug, Default)]
pub(super) struct Direction {
    held: Held,
    stage: Stage,
    /// Bytes that have come without a gap.
    streak: usize,
    /// Whether a pipe has just taken less than it could, so that there is hardly more.
    is_drained: bool,
    /// Whether bytes may wait that the runtime has told of already.
    is_untold: bool,
}

/// What was read and could not be written yet.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Copied {
        bytes: Box<[u8]>,
        written: usize,
    },
    Piped(Pipe),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// No more will come.
    Ended,
    /// The other side has been told so.
    Closed,
}

/// What a look into a socket has brought.
enum Taken<'b> {
    Copied(&'b [u8]),
    Piped(usize),
}

impl Direction {
    /// A direction whose first bytes may have been peeked at.
    pub(super) fn with_bytes_waiting() -> Self {
        Self { is_untold: true, ..Self::default() }
    }

    /// Whether the end was passed on, and with it everything before it.
    pub(super) fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Goes on until there is nothing to do; ready once the end has been passed on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, way: &Way<'_>) -> Poll<Result<(), Broken>> {
        loop {
            ready!(self.poll_write(cx, way)).map_err(Broken::To)?;
            match self.stage {
                Stage::Open => ready!(self.poll_read(cx, way))?,
                Stage::Ended => {
                    SockRef::from(way.to).shutdown(Shutdown::Write).map_err(Broken::To)?;
                    self.stage = Stage::Closed;
                }
                Stage::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Passes on what has arrived from a side that broke off, as far as the other takes it at once.
    pub(super) fn flush(&mut self, way: &Way<'_>) {
        self.is_untold = true;
        while self.write_held(way).is_ok() && self.stage == Stage::Open && self.read(way).is_ok() {}
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, way: &Way<'_>) -> Poll<io::Result<()>> {
        while !matches!(self.held, Held::Nothing) {
            ready!(way.to.poll_write_ready(cx))?;
            match way.to.try_io(Interest::WRITABLE, || self.write_held(way)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => written?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, way: &Way<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if !self.is_untold {
                ready!(way.from.poll_read_ready(cx)).map_err(Broken::From)?;
            }
            match self.read(way) {
                Err(Broken::From(error)) if error.kind() == ErrorKind::WouldBlock => {
                    (self.is_untold, self.is_drained) = (false, false);
                }
                read => return Poll::Ready(read),
            }
        }
    }

    /// Writes all that is held, or tells that it would block.
    fn write_held(&mut self, way: &Way<'_>) -> io::Result<()> {
        loop {
            match &mut self.held {
                Held::Nothing => return Ok(()),
                Held::Copied { bytes, written } => {
                    *written += way.write(bytes.get(*written..).unwrap_or_default())?;
                    if *written >= bytes.len() {
                        self.held = Held::Nothing;
                    }
                }
                Held::Piped(pipe) => {
                    way.count.written(pipe.drain(way.to)?);
                    if pipe.is_empty()
                        && let Held::Piped(pipe) = take(&mut self.held)
                    {
                        way.pipes.give_back(pipe);
                    }
                }
            }
        }
    }

    /// Takes what waits, writes what the other side takes at once, and holds the rest. Nothing is held before.
    fn read(&mut self, way: &Way<'_>) -> Result<(), Broken> {
        let mut buffer = [MaybeUninit::uninit(); MOST_HELD];
        // To copy nothing costs one call; a pipe that finds nothing cannot tell that from urgent bytes, and costs two.
        let mut pipe = if self.streak >= BULK && !self.is_drained { way.pipes.borrow() } else { None };
        let (inlet, space) = (pipe.as_mut(), &mut buffer);
        let mut look = Some(move || way.take(inlet, space));
        let taken = told(way, || look.take().map_or_else(|| Err(ErrorKind::WouldBlock.into()), |look| look()));
        // Of these bytes the runtime has told already, and may not know of them any more.
        let taken = look.filter(|_| self.is_untold).map_or(taken, |look| look());
        match taken.map_err(Broken::From) {
            Ok(Taken::Piped(moved)) => self.piped(moved, pipe, way),
            copied => {
                pipe.into_iter().for_each(|pipe| way.pipes.give_back(pipe));
                let Taken::Copied(bytes) = copied? else { return Ok(()) };
                self.copied(bytes, way)
            }
        }
    }

    fn copied(&mut self, bytes: &[u8], way: &Way<'_>) -> Result<(), Broken> {
        if bytes.is_empty() {
            self.stage = Stage::Ended;
            return Ok(());
        }
        way.count.read(bytes.len());
        let is_full = bytes.len() == MOST_HELD;
        if is_full {
            self.streak = self.streak.saturating_add(MOST_HELD);
        } else {
            // If that was all, the runtime tells of more.
            self.is_untold &= way.urgent == Urgent::Possible;
            if !self.is_drained {
                self.streak = 0;
            }
        }
        self.is_drained = false;
        let written = unless_it_blocks(way.write(bytes)).map_err(Broken::To)?;
        let rest = bytes.get(written..).unwrap_or_default();
        if !rest.is_empty() {
            self.held = Held::Copied { bytes: rest.into(), written: 0 };
        }
        Ok(())
    }

    fn piped(&mut self, moved: usize, pipe: Option<Pipe>, way: &Way<'_>) -> Result<(), Broken> {
        if moved == 0 {
            self.stage = Stage::Ended;
        }
        if moved < WORTH_A_PIPE {
            self.streak = 0;
        }
        self.is_drained = moved < pipe::SIZE;
        way.count.read(moved);
        self.held = pipe.map_or(Held::Nothing, Held::Piped);
        unless_it_blocks(self.write_held(way)).map_err(Broken::To)
    }
}

impl Way<'_> {
    /// What waits in the socket: moved, where there is a pipe, or else copied. Nothing: it has ended.
    fn take<'b>(&self, pipe: Option<&mut Pipe>, buffer: &'b mut [MaybeUninit<u8>; MOST_HELD]) -> io::Result<Taken<'b>> {
        // What does not pass through a pipe, such as urgent bytes, looks to it as if there were nothing.
        match pipe.map(|pipe| pipe.fill(self.from)) {
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Some(Ok(moved)) => return Ok(Taken::Piped(moved)),
            Some(Err(_)) | None => {}
        }
        // A call that does not wait is not interrupted.
        let ((bytes, _), _) = recv(self.from, &mut buffer[..], RecvFlags::DONTWAIT)?;
        Ok(Taken::Copied(bytes))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = send(self.to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        self.count.written(written);
        Ok(written)
    }
}

impl Count<'_> {
    fn read(&self, bytes: usize) {
        if let Self::Read(count) = self {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    fn written(&self, bytes: usize) {
        if let Self::Written(count) = self {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// Looks into a socket that the runtime calls readable. If what does not fill the buffer was all there is, the runtime is to tell of
/// more; asking the kernel would cost another call for each message.
fn told<'b>(way: &Way<'_>, look: impl FnOnce() -> io::Result<Taken<'b>>) -> io::Result<Taken<'b>> {
    let mut last = None;
    let is_all = |count: usize| way.urgent == Urgent::Never && (1..MOST_HELD).contains(&count);
    let taken = way.from.try_io(Interest::READABLE, || match look()? {
        Taken::Copied(bytes) if is_all(bytes.len()) => {
            last = Some(bytes);
            Err(ErrorKind::WouldBlock.into())
        }
        taken => Ok(taken),
    });
    last.map_or(taken, |bytes| Ok(Taken::Copied(bytes)))
}

fn unless_it_blocks<T: Default>(written: io::Result<T>) -> io::Result<T> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(T::default()),
        written => written,
    }
}
