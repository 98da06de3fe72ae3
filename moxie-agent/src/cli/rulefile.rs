//! Rules as people keep them: JSON (a list, `{"rules": […]}`, one rule) or one shorthand a line.

use serde_json::{Value, json};

use super::exit::Failure;
use crate::rules::shorthand as short;

/// The rule that a shorthand stands for.
pub(super) fn shorthand(spec: &str) -> Result<Value, Failure> {
    short::parse(spec).map_err(|error| {
        Failure::usage(format!("`{spec}` is no rule: {error}"))
            .next("write it as 'GET api.example.com/v1/.* -> 429 x3 delay 4s header \"Retry-After: 4\" body {}'")
    })
}

/// The rules that several shorthands stand for; every one that is no rule is told.
pub(super) fn shorthands(specs: &[String]) -> Result<Vec<Value>, Failure> {
    let (rules, wrong): (Vec<_>, Vec<_>) = specs.iter().map(|spec| shorthand(spec)).partition(Result::is_ok);
    let mut wrong = wrong.into_iter().filter_map(Result::err);
    match wrong.next() {
        None => Ok(rules.into_iter().flatten().collect()),
        Some(first) => Err(first.details(wrong.map(|other| other.what().to_owned()))),
    }
}

/// Every rule of a file; `name` is what its errors call it.
///
/// # Errors
/// What is no rule, and what to write instead.
pub fn parse(text: &str, name: &str) -> Result<Vec<Value>, Failure> {
    if !text.trim_start().starts_with(['{', '[']) {
        return lines(text, name);
    }
    let json: Value =
        serde_json::from_str(text).map_err(|error| Failure::usage(format!("{name} is no JSON: {error}")))?;
    Ok(match json {
        Value::Array(rules) => rules,
        Value::Object(mut fields) => match fields.remove("rules") {
            Some(Value::Array(rules)) => rules,
            Some(_) => return Err(Failure::usage(format!("{name}: `rules` must be a list"))),
            None => vec![Value::Object(fields)],
        },
        other => return Err(Failure::usage(format!("{name} holds {other}, not rules"))),
    })
}

/// The one rule of a file.
pub(super) fn one(text: &str, name: &str) -> Result<Value, Failure> {
    match parse(text, name)?.as_slice() {
        [rule] => Ok(rule.clone()),
        rules => Err(Failure::usage(format!("{name} holds {} rules", rules.len())).next("moxie rule import FILE")),
    }
}

/// One shorthand a line; empty lines and those behind `#` are left out. Every line that is no rule is told.
fn lines(text: &str, name: &str) -> Result<Vec<Value>, Failure> {
    let (mut rules, mut wrong) = (Vec::new(), Vec::new());
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    for (index, line) in lines {
        match short::parse(line) {
            Ok(rule) => rules.push(rule),
            Err(error) => wrong.push(format!("line {}: {error}", index + 1)),
        }
    }
    if wrong.is_empty() { Ok(rules) } else { Err(Failure::usage(format!("{name} is no list of rules")).details(wrong)) }
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
    fn every_shorthand_that_is_no_rule_is_told() {
        let of = |specs: &[&str]| shorthands(&specs.iter().map(|spec| (*spec).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a/b -> 429", "a/c -> 500"]).unwrap().len(), 2);
        let told = of(&["first", "a/b -> 429", "second"]).unwrap_err().to_string();
        assert!(told.contains("`first` is no rule") && told.contains("`second` is no rule"), "{told}");
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
