//! Reading, refusing, patching and writing rules.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn spec(json: &Value) -> RuleSpec {
    RuleSpec::from_json(json, NOW).unwrap_or_else(|problems| panic!("{json}: {problems:?}")).value
}

/// The rule is refused for exactly these fields, and each message says the word beside it.
#[track_caller]
fn refuse(json: Value, expected: &[(&str, &str)]) {
    let problems = RuleSpec::from_json(&json, NOW).expect_err("refused");
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, expected.iter().map(|(field, _)| *field).collect::<Vec<_>>(), "{json}: {problems:?}");
    for (problem, (_, word)) in problems.iter().zip(expected) {
        assert!(problem.message.contains(word), "{word}: {problem:?}");
    }
}

/// `a.b/c` with one more field is refused for `at`.
#[track_caller]
fn refuse_field(name: &str, value: Value, at: &str, word: &str) {
    let mut rule = json!({"url": "a.b/c"});
    rule[name] = value;
    refuse(rule, &[(at, word)]);
}

#[track_caller]
fn warns(url: &str, word: Option<&str>) {
    let warnings = RuleSpec::from_json(&json!({"url": url}), NOW).expect("valid").warnings;
    match word {
        None => assert_eq!(warnings, []),
        Some(word) => assert!(warnings.len() == 1 && warnings[0].message.contains(word), "{url}: {warnings:?}"),
    }
}

#[test]
fn blanks_around_a_header_are_no_part_of_it() {
    let given = json!({"url": "a/b", "response_headers": {"X-A": [" v ", "a b\t"]}, "custom_headers": {"X-B": " "},
        "response_media_type": " text/plain "});
    let spec = RuleSpec::from_json(&given, jiff::Timestamp::UNIX_EPOCH).unwrap().value;
    assert_eq!(Value::Object(spec.response_headers.to_json()), json!({"X-A": ["v", "a b"]}));
    assert_eq!(Value::Object(spec.custom_headers.to_json()), json!({"X-B": ""}));
    assert_eq!(spec.response_media_type.as_deref(), Some("text/plain"));
}

#[test]
fn a_status_that_ends_no_answer_is_warned_of() {
    for (status, count) in [(100, 1), (199, 1), (200, 0), (599, 0)] {
        let rule = json!({"url": "a/b", "status_code": status});
        assert_eq!(RuleSpec::from_json(&rule, NOW).expect("valid").warnings.len(), count, "{status}");
    }
}

