//! Changes, refusals, counts, and a store that comes and goes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::events::Kind;
use crate::rules::set::Request;
use crate::scope::Caller;
use crate::store::faulty::Faulty;
use crate::store::{Counts, StoredRule};

/// A clock that is a millisecond later each time it is read.
fn clock() -> Clock {
    let milliseconds = AtomicI64::new(1_700_000_000_000);
    Clock::from_fn(move || {
        Timestamp::from_millisecond(milliseconds.fetch_add(1, Ordering::SeqCst)).unwrap()
            + jiff::SignedDuration::from_nanos(999)
    })
}

async fn open(store: &Arc<Faulty>) -> Arc<RuleBook> {
    RuleBook::open(store.clone(), clock(), Events::default(), 1).await
}

fn id(id: &str) -> RuleId {
    RuleId(id.into())
}

fn rule(id: &str, url: &str) -> Value {
    json!({"id": id, "url": url, "mock_count": 3})
}

fn fire(book: &RuleBook, path: &str) -> Option<Arc<Rule>> {
    let headers = HeaderMap::new();
    let request = Request {
        method: "GET",
        scheme: "http",
        authority: "api.example",
        path,
        query: None,
        headers: &headers,
        caller: &Caller::default(),
    };
    let hit = book.current().decide(&request, Timestamp::from_millisecond(1_700_000_100_000).unwrap())?;
    book.fired(&hit.rule);
    Some(hit.rule)
}

fn remaining(book: &RuleBook, name: &str) -> (i64, u64) {
    let counts = counts::counts(&book.find(&id(name)).unwrap().tally);
    (counts.remaining, counts.hits)
}

async fn stored(store: &Faulty) -> Vec<StoredRule> {
    store.rules().await.unwrap().into_iter().map(Result::unwrap).collect()
}

