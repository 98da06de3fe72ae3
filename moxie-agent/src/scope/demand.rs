//! What scopes have to know of the rules: whether any could act on what a caller does.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use crate::divert::Share;

/// What rules there are, as far as scopes have to know.
pub trait Demand: Send + Sync + fmt::Debug {
    /// Whether any rule could act on what callers do that meet the rules called `only` (`None`: every rule), or whether what one has
    /// done is watched still.
    fn is_wanted(&self, only: Option<&[String]>) -> bool;
}

/// The scale that places are weighed on (`registry/weigh.rs`).
#[derive(Debug, Default)]
pub(super) struct Scale {
    demand: OnceLock<Arc<dyn Demand>>,
    /// Held while one weighing is under way, so that an older answer is never written after a newer one.
    pub(super) weighing: Mutex<()>,
}

impl Scale {
    /// Said twice it is as said once.
    pub(super) fn set(&self, demand: Arc<dyn Demand>) {
        let _ = self.demand.set(demand);
    }

    /// How much of what meets the rules called `only` has to come for the sake of rules.
    pub(super) fn for_rules(&self, only: Option<&[String]>) -> Share {
        match self.demand.get() {
            Some(demand) if !demand.is_wanted(only) => Share::None,
            Some(_) => Share::Named,
            // Nobody has said that there are none.
            None => Share::All,
        }
    }
}
