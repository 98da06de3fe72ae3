//! The rules in force and the one way to change them: validated, compiled, stored, then swapped in as a whole.
//!
//! A change that the store did not take leaves everything as it was; one that it took is in force at once, since only a pointer
//! is left to swap. Changes run one at a time and to their end, also when the caller goes away.

mod change;
mod counts;
mod files;
mod load;
mod shelf;
pub mod succession;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::{Timestamp, Unit};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use self::counts::{Dirty, Haste};
use self::files::Files;
use self::shelf::Shelf;
use self::succession::Order;
use crate::clock::Clock;
use crate::divert::Names;
use crate::events::Events;
use crate::rules::spec::Problem;
use crate::rules::{Rule, RuleId, RuleSet};
use crate::scope::Demand;
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

/// The rules in force. Its tasks end when it is dropped; a change under way ends first.
#[derive(Debug)]
pub struct RuleBook {
    book: Arc<Book>,
    /// Write the counts, and load the rules of a store that was down.
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// What the tasks and the changes under way share.
#[derive(Debug)]
struct Book {
    store: Arc<dyn Store>,
    clock: Clock,
    events: Events,
    seed: u64,
    files: Files,
    shelf: ArcSwap<Shelf>,
    /// Held by the one change under way.
    desk: tokio::sync::Mutex<Desk>,
    /// Held while rules or counts are with the store, so that old counts never overwrite new ones.
    storing: tokio::sync::Mutex<()>,
    dirty: Dirty,
    /// Whom to ask and tell, once another agent keeps the counts.
    elsewhere: ArcSwapOption<mpsc::UnboundedSender<Order>>,
    follower: Follower,
    /// Told with each change.
    changes: watch::Sender<()>,
    trouble: Mutex<Trouble>,
}

/// Who is told that the rules in force are others, before whoever changed them is.
#[derive(Default)]
struct Follower(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Follower").field(&self.0.get().is_some()).finish()
    }
}

/// What only changes look at.
#[derive(Debug, Default)]
struct Desk {
    /// The store has been read. Before that nothing is written: a rule might be overwritten unseen.
    loaded: bool,
    next_seq: i64,
    /// Rows that did not read back. They are kept until a user replaces or removes them.
    unreadable: HashSet<RuleId>,
}

#[derive(Debug, Default)]
struct Trouble {
    load: Option<String>,
    counts: Option<String>,
    unreadable: BTreeMap<RuleId, String>,
}

impl RuleBook {
    /// Loads the store's rules. A store that cannot be read gives an empty book, which says so in [`RuleBook::trouble`],
    /// refuses changes, and loads the rules as soon as it can. Bodies that are files are not served: see [`RuleBook::open_with_files`].
    pub async fn open(store: Arc<dyn Store>, clock: Clock, events: Events, seed: u64) -> Arc<Self> {
        Self::start(store, clock, events, seed, Files::none()).await
    }

    /// As [`RuleBook::open`]; bodies that are files are read below `directory` when their rule is made or changed.
    pub async fn open_with_files(
        store: Arc<dyn Store>,
        clock: Clock,
        events: Events,
        seed: u64,
        directory: PathBuf,
    ) -> Arc<Self> {
        Self::start(store, clock, events, seed, Files::below(directory)).await
    }

    async fn start(store: Arc<dyn Store>, clock: Clock, events: Events, seed: u64, files: Files) -> Arc<Self> {
        let book = Arc::new(Book {
            store,
            clock,
            events,
            seed,
            files,
            shelf: ArcSwap::default(),
            desk: tokio::sync::Mutex::default(),
            storing: tokio::sync::Mutex::default(),
            dirty: Dirty::default(),
            elsewhere: ArcSwapOption::empty(),
            follower: Follower::default(),
            changes: watch::Sender::default(),
            trouble: Mutex::default(),
        });
        // A failure is in `trouble`, and the task tries again.
        let _ = book.load(&mut *book.desk.lock().await).await;
        let tasks = [tokio::spawn(counts::keep_written(book.clone())), tokio::spawn(load::keep_trying(book.clone()))];
        Arc::new(Self { book, _tasks: tasks.map(AbortOnDropHandle::new) })
    }

    /// Has `told` called after each change of the rules in force, before the change is answered; it may block for a moment. Said
    /// again it changes nothing.
    pub fn follow(&self, told: impl Fn() + Send + Sync + 'static) {
        let _ = self.book.follower.0.set(Box::new(told));
    }

    /// The compiled set, for one decision or many.
    #[must_use]
    pub fn current(&self) -> Arc<RuleSet> {
        self.book.shelf.load().set.clone()
    }

