//! DNS hints: connections to addresses that are known to belong only to names that no rule could name are left direct.
//!
//! The kernel half copies the DNS answers that come to a cgroup's sockets; a thread reads them, and says which addresses are known. In
//! doubt an address is not. What the kernel half and this have to agree on is in `moxie-common/src/hints.rs`.

pub mod answer;
mod handover;
mod heard;
mod state;
mod table;

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};

use aya::Ebpf as Object;
use aya::maps::{MapData, RingBuf};
use moxie_common::Address;
use moxie_common::names;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::control::{Controls, monotonic_ns};
use super::{load, lock};
use crate::divert::{DivertError, Names as Judge};
use handover::Ask;
pub use heard::Heard;
use state::State;

/// Milliseconds from one look whether an answer has been lost to the next.
const LOOK: u16 = 1000;
/// How often it is looked again where answers are waited for.
const LOOKS: usize = 3;
/// How often the ring is looked at again for an answer that is just being put there: a matter of microseconds.
const TURNS: usize = 1000;
/// Of the ring and of the waking event, in epoll.
const RING: u64 = 0;
const WAKING: u64 = 1;
/// Hints; the thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Hints {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    controls: Arc<Controls>,
    judge: OnceLock<Arc<dyn Judge>>,
    /// As the control element says.
    generation: AtomicU64,
    /// Held while it changes.
    changing: Mutex<()>,
    state: Mutex<State>,
    epoll: Epoll,
    waking: EventFd,
    /// The rules are others since the table was judged.
    is_stale: AtomicBool,
    ended: AtomicBool,
}

/// A cgroup that has hints; it has none any more once this is dropped.
#[derive(Debug)]
pub(super) struct HintedPlace {
    shared: Arc<Shared>,
    number: u32,
    /// Its id.
    cgroup: u64,
}

impl Hints {
    pub(super) fn start(object: &mut Object, controls: &Arc<Controls>) -> Result<Self, DivertError> {
        let ring: RingBuf<MapData> = load::take_map(object, names::ANSWERS)?;
        let state = State::new(object)?;
        let shared = Arc::new(Shared::new(state, controls, &ring).map_err(refused)?);
        let (asks, asked) = mpsc::channel();
        let thread = thread::Builder::new().name("divert-hints".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.listen(ring, &asked)
        });
        Ok(Self { shared, asks, thread: Mutex::new(Some(thread.map_err(refused)?)) })
    }

    /// From now on names are judged, by `judge`; until then nothing is known.
    pub(super) fn heed(&self, judge: Arc<dyn Judge>) -> Result<(), DivertError> {
        let _ = self.shared.judge.set(judge);
        self.forget_judgements()
    }

    /// Nothing that was judged so far counts any more, from the next connect on.
    pub(super) fn forget_judgements(&self) -> Result<(), DivertError> {
        let _changing = lock(&self.shared.changing);
        let next = self.shared.generation.load(Ordering::Acquire) + 1;
        self.shared.controls.set_hints(next)?;
        // Whoever sees the new generation sees that judgements are stale; said again, since that may have been seen before.
        self.shared.is_stale.store(true, Ordering::Release);
        self.shared.generation.store(next, Ordering::Release);
        self.shared.is_stale.store(true, Ordering::Release);
        self.shared.wake();
        Ok(())
    }

    /// Gives a cgroup a number to have hints by; `None` where too many have one, or no names are judged.
    pub(super) fn place(&self, cgroup: u64) -> Option<HintedPlace> {
        self.shared.judge.get()?;
        let mut state = lock(&self.shared.state);
        let number = state.take_place(cgroup)?;
        // Answers that are still on their way to who had the number before are counted to it, and then it is behind or ahead: the
        // thread sees to that.
        let asked = state.asked.get(&number, 0).unwrap_or(0);
        state.handle(number, asked);
        state.table.join(number, cgroup, monotonic_ns());
        drop(state);
        self.shared.wake();
        Some(HintedPlace { shared: Arc::clone(&self.shared), number, cgroup })
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

impl HintedPlace {
    /// As the kernel half is told.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// How many addresses are known to it.
    pub(super) fn known(&self) -> usize {
        lock(&self.shared.state).table.known(self.number, monotonic_ns())
    }

    /// Whether an address is known to it, or was when it was judged last.
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        lock(&self.shared.state).table.has_known(self.number, Address::from(address))
    }
}

impl Drop for HintedPlace {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.places.remove(&self.number);
        state.waits.forget(self.number);
        let words = state.table.leave(self.number, self.cgroup, monotonic_ns());
        state.say(&words, 0);
    }
}

