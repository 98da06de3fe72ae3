//! The watching thread: it follows loopbacks and routes of namespaces by netlink, and young cgroups into the namespaces that their
//! processes are put into before they run.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::time::Instant;

use super::lock;
use super::place::Place;
use super::sets::Set;
use crate::divert::DivertError;
use crate::namespace::NamespaceId;
use crate::turn;

/// From one look at young cgroups to the next, and the least time between two looks at one namespace's routes. Between the moment
/// that a container runtime makes a namespace and its entrypoint's first instruction there are some tens of milliseconds.
const TICK: Duration = Duration::from_millis(1);
/// How many times as long as a look takes there is none.
const REST: u32 = 4;
/// A cgroup is young for this long at most.
const YOUTH: Duration = Duration::from_secs(10);
/// It is young no longer once its processes have been in the same namespaces for this long, one of them not the agent's own.
const SETTLED: Duration = Duration::from_millis(500);
/// The same, if they are all in the agent's own: a runtime may be slow to give them another.
const SETTLED_AT_HOME: Duration = Duration::from_secs(3);
/// Of the waking event, in epoll; a set's is its tag, which is not 0.
const WAKING: u64 = 0;

/// The thread; ended by [`Watcher::stop`], or by dropping it.
#[derive(Debug)]
pub(super) struct Watcher {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    epoll: Epoll,
    waking: EventFd,
    ended: AtomicBool,
    sets: Mutex<HashMap<u64, Weak<Set>>>,
    young: Mutex<Vec<Young>>,
}

/// A cgroup whose processes may still be put into namespaces.
#[derive(Debug)]
struct Young {
    place: Weak<Place>,
    directory: PathBuf,
    since: Instant,
    seen: BTreeSet<NamespaceId>,
    seen_since: Instant,
}

impl Watcher {
    pub(super) fn start() -> Result<Self, DivertError> {
        let shared = Arc::new(Shared::new().map_err(refused)?);
        let thread = thread::Builder::new().name("divert-watch".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.watch()
        });
        Ok(Self { shared, thread: Mutex::new(Some(thread.map_err(refused)?)) })
    }

    /// Follows what can be reached in a set's namespace, until the set is dropped.
    pub(super) fn follow(&self, set: &Arc<Set>) {
        let token = u64::from(set.tag().index());
        {
            let mut sets = lock(&self.shared.sets);
            sets.retain(|_, set| set.strong_count() > 0);
            sets.insert(token, Arc::downgrade(set));
        }
        let Some(news) = set.news() else { return };
        // Closing the socket takes it out again.
        if let Err(error) = self.shared.epoll.add(news.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            tracing::warn!(%error, "changes of a network namespace's routes are not followed");
        }
    }

    /// Looks for new namespaces in `directory` until its processes have settled.
    pub(super) fn look_after(&self, place: &Arc<Place>, directory: PathBuf) {
        let now = Instant::now();
        let place = Arc::downgrade(place);
        lock(&self.shared.young).push(Young { place, directory, since: now, seen: BTreeSet::new(), seen_since: now });
        self.shared.wake();
    }

    pub(super) fn stop(&self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = lock(&self.thread).take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn new() -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let waking = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        epoll.add(&waking, EpollEvent::new(EpollFlags::EPOLLIN, WAKING))?;
        let (ended, sets, young) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Ok(Self { epoll, waking, ended, sets, young })
    }

    fn wake(&self) {
        // Fails only if it is woken already.
        let _ = self.waking.write(1);
    }

    fn watch(&self) {
        turn::go_first();
        while !self.ended.load(Ordering::Acquire) {
            let wait = if lock(&self.young).is_empty() { EpollTimeout::NONE } else { EpollTimeout::ZERO };
            let mut events = [EpollEvent::empty(); 64];
            // Interrupted by a signal at most.
            let count = self.epoll.wait(&mut events, wait).unwrap_or(0);
            for event in events.iter().take(count) {
                self.hear(event.data());
            }
            let began = Instant::now();
            self.look_at_the_young();
            // Bounds what a busy routing daemon costs, and is the pace of the looks: whoever goes before others leaves them most of the
            // time, however long a look takes.
            thread::sleep(TICK.max(REST * began.elapsed()));
        }
    }

    fn hear(&self, token: u64) {
        if token == WAKING {
            let _ = self.waking.read();
            return;
        }
        // The set may go while it is looked at; then it is dropped here, without the lock.
        let set = lock(&self.sets).get(&token).and_then(Weak::upgrade);
        if let Some(set) = set {
            set.follow();
        }
    }

    fn look_at_the_young(&self) {
        let mut young = std::mem::take(&mut *lock(&self.young));
        young.retain_mut(Young::look);
        lock(&self.young).append(&mut young);
    }
}

impl Young {
    /// False once it has settled, or is gone.
    fn look(&mut self) -> bool {
        let Some(place) = self.place.upgrade() else { return false };
        let (seen, now) = (place.follow(&self.directory), Instant::now());
        if seen != self.seen {
            (self.seen, self.seen_since) = (seen, now);
        }
        let settled_after = match &self.seen {
            none if none.is_empty() => YOUTH,
            seen if seen.iter().any(|namespace| !place.is_own(*namespace)) => SETTLED,
            _ => SETTLED_AT_HOME,
        };
        now.duration_since(self.seen_since) < settled_after && now.duration_since(self.since) < YOUTH
    }
}

fn refused(error: impl Into<io::Error>) -> DivertError {
    DivertError::Watch { source: error.into() }
}
