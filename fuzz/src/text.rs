//! Texts that people write: rules, files of rules, the configuration.

use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use moxie_agent::cli::rulefile;
use moxie_agent::config::{self, Flags};
use moxie_agent::rules::set::Request;
use moxie_agent::rules::{Rule, RuleId, RuleSet, RuleSpec, Tally, shorthand as short};
use moxie_agent::scope::Caller;
use serde_json::{Value, json};

use super::bytes::two_lines;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn spec(json: &Value) -> Option<RuleSpec> {
    RuleSpec::from_json(json, NOW).ok().map(|checked| checked.value)
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

    let rule = Rule {
        id: RuleId("r".to_owned()),
        seq: 0,
        spec,
        created_at: NOW,
        updated_at: NOW,
        tally: Arc::new(Tally::new(-1)),
    };
    let set = RuleSet::compile(vec![Arc::new(rule)], 1);
    let (headers, caller) = (HeaderMap::new(), Caller::default());
    let request =
        Request { method: "GET", scheme: "https", authority, path, query, headers: &headers, caller: &caller };
    assert_eq!(set.decide(&request, NOW).is_some(), matches, "{url:?} {asked:?}");
    assert!(!matches || set.can_name(authority, NOW), "{url:?} cannot name {authority:?}");
}

pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = config::read(text, |_| None, &Flags::default());
}
