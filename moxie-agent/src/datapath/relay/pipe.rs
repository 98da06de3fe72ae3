//! Pipes through which the kernel moves bytes from socket to socket, lent to whoever has bytes in bulk right now.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Most bytes that are moved into a pipe at once, and the size that is asked for; the kernel may give less.
pub(super) const SIZE: usize = 256 * 1024;
/// Pipes at once, at most: with bytes in each, 128 MiB of the kernel's memory.
const MOST: usize = 512;
/// Empty pipes kept for the next who wants one.
const KEPT: usize = 16;

/// The pipes there are. A relay that gets none copies.
#[derive(Debug)]
pub struct Pipes {
    empty: Mutex<Vec<Pipe>>,
    open: Arc<AtomicUsize>,
    most: usize,
}

impl Pipes {
    /// Descriptors of a pipe.
    pub const DESCRIPTORS_EACH: u64 = 2;

    /// As many as `descriptors` leave room for beside connections: they may have a sixteenth of them.
    #[must_use]
    pub fn within(descriptors: u64) -> Self {
        let share = usize::try_from(descriptors / 16 / Self::DESCRIPTORS_EACH).unwrap_or(usize::MAX);
        Self::new(share.min(MOST))
    }

    /// At most `most` pipes at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { empty: Mutex::default(), open: Arc::default(), most }
    }

    /// How many descriptors they may have in all.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        self.most as u64 * Self::DESCRIPTORS_EACH
    }

    /// How many pipes are open, and how many of these nobody uses.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.open.load(Ordering::Relaxed), self.empty.lock().unwrap().len())
    }

    /// An empty pipe, if there may be another one. Waits for nobody: a shelf that someone else is at counts as empty.
    pub(super) fn borrow(&self) -> Option<Pipe> {
        let kept = self.empty.try_lock().ok().and_then(|mut empty| empty.pop());
        kept.or_else(|| Pipe::open(Place::take(&self.open, self.most)?).ok())
    }

    /// Keeps the pipe for the next, or closes it.
    pub(super) fn give_back(&self, pipe: Pipe) {
        if pipe.is_empty()
            && let Ok(mut empty) = self.empty.try_lock()
            && empty.len() < KEPT
        {
            empty.push(pipe);
        }
    }
}

/// One pipe, and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    outlet: OwnedFd,
    inlet: OwnedFd,
    held: usize,
    _place: Place,
}

impl Pipe {
    fn open(place: Place) -> io::Result<Self> {
        let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user over the limit of pipe memory keeps the size that there is.
        let _ = fcntl_setpipe_size(&inlet, SIZE);
        Ok(Self { outlet, inlet, held: 0, _place: place })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what waits in a socket into the pipe, which is empty. 0: the socket has ended.
    pub(super) fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        let moved = splice(from, None, &self.inlet, None, SIZE, SpliceFlags::NONBLOCK)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what is in the pipe into a socket, as far as that takes it.
    pub(super) fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        // No more than there is: the kernel would hold the last segment back for what it takes to come.
        let moved = splice(&self.outlet, None, to, None, self.held, SpliceFlags::NONBLOCK)?;
        self.held -= moved.min(self.held);
        Ok(moved)
    }
}

/// One of the pipes that there may be.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let taken = open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < most).then_some(open + 1));
        taken.is_ok().then(|| Self(Arc::clone(open)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
