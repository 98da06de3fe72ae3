//! What every store must do, as one suite that is run on each of them.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::{Counts, Store, StoredRule, StoredScope};
use crate::journal::fixture::{connection, exchange};
use crate::journal::{Connection, Exchange};
use crate::rules::RuleId;

/// Runs the whole suite on an empty store.
pub(super) async fn holds(store: &dyn Store) {
    rules_come_back_as_they_were(store).await;
    rules_are_replaced_by_id(store).await;
    counts_change_nothing_but_counts(store).await;
    counts_of_a_removed_rule_are_nobodys(store).await;
    scopes_come_back_oldest_first(store).await;
    records_come_back_newest_first(store).await;
    the_oldest_records_go_first(store).await;
    a_record_is_kept_once(store).await;
    many_come_at_once(store).await;
}

fn instant(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

pub(super) fn rule(id: &str, seq: i64) -> StoredRule {
    StoredRule {
        id: RuleId(id.into()),
        seq,
        spec: json!({"url": "api.example/é\u{0}\"'", "response": {"z": 1, "a": [1.5, null]}, "mock_count": 3}),
        created_at: instant(1_700_000_000_123),
        updated_at: instant(1_700_000_000_456),
        counts: Counts { remaining: 3, hits: 0, last_hit: None },
    }
}

pub(super) async fn rules(store: &dyn Store) -> Vec<StoredRule> {
    store.rules().await.unwrap().into_iter().map(Result::unwrap).collect()
}

async fn rules_come_back_as_they_were(store: &dyn Store) {
    assert_eq!(rules(store).await, []);
    store.put_rules(&[]).await.unwrap();
    let fired = Counts { remaining: -1, hits: u64::from(u32::MAX) + 1, last_hit: Some(instant(-5)) };
    let (late, early) = (rule("late", 7), StoredRule { counts: fired, ..rule("early", -2) });
    store.put_rules(&[late.clone(), early.clone()]).await.unwrap();
    let back = rules(store).await;
    assert_eq!(back, [early, late]);
    // `Value` compares maps without their order; the order of a body's keys is kept, too.
    assert_eq!(back[0].spec.to_string(), rule("early", 0).spec.to_string());
}

async fn rules_are_replaced_by_id(store: &dyn Store) {
    let changed = StoredRule { spec: json!({"url": "other"}), updated_at: instant(9), ..rule("late", 7) };
    store.put_rules(&[changed.clone(), rule("third", 8)]).await.unwrap();
    assert_eq!(rules(store).await[1..], [changed, rule("third", 8)]);
    assert!(store.delete_rule(&RuleId("third".into())).await.unwrap());
    assert!(!store.delete_rule(&RuleId("third".into())).await.unwrap());
    assert_eq!(rules(store).await.len(), 2);
}

async fn counts_change_nothing_but_counts(store: &dyn Store) {
    let before = rules(store).await;
    let counts = Counts { remaining: 1, hits: 2, last_hit: Some(instant(1_700_000_001_000)) };
    store.put_counts(&[(RuleId("late".into()), counts)]).await.unwrap();
    let expected = [before[0].clone(), StoredRule { counts, ..before[1].clone() }];
    assert_eq!(rules(store).await, expected);
}

async fn counts_of_a_removed_rule_are_nobodys(store: &dyn Store) {
    let counts = Counts { remaining: 0, hits: 9, last_hit: None };
    let both = [(RuleId("third".into()), counts), (RuleId("early".into()), counts)];
    store.put_counts(&both).await.unwrap();
    let ids: Vec<_> = rules(store).await.into_iter().map(|rule| (rule.id.0, rule.counts.hits)).collect();
    assert_eq!(ids, [("early".to_owned(), 9), ("late".to_owned(), 2)]);
}

async fn scopes_come_back_oldest_first(store: &dyn Store) {
    let scope = |id: &str, cgroup: &str| StoredScope {
        id: id.into(),
        spec: json!({"cgroup": cgroup, "mode": "rules"}),
        created_at: instant(1_700_000_000_000),
    };
    for added in [scope("z", "/one"), scope("a", "/two"), scope("z", "/changed")] {
        store.put_scope(&added).await.unwrap();
    }
    assert_eq!(store.scopes().await.unwrap(), [scope("z", "/changed"), scope("a", "/two")]);
    assert!(store.delete_scope("z").await.unwrap());
    assert!(!store.delete_scope("z").await.unwrap());
    assert_eq!(store.scopes().await.unwrap(), [scope("a", "/two")]);
}

fn exchanges(ids: std::ops::Range<usize>) -> Vec<Arc<Exchange>> {
    ids.map(|id| Arc::new(exchange(&format!("{id:04}")))).collect()
}

fn connections(ids: std::ops::Range<usize>) -> Vec<Arc<Connection>> {
    ids.map(|id| Arc::new(connection(&format!("{id:04}")))).collect()
}

async fn exchange_ids(store: &dyn Store, bytes: u64) -> Vec<String> {
    store.newest_exchanges(bytes).await.unwrap().into_iter().map(|record| record.id).collect()
}

async fn records_come_back_newest_first(store: &dyn Store) {
    store.append(&exchanges(0..2), &connections(0..1), u64::MAX).await.unwrap();
    store.append(&exchanges(2..3), &[], u64::MAX).await.unwrap();
    assert_eq!(exchange_ids(store, u64::MAX).await, ["0002", "0001", "0000"]);
    let back = store.newest_connections(u64::MAX).await.unwrap();
    assert_eq!(serde_json::to_value(&back).unwrap(), json!([connection("0000")]));
    let one = serde_json::to_string(&exchange("0000")).unwrap().len() as u64;
    assert_eq!(exchange_ids(store, 2 * one).await, ["0002", "0001"]);
    assert_eq!(exchange_ids(store, 2 * one - 1).await, ["0002"]);
}

async fn the_oldest_records_go_first(store: &dyn Store) {
    // With what goes around it.
    let one = serde_json::to_string(&[exchange("0000")]).unwrap().len() as u64;
    store.append(&exchanges(3..5), &[], 4 * one).await.unwrap();
    // Which of those that were appended together go, is the store's.
    let left = exchange_ids(store, u64::MAX).await;
    assert!(left.starts_with(&["0004".to_owned(), "0003".to_owned(), "0002".to_owned()]) && left.len() < 5, "{left:?}");
    store.append(&exchanges(5..6), &connections(1..2), 3 * one - 1).await.unwrap();
    assert_eq!(exchange_ids(store, u64::MAX).await, ["0005", "0004"]);
    for next in 6..50 {
        store.append(&exchanges(next..next + 1), &[], 2 * one).await.unwrap();
    }
    assert_eq!(exchange_ids(store, u64::MAX).await, ["0049", "0048"], "the sum of sizes does not drift");
    // Exchanges do not push connections out.
    assert_eq!(store.newest_connections(u64::MAX).await.unwrap().len(), 2);
}

async fn a_record_is_kept_once(store: &dyn Store) {
    store.append(&exchanges(48..51), &[], u64::MAX).await.unwrap();
    assert_eq!(exchange_ids(store, u64::MAX).await, ["0050", "0049", "0048"]);
}

async fn many_come_at_once(store: &dyn Store) {
    let one = serde_json::to_string(&exchange("0000")).unwrap().len() as u64;
    store.append(&exchanges(100..830), &[], u64::MAX).await.unwrap();
    store.append(&exchanges(800..1330), &[], u64::MAX).await.unwrap();
    let all: Vec<String> = (100..1330).rev().map(|id| format!("{id:04}")).collect();
    let read = exchange_ids(store, u64::MAX).await;
    assert_eq!(read[..all.len()], all, "in order, and each once");
    store.append(&exchanges(1330..1331), &[], 1000 * one).await.unwrap();
    let left = exchange_ids(store, u64::MAX).await;
    assert!((900..=1000).contains(&left.len()), "about as many as may be kept: {}", left.len());
    assert_eq!(left[1..], all[..left.len() - 1], "the newest");
}