async fn stored_counts(store: &Faulty, name: &str) -> Counts {
    stored(store).await.into_iter().find(|rule| rule.id.0 == name).unwrap().counts
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn fields(error: &BookError) -> Vec<&str> {
    let BookError::Invalid(problems) = error else { panic!("{error}") };
    problems.iter().map(|problem| problem.field.as_str()).collect()
}

#[tokio::test]
async fn a_rule_is_in_force_once_it_is_made_and_after_a_restart() {
    let store = Faulty::new().await;
    let book = open(&store).await;
    assert!(fire(&book, "/a").is_none());
    let made = book.create(&rule("first", "api.example/a")).await.unwrap().rule;
    assert_eq!(fire(&book, "/a").unwrap().id, id("first"));
    let unnamed = book.create(&json!({"url": "api.example/b"})).await.unwrap().rule;
    assert_eq!(uuid::Uuid::parse_str(&unnamed.id.0).unwrap().get_version_num(), 7);
    assert!(unnamed.seq > made.seq);
    book.flush().await;
    drop(book);

    let book = open(&store).await;
    let back = book.find(&id("first")).unwrap();
    assert_eq!((&back.spec, back.seq, back.created_at), (&made.spec, made.seq, made.created_at));
    assert_eq!(etag(&back), etag(&made), "a restart is no change");
    assert_eq!(remaining(&book, "first"), (2, 1));
    let next = book.create(&json!({"url": "api.example/c"})).await.unwrap().rule;
    assert!(next.seq > unnamed.seq);
    assert_eq!(book.trouble(), None);
}

#[tokio::test]
async fn rules_are_listed_in_the_order_in_which_they_are_tried() {
    let book = open(&Faulty::new().await).await;
    for (name, priority) in [("old", 0), ("new", 0), ("low", -1), ("high", 1)] {
        book.create(&json!({"id": name, "url": "x/y", "priority": priority})).await.unwrap();
    }
    let order: Vec<_> = book.list().iter().map(|rule| rule.id.0.clone()).collect();
    assert_eq!(order, ["high", "old", "new", "low"]);
    book.patch(&id("low"), &json!({"priority": 9}), None).await.unwrap();
    assert_eq!(book.list()[0].id, id("low"));
}

#[tokio::test]
async fn an_id_is_kept_if_it_is_free_and_fit_for_a_path() {
    let book = open(&Faulty::new().await).await;
    book.create(&rule("a.b_c~D-9", "x/y")).await.unwrap();
    assert!(matches!(book.create(&rule("a.b_c~D-9", "x/y")).await, Err(BookError::Exists(_))));
    let long = "x".repeat(129);
    for unfit in [json!(""), json!("a/b"), json!("é"), json!(long), json!(7.5), json!(-7), json!("export"), json!("..")]
    {
        let error = book.create(&json!({"id": unfit, "url": "x/y"})).await.unwrap_err();
        assert_eq!(fields(&error), ["id"], "{unfit}");
    }
    let numbered = book.create(&json!({"id": 7, "url": "x/y"})).await.unwrap();
    assert_eq!(numbered.rule.id, id("7"), "the first Moxie numbered its rules");
    book.replace(&id("7"), &json!({"id": 7, "url": "x/z"}), None).await.unwrap();
    let error = book.create(&json!({"id": "a/b", "url": "("})).await.unwrap_err();
    assert_eq!(fields(&error), ["id", "url"], "every problem at once");
}

#[tokio::test]
async fn an_import_is_all_or_nothing() {
    let store = Faulty::new().await;
    let book = open(&store).await;
    let error = book.import(&[rule("a", "x/y"), json!({"url": "("}), rule("a", "x/z"), json!(7)]).await.unwrap_err();
    let named = fields(&error);
    assert!(named.starts_with(&["rules[1].url", "rules[2].id"]), "{named:?}");
    assert!(named[2].starts_with("rules[3]"), "{named:?}");
    assert!(stored(&store).await.is_empty() && book.list().is_empty());

    store.fail(true);
    assert!(matches!(book.import(&[rule("a", "x/y")]).await, Err(BookError::Store(_))));
    assert!(book.list().is_empty());
    store.fail(false);
    let saved = book.import(&[rule("b", "x/y"), rule("a", "x/y")]).await.unwrap();
    assert_eq!(saved.iter().map(|one| one.rule.id.0.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(stored(&store).await.len(), 2);
}

#[tokio::test]
async fn importing_an_export_changes_nothing_but_the_counts() {
    let book = open(&Faulty::new().await).await;
    book.create(&rule("a", "api.example/a")).await.unwrap();
    book.create(&json!({"url": "api.example/b", "ttl": "1h", "call_backend": true, "status_code": 500})).await.unwrap();
    fire(&book, "/a").unwrap();
    let shown = |book: &RuleBook| -> Vec<Value> {
        let view = |rule: &Arc<Rule>| serde_json::to_value(crate::rules::view(rule, rule.updated_at, &[])).unwrap();
        book.list().iter().map(view).collect()
    };
    let (export, tags) = (shown(&book), book.list().iter().map(|rule| etag(rule)).collect::<Vec<_>>());
    book.import(&export).await.unwrap();
    assert_eq!(book.list().iter().map(|rule| etag(rule)).collect::<Vec<_>>(), tags);
    assert_eq!(remaining(&book, "a"), (3, 1), "what is left starts again, hits go on");

    let other = open(&Faulty::new().await).await;
    other.import(&export).await.unwrap();
    let without_times = |mut rules: Vec<Value>| {
        let own = ["created_at", "updated_at", "hits", "last_hit", "remaining", "status"];
        rules
            .iter_mut()
            .for_each(|rule| rule.as_object_mut().unwrap().retain(|field, _| !own.contains(&field.as_str())));
        rules
    };
    assert_eq!(without_times(shown(&other)), without_times(export));
}

#[tokio::test]
async fn a_patch_keeps_the_counts_unless_it_names_mock_count() {
    let book = open(&Faulty::new().await).await;
    book.create(&rule("a", "api.example/a")).await.unwrap();
    fire(&book, "/a").unwrap();
    let seen = book.current();
    book.patch(&id("a"), &json!({"status_code": 503}), None).await.unwrap();
    assert_eq!(remaining(&book, "a"), (2, 1));
    book.patch(&id("a"), &json!({"mock_count": 5}), None).await.unwrap();
    assert_eq!(remaining(&book, "a"), (5, 1));
    // A request that is still being decided by an older set takes nothing from the new count.
    let headers = HeaderMap::new();
    let request = Request {
        method: "GET",
        scheme: "http",
        authority: "api.example",
        path: "/a",
        query: None,
        headers: &headers,
        caller: &Caller::default(),
    };
    assert!(seen.decide(&request, Timestamp::UNIX_EPOCH).is_some());
    assert_eq!(remaining(&book, "a").0, 5);
    book.replace(&id("a"), &json!({"url": "api.example/a", "mock_count": 1}), None).await.unwrap();
    assert!(fire(&book, "/a").is_some() && fire(&book, "/a").is_none());
    book.replace(&id("a"), &json!({"url": "api.example/a", "mock_count": 1}), None).await.unwrap();
    assert!(fire(&book, "/a").is_some() && fire(&book, "/a").is_none());
}

#[tokio::test]
async fn if_match_lets_only_the_author_of_the_last_look_through() {
    let book = open(&Faulty::new().await).await;
    let first = etag(&book.create(&rule("a", "api.example/a")).await.unwrap().rule);
    fire(&book, "/a").unwrap();
    assert_eq!(etag(&book.find(&id("a")).unwrap()), first, "counts are no change");
    let second = etag(&book.patch(&id("a"), &json!({"status_code": 500}), Some(&first)).await.unwrap().rule);
    assert_ne!(first, second);
    let weak = format!("W/{second}");
    for stale in [first.as_str(), "", &weak, "\"other\""] {
        let patched = book.patch(&id("a"), &json!({"status_code": 501}), Some(stale)).await;
        assert!(matches!(patched, Err(BookError::Changed(_))), "{stale}");
        let replaced = book.replace(&id("a"), &rule("a", "x/y"), Some(stale)).await;
        assert!(matches!(replaced, Err(BookError::Changed(_))), "{stale}");
        assert!(matches!(book.delete(&id("a"), Some(stale)).await, Err(BookError::Changed(_))), "{stale}");
    }
    let either = format!("\"other\", {second}");
    book.patch(&id("a"), &json!({"status_code": 502}), Some(&either)).await.unwrap();
    book.delete(&id("a"), Some("*")).await.unwrap();
    assert!(matches!(book.delete(&id("a"), Some("*")).await, Err(BookError::Unknown(_))));
    assert!(matches!(book.patch(&id("a"), &json!({}), None).await, Err(BookError::Unknown(_))));
}

#[tokio::test]
async fn a_rule_keeps_its_id() {
    let book = open(&Faulty::new().await).await;
    book.create(&rule("a", "x/y")).await.unwrap();
    assert_eq!(fields(&book.patch(&id("a"), &json!({"id": "b"}), None).await.unwrap_err()), ["id"]);
    assert_eq!(fields(&book.replace(&id("a"), &rule("b", "x/y"), None).await.unwrap_err()), ["id"]);
    book.replace(&id("a"), &rule("a", "x/z"), None).await.unwrap();
}

#[tokio::test]
async fn a_change_that_the_store_refuses_is_not_made_and_is_told_until_the_store_is_back() {
    let store = Faulty::new().await;
    let book = open(&store).await;
    book.create(&rule("a", "api.example/a")).await.unwrap();
    let before = stored(&store).await;
    store.fail(true);
    assert!(matches!(book.create(&rule("b", "x/y")).await, Err(BookError::Store(_))));
    assert!(matches!(book.patch(&id("a"), &json!({"enable": false}), None).await, Err(BookError::Store(_))));
    assert!(matches!(book.delete(&id("a"), None).await, Err(BookError::Store(_))));
    assert!(fire(&book, "/a").is_some(), "rules work from memory");
    assert!(book.find(&id("b")).is_none());
    eventually("trouble", async || book.trouble().is_some_and(|what| what.contains("save the counts"))).await;
    store.fail(false);
    eventually("no trouble", async || book.trouble().is_none()).await;
    assert_eq!(stored_counts(&store, "a").await.hits, 1, "what fired meanwhile was not forgotten");
    assert_eq!(stored(&store).await[0].spec, before[0].spec);
}

#[tokio::test]
async fn counts_reach_the_store_by_themselves() {
    let store = Faulty::new().await;
    let book = open(&store).await;
    book.create(&rule("a", "api.example/a")).await.unwrap();
    fire(&book, "/a").unwrap();
    fire(&book, "/a").unwrap();
    eventually("written", async || stored_counts(&store, "a").await.hits == 2).await;
    let counts = stored_counts(&store, "a").await;
    assert_eq!((counts.remaining, counts.last_hit.unwrap().as_millisecond()), (1, 1_700_000_100_000));
}

#[tokio::test]
async fn firings_during_changes_are_counted_once_each() {
    let store = Faulty::new().await;
    let book = open(&store).await;
    book.create(&json!({"id": "a", "url": "api.example/a", "mock_count": 500})).await.unwrap();
    let firing = {
        let book = book.clone();
        tokio::task::spawn_blocking(move || (0..2000).filter(|_| fire(&book, "/a").is_some()).count())
    };
    for status in 0..20 {
        book.patch(&id("a"), &json!({"status_code": 400 + status}), None).await.unwrap();
    }
    assert_eq!(firing.await.unwrap(), 500);
    assert_eq!(remaining(&book, "a"), (0, 500));
    book.flush().await;
    assert_eq!(stored_counts(&store, "a").await.remaining, 0);
}

#[tokio::test]
async fn a_store_that_was_down_is_loaded_when_it_is_back() {
    let store = Faulty::new().await;
    open(&store).await.create(&rule("a", "api.example/a")).await.unwrap();
    store.fail_reads(true);
    let book = open(&store).await;
    assert!(book.list().is_empty());
    assert!(book.trouble().unwrap().contains("read the rules"));
    // Taken now, this could overwrite the stored rule unseen.
    assert!(matches!(book.create(&rule("a", "x/y")).await, Err(BookError::Store(_))));
    store.fail_reads(false);
    eventually("loaded", async || book.find(&id("a")).is_some()).await;
    assert!(fire(&book, "/a").is_some());
    assert_eq!(book.trouble(), None);
}

#[tokio::test]
async fn a_stored_rule_that_is_not_valid_is_kept_and_told() {
    let store = Faulty::new().await;
    let spoilt = |name: &str| StoredRule {
        id: id(name),
        seq: 1,
        spec: json!({"url": "("}),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        counts: Counts { remaining: -1, hits: 0, last_hit: None },
    };
    store.put_rules(&[spoilt("bad"), spoilt("worse")]).await.unwrap();
    let book = open(&store).await;
    assert!(book.list().is_empty());
    let told = book.trouble().unwrap();
    assert!(told.contains("rule bad in the store is not valid") && told.contains("url"), "{told}");
    assert!(matches!(book.create(&rule("bad", "x/y")).await, Err(BookError::Exists(_))), "its row is kept");
    book.import(&[rule("bad", "x/y")]).await.unwrap();
    book.delete(&id("worse"), None).await.unwrap();
    assert_eq!(book.trouble(), None);
    assert_eq!(stored(&store).await.len(), 1);
}

#[tokio::test]
async fn events_tell_of_each_change() {
    let events = Events::default();
    let mut heard = events.subscribe();
    let book = RuleBook::open(Faulty::new().await, clock(), events, 1).await;
    book.create(&rule("a", "x/y")).await.unwrap();
    book.patch(&id("a"), &json!({"enable": false}), None).await.unwrap();
    assert!(book.create(&json!({"url": "("})).await.is_err());
    book.delete(&id("a"), None).await.unwrap();
    let mut next = || heard.try_recv().map(|event| (event.kind, event.data)).unwrap();
    let (kind, made) = next();
    assert_eq!((kind, &made["id"], &made["enable"]), (Kind::Rule, &json!("a"), &json!(true)));
    assert_eq!(next().1["enable"], json!(false));
    assert_eq!(next().1, json!({"id": "a", "removed": true}));
    assert!(heard.try_recv().is_err(), "a refused change is no change");
}

#[tokio::test]
async fn a_change_is_finished_when_its_caller_goes_away() {
    let store = Faulty::new().await;
    let book = open(&store).await;
    let body = rule("a", "api.example/a");
    let mut abandoned = Box::pin(book.create(&body));
    // Polled once: under way, not done.
    assert!(futures_util::poll!(&mut abandoned).is_pending());
    drop(abandoned);
    eventually("in force", async || book.find(&id("a")).is_some()).await;
    assert_eq!(stored(&store).await.len(), 1);
}

#[tokio::test]
async fn the_tasks_end_with_the_book() {
    let store = Faulty::new().await;
    store.fail_reads(true);
    let book = open(&store).await;
    drop(book);
    eventually("released", async || Arc::strong_count(&store) == 1).await;
}

#[tokio::test]
async fn bodies_are_read_below_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("body"), "from a file").unwrap();
    let (store, events) = (Faulty::new().await, Events::default());
    let book = RuleBook::open_with_files(store, clock(), events, 1, directory.path().to_path_buf()).await;
    book.create(&json!({"id": "a", "url": "api.example/a", "response": {"file": "body"}})).await.unwrap();
    assert!(fire(&book, "/a").is_some());
    let refused = book.patch(&id("a"), &json!({"response": {"file": "missing"}}), None).await.unwrap_err();
    let BookError::Invalid(problems) = refused else { panic!("{refused}") };
    assert_eq!(problems[0].field, "response.file");
    assert!(fire(&book, "/a").is_some(), "a refused change changes nothing");
    std::fs::remove_file(directory.path().join("body")).unwrap();
    book.create(&json!({"url": "api.example/b"})).await.unwrap();
    assert!(fire(&book, "/a").is_none(), "a rule that has lost its body does not fire");
}

#[tokio::test]
async fn ten_thousand_rules_are_one_change() {
    let store = Faulty::new().await;
    let book = open(&store).await;
    let many: Vec<_> = (0..10_000).map(|n| json!({"url": format!("host{n}.example/v1/.*"), "mock_count": n})).collect();
    book.import(&many).await.unwrap();
    assert_eq!(stored(&store).await.len(), 10_000);
    assert_eq!(book.list().len(), 10_000);
}
