//! How much the agent has to do, and whether it takes more. One that has enough lets new connections go direct: it does not fail them.

mod memory;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;

use crate::descriptors;
use crate::telemetry::Metrics;
use crate::unused;
use memory::Memory;

pub use memory::least_limit as memory_limit;

/// Descriptors that one connection may need: both sockets, and one to look at the destination with. Pipes are counted apart.
const DESCRIPTORS_EACH: u64 = 3;
/// One part in so many of the connections has to end before there is room again.
const ROOM: u64 = 10;
/// Share of the memory, percent, from which on nothing is taken any more, whatever has been sent.
const BRIM: u64 = 95;
/// Fewer connections leave nothing that is worth the work.
const MANY: u64 = 256;
/// A connection among so many has the load looked at, beside each beat.
const LOOK_EVERY: u64 = 64;
/// Looks after which the descriptors that are open beside connections are counted anew.
const COUNT_EVERY: u64 = 10;

/// How much the agent may take on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once.
    pub connections: u64,
    /// Bytes of memory, besides what its cgroup may have.
    pub memory: Option<u64>,
    /// Descriptors that are kept for something else than connections.
    pub kept_descriptors: u64,
}

/// Why new connections go direct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shedding {
    /// As many are open as were asked for.
    Connections {
        /// So many.
        limit: u64,
    },
    /// There are no descriptors for more.
    Descriptors {
        /// Connections that there are descriptors for.
        limit: u64,
    },
    /// The agent has most of the memory that it may have.
    Memory {
        /// Bytes that it has.
        used: u64,
        /// Bytes that it may have.
        limit: u64,
    },
}

impl Shedding {
    /// Every reason, as metrics name it.
    pub const REASONS: [&'static str; 3] = ["connections", "descriptors", "memory"];

    /// The reason, as metrics name it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connections { .. } => "connections",
            Self::Descriptors { .. } => "descriptors",
            Self::Memory { .. } => "memory",
        }
    }
}

impl fmt::Display for Shedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections { limit } => {
                write!(f, "shedding: {limit} connections are open, so new ones go direct; raise limits.connections")
            }
            Self::Descriptors { limit } => {
                write!(f, "shedding: {limit} connections are open, so new ones go direct; raise LimitNOFILE= for more")
            }
            Self::Memory { used, limit } => write!(
                f,
                "shedding: the agent has {} of {} MiB, so new connections go direct until it has less; \
                 raise limits.memory or the limit of its cgroup (MemoryMax=)",
                used >> 20,
                limit >> 20
            ),
        }
    }
}

/// What the agent has to do now.
#[derive(Debug)]
pub struct Load {
    bounds: Bounds,
    open: Arc<AtomicU64>,
    /// The most that were open since free memory was last given back.
    most_open: AtomicU64,
    /// Connections that there are descriptors for.
    descriptors_for: AtomicU64,
    looks: AtomicU64,
    memory: Mutex<Memory>,
    shedding: ArcSwapOption<Shedding>,
    metrics: Arc<Metrics>,
}