    /// Every rule, in the order in which they are tried.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Rule>> {
        self.book.shelf.load().rules.clone()
    }

    /// One rule.
    #[must_use]
    pub fn find(&self, id: &RuleId) -> Option<Arc<Rule>> {
        self.book.shelf.load().find(id).cloned()
    }

    /// Makes a rule. An `id` in its JSON is kept if it is free.
    ///
    /// # Errors
    /// See [`BookError`].
    pub async fn create(&self, json: &Value) -> Result<Saved, BookError> {
        let json = json.clone();
        self.book.clone().change(move |bench| change::create(bench, &json)).await
    }

    /// Makes many rules, all or none. A rule with the id of an existing one replaces it as [`RuleBook::replace`] does, so that
    /// importing an export changes nothing but the counts.
    ///
    /// # Errors
    /// See [`BookError`]; fields are named `rules[N].…`.
    pub async fn import(&self, json: &[Value]) -> Result<Vec<Saved>, BookError> {
        let json = json.to_vec();
        self.book.clone().change(move |bench| change::import(bench, &json)).await
    }

    /// Replaces a rule whole; `remaining` starts again at its `mock_count`. `if_match` is the ETag the author saw.
    ///
    /// # Errors
    /// See [`BookError`].
    pub async fn replace(&self, id: &RuleId, json: &Value, if_match: Option<&str>) -> Result<Saved, BookError> {
        let (id, json, if_match) = (id.clone(), json.clone(), if_match.map(str::to_owned));
        self.book.clone().change(move |bench| change::replace(bench, &id, &json, if_match.as_deref())).await
    }

    /// Changes a rule by JSON merge patch; `remaining` starts again only if the patch names `mock_count`.
    ///
    /// # Errors
    /// See [`BookError`].
    pub async fn patch(&self, id: &RuleId, patch: &Value, if_match: Option<&str>) -> Result<Saved, BookError> {
        let (id, patch, if_match) = (id.clone(), patch.clone(), if_match.map(str::to_owned));
        self.book.clone().change(move |bench| change::patch(bench, &id, &patch, if_match.as_deref())).await
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// See [`BookError`].
    pub async fn delete(&self, id: &RuleId, if_match: Option<&str>) -> Result<(), BookError> {
        let (id, if_match) = (id.clone(), if_match.map(str::to_owned));
        self.book.clone().change(move |bench| change::delete(bench, &id, if_match.as_deref())).await
    }

    /// Tells the writer behind the data path that `rule` has fired.
    pub fn fired(&self, rule: &Rule) {
        let haste = if rule.tally.is_limited() { Haste::AtOnce } else { Haste::Soon };
        self.book.dirty.mark(&rule.id, haste);
    }

    /// Ends once `rule` is not in force any more as far as its delay goes: removed, disabled, or with another one.
    pub async fn relents(&self, rule: &Rule) {
        let mut changes = self.book.changes.subscribe();
        let delay = rule.spec.response_delay();
        let stands = |now: Arc<Rule>| now.spec.is_enabled() && now.spec.response_delay() == delay;
        while self.find(&rule.id).is_some_and(stands) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Writes what is still to be written (counts). Called when the agent ends.
    pub async fn flush(&self) {
        // A failure is logged and in `trouble`; the agent ends all the same.
        let _ = self.book.write_counts().await;
    }

    /// Whether the store's rules are in force; false while it could not be read.
    pub async fn is_loaded(&self) -> bool {
        self.book.desk.lock().await.loaded
    }

    /// What is wrong with the store now, if anything.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.book.trouble();
        let unreadable = trouble.unreadable.values();
        let all: Vec<_> = trouble.load.iter().chain(&trouble.counts).chain(unreadable).map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl Book {
    /// The present moment, as exact as a store keeps it.
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        now.round(Unit::Millisecond).unwrap_or(now)
    }

    /// The rules in force are others now: see [`RuleBook::follow`].
    fn changed(&self) {
        self.changes.send_replace(());
        if let Some(told) = self.follower.0.get() {
            told();
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Demand for RuleBook {
    fn is_wanted(&self, only: Option<&[String]>) -> bool {
        self.current().is_wanted(only, self.book.clock.now())
    }
}

impl Names for RuleBook {
    fn could_be_named(&self, name: &str) -> bool {
        self.current().could_name(name, self.book.clock.now())
    }
}

/// The ETag of a rule: changes with every change by a user, not with counts.
#[must_use]
pub fn etag(rule: &Rule) -> String {
    let mut hasher = DefaultHasher::new();
    (&rule.id, rule.updated_at, rule.spec.to_json().to_string()).hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether an `If-Match` value lets a change of `rule` through (RFC 9110 section 13.1.1). Quotes may be left out.
fn etag_matches(if_match: Option<&str>, rule: &Rule) -> bool {
    let Some(given) = if_match else { return true };
    let current = etag(rule);
    given.split(',').map(str::trim).any(|tag| tag == "*" || tag == current || tag == current.trim_matches('"'))
}

#[cfg(test)]
mod tests;
