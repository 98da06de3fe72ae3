//! One decision among 10 and among 10,000 rules: the second is to cost about what the first does.

#![expect(clippy::expect_used, reason = "a benchmark whose input is wrong has nothing to measure")]

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use jiff::Timestamp;
use moxie_agent::rules::set::Request;
use moxie_agent::rules::{Rule, RuleId, RuleSet, RuleSpec, Tally};
use moxie_agent::scope::Caller;
use serde_json::json;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn rules(count: i64, url: impl Fn(i64) -> String) -> Vec<Arc<Rule>> {
    let rule = |seq: i64| {
        let json = json!({"method": "GET", "url": url(seq), "status_code": 429});
        let spec = RuleSpec::from_json(&json, NOW).expect("a valid rule").value;
        let tally = Arc::new(Tally::new(-1));
        Arc::new(Rule { id: RuleId(seq.to_string()), seq, spec, created_at: NOW, updated_at: NOW, tally })
    };
    (0..count).map(rule).collect()
}

fn decides(set: &RuleSet, authority: &str, path: &str) -> bool {
    let (headers, caller) = (HeaderMap::new(), Caller::default());
    let request = Request {
        method: "GET",
        scheme: "https",
        authority,
        path,
        query: Some("a=b"),
        headers: &headers,
        caller: &caller,
    };
    set.decide(&request, NOW).is_some()
}

fn deciding(criterion: &mut Criterion) {
    type Shape = (&'static str, fn(i64) -> String, &'static str, &'static str);
    let shapes: [Shape; 3] = [
        ("many-hosts", |n| format!("api{n}.example.com/v1/users/.*"), "api7.example.com", "/v1/users/42"),
        ("one-host", |n| format!("api.example.com/v1/things{n}/.*"), "api.example.com", "/v1/things7/42"),
        ("one-host-classes", |n| format!(r"api\.example\.com/v1/\d+/things{n}"), "api.example.com", "/v1/42/things7"),
    ];
    for (name, url, authority, path) in shapes {
        let mut group = criterion.benchmark_group(name);
        for count in [10, 10_000] {
            let set = RuleSet::compile(rules(count, url), 1);
            assert!(decides(&set, authority, path), "{name} decides");
            group.bench_function(BenchmarkId::new("fires", count), |b| b.iter(|| decides(&set, authority, path)));
            group.bench_function(BenchmarkId::new("other-path", count), |b| {
                b.iter(|| decides(&set, authority, "/v2/none"))
            });
            group.bench_function(BenchmarkId::new("other-host", count), |b| {
                b.iter(|| set.can_name("cdn.other.net", NOW))
            });
        }
        group.finish();
    }
}

fn compiling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    let url = |n| format!("api{n}.example.com/v1/users/.*");
    group.bench_function("parse-10000", |b| b.iter(|| rules(10_000, url)));
    let rules = rules(10_000, url);
    group.bench_function("index-10000", |b| b.iter(|| RuleSet::compile(rules.clone(), 1)));
    group.finish();
}

criterion_group!(benches, deciding, compiling);
criterion_main!(benches);
