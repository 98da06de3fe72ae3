//! Rules: what a user asked for, compiled so that one request is decided in about constant time.
//!
//! Pure: no I/O, no clock and no dice of its own; time and the seed are handed in.
//! [`spec`] parses and validates, [`set`] compiles and decides, [`explain`] says why, [`view`] shows, [`shorthand`] reads the
//! command line's form. Inside, `pattern` reads a url, `index` holds many of them, `reach` tells which hosts one can name.

pub mod explain;
pub mod hosts;
pub mod set;
pub mod shorthand;
pub mod spec;
pub mod status;
pub mod view;

mod draw;
mod index;
mod pattern;
mod reach;
mod when;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use explain::Explanation;
pub use hosts::HostList;
pub use set::RuleSet;
pub use spec::RuleSpec;
pub use status::Status;
pub use view::{RuleBody, RuleView, view};

/// Opaque, stable name of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct RuleId(pub String);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule in force: what was asked for, and what has become of it.
///
/// An edit makes a new `Rule` that shares the old one's [`Tally`], so that counting goes on across rule sets.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name in the API.
    pub id: RuleId,
    /// Place in order of creation: among equal priorities the smaller goes first.
    pub seq: i64,
    /// What the user asked for.
    pub spec: RuleSpec,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by a user.
    pub updated_at: Timestamp,
    /// Counters, shared with every compiled set that holds this rule.
    pub tally: Arc<Tally>,
}

/// The counters of a rule. Exact under concurrency: a firing is taken with one compare-and-swap.
#[derive(Debug, Default)]
pub struct Tally {
    /// Firings left; -1 is no limit.
    pub remaining: AtomicI64,
    /// How many times it fired.
    pub hits: AtomicU64,
    /// When it last fired, milliseconds since the epoch; 0 is never.
    pub last_hit_ms: AtomicI64,
    /// How many matching requests the percentage was drawn for; makes a seeded run repeatable.
    pub draws: AtomicU64,
}

/// What [`Tally::remaining`] says while another agent keeps the count.
const KEPT_ELSEWHERE: i64 = i64::MIN;

/// Where a firing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Here: it is this request's.
    Here,
    /// Nowhere yet: the agent that keeps the count now has to be asked.
    Elsewhere,
}

/// The counters of a rule on their way from one agent to the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Count {
    /// Whose.
    pub rule: RuleId,
    /// As [`Tally::remaining`].
    pub remaining: i64,
    /// As [`Tally::hits`].
    pub hits: u64,
    /// As [`Tally::last_hit_ms`].
    pub last_hit_ms: i64,
    /// As [`Tally::draws`].
    pub draws: u64,
}

impl Tally {
    /// Counters of a rule that may fire `mock_count` times; -1 is no limit.
    #[must_use]
    pub fn new(mock_count: i64) -> Self {
        Self { remaining: AtomicI64::new(mock_count), ..Self::default() }
    }

    /// Whether it is counted here how often the rule may fire.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.remaining.load(Ordering::Relaxed) >= 0
    }

    /// Takes one firing; `None` if none is left.
    fn take(&self, now: Timestamp) -> Option<Taken> {
        if self.remaining.load(Ordering::Acquire) == 0 {
            return None;
        }
        // Before the count: whoever sees the last one gone also sees when. One that comes too late for it is as late as that.
        self.last_hit_ms.fetch_max(now.as_millisecond(), Ordering::AcqRel);
        let before = self.remaining.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).ok()?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(if before == KEPT_ELSEWHERE { Taken::Elsewhere } else { Taken::Here })
    }

    /// Takes one firing for another agent, which tells of it later ([`Tally::add`]); `None` if none is left.
    pub(crate) fn take_for_another(&self) -> Option<Taken> {
        let before = self.remaining.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).ok()?;
        Some(if before == KEPT_ELSEWHERE { Taken::Elsewhere } else { Taken::Here })
    }

    /// Gives the counters away: from here on a limited rule's firings are [`Taken::Elsewhere`], and hits start again at 0.
    pub(crate) fn give_away(&self, rule: RuleId) -> Count {
        let leave = |remaining: i64| (remaining >= 0).then_some(KEPT_ELSEWHERE);
        let before = self.remaining.fetch_update(Ordering::AcqRel, Ordering::Acquire, leave);
        Count {
            rule,
            remaining: before.unwrap_or_else(|unlimited| unlimited),
            hits: self.hits.swap(0, Ordering::AcqRel),
            last_hit_ms: self.last_hit_ms.load(Ordering::Relaxed),
            draws: self.draws.load(Ordering::Relaxed),
        }
    }

    /// Goes on from counters that another agent kept; nothing has been counted here.
    pub(crate) fn receive(&self, count: &Count) {
        self.hits.store(count.hits, Ordering::Relaxed);
        self.last_hit_ms.store(count.last_hit_ms, Ordering::Relaxed);
        self.draws.store(count.draws, Ordering::Relaxed);
        self.remaining.store(count.remaining, Ordering::Release);
    }

    /// Takes back what was given away and not used.
    pub(crate) fn take_back(&self, count: &Count) {
        self.add(count.hits, count.last_hit_ms);
        self.remaining.store(count.remaining, Ordering::Release);
    }

    /// Adds firings that were counted in another agent.
    pub(crate) fn add(&self, hits: u64, last_hit_ms: i64) {
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.last_hit_ms.fetch_max(last_hit_ms, Ordering::Relaxed);
    }

    /// Undoes a firing that was taken elsewhere and not granted.
    pub(crate) fn undo_hit(&self) {
        self.hits.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nothing is left where the count is kept elsewhere.
    pub(crate) fn exhaust_elsewhere(&self) {
        // A count that is kept here stays.
        let _ = self.remaining.compare_exchange(KEPT_ELSEWHERE, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// What is left after one more firing; `None` if nothing was.
fn one_less(remaining: i64) -> Option<i64> {
    match remaining {
        0 => None,
        unlimited if unlimited < 0 => Some(unlimited),
        some => Some(some - 1),
    }
}