/// One connection's part in the load, until it is dropped.
#[derive(Debug)]
pub struct Admitted(Arc<AtomicU64>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Load {
    /// Nothing to do, and these bounds.
    #[must_use]
    pub fn new(bounds: Bounds, metrics: Arc<Metrics>) -> Self {
        Self {
            bounds,
            open: Arc::default(),
            most_open: AtomicU64::new(0),
            descriptors_for: AtomicU64::new(u64::MAX),
            looks: AtomicU64::new(0),
            memory: Mutex::new(Memory::new(bounds.memory)),
            shedding: ArcSwapOption::empty(),
            metrics,
        }
    }

    /// Why new connections go direct; `None` while they need not.
    #[must_use]
    pub fn shedding(&self) -> Option<Shedding> {
        self.shedding.load().as_deref().copied()
    }

    /// Whether a connection can be taken that the kernel has sent already. One that is not waits: there are no descriptors for it, or
    /// hardly any memory.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let is_short = |shedding| matches!(shedding, Shedding::Memory { used, limit } if used >= limit / 100 * BRIM);
        self.open.load(Ordering::Relaxed) < self.descriptors_for.load(Ordering::Relaxed)
            && !self.shedding().is_some_and(is_short)
    }

    /// Counts a connection that was taken.
    #[must_use]
    pub fn admit(&self) -> Admitted {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = self.bounds.connections.min(self.descriptors_for.load(Ordering::Relaxed));
        if open == limit || open.is_multiple_of(LOOK_EVERY) {
            self.look();
        }
        Admitted(Arc::clone(&self.open))
    }

    /// Finds out whether more can be taken, and says where that has changed. To be called with every beat.
    pub fn look(&self) {
        let found = self.find();
        let before = self.shedding.swap(found.map(Arc::new));
        let (is, was) = (found.map(|found| found.reason()), before.map(|before| before.reason()));
        if is == was {
            return;
        }
        self.metrics.shedding(is);
        match found {
            Some(shedding) => tracing::warn!(open = self.open.load(Ordering::Relaxed), "{shedding}"),
            None => tracing::info!("no more shedding: new connections are diverted again"),
        }
    }

    fn find(&self) -> Option<Shedding> {
        let open = self.open.load(Ordering::Relaxed);
        if self.have_many_ended(open) {
            unused::free_heap();
        }
        if self.looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(COUNT_EVERY) {
            self.count_descriptors(open);
        }
        let (connections, descriptors) = (self.bounds.connections, self.descriptors_for.load(Ordering::Relaxed));
        let before = self.shedding();
        let is_full = |limit: u64, was_full: bool| open >= limit - if was_full { limit / ROOM } else { 0 };
        // The counts are estimates; this is not.
        let is_out = || std::fs::File::open("/dev/null").is_err();
        if is_full(descriptors, matches!(before, Some(Shedding::Descriptors { .. }))) || is_out() {
            return Some(Shedding::Descriptors { limit: open.min(descriptors) });
        }
        if is_full(connections, matches!(before, Some(Shedding::Connections { .. }))) {
            return Some(Shedding::Connections { limit: connections });
        }
        // Whoever looks at the same time sees what was found last.
        let Ok(mut memory) = self.memory.try_lock() else { return before };
        memory.look().map(|(used, limit)| Shedding::Memory { used, limit })
    }

    /// Whether so many connections have ended that what they had is worth giving back.
    fn have_many_ended(&self, open: u64) -> bool {
        let most = self.most_open.fetch_max(open, Ordering::Relaxed).max(open);
        let have_ended = most >= MANY && open <= most / 4;
        if have_ended {
            self.most_open.store(open, Ordering::Relaxed);
        }
        have_ended
    }

    /// Nine tenths of what the descriptor limit allows beside what else is open.
    fn count_descriptors(&self, open: u64) {
        let others = descriptors::in_use().saturating_sub(open * 2) + self.bounds.kept_descriptors;
        let room = descriptors::limit().saturating_sub(others) / DESCRIPTORS_EACH * 9 / 10;
        self.descriptors_for.store(room.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(connections: u64) -> Load {
        Load::new(Bounds { connections, memory: None, kept_descriptors: 0 }, Arc::default())
    }

    #[test]
    fn a_connection_too_many_is_shed_until_one_has_ended() {
        let load = load(2);
        let one = load.admit();
        assert_eq!(load.shedding(), None);
        let two = load.admit();
        assert_eq!(load.shedding(), Some(Shedding::Connections { limit: 2 }));
        assert!(load.has_room(), "what the kernel has sent already is taken");
        drop(one);
        load.look();
        assert_eq!(load.shedding(), None);
        drop(two);
    }

    #[test]
    fn there_is_room_again_once_a_tenth_has_ended() {
        let load = load(20);
        let mut connections: Vec<_> = std::iter::repeat_with(|| load.admit()).take(20).collect();
        for (open, is_shedding) in [(20, true), (19, true), (18, true), (17, false), (17, false)] {
            connections.truncate(open);
            load.look();
            assert_eq!(load.shedding().is_some(), is_shedding, "{open} open");
        }
        connections.extend([load.admit(), load.admit()]);
        load.look();
        assert_eq!(load.shedding(), None, "19 open");
    }

    #[test]
    fn memory_is_given_back_once_when_many_have_ended() {
        let load = load(u64::MAX);
        let seen = [255, 0, 300, 76, 75, 74, 20, 0].map(|open| load.have_many_ended(open));
        assert_eq!(seen, [false, false, false, false, true, false, false, false]);
    }

    #[test]
    fn the_memory_that_was_granted_is_watched() {
        let bounds = Bounds { connections: 9, memory: Some(1 << 20), kept_descriptors: 0 };
        let load = Load::new(bounds, Arc::default());
        load.look();
        let shedding = load.shedding().unwrap();
        assert!(matches!(shedding, Shedding::Memory { used: 1.., limit } if limit <= 1 << 20), "{shedding:?}");
        assert!(shedding.to_string().contains("raise limits.memory"), "{shedding}");
        assert!(load.metrics.render(&[]).contains("moxie_shedding{reason=\"memory\"} 1"));
    }

    #[test]
    fn descriptors_that_are_kept_are_not_for_connections() {
        let bounds = Bounds { connections: 9, memory: None, kept_descriptors: u64::MAX / 2 };
        let load = Load::new(bounds, Arc::default());
        load.look();
        assert!(load.has_room(), "one connection is always taken");
        let _one = load.admit();
        assert!(!load.has_room());
        load.look();
        assert_eq!(load.shedding(), Some(Shedding::Descriptors { limit: 1 }));
    }
}
