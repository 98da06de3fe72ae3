//! Counts that go from one agent to the next while both serve: there is one count at any moment, and it is asked wherever it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};

use super::counts::Haste;
use super::{Book, RuleBook};
use crate::rules::set::Hit;
use crate::rules::{Count, Rule, RuleId, Status, Taken};

/// What an agent that has given its counts away says to the one that keeps them.
#[derive(Debug)]
pub enum Order {
    /// May this rule fire once more?
    Take(RuleId, oneshot::Sender<bool>),
    /// This rule has fired: how often since the last word, and when last (milliseconds since the epoch).
    Fired(RuleId, u64, i64),
}

/// The counts that were given away.
#[derive(Debug)]
pub struct Given {
    /// Each rule's.
    pub counts: Vec<Count>,
    /// What is said about them from now on.
    pub orders: mpsc::UnboundedReceiver<Order>,
}

impl RuleBook {
    /// Gives every count away: who fires a limited rule from now on asks first. The store is no longer written to.
    #[must_use]
    pub fn give_away(&self) -> Given {
        let (sender, orders) = mpsc::unbounded_channel();
        self.book.elsewhere.store(Some(Arc::new(sender)));
        let shelf = self.book.shelf.load_full();
        let counts = shelf.rules.iter().map(|rule| rule.tally.give_away(rule.id.clone())).collect();
        Given { counts, orders }
    }

    /// Takes counts back that nobody else has used, before their [`Order`]s are dropped: who waits for an answer decides anew.
    pub fn take_back(&self, counts: &[Count]) {
        self.each(counts, |rule, count| rule.tally.take_back(count));
        self.book.changed();
        self.book.elsewhere.store(None);
        counts.iter().for_each(|count| self.book.dirty.mark(&count.rule, Haste::AtOnce));
    }

    /// Goes on from an earlier agent's counts. Rules that there are no longer are passed over.
    pub fn receive(&self, counts: &[Count]) {
        self.each(counts, |rule, count| rule.tally.receive(count));
        self.book.changed();
    }

    fn each(&self, counts: &[Count], visit: impl Fn(&Rule, &Count)) {
        let shelf = self.book.shelf.load_full();
        let given: HashMap<_, _> = counts.iter().map(|count| (&count.rule, count)).collect();
        for rule in &shelf.rules {
            if let Some(count) = given.get(&rule.id) {
                visit(rule, count);
            }
        }
    }

    /// Whoever kept the counts is gone, and what it has fired is not known: no limited rule fires here again.
    pub fn lose_counts(&self) {
        for rule in &self.book.shelf.load_full().rules {
            rule.tally.exhaust_elsewhere();
        }
    }

    /// There is nothing left to tell whoever keeps the counts: the channel of [`Order`]s ends.
    pub fn close_counts(&self) {
        self.lose_counts();
        self.book.elsewhere.store(None);
    }

    /// Whether `hit` may go ahead. False: its rule was not to be had after all; decide anew.
    pub async fn confirm(&self, hit: &Hit) -> bool {
        if hit.taken == Taken::Here {
            return true;
        }
        let granted = self.book.ask(&hit.rule.id).await;
        if granted != Some(true) {
            hit.rule.tally.undo_hit();
        }
        if granted == Some(false) {
            hit.rule.tally.exhaust_elsewhere();
        }
        granted == Some(true)
    }

    /// Takes one firing for an agent that has given its counts to this one. If this one has given them on, whoever has them is
    /// asked.
    pub async fn take_for_another(&self, id: &RuleId) -> bool {
        let now = self.book.now();
        let can_fire = |rule: &Arc<Rule>| !matches!(Status::of(rule, now), Status::Disabled | Status::Expired);
        match self.find(id).filter(can_fire).and_then(|rule| rule.tally.take_for_another()) {
            None => false,
            Some(Taken::Here) => {
                self.book.dirty.mark(id, Haste::AtOnce);
                true
            }
            Some(Taken::Elsewhere) => self.book.ask(id).await == Some(true),
        }
    }

    /// Counts what an agent has fired that has given its counts to this one.
    pub fn fired_by_another(&self, rule: &RuleId, hits: u64, last_hit_ms: i64) {
        if let Some(found) = self.find(rule) {
            found.tally.add(hits, last_hit_ms);
            self.book.dirty.mark(rule, Haste::AtOnce);
        }
    }
}

impl Book {
    /// `None`: nobody keeps the counts any more.
    async fn ask(&self, rule: &RuleId) -> Option<bool> {
        let orders = self.elsewhere.load_full()?;
        let (reply, answer) = oneshot::channel();
        orders.send(Order::Take(rule.clone(), reply)).ok()?;
        answer.await.ok()
    }

    /// Tells whoever keeps the counts what has fired here. False: they are kept here.
    pub(super) fn tell_elsewhere(&self) -> bool {
        let Some(orders) = self.elsewhere.load_full() else { return false };
        let shelf = self.shelf.load_full();
        for rule in self.dirty.take().iter().filter_map(|id| shelf.find(id)) {
            let hits = rule.tally.hits.swap(0, Ordering::AcqRel);
            if hits > 0 {
                let last = rule.tally.last_hit_ms.load(Ordering::Relaxed);
                // Nobody listens once the keeper is gone; then there is nobody to tell.
                let _ = orders.send(Order::Fired(rule.id.clone(), hits, last));
            }
        }
        true
    }
}
