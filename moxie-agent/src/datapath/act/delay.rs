//! Delay: waits as long as a rule says, never shorter while the rule stands.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::rulebook::RuleBook;
use crate::rules::Rule;
use crate::rules::set::Hit;

/// A wait that a rule wants.
#[derive(Clone, Debug)]
pub struct Delay {
    time: Duration,
    rule: Arc<Rule>,
}

impl Delay {
    /// What a rule that fired wants, if it wants one.
    #[must_use]
    pub fn of(hit: &Hit) -> Option<Self> {
        (!hit.delay.is_zero()).then(|| Self { time: hit.delay, rule: Arc::clone(&hit.rule) })
    }

    /// Waits, and tells how long it really took: shorter than asked only if the rule is taken back meanwhile.
    pub async fn wait(self, rules: &RuleBook) -> Duration {
        let began = Instant::now();
        tokio::select! {
            () = sleep(self.time) => {}
            () = rules.relents(&self.rule) => {}
        }
        began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Clock;
    use crate::events::Events;
    use crate::rules::RuleId;

    /// A book with one rule.
    async fn book() -> (Arc<RuleBook>, Arc<Rule>) {
        let store = crate::store::open("sqlite::memory:").await.unwrap();
        let book = RuleBook::open(store, Clock::system(), Events::default(), 1).await;
        let saved = book.create(&json!({"id": "a", "url": "a/b", "response_delay": 60})).await.unwrap();
        (book, saved.rule)
    }

    #[tokio::test]
    async fn a_delay_is_never_shorter_than_asked() {
        let (book, rule) = book().await;
        for millis in [0, 1, 50, 400] {
            let time = Duration::from_millis(millis);
            assert!(Delay { time, rule: Arc::clone(&rule) }.wait(&book).await >= time);
        }
    }

    #[tokio::test]
    async fn a_rule_that_is_taken_back_ends_its_delay() {
        let id = RuleId("a".into());
        for (patch, relents) in [
            (Some(json!({"enable": false})), true),
            (Some(json!({"response_delay": 1})), true),
            (Some(json!({"status_code": 500})), false),
            (None, true),
        ] {
            let (book, rule) = book().await;
            let delay = Delay { time: Duration::from_secs(60), rule };
            let waiting = tokio::spawn({
                let book = Arc::clone(&book);
                async move { delay.wait(&book).await }
            });
            tokio::task::yield_now().await;
            match &patch {
                Some(patch) => drop(book.patch(&id, patch, None).await.unwrap()),
                None => book.delete(&id, None).await.unwrap(),
            }
            let bound = if relents { Duration::from_secs(20) } else { Duration::from_millis(200) };
            assert_eq!(tokio::time::timeout(bound, waiting).await.is_ok(), relents, "{patch:?}");
        }
    }
}
