//! Paging under writes, bounds, filters, and the way to the store.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::fixture::{connection, exchange};
use super::*;
use crate::store::faulty::Faulty;

fn journal(bytes: usize) -> Arc<Journal> {
    Arc::new(Journal::new(bytes, Events::default(), Arc::default()))
}

fn ids(page: &Page<Exchange>) -> Vec<&str> {
    page.items.iter().map(|record| record.id.as_str()).collect()
}

fn limit(limit: usize, cursor: Option<String>) -> Filter {
    Filter { limit: Some(limit), cursor, ..Filter::default() }
}

#[test]
fn names_are_the_names_in_json() {
    let reasons: Vec<Reason> = serde_json::from_value(json!([
        "rule_can_name",
        "rule_spent",
        "no_rule",
        "not_http",
        "server_first",
        "sniff_bound",
        "other_alpn",
        "client_refused_authority",
        "authority_refused",
        "upstream_untrusted",
        "mint_failed",
        "upstream_failed",
        "no_original_dst",
        "own_socket",
        "excluded_address",
        "client_closed"
    ]))
    .unwrap();
    for reason in reasons {
        assert_eq!(json!(reason), reason.as_str());
    }
    for outcome in [Outcome::Forwarded, Outcome::Responded, Outcome::Rewritten, Outcome::Faulted] {
        assert_eq!(json!(outcome), outcome.as_str());
    }
    for verdict in [ConnectionVerdict::Passthrough, ConnectionVerdict::Intercept, ConnectionVerdict::Fault] {
        assert_eq!(json!(verdict), verdict.as_str());
    }
    for protocol in [Protocol::Tls, Protocol::Http1, Protocol::Http2, Protocol::Opaque] {
        assert_eq!(json!(protocol), protocol.as_str());
    }
}

#[test]
fn newest_first_with_a_cursor_to_the_end() {
    let journal = journal(1 << 20);
    for id in ["b", "a", "d", "c"] {
        journal.exchange(exchange(id));
    }
    let first = journal.exchanges(&limit(3, None));
    assert_eq!((ids(&first), first.next.as_deref()), (vec!["c", "d", "a"], Some("a")));
    let last = journal.exchanges(&limit(3, first.next.clone()));
    assert_eq!((ids(&last), &last.next), (vec!["b"], &None));
    assert_eq!(journal.exchanges(&limit(4, None)).next, None, "a full last page has no next");
    assert_eq!(journal.exchanges(&limit(4, Some("gone".into()))).items.len(), 0);
    assert_eq!(journal.find_exchange("d").unwrap().id, "d");
    assert!(journal.find_exchange("e").is_none());
}

#[test]
fn the_size_of_a_page_has_bounds() {
    let journal = journal(8 << 20);
    for id in 0..1100 {
        journal.exchange(exchange(&id.to_string()));
    }
    for (asked, given) in [(None, 100), (Some(0), 1), (Some(1000), 1000), (Some(5000), 1000)] {
        let page = journal.exchanges(&Filter { limit: asked, ..Filter::default() });
        assert_eq!(page.items.len(), given, "{asked:?}");
    }
}

#[test]
fn the_oldest_leave_when_the_bytes_are_used_up() {
    use super::ring::Kept;
    let journal = journal(3 * exchange("0").size());
    for id in 0..5 {
        journal.exchange(exchange(&id.to_string()));
    }
    assert_eq!(ids(&journal.exchanges(&Filter::default())), ["4", "3", "2"]);
    assert!(journal.find_exchange("1").is_none());
    journal.exchange(Exchange { url: "u".repeat(1 << 16), ..exchange("large") });
    assert_eq!(journal.exchanges(&Filter::default()).items.len(), 0, "larger than the bound");
}

proptest! {
    #[test]
    fn a_reader_neither_misses_nor_repeats_while_records_come(
        before in 1usize..600, page in 1usize..300, arriving in 0usize..50, room in 1usize..700,
    ) {
        use super::ring::Kept;
        let journal = journal(room * exchange("0000").size());
        let mut next_id = 0..;
        let mut arrive = |count| for id in next_id.by_ref().take(count) { journal.exchange(exchange(&format!("{id:04}"))); };
        arrive(before);
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = journal.exchanges(&limit(page, cursor));
            seen.extend(page.items.into_iter().map(|record| record.id.parse::<usize>().unwrap()));
            cursor = page.next;
            if cursor.is_none() { break; }
            arrive(arriving);
        }
        // Without a gap and without a repeat from the newest at the beginning down to the oldest that was still there.
        let whole: Vec<_> = (0..before).rev().take(seen.len()).collect();
        prop_assert_eq!(&seen, &whole);
        if arriving == 0 { prop_assert_eq!(seen.len(), before.min(room)); }
    }
}

