//! Texts that people write: rules, files of rules, the configuration.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use moxie_agent::cli::rulefile;
use moxie_agent::config::{self, Flags};
use moxie_agent::http1::{Read, RequestHead};
use moxie_agent::rules::set::{Naming, Request, normal_authority};
use moxie_agent::rules::{Rule, RuleId, RuleSet, RuleSpec, Tally, shorthand as short};
use moxie_agent::scope::Caller;
use serde_json::{Value, json};

use super::bytes::two_lines;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn spec(json: &Value) -> Option<RuleSpec> {
    RuleSpec::from_json(json, NOW).ok().map(|checked| checked.value)
}

fn rules(spec: RuleSpec) -> RuleSet {
    let tally = Arc::new(Tally::new(spec.mock_count()));
    let rule = Rule { id: RuleId("r".to_owned()), seq: 0, spec, created_at: NOW, updated_at: NOW, tally };
    RuleSet::compile(vec![Arc::new(rule)], 1)
}

/// A rule that is accepted is written as it was read.
pub(crate) fn rule_json(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    let Some(rule) = spec(&json) else { return };
    let written = rule.to_json();
    let again = spec(&written).expect("what was written is accepted");
    assert_eq!(again.to_json(), written);
    let _ = rule.patched(&json, NOW);
}

pub(crate) fn shorthand(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(rule) = short::parse(text) {
        let _ = RuleSpec::from_json(&rule, NOW);
    }
}

/// A file of rules.
pub(crate) fn import(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for rule in rulefile::parse(text, "rules").into_iter().flatten() {
        let _ = RuleSpec::from_json(&rule, NOW);
    }
}

/// A url, and on the next line `authority/path?query`: it fires exactly where its regex matches, and then its host could be named.
pub(crate) fn url_match(bytes: &[u8]) {
    let Some((url, asked)) = two_lines(bytes) else { return };
    // No request's target has control characters.
    if asked.contains(char::is_control) {
        return;
    }
    let Some(slash) = asked.find('/') else { return };
    let (authority, target) = asked.split_at(slash);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let Some(spec) = spec(&json!({"url": url})) else { return };
    let regex = url.strip_prefix('/').unwrap_or(url);
    let Ok(naive) = regex::Regex::new(&format!(r"\A(?:{regex})\z")) else { return };
    let without_query = format!("{authority}{path}");
    let matches = naive.is_match(&without_query) || (query.is_some() && naive.is_match(asked));

    let set = rules(spec);
    let (headers, caller) = (HeaderMap::new(), Caller::default());
    let request =
        Request { method: "GET", scheme: "https", authority, path, query, headers: &headers, caller: &caller };
    assert_eq!(set.decide(&request, NOW).is_some(), matches, "{url:?} {asked:?}");
    assert!(!matches || set.can_name(authority, NOW), "{url:?} cannot name {authority:?}");
}

/// A rule, and on the next lines a request's head: what is explained is what is done.
pub(crate) fn rule_decide(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (rule, head) = bytes.split_at(end);
    let Ok(json) = serde_json::from_slice::<Value>(rule) else { return };
    let Some(spec) = spec(&json) else { return };
    let (head, mut read) = (&head[1..], RequestHead::default());
    if read.read(head) != Ok(Read::Done) {
        return;
    }
    let mut headers = HeaderMap::new();
    for field in read.fields(head) {
        if let (Ok(name), Ok(value)) = (field.name.parse::<HeaderName>(), HeaderValue::from_bytes(field.value)) {
            headers.append(name, value);
        }
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let authority = normal_authority(read.authority(head).unwrap_or_default(), "http");
    let (path, query) = (text(read.path(head)), read.query(head).map(text));
    let caller = Caller::default();
    let request = Request {
        method: read.method(head),
        scheme: "http",
        authority: &authority,
        path: &path,
        query: query.as_deref(),
        headers: &headers,
        caller: &caller,
    };
    let (always, set) = (json.get("percentage").is_none(), rules(spec));
    let explained = set.explain(&request, NOW);
    let hit = set.decide(&request, NOW);
    assert!(explained.rule.is_some() || hit.is_none(), "{explained:?}");
    assert!(explained.rule.is_none() || hit.is_some() || !always, "{explained:?}");
    assert!(hit.is_none() || set.can_name(&authority, NOW) || set.naming(&authority, &caller, NOW) == Naming::Spent);
}

pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = config::read(text, |_| None, &Flags::default());
}