impl Shared {
    fn new(state: State, controls: &Arc<Controls>, ring: &RingBuf<MapData>) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let waking = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        epoll.add(&waking, EpollEvent::new(EpollFlags::EPOLLIN, WAKING))?;
        // SAFETY: the ring is open for as long as the reference is used.
        let descriptor = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        epoll.add(descriptor.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, RING))?;
        Ok(Self {
            controls: Arc::clone(controls),
            judge: OnceLock::new(),
            generation: AtomicU64::new(0),
            changing: Mutex::new(()),
            state: Mutex::new(state),
            epoll,
            waking,
            is_stale: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    fn wake(&self) {
        // Fails only if it is woken already.
        let _ = self.waking.write(1);
    }

    fn listen(&self, mut ring: RingBuf<MapData>, asked: &mpsc::Receiver<Ask>) {
        let mut looked_ns = monotonic_ns();
        while !self.ended.load(Ordering::Acquire) {
            let wait = if lock(&self.state).places.is_empty() { EpollTimeout::NONE } else { LOOK.into() };
            let mut events = [EpollEvent::empty(); 2];
            // Interrupted by a signal at most.
            let _ = self.epoll.wait(&mut events, wait);
            // Before the judgements that it asks for.
            let _ = self.waking.read();
            if self.is_stale.swap(false, Ordering::AcqRel) {
                lock(&self.state).names.clear();
                // First what is not waited for, since the rules that are gone did not name it: these may.
                self.hear_all(&mut ring);
                self.judge_all();
            }
            self.hear_all(&mut ring);
            while let Ok(ask) = asked.try_recv() {
                // Whoever has asked waits for it.
                let _ = ask.send(self.hand(&mut ring));
            }
            // By the clock: where answers come all the time, one may be lost all the same.
            if monotonic_ns().saturating_sub(looked_ns) >= u64::from(LOOK) * 1_000_000 {
                looked_ns = monotonic_ns();
                self.look_for_lost(&mut ring);
            }
        }
    }

    /// Looks at every answer in the ring, and at those that are just being put there.
    fn hear_all(&self, ring: &mut RingBuf<MapData>) {
        for _ in 0..TURNS {
            while let Some(item) = ring.next() {
                self.hear(&item);
            }
            let mut events = [EpollEvent::empty(); 2];
            let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            if !events.iter().take(count).any(|event| event.data() == RING) {
                return;
            }
            thread::yield_now();
        }
    }

    fn judge_all(&self) {
        let Some(judge) = self.judge.get() else { return };
        let mut state = lock(&self.state);
        // Before the first name is judged: what is found under rules that are gone by then is found for nothing.
        let generation = self.generation.load(Ordering::Acquire);
        let State { table, names, .. } = &mut *state;
        names.clear();
        let words =
            table.judge_all(monotonic_ns(), &mut |name| names.is_nameable(name, |name| judge.could_be_named(name)));
        state.say(&words, generation);
    }

    /// Looks at one answer. It counts as looked at once everything that follows from it is said.
    fn hear(&self, item: &[u8]) {
        let Some(heard) = Heard::of(item) else { return };
        let mut state = lock(&self.state);
        let generation = self.generation.load(Ordering::Acquire);
        if let Some(judge) = self.judge.get().filter(|_| state.places.contains_key(&heard.place)) {
            // After the generation: judgements that are kept are of the rules that it is of, or of later ones.
            if self.is_stale.load(Ordering::Acquire) {
                state.names.clear();
            }
            state.learn(&heard, generation, &|name| judge.could_be_named(name));
        }
        if heard.is_counted {
            let handled = state.handled_of(heard.place).wrapping_add(1);
            state.handle(heard.place, handled);
        }
    }

    /// An answer that the ring had no room for says nothing, and is waited for: what it would have said is not known.
    fn look_for_lost(&self, ring: &mut RingBuf<MapData>) {
        let places = lock(&self.state).places.clone();
        for place in places.into_keys() {
            let waited_for = self.waited_for(place, ring);
            let mut state = lock(&self.state);
            let lost = state.waits.look(place, waited_for);
            if lost != 0 && state.places.contains_key(&place) {
                tracing::debug!(place, lost, "DNS answers were lost");
                state.doubt(place);
                let handled = state.handled_of(place).wrapping_add_signed(lost);
                state.handle(place, handled);
            }
        }
    }

    /// The fewest answers that are waited for at one of several moments, as [`State::waited_for`] has it.
    fn waited_for(&self, place: u32, ring: &mut RingBuf<MapData>) -> i64 {
        let mut fewest = lock(&self.state).waited_for(place);
        for _ in 0..LOOKS {
            if fewest == 0 {
                break;
            }
            self.hear_all(ring);
            let now = lock(&self.state).waited_for(place);
            fewest = if now.abs() < fewest.abs() { now } else { fewest };
        }
        fewest
    }
}

fn refused(source: impl Into<std::io::Error>) -> DivertError {
    DivertError::Hints { source: source.into() }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("generation", &self.generation).finish_non_exhaustive()
    }
}
