//! Rules: what a user asked for, compiled so that one request is decided in about constant time.
//!
//! Pure: no I/O, no clock and no dice of its own; time and the seed are handed in.
//! [`spec`] parses and validates, [`set`] compiles and decides, [`explain`] says why, [`shorthand`] reads the command line's form.

pub mod set;
pub mod spec;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use set::RuleSet;
pub use spec::RuleSpec;

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