#[test]
fn every_given_filter_must_hold() {
    let journal = journal(1 << 20);
    journal.exchange(exchange("mocked"));
    journal.exchange(Exchange {
        outcome: Outcome::Forwarded,
        rule_id: None,
        status: None,
        method: "POST".into(),
        connection_id: "other".into(),
        caller: Arc::default(),
        url: "https://other.example/".into(),
        ..exchange("passed")
    });
    journal.connection(connection("tls"));
    journal.connection(Connection {
        verdict: ConnectionVerdict::Passthrough,
        server_name: None,
        caller: Arc::default(),
        ..connection("opaque")
    });
    let check = |filter: serde_json::Value, exchanges: &[&str], connections: &[&str]| {
        let read: Filter = serde_json::from_value(filter.clone()).unwrap();
        assert_eq!(ids(&journal.exchanges(&read)), exchanges, "exchanges of {filter}");
        let page = journal.connections(&read);
        assert_eq!(
            page.items.iter().map(|record| &record.id).collect::<Vec<_>>(),
            connections,
            "connections of {filter}"
        );
    };
    check(json!({}), &["passed", "mocked"], &["opaque", "tls"]);
    check(json!({"scope": "shop"}), &["mocked"], &["tls"]);
    check(json!({"rule_id": "rule"}), &["mocked"], &[]);
    check(json!({"outcome": "forwarded"}), &["passed"], &[]);
    check(json!({"method": "POST"}), &["passed"], &[]);
    check(json!({"status": 429}), &["mocked"], &[]);
    check(json!({"contains": "api.ex"}), &["mocked"], &["tls"]);
    check(json!({"contains": "198.51"}), &[], &["opaque", "tls"]);
    check(json!({"connection_id": "other"}), &["passed"], &[]);
    check(json!({"connection_id": "tls"}), &[], &["tls"]);
    check(json!({"verdict": "passthrough"}), &[], &["opaque"]);
    check(json!({"method": "POST", "status": 429}), &[], &[]);
    assert!(serde_json::from_value::<Filter>(json!({"colour": "red"})).is_err());
}

#[tokio::test]
async fn events_tell_of_each_record() {
    let events = Events::default();
    let mut heard = events.subscribe();
    let journal = Journal::new(1 << 20, events, Arc::default());
    journal.exchange(exchange("e"));
    journal.connection(connection("c"));
    journal.settle();
    let (first, second) = (heard.try_recv().unwrap(), heard.try_recv().unwrap());
    assert_eq!((first.kind, &first.data), (Kind::Exchange, &json!(exchange("e"))));
    assert_eq!((second.kind, &second.data), (Kind::Connection, &json!(connection("c"))));
}

#[tokio::test]
async fn records_of_an_earlier_run_are_the_older_ones() {
    let store = Faulty::new().await;
    let records = ["1", "2", "3"].map(|id| Arc::new(exchange(id)));
    store.append(&records, &[Arc::new(connection("c"))], u64::MAX).await.unwrap();
    let journal = journal(1 << 20);
    journal.exchange(exchange("4"));
    journal.exchange(exchange("3"));
    journal.preload(store.as_ref()).await.unwrap();
    assert_eq!(ids(&journal.exchanges(&Filter::default())), ["3", "4", "2", "1"]);
    assert_eq!(journal.connections(&Filter::default()).items.len(), 1);
    let rest = journal.exchanges(&limit(9, Some("4".into())));
    assert_eq!(ids(&rest), ["2", "1"]);
}

async fn stored(store: &dyn Store, count: usize) -> Vec<String> {
    let reached = async {
        loop {
            let records = store.newest_exchanges(u64::MAX).await.unwrap();
            if records.len() >= count {
                return records.into_iter().map(|record| record.id).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("records reach the store")
}

#[tokio::test]
async fn records_reach_the_store_and_wait_while_it_is_down() {
    let store = Faulty::new().await;
    let journal = journal(1 << 20);
    let writer = journal.writer(store.clone(), u64::MAX);
    journal.exchange(exchange("1"));
    assert_eq!(stored(store.as_ref(), 1).await, ["1"]);

    store.fail(true);
    journal.exchange(exchange("2"));
    journal.exchange(exchange("3"));
    store.failed_once_more().await;
    assert_eq!(store.newest_exchanges(u64::MAX).await.unwrap().len(), 1);
    store.fail(false);
    assert_eq!(stored(store.as_ref(), 3).await, ["3", "2", "1"]);

    journal.exchange(exchange("4"));
    journal.connection(connection("c"));
    writer.flush().await;
    assert_eq!(store.newest_exchanges(u64::MAX).await.unwrap().len(), 4);
    assert_eq!(store.newest_connections(u64::MAX).await.unwrap().len(), 1);
    assert!(journal.metrics.render(&[]).contains("moxie_records_dropped_total 0\n"));
}

#[tokio::test]
async fn the_oldest_are_dropped_and_counted_when_the_store_stays_down() {
    let store = Faulty::new().await;
    store.fail(true);
    let journal = journal(1 << 10);
    let writer = journal.writer(store.clone(), u64::MAX);
    for id in 0..12 {
        journal.exchange(Exchange { url: "u".repeat(1 << 20), ..exchange(&id.to_string()) });
    }
    store.failed_once_more().await;
    store.fail(false);
    writer.flush().await;
    let kept: Vec<_> = store.newest_exchanges(u64::MAX).await.unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(kept, ["11", "10", "9", "8", "7", "6", "5"], "a little under 8 MiB of them");
    assert!(journal.metrics.render(&[]).contains("moxie_records_dropped_total 5\n"));
}

#[test]
fn records_that_nobody_files_are_filed_by_whoever_adds_too_many() {
    let journal = journal(1 << 26);
    let mut heard = journal.events.subscribe();
    for id in 0..5000 {
        journal.exchange(exchange(&id.to_string()));
    }
    assert!(heard.try_recv().is_err_and(|error| error != tokio::sync::broadcast::error::TryRecvError::Empty), "filed");
    assert_eq!(ids(&journal.exchanges(&limit(2, None))), ["4999", "4998"]);
}

#[tokio::test]
async fn the_writer_ends_when_it_is_dropped() {
    let store = Faulty::new().await;
    let journal = journal(1 << 20);
    drop(journal.writer(store.clone(), u64::MAX));
    let ended = async {
        // The task and the journal's queue share nothing but the queue: only this test holds the store now.
        while Arc::strong_count(&store) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the task is gone");
}
