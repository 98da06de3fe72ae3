//! JSON merge patch (RFC 7396) on a rule, with the places where a rule is more than its JSON.

use serde_json::{Map, Value};

/// `rule` with `patch` applied. A patch that is no object takes the rule's place, and is refused when it is read.
pub(super) fn merged(rule: Value, patch: &Value) -> Value {
    let (Value::Object(mut rule), Value::Object(patch)) = (rule, patch) else { return patch.clone() };
    // What was not given is not there.
    rule.retain(|_, value| !value.is_null());
    // `ttl` is another way to say `expires_at`.
    if patch.contains_key("ttl") && !patch.contains_key("expires_at") {
        rule.remove("expires_at");
    }
    for (field, change) in patch {
        match (rule.get_mut(field), change) {
            (Some(Value::Object(headers)), Value::Object(patch)) if field.ends_with("_headers") => {
                merge_headers(headers, patch);
            }
            (Some(Value::Object(when)), Value::Object(patch)) if field == "when" => merge_when(when, patch),
            // No other field has members: the body of an answer is one value, and nulls inside belong to it.
            // A null stays, to be read as not given, or refused where there is no such field.
            _ => {
                rule.insert(field.clone(), change.clone());
            }
        }
    }
    Value::Object(rule)
}

/// Header names are the same in any case.
fn merge_headers(headers: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, change) in patch {
        let written = headers.keys().find(|written| written.eq_ignore_ascii_case(name)).cloned();
        merge_member(headers, written.as_ref().unwrap_or(name), change);
    }
}

fn merge_when(when: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (part, change) in patch {
        match (when.get_mut(part), change) {
            (Some(Value::Object(headers)), Value::Object(patch)) if part == "headers" => merge_headers(headers, patch),
            _ => merge_member(when, part, change),
        }
    }
}

fn merge_member(object: &mut Map<String, Value>, name: &str, change: &Value) {
    match (object.get_mut(name), change) {
        (Some(Value::Object(inner)), Value::Object(patch)) => {
            patch.iter().for_each(|(name, change)| merge_member(inner, name, change));
        }
        (_, Value::Null) => drop(object.shift_remove(name)),
        _ => drop(object.insert(name.to_owned(), change.clone())),
    }
}
