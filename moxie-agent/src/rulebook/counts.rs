//! Counts on their way to the store: firing marks a rule, a task writes what is marked and again until it is written. What a limit
//! has left is written at once, so that an agent that is killed grants nothing twice.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::Book;
use crate::chain::Chain;
use crate::rules::{RuleId, Tally};
use crate::store::{Counts, StoreError};

/// How long the hits of a rule without a limit gather: only people read them.
const GATHER: Duration = Duration::from_millis(100);
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// A store that works again is written to within this time.
const LAST_RETRY: Duration = Duration::from_secs(3);

/// The rules whose counts are newer than the store's.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    rules: Mutex<HashSet<RuleId>>,
    marked: Notify,
    hurried: Notify,
}

/// How soon a count has to be with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// At once.
    AtOnce,
    /// With others that come meanwhile.
    Soon,
}

impl Dirty {
    /// Marks a rule after it was counted. Called on the data path: a short lock, and no allocation if it is marked already.
    pub(super) fn mark(&self, id: &RuleId, haste: Haste) {
        let mut rules = self.lock();
        let is_new = !rules.contains(id) && rules.insert(id.clone());
        drop(rules);
        match haste {
            Haste::AtOnce => self.hurried.notify_one(),
            Haste::Soon if is_new => self.marked.notify_one(),
            Haste::Soon => {}
        }
    }

    /// Waits until marked rules are to be written.
    async fn due(&self) {
        let gathered = async {
            self.marked.notified().await;
            tokio::time::sleep(GATHER).await;
        };
        tokio::select! {
            () = self.hurried.notified() => {}
            () = gathered => {}
        }
    }

    pub(super) fn take(&self) -> HashSet<RuleId> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<RuleId>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task. While one write is under way further firings gather for the next, so that the store sets the pace.
pub(super) async fn keep_written(book: Arc<Book>) {
    loop {
        book.dirty.due().await;
        let mut retry = FIRST_RETRY;
        while book.write_counts().await.is_err() {
            tokio::time::sleep(retry).await;
            retry = LAST_RETRY.min(retry * 2);
        }
    }
}

impl Book {
    /// Writes the counts of all marked rules; what the store does not take stays marked.
    pub(super) async fn write_counts(&self) -> Result<(), StoreError> {
        let _storing = self.storing.lock().await;
        if self.tell_elsewhere() {
            return Ok(());
        }
        // Taken before the tallies are read: a firing in between marks its rule again.
        let marked = self.dirty.take();
        let shelf = self.shelf.load_full();
        let counts: Vec<_> =
            marked.iter().filter_map(|id| Some((id.clone(), counts(&shelf.find(id)?.tally)))).collect();
        if counts.is_empty() {
            return Ok(());
        }
        let written = self.store.put_counts(&counts).await;
        let now_wrong = written.as_ref().err().map(|error| Chain(error).to_string());
        if now_wrong.is_some() {
            self.dirty.lock().extend(marked);
        }
        let before = std::mem::replace(&mut self.trouble().counts, now_wrong.clone());
        match (before, now_wrong) {
            (None, Some(reason)) => tracing::warn!("counts wait for the store: {reason}"),
            (Some(_), None) => tracing::info!("the store takes counts again"),
            _ => {}
        }
        written
    }
}

/// What a tally says now, as it is stored.
pub(super) fn counts(tally: &Tally) -> Counts {
    let last_hit_ms = tally.last_hit_ms.load(Ordering::Relaxed);
    Counts {
        remaining: tally.remaining.load(Ordering::Acquire),
        hits: tally.hits.load(Ordering::Relaxed),
        last_hit: Some(last_hit_ms).filter(|ms| *ms != 0).and_then(|ms| Timestamp::from_millisecond(ms).ok()),
    }
}

/// A tally that goes on from what was stored.
pub(super) fn tally(counts: &Counts) -> Tally {
    let tally = Tally::default();
    tally.remaining.store(counts.remaining, Ordering::Relaxed);
    tally.hits.store(counts.hits, Ordering::Relaxed);
    tally.last_hit_ms.store(counts.last_hit.map_or(0, Timestamp::as_millisecond), Ordering::Relaxed);
    tally
}
