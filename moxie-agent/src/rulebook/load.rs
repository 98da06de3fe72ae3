//! The store's rules, read once: at the start, or as soon as a store that was down can be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::change::blocking;
use super::shelf::Shelf;
use super::{Book, Desk, counts};
use crate::chain::Chain;
use crate::rules::spec::Problem;
use crate::rules::{Rule, RuleId, RuleSpec};
use crate::store::{StoreError, StoredRule};

/// How often a store that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The task: ends once the rules are loaded.
pub(super) async fn keep_trying(book: Arc<Book>) {
    while book.load(&mut *book.desk.lock().await).await.is_err() {
        tokio::time::sleep(RETRY).await;
    }
}

impl Book {
    /// Loads the store's rules unless that is done.
    pub(super) async fn load(self: &Arc<Self>, desk: &mut Desk) -> Result<(), StoreError> {
        if desk.loaded {
            return Ok(());
        }
        let rows = match self.store.rules().await {
            Ok(rows) => rows,
            Err(error) => {
                self.report_load(Some(Chain(&error).to_string()));
                return Err(error);
            }
        };
        let (book, now) = (self.clone(), self.now());
        let (shelf, unreadable) = blocking(move || {
            let (rules, unreadable) = sort(rows, now);
            (Shelf::build(rules, book.seed, &book.files), unreadable)
        })
        .await;
        desk.next_seq = shelf.rules.iter().map(|rule| rule.seq).max().map_or(1, |last| last.saturating_add(1));
        desk.unreadable = unreadable.keys().cloned().collect();
        desk.loaded = true;
        self.shelf.store(Arc::new(shelf));
        self.trouble().unreadable = unreadable;
        self.report_load(None);
        let book = self.clone();
        blocking(move || book.changed()).await;
        Ok(())
    }

    fn report_load(&self, wrong: Option<String>) {
        let before = std::mem::replace(&mut self.trouble().load, wrong.clone());
        match (before, wrong) {
            (None, Some(reason)) => tracing::error!("no rules could be loaded, all calls pass: {reason}"),
            (Some(_), None) => tracing::info!("the rules are loaded"),
            _ => {}
        }
    }
}

type Sorted = (Vec<Arc<Rule>>, BTreeMap<RuleId, String>);

/// The rules that read back, and what is wrong with the others.
fn sort(rows: Vec<Result<StoredRule, StoreError>>, now: Timestamp) -> Sorted {
    let (mut rules, mut unreadable) = (Vec::new(), BTreeMap::new());
    for row in rows {
        match row.map(|row| (row.id.clone(), revive(row, now))) {
            Ok((_, Ok(rule))) => rules.push(Arc::new(rule)),
            Ok((id, Err(problems))) => {
                let all: Vec<_> = problems.iter().map(|one| format!("{}: {}", one.field, one.message)).collect();
                let reason = format!("rule {id} in the store is not valid and is left out: {}", all.join(", "));
                tracing::error!("{reason}");
                unreadable.insert(id, reason);
            }
            Err(error) => {
                tracing::error!("{error}; it is left out");
                if let StoreError::Corrupt { id, .. } = &error {
                    unreadable.insert(RuleId(id.clone()), error.to_string());
                }
            }
        }
    }
    (rules, unreadable)
}

fn revive(row: StoredRule, now: Timestamp) -> Result<Rule, Vec<Problem>> {
    Ok(Rule {
        id: row.id,
        seq: row.seq,
        spec: RuleSpec::from_json(&row.spec, now)?.value,
        created_at: row.created_at,
        updated_at: row.updated_at,
        tally: Arc::new(counts::tally(&row.counts)),
    })
}
