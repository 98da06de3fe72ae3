//! Rules as people keep them: JSON (a list, `{"rules": […]}`, one rule) or one shorthand a line.

use serde_json::{Value, json};

use super::exit::Failure;
use super::output::shown;
use crate::rules::shorthand as short;

/// The rule that a shorthand stands for.
pub(super) fn shorthand(spec: &str) -> Result<Value, Failure> {
    short::parse(spec).map_err(|error| {
        Failure::usage(format!("`{spec}` is no rule: {error}"))
            .next("write it as 'GET api.example.com/v1/.* -> 429 x3 delay 4s header \"Retry-After: 4\" body {}'")
    })
}

/// What stands where a rule should: the rule, or why it is none.
pub(super) struct Entry {
    /// How messages call the place.
    pub(super) place: String,
    /// The rule, which may still be wrong.
    pub(super) rule: Result<Value, String>,
}

/// What several shorthands say.
pub(super) fn shorthands(specs: &[String]) -> impl Iterator<Item = Entry> {
    specs.iter().map(|spec| Entry { place: format!("`{}`", shown(spec)), rule: read(spec) })
}

/// What a file says, in its order; `name` is what its places begin with.
pub(super) fn entries(text: &str, name: &str) -> Vec<Entry> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with(['{', '[']) {
        return lines(text, name);
    }
    let one = |rule| vec![Entry { place: name.to_owned(), rule }];
    let rules = match serde_json::from_str(text) {
        Ok(Value::Array(rules)) => rules,
        Ok(Value::Object(mut fields)) => match fields.remove("rules") {
            Some(Value::Array(rules)) => rules,
            Some(_) => return one(Err("`rules` must be a list".to_owned())),
            None => return one(Ok(Value::Object(fields))),
        },
        Ok(other) => return one(Err(format!("{other} is no list of rules"))),
        Err(error) => return one(Err(format!("is no JSON: {error}"))),
    };
    let place = |index: usize| format!("{name}: rule {}", index + 1);
    rules.into_iter().enumerate().map(|(index, rule)| Entry { place: place(index), rule: Ok(rule) }).collect()
}

/// One shorthand a line; empty lines and those behind `#` are left out.
fn lines(text: &str, name: &str) -> Vec<Entry> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(index, line)| Entry { place: format!("{name}: line {}", index + 1), rule: read(line) }).collect()
}

fn read(spec: &str) -> Result<Value, String> {
    short::parse(spec).map_err(|error| error.to_string())
}

/// Every rule of a file; `name` is what its errors call it.
///
/// # Errors
/// Everything that is no rule, and what to write instead.
pub fn parse(text: &str, name: &str) -> Result<Vec<Value>, Failure> {
    let (mut rules, mut wrong) = (Vec::new(), Vec::new());
    for Entry { place, rule } in entries(text, name) {
        match rule {
            Ok(rule) => rules.push(rule),
            Err(problem) => wrong.push(format!("{place}: {problem}")),
        }
    }
    if wrong.is_empty() { Ok(rules) } else { Err(Failure::usage(format!("{name} is no list of rules")).details(wrong)) }
}

/// The one rule of a file.
pub(super) fn one(text: &str, name: &str) -> Result<Value, Failure> {
    match parse(text, name)?.as_slice() {
        [rule] => Ok(rule.clone()),
        rules => Err(Failure::usage(format!("{name} holds {} rules", rules.len())).next("moxie rule import FILE")),
    }
}

/// `rule`, made to apply to the callers of one scope only.
pub(super) fn for_scope(mut rule: Value, scope: &str) -> Value {
    // A rule that is no object, or whose `when` is none, is refused by the agent, by name.
    if let Some(fields) = rule.as_object_mut() {
        let when = fields.entry("when").or_insert_with(|| json!({}));
        if let Some(when) = when.as_object_mut() {
            let caller = when.entry("caller").or_insert_with(|| json!({}));
            if let Some(caller) = caller.as_object_mut() {
                caller.insert("scope".to_owned(), json!(scope));
            }
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_as_a_list_an_export_or_one_rule() {
        let rule = json!({"url": "a"});
        for text in ["[{\"url\":\"a\"}]", " {\"rules\":[{\"url\":\"a\"}]}", "{\"url\":\"a\"}"] {
            assert_eq!(parse(text, "f").unwrap(), std::slice::from_ref(&rule), "{text}");
        }
        for text in ["{", "{\"rules\": 1}"] {
            assert!(parse(text, "f").is_err(), "{text}");
        }
        assert_eq!(one("{\"url\":\"a\"}", "f").unwrap(), rule);
        assert!(one("[]", "f").is_err());
    }

    #[test]
    fn each_entry_has_its_place() {
        let of = |text: &str| {
            let entries = entries(text, "f").into_iter();
            entries.map(|entry| (entry.place, entry.rule.is_ok())).collect::<Vec<_>>()
        };
        let [third, fifth] = ["f: line 3", "f: line 5"].map(str::to_owned);
        assert_eq!(of("# two\n\na/b -> 429\n\nb\n"), [(third, true), (fifth, false)]);
        assert_eq!(of("[{}, 7]"), [("f: rule 1".to_owned(), true), ("f: rule 2".to_owned(), true)]);
        for (text, is_rule) in [("{}", true), ("{", false), ("{\"rules\": 1}", false)] {
            assert_eq!(of(text), [("f".to_owned(), is_rule)], "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(parse("\u{feff}a/b -> 429\n", "f").unwrap()[0]["url"], "a/b");
        assert_eq!(parse("\u{feff}{\"url\": \"a\"}", "f").unwrap(), [json!({"url": "a"})]);
    }

    #[test]
    fn everything_that_is_no_rule_is_told() {
        let told = parse("first\na/b -> 429\nsecond", "f").unwrap_err().to_string();
        assert!(told.contains("f: line 1: ") && told.contains("f: line 3: "), "{told}");
    }

    #[test]
    fn a_rule_for_a_scope_keeps_its_other_conditions() {
        let rule = json!({"url": "a", "when": {"scheme": "https", "caller": {"comm": "curl"}}});
        let expected = json!({"url": "a", "when": {"scheme": "https", "caller": {"comm": "curl", "scope": "s1"}}});
        assert_eq!(for_scope(rule, "s1"), expected);
        assert_eq!(for_scope(json!({"url": "a"}), "s1"), json!({"url": "a", "when": {"caller": {"scope": "s1"}}}));
        assert_eq!(for_scope(json!(1), "s1"), json!(1));
    }
}