#[test]
fn the_first_moxies_json_is_accepted_unchanged() {
    let rule = json!({"method": "GET", "url": "api.customer.io/v1/activities", "call_backend": false, "custom_headers": {},
        "status_code": 429, "response": "{}", "enable": true, "mock_count": 3, "response_delay": 4,
        "response_media_type": "application/json", "id": 7, "description": null});
    let spec = spec(&rule);
    assert_eq!(spec.response_delay, Duration::from_secs(4));
    assert_eq!((spec.mock_count, spec.status_code), (3, StatusCode::from_u16(429).ok()));
    let json = spec.to_json();
    for field in [
        "method",
        "url",
        "call_backend",
        "custom_headers",
        "status_code",
        "response",
        "enable",
        "mock_count",
        "response_delay",
    ] {
        assert_eq!(json[field], rule[field], "{field}");
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let rule = json!({"methd": "GET", "method": "G T", "url": "https://a.b/c", "status_code": 600, "mock_count": -2, "percentage": 101,
        "enable": "yes", "response_delay": "soon", "when": {"headers": {"x-plan": {"regex": "("}}}});
    refuse(
        rule,
        &[
            ("methd", "did you mean `method`"),
            ("url", "drop `https://`"),
            ("enable", "expected true or false, got a string"),
            ("method", "not a method"),
            ("when.headers.x-plan.regex", "unclosed group"),
            ("percentage", "0 to 100"),
            ("mock_count", "-1 for no limit"),
            ("status_code", "100 to 599"),
            ("response_delay", "4s"),
        ],
    );
    refuse(json!([]), &[("", "an object, got a list")]);
    refuse(json!({}), &[("url", "missing")]);
}

#[test]
fn each_field_is_checked() {
    refuse(json!({"url": "/"}), &[("url", "empty")]);
    refuse(json!({"url": 5}), &[("url", "a string, got the number 5")]);
    refuse(json!({"url": "a.b/(c"}), &[("url", "unclosed group")]);
    refuse(json!({"url": "^https?://a.b/c"}), &[("url", "drop")]);
    refuse_field("match", json!("search"), "hosts", "needs `hosts`");
    refuse_field("match", json!("exact"), "match", "prefix");
    refuse_field("hosts", json!(["a"]), "hosts", "search");
    refuse_field("method", json!([]), "method", "*");
    refuse_field("method", json!(["GET", 1]), "method[1]", "got the number 1");
    refuse_field("percentage", json!(-0.1), "percentage", "0 to 100");
    refuse_field("mock_count", json!(1.5), "mock_count", "whole number");
    refuse_field("status_code", json!(99), "status_code", "100 to 599");
    refuse_field("response", json!({"base64": "!"}), "response.base64", "base64");
    refuse_field("response", json!({"file": "/etc/passwd"}), "response.file", "relative");
    refuse_field("response", json!({"file": "a/../../b"}), "response.file", "..");
    refuse_field("response_headers", json!({"a b": "x"}), "response_headers.a b", "header name");
    refuse_field("response_headers", json!({"x": "a\nb"}), "response_headers.x", "line breaks");
    refuse_field("response_headers", json!({"x": {}}), "response_headers.x", "a list of strings");
    refuse_field("response_headers", json!({"X-A": "1", "x-a": "2"}), "response_headers.x-a", "twice");
    refuse_field("response_headers", json!({"Content-Length": "1"}), "response_headers.Content-Length", "leave it out");
    refuse_field("custom_headers", json!({"Connection": "close"}), "custom_headers.Connection", "leave it out");
    refuse_field("response_media_type", json!("xml"), "response_media_type", "application/xml");
    refuse_field("response_delay", json!({"mean": 1}), "response_delay", "this version");
    refuse_field("response_delay", json!("61m"), "response_delay", "one hour");
    refuse_field("response_delay", json!(-1), "response_delay", "seconds");
    refuse_field("ttl", json!(true), "ttl", "seconds");
    refuse_field("expires_at", json!("tomorrow"), "expires_at", "2030");
    refuse(json!({"url": "a/b", "ttl": 1, "expires_at": "2030-01-31T12:00:00Z"}), &[("ttl", "one of them")]);
    let both = json!({"url": "a/b", "ttl": "long", "expires_at": "tomorrow"});
    refuse(both, &[("expires_at", "2030"), ("ttl", "seconds"), ("ttl", "one of them")]);
    refuse_field("when", json!({"body": {}}), "when.body", "this version");
    refuse_field("when", json!({"header": {}}), "when.header", "did you mean `headers`");
    refuse_field("when", json!({"headers": {"x": {"regexp": "a"}}}), "when.headers.x.regexp", "`regex`");
    refuse_field("when", json!({"headers": {"x": {}}}), "when.headers.x", "says nothing");
    refuse_field("when", json!({"caller": {"user": "a"}}), "when.caller.user", "no field");
    refuse_field("when", json!({"scheme": "ftp"}), "when.scheme", "https");
}

#[test]
fn dubious_urls_are_warned_of() {
    warns("api.x.io/v1?limit=10", Some(r"\?limit="));
    warns(r"api.x.io/v1\?limit=10", None);
    warns("api.x.io/(?i:v1)/[?a=]", None);
    warns("api.x.io/colou?r/.*", None);
    warns("api.x.io", Some("api.x.io/.*"));
    warns("API.x.io/v1", Some("lower case"));
}

#[test]
fn durations_and_expiry() {
    let delay = |value: Value| spec(&json!({"url": "a/b", "response_delay": value})).response_delay;
    assert_eq!(delay(json!(0.25)), Duration::from_millis(250));
    assert_eq!(delay(json!("250ms")), Duration::from_millis(250));
    assert_eq!(delay(json!("1.5s")), Duration::from_millis(1500));
    assert_eq!(delay(json!("1m")), Duration::from_secs(60));
    let at = |rule: Value| spec(&rule).expires_at.map(|at| at.as_second());
    assert_eq!(at(json!({"url": "a/b", "ttl": "10m"})), Some(600));
    assert_eq!(at(json!({"url": "a/b", "ttl": 30})), Some(30));
    assert_eq!(at(json!({"url": "a/b", "expires_at": "1969-12-31T23:59:00Z"})), Some(-60));
}

#[test]
fn methods_are_tokens() {
    let methods = |value: Value| spec(&json!({"url": "a/b", "method": value})).methods.to_json();
    assert_eq!(methods(json!("get")), "GET");
    assert_eq!(methods(json!(["post", "PURGE", "POST"])), json!(["POST", "PURGE"]));
    assert_eq!(methods(json!("Get")), "Get");
    assert_eq!(methods(json!(["GET", "*"])), "*");
}

#[test]
fn a_patch_changes_what_it_names() {
    let rule = spec(&json!({"url": "a/b", "status_code": 503, "ttl": "1m", "response": {"base64": "YQ=="},
        "response_headers": {"Retry-After": "4", "Via": "x"}, "when": {"headers": {"X-Plan": "pro"}, "query": {"n": {"gt": 1}}}}));
    let patch = json!({"status_code": null, "ttl": "2m", "response": {"error": null}, "response_headers": {"retry-after": 5, "via": null},
        "when": {"headers": {"x-plan": "free"}, "query": {"n": {"gt": null, "lt": 3}}}});
    let patched = rule.patched(&patch, NOW).expect("valid").value;
    assert_eq!(patched.status_code, None);
    assert_eq!(patched.expires_at.map(|at| at.as_second()), Some(120));
    assert_eq!(patched.response, Some(Body::Json(json!({"error": null}))));
    assert_eq!(Value::Object(patched.response_headers.to_json()), json!({"Retry-After": "5"}));
    assert_eq!(patched.when.to_json(), json!({"headers": {"X-Plan": "free"}, "query": {"n": {"lt": 3}}}));
    assert_eq!(rule.patched(&json!({"ttl": null}), NOW).expect("valid").value.expires_at, None);

    let refused = |patch: Value| rule.patched(&patch, NOW).expect_err("refused")[0].field.clone();
    assert_eq!(refused(json!({"url": null})), "url");
    assert_eq!(refused(json!({"colour": null})), "colour");
    assert_eq!(refused(json!({"response_headers": "x"})), "response_headers");
    assert_eq!(refused(json!("x")), "");
}

/// Values of one field, `null` among them.
fn field(name: &'static str, values: Vec<Value>) -> impl Strategy<Value = (&'static str, Value)> {
    proptest::sample::select(values).prop_map(move |value| (name, value))
}

prop_compose! {
    fn rules()(
        delay in 0u64..3_600_000,
        percentage in 0.0..=100.0,
        priority in any::<i32>(),
        fields in (
            field("method", vec![json!(null), json!("*"), json!("GET"), json!(["GET", "purge"])]),
            field("url", vec![json!("a.b/c"), json!(r"/a/\d+"), json!("^(a|b)/.*$")]),
            field("when", vec![json!(null), json!({"headers": {"X": {"not": {"regex": "a", "present": true}}}}), json!({"scheme": "http", "query": {"a": {"gte": 1.5}}})]),
            field("response", vec![json!(null), json!(""), json!([1]), json!({"base64": "AAE="}), json!({"file": "a/b"}), json!({"a": null}), json!(5)]),
            field("response_headers", vec![json!({}), json!({"Retry-After": 4, "Set-Cookie": ["a", "b"]})]),
            field("expires_at", vec![json!(null), json!("2030-01-31T12:00:00.123456789Z")]),
            field("call_backend", vec![json!(null), json!(true)]),
            field("status_code", vec![json!(null), json!(200)]),
        ),
        search in any::<bool>(),
    ) -> Value {
        let (a, b, c, d, e, f, g, h) = fields;
        let mut rule: Value = [a, b, c, d, e, f, g, h].into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        rule["response_delay"] = json!(format!("{delay}ms"));
        rule["percentage"] = json!(percentage);
        rule["priority"] = json!(priority);
        if search {
            rule["match"] = json!("search");
            rule["hosts"] = json!([r"a\.b", "(x|y)"]);
        }
        rule
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_equal(rule in rules()) {
        let spec = spec(&rule);
        prop_assert_eq!(&super::tests::spec(&spec.to_json()), &spec);
        prop_assert_eq!(&spec.patched(&spec.to_json(), NOW).expect("valid").value, &spec);
        prop_assert_eq!(&spec.patched(&json!({}), NOW).expect("valid").value, &spec);
    }
}
