//! The set against a naive oracle: one anchored regex per rule, tried in order.

use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use super::tests::{ask, set};
use super::*;

#[derive(Clone, Debug)]
struct Url {
    regex: String,
    mode: &'static str,
}

impl Url {
    fn json(&self) -> Value {
        let mut rule = json!({"url": self.regex, "match": self.mode});
        if self.mode == "search" {
            rule["hosts"] = json!(["a.?", "[bc].*"]);
        }
        rule
    }

    fn matches(&self, authority: &str, text: &str) -> bool {
        let regex = self.regex.strip_prefix('/').unwrap_or(&self.regex);
        let is_match = |regex: String, text: &str| Regex::new(&regex).expect("a regex").is_match(text);
        match self.mode {
            "full" => is_match(format!(r"\A(?:{regex})\z"), text),
            "prefix" => is_match(format!(r"\A(?:{regex})"), text),
            _ => is_match(regex.to_owned(), text) && is_match(r"\A(?:a.?|[bc].*)\z".to_owned(), authority),
        }
    }
}

fn urls() -> impl Strategy<Value = Url> {
    let piece = proptest::sample::select(vec![
        "a", "b", "c", ".", ".", "/", "/", r"\.", ".*", ".+", ".?", "[ab]", "[^/]", "(a|bc)", "a*", r"\?", "(?i:B)",
        "c{2}", "^", "$", r"\b", "é", "(?:a.b)?", "[^/]+",
    ]);
    let mode = proptest::sample::select(vec!["full", "full", "prefix", "search"]);
    (prop::collection::vec(piece, 1..7), mode)
        .prop_map(|(pieces, mode)| Url { regex: pieces.concat(), mode })
        .prop_filter("a regex that names something", |url| url.regex != "/" && Regex::new(&url.regex).is_ok())
}

proptest! {
    #[test]
    fn agrees_with_an_oracle(urls in prop::collection::vec(urls(), 1..8), host in "[abcB.é]{1,4}", path in "/[abcB./é]{0,5}", query in proptest::option::of("[abc?]{0,3}")) {
        let text = format!("{host}{path}");
        let with_query = query.as_ref().map_or_else(|| text.clone(), |query| format!("{text}?{query}"));
        let expected = urls.iter().position(|url| url.matches(&host, &text) || url.matches(&host, &with_query));

        let rules: Vec<Value> = urls.iter().map(Url::json).collect();
        let set = set(&rules);
        let fired = ask("GET", &with_query, |request| set.decide(request, Timestamp::UNIX_EPOCH)).map(|hit| hit.rule.seq);
        prop_assert_eq!(fired, expected.and_then(|place| i64::try_from(place).ok()), "{}", with_query);
        if expected.is_some() {
            prop_assert!(set.can_name(&host, Timestamp::UNIX_EPOCH), "{} can be named", host);
        }
        let explained = ask("GET", &with_query, |request| set.explain(request, Timestamp::UNIX_EPOCH));
        prop_assert_eq!(explained.rule.is_some(), expected.is_some());
    }
}
