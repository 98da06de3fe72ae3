//! The rules in force and the one way to change them: validated, stored, compiled, then swapped in as a whole.

use std::sync::Arc;

use serde_json::Value;

use crate::clock::Clock;
use crate::events::Events;
use crate::rules::spec::Problem;
use crate::rules::{Rule, RuleId, RuleSet};
use crate::store::{Store, StoreError};

/// Why a change of rules was refused. Nothing of a refused change is stored.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The rule is not valid; every problem is listed.
    #[error("the rule is not valid")]
    Invalid(Vec<Problem>),
    /// No rule has this id.
    #[error("no rule has the id {0}")]
    Unknown(RuleId),
    /// A rule with this id exists already.
    #[error("a rule with the id {0} exists")]
    Exists(RuleId),
    /// The rule was changed by someone else meanwhile (If-Match).
    #[error("rule {0} was changed meanwhile")]
    Changed(RuleId),
    /// The store did not take the change.
    #[error("the store did not take the change")]
    Store(#[source] StoreError),
}

/// A changed rule and what its author may want to look at again.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The rule now in force.
    pub rule: Arc<Rule>,
    /// Dubious but allowed.
    pub warnings: Vec<Problem>,
}

/// The rules in force.
#[derive(Debug)]
pub struct RuleBook {}

impl RuleBook {
    /// Loads the store's rules. A store that cannot be read gives an empty book, which says so in [`RuleBook::trouble`].
    pub async fn open(store: Arc<dyn Store>, clock: Clock, events: Events, seed: u64) -> Arc<Self> {
        let _ = (store, clock, events, seed);
        todo!()
    }

    /// The compiled set, for one decision or many.
    #[must_use]
    pub fn current(&self) -> Arc<RuleSet> {
        todo!()
    }

    /// Every rule, in the order in which they are tried.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Rule>> {
        todo!()
    }

    /// One rule.
    #[must_use]
    pub fn find(&self, id: &RuleId) -> Option<Arc<Rule>> {
        let _ = id;
        todo!()
    }

    /// Makes a rule.
    ///
    /// # Errors
    /// See [`BookError`].
    pub async fn create(&self, json: &Value) -> Result<Saved, BookError> {
        let _ = json;
        todo!()
    }

    /// Makes many rules, all or none.
    ///
    /// # Errors
    /// See [`BookError`]; fields are named `rules[N].…`.
    pub async fn import(&self, json: &[Value]) -> Result<Vec<Saved>, BookError> {
        let _ = json;
        todo!()
    }

    /// Replaces a rule whole. `if_match` is the ETag the author saw.
    ///
    /// # Errors
    /// See [`BookError`].
    pub async fn replace(&self, id: &RuleId, json: &Value, if_match: Option<&str>) -> Result<Saved, BookError> {
        let _ = (id, json, if_match);
        todo!()
    }

    /// Changes a rule by JSON merge patch.
    ///
    /// # Errors
    /// See [`BookError`].
    pub async fn patch(&self, id: &RuleId, patch: &Value, if_match: Option<&str>) -> Result<Saved, BookError> {
        let _ = (id, patch, if_match);
        todo!()
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// See [`BookError`].
    pub async fn delete(&self, id: &RuleId, if_match: Option<&str>) -> Result<(), BookError> {
        let _ = (id, if_match);
        todo!()
    }

    /// Tells the writer behind the data path that `rule` has fired.
    pub fn fired(&self, rule: &Rule) {
        let _ = rule;
        todo!()
    }

    /// Writes what is still to be written (counts). Called when the agent ends.
    pub async fn flush(&self) {
        todo!()
    }

    /// What is wrong with the store now, if anything.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        todo!()
    }
}

/// The ETag of a rule: changes with every change by a user, not with counts.
#[must_use]
pub fn etag(rule: &Rule) -> String {
    let _ = rule;
    todo!()
}
