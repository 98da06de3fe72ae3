//! Which rule fires, and what it answers.

use std::sync::atomic::AtomicU64;

use serde_json::{Value, json};

use super::*;
use crate::rules::explain::{Verdict, WhyNotReason};
use crate::rules::{RuleId, RuleSpec, Status, Tally, view};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) fn rule(seq: i64, json: &Value) -> Arc<Rule> {
    let spec = RuleSpec::from_json(json, NOW).unwrap_or_else(|problems| panic!("{json}: {problems:?}")).value;
    let tally = Arc::new(Tally::new(spec.mock_count));
    Arc::new(Rule { id: RuleId(format!("r{seq}")), seq, spec, created_at: NOW, updated_at: NOW, tally })
}

pub(super) fn set(rules: &[Value]) -> RuleSet {
    RuleSet::compile((0..).zip(rules).map(|(seq, json)| rule(seq, json)).collect(), 1)
}

pub(super) fn ask<T>(method: &str, url: &str, with: impl FnOnce(&Request<'_>) -> T) -> T {
    let (authority, target) = url.split_at(url.find('/').expect("a path"));
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let (headers, caller) = (HeaderMap::new(), Caller::default());
    with(&Request { method, scheme: "https", authority, path, query, headers: &headers, caller: &caller })
}

fn decide(set: &RuleSet, request: &str) -> Option<Hit> {
    let (method, url) = request.split_once(' ').expect("METHOD url");
    ask(method, url, |request| set.decide(request, NOW))
}

/// The ids of the rules that fire for a row of requests; `-` for none.
#[track_caller]
fn check(rules: &[Value], requests: &[&str], fired: &str) {
    let set = set(rules);
    let fire = |request: &&str| decide(&set, request).map_or("-".to_owned(), |hit| hit.rule.id.0.clone());
    assert_eq!(requests.iter().map(fire).collect::<Vec<_>>().join(" "), fired);
}

#[test]
fn the_first_moxies_examples() {
    let rules = [
        json!({"method": "POST", "url": "track.customer.io/api/v1/customers/.*/unsuppress", "status_code": 429, "mock_count": 5}),
        json!({"method": "GET", "url": "api.cloudflare.com/client/v4/zones/.*/ssl/universal/settings", "response": "{\"ok\":1}", "response_delay": 1}),
        json!({"method": "GET", "url": "test_url.com/xml_reponse", "response": "<a/>", "response_media_type": "application/xml"}),
    ];
    let set = set(&rules);
    for left in (0..5).rev() {
        let hit = decide(&set, "POST track.customer.io/api/v1/customers/7/unsuppress").expect("a hit");
        assert!(matches!(hit.action, Action::Respond { status: StatusCode::TOO_MANY_REQUESTS, .. }));
        assert_eq!(hit.rule.tally.remaining.load(Ordering::Relaxed), left);
    }
    assert!(decide(&set, "POST track.customer.io/api/v1/customers/7/unsuppress").is_none());
    assert!(decide(&set, "GET track.customer.io/api/v1/customers/7/unsuppress").is_none());
    let hit = decide(&set, "GET api.cloudflare.com/client/v4/zones/z1/ssl/universal/settings?a=b");
    assert_eq!(hit.expect("a hit").delay, Duration::from_secs(1));
    let Some(Hit { action: Action::Respond { headers, body, .. }, .. }) = decide(&set, "GET test_url.com/xml_reponse")
    else {
        panic!("answered");
    };
    assert_eq!((headers["content-type"].as_bytes(), &body[..]), (&b"application/xml"[..], &b"<a/>"[..]));
}

#[test]
fn urls_match_whole_with_or_without_query() {
    let rules =
        [json!({"url": "a.io/v1"}), json!({"url": r"a.io/v2\?x=\d+"}), json!({"url": "a.io/v3", "match": "prefix"})];
    let requests = [
        "GET a.io/v1",
        "GET a.io/v1?x=1",
        "GET a.io/v11",
        "GET b.a.io/v1",
        "GET a.io/v2?x=12",
        "GET a.io/v2",
        "GET a.io/v2?x=",
    ];
    check(&rules, &requests, "r0 r0 - - r1 - -");
    check(&rules, &["GET a.io/v3", "PUT a.io/v3/b?c", "GET b.a.io/v3", "GET aXio/v3"], "r2 r2 - r2");
    let search = [
        json!({"url": "/admin", "match": "search", "hosts": [r"(a|b)\.io"]}),
        json!({"url": "^a/x$", "match": "search", "hosts": ["a"]}),
    ];
    check(
        &search,
        &["GET a.io/x/admin/y", "GET c.io/x/admin", "GET a.io/x?q=/admin", "GET a/x", "GET a/xy"],
        "r0 - r0 r1 -",
    );
}

#[test]
fn order_is_priority_then_age_and_spent_rules_are_skipped() {
    let rules = [
        json!({"url": "a/b", "mock_count": 1}),
        json!({"url": "a/.*", "mock_count": 2}),
        json!({"url": "a/b", "enable": false, "priority": 9}),
        json!({"url": "a/b", "expires_at": "1970-01-01T00:00:00Z", "priority": 8}),
        json!({"url": "a/b", "mock_count": 0, "priority": 7}),
        json!({"url": "a/b", "priority": 1, "mock_count": 1}),
        json!({"url": "a/b", "percentage": 0, "priority": 6}),
    ];
    check(&rules, &["GET a/b"; 5], "r5 r0 r1 r1 -");
}

#[test]
fn hosts_that_a_rule_can_name() {
    let rules = [
        json!({"url": "api.customer.io/v1/.*"}),
        json!({"url": r"[a-z]+\.example\.com/x"}),
        json!({"url": "secret", "match": "search", "hosts": [r"s\d\.io"]}),
        json!({"url": "off.io/.*", "enable": false}),
        json!({"url": "spent.io/.*", "mock_count": 0}),
    ];
    let set = set(&rules);
    let named = |host: &str| set.can_name(host, NOW);
    // A dot may be the slash behind a shorter host.
    for host in ["api.customer.io", "apiXcustomer.io", "api", "api.customer", "www.example.com", "s1.io"] {
        assert!(named(host), "{host}");
    }
    for host in [
        "",
        "ap",
        "api.customer.io.evil",
        "xapi.customer.io",
        "www1.example.com",
        "example.com",
        "s.io",
        "off.io",
        "spent.io",
    ] {
        assert!(!named(host), "{host}");
    }
    assert!(set.is_armed(&Caller::default(), NOW));
    assert!(
        !super::RuleSet::default().can_name("a", NOW) && !super::RuleSet::default().is_armed(&Caller::default(), NOW)
    );
}

#[test]
fn answers_are_what_was_written() {
    let respond = |rule: Value| match decide(&set(&[rule]), "GET a/b").expect("a hit").action {
        Action::Respond { status, headers, body, .. } => (status.as_u16(), headers, body),
        Action::Rewrite(_) => panic!("a mock"),
    };
    let (status, headers, body) = respond(json!({"url": "a/b"}));
    assert_eq!((status, headers["content-type"].as_bytes(), body.len()), (200, &b"application/json"[..], 0));
    let (_, headers, body) = respond(json!({"url": "a/b", "response": {"b": [1, null], "a": 2},
        "response_headers": {"Content-Type": "text/x", "Set-Cookie": ["a", "b"]}}));
    assert_eq!((headers.len(), headers["content-type"].as_bytes()), (3, &b"text/x"[..]));
    assert_eq!(&body[..], br#"{"b":[1,null],"a":2}"#);
    assert_eq!(&respond(json!({"url": "a/b", "response": {"base64": "AAE="}})).2[..], [0, 1]);
}

#[test]
fn a_backend_rule_changes_only_what_it_names() {
    let rewrite = |rule: Value| match decide(&set(&[rule]), "GET a/b").expect("a hit").action {
        Action::Rewrite(rewrite) => rewrite,
        Action::Respond { .. } => panic!("a rewrite"),
    };
    let plain = rewrite(json!({"url": "a/b", "call_backend": true, "custom_headers": {"X-A": "1"}}));
    assert_eq!((plain.status, plain.body.as_ref(), plain.response_headers.len()), (None, None, 0));
    assert_eq!(plain.request_headers["x-a"], "1");
    let typed = rewrite(json!({"url": "a/b", "call_backend": true, "response_media_type": "text/x"}));
    assert_eq!(typed.response_headers["content-type"], "text/x");
    let full = rewrite(json!({"url": "a/b", "call_backend": true, "status_code": 503, "response": ""}));
    assert_eq!((full.status, full.body.as_deref()), (Some(StatusCode::SERVICE_UNAVAILABLE), Some(&b""[..])));
    assert_eq!(full.response_headers["content-type"], "application/json");
}

#[test]
fn a_body_in_a_file_is_read_or_the_rule_does_not_fire() {
    let json = json!({"url": "a/b", "response": {"file": "x/y.json"}});
    let with = RuleSet::compile_with(vec![rule(0, &json)], 1, &|path| Some(Bytes::copy_from_slice(path.as_bytes())));
    assert!(
        matches!(decide(&with, "GET a/b").expect("a hit").action, Action::Respond { body, .. } if body == "x/y.json")
    );
    let without = set(&[json]);
    assert!(decide(&without, "GET a/b").is_none() && !without.can_name("a", NOW));
}

#[test]
fn a_percentage_repeats_with_its_seed() {
    let run = |seed: u64, percentage: f64| {
        let set = RuleSet::compile(vec![rule(0, &json!({"url": "a/b", "percentage": percentage}))], seed);
        (0..2000).map(|_| decide(&set, "GET a/b").is_some()).collect::<Vec<_>>()
    };
    let fired = run(7, 12.5);
    assert_eq!(fired, run(7, 12.5));
    assert_ne!(fired, run(8, 12.5));
    // 250 expected, 15 of standard deviation.
    let count = fired.iter().filter(|fired| **fired).count();
    assert!((160..340).contains(&count), "{count}");
}

#[test]
fn exactly_n_firings_under_contention() {
    let first = rule(0, &json!({"url": "a/b", "mock_count": 100}));
    let second = rule(1, &json!({"url": "a/b", "mock_count": 50}));
    let set = RuleSet::compile(vec![Arc::clone(&second), Arc::clone(&first)], 1);
    let missed = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..40 {
                    if decide(&set, "GET a/b").is_none() {
                        missed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let hits = |rule: &Rule| rule.tally.hits.load(Ordering::Relaxed);
    assert_eq!((hits(&first), hits(&second), missed.into_inner()), (100, 50, 8 * 40 - 150));
}

#[test]
fn an_explanation_names_the_rule_and_what_keeps_the_others() {
    let rules = [
        json!({"url": "a/b", "enable": false}),
        json!({"url": "a/b", "expires_at": "1970-01-01T00:00:00Z"}),
        json!({"url": "a/b", "mock_count": 0}),
        json!({"url": "a/b", "method": "POST"}),
        json!({"url": "a/c"}),
        json!({"url": "b", "match": "search", "hosts": ["c"]}),
        json!({"url": "a/b", "when": {"headers": {"x": "1"}}}),
        json!({"url": "a/b", "response": {"file": "x"}}),
        json!({"url": "a/b", "percentage": 30, "name": "some", "call_backend": true}),
        json!({"url": "a/.*"}),
    ];
    let set = set(&rules);
    let explained = ask("GET", "a/b", |request| set.explain(request, NOW));
    assert_eq!((explained.verdict, explained.rule), (Verdict::Rewrite, Some(RuleId("r8".to_owned()))));
    assert!(explained.detail.contains("30 % of such requests"), "{}", explained.detail);
    use WhyNotReason::{BodyUnreadable, Disabled, Exhausted, Expired, Headers, Host, Method, RuleBefore, Url};
    let reasons: Vec<WhyNotReason> = explained.others.iter().map(|other| other.reason).collect();
    assert_eq!(reasons, [Disabled, Expired, Exhausted, Method, Url, Host, Headers, BodyUnreadable, RuleBefore]);
    assert_eq!(explained.others[3].detail, "the rule wants POST, the request is GET");
    assert_eq!(explained.others[6].detail, r#"the rule wants header x to be "1", the request has none"#);
    let forwarded = ask("GET", "z/b", |request| set.explain(request, NOW));
    assert_eq!((forwarded.verdict, forwarded.rule), (Verdict::Forward, None));
    assert!(set.rules.iter().all(|prepared| prepared.rule.tally.hits.load(Ordering::Relaxed) == 0));
}

#[test]
fn a_status_says_what_has_become_of_a_rule() {
    let later = NOW + jiff::SignedDuration::from_secs(61);
    let rule = rule(0, &json!({"url": "a/b", "mock_count": 2, "ttl": "1h"}));
    let status = |now| view(&rule, now, &[]).status;
    assert_eq!((status(NOW), status(later)), (Status::Armed, Status::NoTraffic));
    assert!(rule.tally.take(later).is_some());
    assert_eq!(status(later), Status::Delivered);
    let seen = serde_json::to_value(view(&rule, later, &[])).expect("JSON");
    assert_eq!(
        (&seen["remaining"], &seen["hits"], &seen["last_hit"]),
        (&json!(1), &json!(1), &json!("1970-01-01T00:01:01Z"))
    );
    assert_eq!((&seen["percentage"], &seen["status_code"], seen.get("warnings")), (&json!(100), &json!(200), None));
    RuleSpec::from_json(&seen, NOW).expect("a view can be imported");
    assert!(rule.tally.take(later).is_some() && rule.tally.take(later).is_none());
    assert_eq!(status(later), Status::Exhausted);
    assert_eq!(status(NOW + jiff::SignedDuration::from_hours(1)), Status::Expired);
}

#[test]
fn authorities_are_normalised() {
    let check = |authority, scheme, normal| assert_eq!(normal_authority(authority, scheme), normal, "{authority}");
    check("API.Example.com:443", "https", "api.example.com");
    check("api.example.com:443", "http", "api.example.com:443");
    check("api.example.com.:80", "http", "api.example.com");
    check("user@a:8080", "https", "a:8080");
    check("[::1]:443", "https", "[::1]");
    check("[::1]", "https", "[::1]");
    check("a:", "https", "a");
}

#[test]
fn a_caller_with_rules_of_its_own_meets_no_other() {
    let set = set(&[
        json!({"name": "slow", "url": "a/b", "response": "slow"}),
        json!({"name": "busy", "url": "a/b", "response": "busy", "priority": 5}),
        json!({"url": "c/d", "response": "nameless"}),
    ]);
    let meets = |names: &[&str]| Caller {
        rules: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..Caller::default()
    };
    let naming = |caller: &Caller, host: &str| set.naming(host, caller, NOW);
    let (slow, none) = (meets(&["slow", "gone"]), meets(&[]));
    assert_eq!((naming(&slow, "a"), naming(&slow, "c")), (Naming::Armed, Naming::Unnamed));
    assert_eq!((naming(&none, "a"), naming(&Caller::default(), "c")), (Naming::Unnamed, Naming::Armed));
    assert!(set.is_armed(&slow, NOW) && !set.is_armed(&none, NOW));
    let headers = HeaderMap::new();
    let fired = |caller: &Caller| set.decide(&request(&headers, caller), NOW).map(|hit| hit.rule.spec.name.clone());
    assert_eq!(fired(&slow).as_deref(), Some("slow"));
    assert_eq!(fired(&none), None);
    assert_eq!(fired(&Caller::default()).as_deref(), Some("busy"));
    let why = set.explain(&request(&headers, &slow), NOW);
    assert!(format!("{why:?}").contains("meets only rules named"), "{why:?}");
}

fn request<'a>(headers: &'a HeaderMap, caller: &'a Caller) -> Request<'a> {
    Request { method: "GET", scheme: "https", authority: "a", path: "/b", query: None, headers, caller }
}

#[test]
fn rules_are_wanted_while_one_could_act_or_what_it_did_is_watched() {
    let at = |seconds: i64| NOW + jiff::SignedDuration::from_secs(seconds);
    let only = |name: &str| vec![name.to_owned()];
    for idle in [json!({"enable": false}), json!({"mock_count": 0}), json!({"expires_at": "1970-01-01T00:00:00Z"})] {
        let mut rule = json!({"url": "a/.*"});
        rule.as_object_mut().expect("an object").extend(idle.as_object().expect("an object").clone());
        assert!(!set(&[rule]).is_wanted(None, at(1)), "{idle}");
    }
    assert!(!set(&[]).is_wanted(None, NOW));
    let set = set(&[json!({"url": "a/.*", "name": "slow", "mock_count": 1})]);
    assert!(set.is_wanted(None, NOW) && set.is_wanted(Some(&only("slow")), NOW));
    assert!(!set.is_wanted(Some(&only("busy")), NOW) && !set.is_wanted(Some(&[]), NOW));
    let fired = ask("GET", "a/b", |request| set.decide(request, at(100)));
    assert!(fired.is_some());
    assert!(set.is_wanted(None, at(100)) && set.is_wanted(None, at(699)), "what follows the last one is watched");
    assert!(!set.is_wanted(None, at(700)));
}

#[test]
fn names_are_told_from_those_that_no_rule_could_name_whatever_their_port_or_length() {
    let set = set(&[
        json!({"url": "api.example.com/v1"}),
        json!({"url": r"(eu|us)-\d+\.shop\.example/.*"}),
        json!({"url": "odd.example:8443/.*"}),
        json!({"url": "billing/.*"}),
        json!({"url": "/status", "match": "search", "hosts": [r"[a-z]+\.search\.example(:\d+)?"]}),
        json!({"url": "off.example/.*", "enable": false}),
        json!({"url": "never.example/.*", "mock_count": 0}),
    ]);
    for (name, expected) in [
        ("api.example.com", true),
        ("www.example.com", false),
        ("eu-7.shop.example", true),
        ("eu-x.shop.example", false),
        ("odd.example", true),
        ("billing", true),
        ("billing.corp.example", true),
        ("api.example.com.corp.example", true),
        ("a.search.example", true),
        ("a1.search.example", false),
        ("off.example", false),
        ("never.example", false),
        ("", false),
    ] {
        assert_eq!(set.could_name(name, NOW), expected, "{name:?}");
    }
    assert!(super::tests::set(&[json!({"url": ".*/v1"})]).could_name("any.example", NOW));
}
