//! DNS hints: connections to addresses that are known to belong only to names that no rule could name are left direct.
//!
//! The kernel half copies the DNS answers that come to a cgroup's sockets; a thread reads them, and says which addresses are known. In
//! doubt an address is not. What the kernel half and this have to agree on is in `moxie-common/src/hints.rs`.

pub mod answer;
mod heard;
mod table;

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use aya::Ebpf as Object;
use aya::maps::{Array, HashMap, MapData, RingBuf};
use moxie_common::Address;
use moxie_common::hints::{HINTED_PLACES, Hint, HintKey, QUESTION_AT, QuestionKey, hash_name};
use moxie_common::names;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::control::{Controls, monotonic_ns};
use super::{load, lock};
use crate::divert::{DivertError, Names as Judge};
use answer::Reading;
pub use heard::Heard;
use table::{LASTING, Names, PASSING, Table, Word};

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

/// What the thread works on, and those who come and go.
struct State {
    table: Table,
    names: Names,
    places: Vec<u32>,
    last_place: u32,
    hints: HashMap<MapData, HintKey, Hint>,
    questions: HashMap<MapData, QuestionKey, u64>,
    asked: Array<MapData, u64>,
    handled: Array<MapData, u64>,
    /// Answers looked at, by place; as in the map.
    counts: std::collections::HashMap<u32, u64>,
    waits: Waits,
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
        let state = State {
            table: Table::default(),
            names: Names::default(),
            places: Vec::new(),
            last_place: 0,
            hints: load::take_map(object, names::HINTS)?,
            questions: load::take_map(object, names::QUESTIONS)?,
            asked: load::take_map(object, names::ASKED)?,
            handled: load::take_map(object, names::HANDLED)?,
            counts: std::collections::HashMap::new(),
            waits: Waits::default(),
        };
        let shared = Arc::new(Shared::new(state, controls, &ring).map_err(refused)?);
        let thread = thread::Builder::new().name("divert-hints".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.listen(ring)
        });
        Ok(Self { shared, thread: Mutex::new(Some(thread.map_err(refused)?)) })
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
        let number = state.take_place()?;
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
        state.places.retain(|place| *place != self.number);
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

    fn listen(&self, mut ring: RingBuf<MapData>) {
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
        if let Some(judge) = self.judge.get().filter(|_| state.places.contains(&heard.place)) {
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
        for place in places {
            let waited_for = self.waited_for(place, ring);
            let mut state = lock(&self.state);
            let lost = state.waits.look(place, waited_for);
            if lost != 0 && state.places.contains(&place) {
                tracing::debug!(place, lost, "DNS answers were lost");
                let words = state.table.distrust(place, LASTING, monotonic_ns());
                state.say(&words, 0);
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

/// Answers that were waited for at the last look, by place.
#[derive(Debug, Default)]
struct Waits(std::collections::HashMap<u32, i64>);

impl Waits {
    /// How many of them will never come, as two looks at some distance tell: what is under way goes by, what is lost stays. Below 0:
    /// so many were looked at that nobody waited for.
    fn look(&mut self, place: u32, waited_for: i64) -> i64 {
        let before = self.0.insert(place, waited_for).unwrap_or(0);
        if waited_for.signum() != before.signum() {
            return 0;
        }
        let lost = if waited_for.abs() < before.abs() { waited_for } else { before };
        self.0.insert(place, waited_for - lost);
        lost
    }

    fn forget(&mut self, place: u32) {
        self.0.remove(&place);
    }
}

impl State {
    /// Round and round, so that a number rests for long.
    fn take_place(&mut self) -> Option<u32> {
        let most = u32::try_from(HINTED_PLACES).ok()?;
        let next = |after: u32| if after + 1 < most { after + 1 } else { 1 };
        let number = std::iter::successors(Some(next(self.last_place)), |number| Some(next(*number)))
            .take(HINTED_PLACES)
            .find(|number| !self.places.contains(number))?;
        self.last_place = number;
        self.places.push(number);
        Some(number)
    }

    fn learn(&mut self, heard: &Heard<'_>, generation: u64, judge: &dyn Fn(&str) -> bool) {
        let now = monotonic_ns();
        let Self { table, names, .. } = self;
        let mut is_nameable = |name: &str| names.is_nameable(name, judge);
        let (words, is_clear) = match heard.read() {
            Reading::NoAnswer => return,
            Reading::Partly(name) if !is_nameable(&name) => return,
            // Where a rule's name is cannot be told, so nothing is known of where others are.
            Reading::Partly(_) => (table.distrust(heard.place, LASTING, now), false),
            Reading::Garbled => (table.distrust(heard.place, PASSING, now), false),
            Reading::Whole(told) => {
                let all: Vec<Arc<str>> = told.names.iter().map(|name| Arc::from(name.as_str())).collect();
                let is_clear = !all.iter().any(|name| is_nameable(name));
                let learned = told.addresses.iter().flat_map(|(address, lasts)| {
                    let key = HintKey { place: heard.place, tag: heard.tag, address: Address::from(*address) };
                    table.learn(key, &all, *lasts, now, &mut is_nameable)
                });
                (learned.collect(), is_clear)
            }
        };
        self.say(&words, generation);
        if is_clear && let Some(name) = heard.message.get(QUESTION_AT..).and_then(hash_name) {
            let question = QuestionKey { name, place: heard.place.into() };
            // A question that is not noted is waited for.
            let _ = self.questions.insert(question, generation, 0);
        }
    }

    fn say(&mut self, words: &[Word], generation: u64) {
        for word in words {
            let said = match word {
                Word::Known(key, until_ns) => {
                    self.hints.insert(key, Hint { key: *key, until_ns: *until_ns, generation }, 0)
                }
                Word::Unknown(key) => self.hints.remove(key).or(Ok(())),
            };
            if let Err(error) = said {
                // It stays unknown.
                tracing::debug!(%error, "a DNS hint was not taken");
            }
        }
    }

    /// Answers that have been looked at.
    fn handled_of(&self, place: u32) -> u64 {
        self.counts.get(&place).copied().unwrap_or(0)
    }

    /// Answers that are not looked at yet. Below 0: more were looked at than counted, as for a moment each may be.
    fn waited_for(&self, place: u32) -> i64 {
        let handled = self.handled_of(place);
        self.asked.get(&place, 0).map_or(0, |asked| asked.wrapping_sub(handled).cast_signed())
    }

    fn handle(&mut self, place: u32, count: u64) {
        self.counts.insert(place, count);
        if let Err(error) = self.handled.set(place, count, 0) {
            tracing::debug!(%error, "nothing is known of this cgroup's addresses");
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_waited_for_at_two_looks_are_lost_whatever_else_comes() {
        let mut waits = Waits::default();
        assert_eq!([waits.look(1, 0), waits.look(1, 3), waits.look(1, 0)], [0; 3], "all came");
        assert_eq!([waits.look(1, 5), waits.look(1, 2)], [0, 2], "two of five did not");
        assert_eq!(waits.look(1, 0), 0);
        assert_eq!([waits.look(1, 2), waits.look(1, 7), waits.look(1, 4)], [0, 2, 4], "some, and others since");
        assert_eq!([waits.look(2, -1), waits.look(2, 1), waits.look(2, -1), waits.look(2, -1)], [0, 0, 0, -1]);
        waits.look(3, 1);
        waits.forget(3);
        assert_eq!(waits.look(3, 1), 0, "another cgroup has the number");
    }
}
