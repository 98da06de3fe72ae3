//! The further conditions of a rule: headers, query, caller and scheme.

mod condition;

use std::borrow::Cow;
use std::fmt;

use http::header::HeaderName;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::set::Request;
use super::spec::{Log, Object};
use crate::scope::Caller;
use condition::Condition;

const PARTS: [&str; 4] = ["headers", "query", "caller", "scheme"];
const CALLER_FIELDS: [&str; 7] = ["scope", "unit", "container", "container_id", "image", "comm", "pid"];

/// All must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct When {
    headers: Vec<(String, Condition)>,
    query: Vec<(String, Condition)>,
    caller: Vec<(String, Condition)>,
    scheme: Option<Condition>,
}

/// The condition that does not hold.
#[derive(Debug)]
pub(super) struct Unmet<'a> {
    pub(super) part: Part,
    name: &'a str,
    condition: &'a Condition,
    values: Vec<Cow<'a, str>>,
}

/// Which part of the request a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Headers,
    Query,
    Caller,
    Scheme,
}

impl When {
    pub(super) fn read(rule: &Object<'_>, log: &mut Log) -> Self {
        let path = rule.at("when");
        let Some(when) = rule.member("when").and_then(|value| Object::read(value, &path, log)) else {
            return Self::default();
        };
        if when.member("body").is_some() {
            log.problem(&when.at("body"), "this version does not take conditions on the body; leave `body` out");
        }
        when.refuse_unknown(&PARTS, &["body"], log);
        Self {
            headers: headers(&when, log),
            query: conditions(&when, "query", &[], log),
            caller: conditions(&when, "caller", &CALLER_FIELDS, log),
            scheme: scheme(&when, log),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = Map::new();
        for (part, conditions) in [("headers", &self.headers), ("query", &self.query), ("caller", &self.caller)] {
            if !conditions.is_empty() {
                let part_json =
                    conditions.iter().map(|(name, condition)| (name.clone(), condition.to_json())).collect();
                json.insert(part.to_owned(), part_json);
            }
        }
        if let Some(scheme) = &self.scheme {
            json.insert("scheme".to_owned(), scheme.to_json());
        }
        Value::Object(json)
    }

    /// The first condition that does not hold for `request`.
    pub(super) fn unmet<'a>(&'a self, request: &Request<'a>) -> Option<Unmet<'a>> {
        let of = |part, conditions: &'a [(String, Condition)], values: &dyn Fn(&str) -> Vec<Cow<'a, str>>| {
            conditions.iter().find_map(|(name, condition)| condition.unmet(part, name, values(name)))
        };
        let scheme = self.scheme.as_ref();
        scheme
            .and_then(|condition| condition.unmet(Part::Scheme, "", vec![request.scheme.into()]))
            .or_else(|| of(Part::Headers, &self.headers, &|name| request.headers.values(name)))
            .or_else(|| of(Part::Query, &self.query, &|name| query_values(request.query, name)))
            .or_else(|| of(Part::Caller, &self.caller, &|name| caller_value(request.caller, name)))
    }
}

impl Condition {
    fn unmet<'a>(&'a self, part: Part, name: &'a str, values: Vec<Cow<'a, str>>) -> Option<Unmet<'a>> {
        (!self.holds(&values)).then_some(Unmet { part, name, condition: self, values })
    }
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.part {
            Part::Headers => "header ",
            Part::Query => "query ",
            Part::Caller => "the caller's ",
            Part::Scheme => "the scheme",
        };
        write!(f, "the rule wants {what}{} to be {}, ", self.name, self.condition.to_json())?;
        match self.values.as_slice() {
            [] => f.write_str("the request has none"),
            [one] => write!(f, "the request has {one:?}"),
            many => write!(f, "the request has {many:?}"),
        }
    }
}

fn headers(when: &Object<'_>, log: &mut Log) -> Vec<(String, Condition)> {
    let conditions = conditions(when, "headers", &[], log);
    for (name, _) in &conditions {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            log.problem(&format!("when.headers.{name}"), format!("`{name}` is not a header name"));
        }
    }
    conditions
}

fn scheme(when: &Object<'_>, log: &mut Log) -> Option<Condition> {
    let value = when.member("scheme")?;
    if value.as_str().is_some_and(|scheme| !["http", "https"].contains(&scheme)) {
        log.problem(&when.at("scheme"), format!("there is no scheme {value}; write \"http\" or \"https\""));
    }
    Condition::read(value, &when.at("scheme"), log)
}

/// The conditions of one part; `known` names its members unless they are free.
fn conditions(when: &Object<'_>, part: &str, known: &[&str], log: &mut Log) -> Vec<(String, Condition)> {
    let path = when.at(part);
    let Some(object) = when.member(part).and_then(|value| Object::read(value, &path, log)) else { return Vec::new() };
    if !known.is_empty() {
        object.refuse_unknown(known, &[], log);
    }
    let read = |(name, value): (&str, &Value)| Some((name.to_owned(), Condition::read(value, &object.at(name), log)?));
    object.members().filter_map(read).collect()
}

/// The decoded values of a query parameter, as forms encode them (`+` is a blank).
fn query_values<'a>(query: Option<&'a str>, name: &str) -> Vec<Cow<'a, str>> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| form_decoded(key) == name).map(|(_, value)| form_decoded(value)).collect()
}

fn form_decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let blanks = text.replace('+', " ");
        return percent_decode_str(&blanks).decode_utf8_lossy().into_owned().into();
    }
    percent_decode_str(text).decode_utf8_lossy()
}

fn caller_value<'a>(caller: &'a Caller, field: &str) -> Vec<Cow<'a, str>> {
    let value = match field {
        "scope" => caller.scope.as_ref().map(|scope| scope.0.as_str().into()),
        "unit" => caller.unit.as_deref().map(Cow::from),
        "container" => return container_names(caller),
        "container_id" => caller.container_id.as_deref().map(Cow::from),
        "image" => caller.image.as_deref().map(Cow::from),
        "comm" => caller.comm.as_deref().map(Cow::from),
        "pid" => caller.pid.map(|pid| pid.to_string().into()),
        _ => None,
    };
    value.into_iter().collect()
}

/// A container goes by its name and by its id.
fn container_names(caller: &Caller) -> Vec<Cow<'_, str>> {
    let (name, id) = (caller.container.as_deref(), caller.container_id.as_deref());
    name.into_iter().chain(id.filter(|id| Some(*id) != name)).map(Cow::from).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::rules::spec::RuleSpec;
    use crate::scope::ScopeId;

    #[track_caller]
    fn check(when: Value, holds: bool) {
        let rule = json!({"url": "a/b", "when": when});
        let spec = RuleSpec::from_json(&rule, Timestamp::UNIX_EPOCH).expect("a valid rule").value;
        let mut headers = HeaderMap::new();
        headers.append("x-plan", HeaderValue::from_static("free"));
        headers.append("x-plan", HeaderValue::from_static("pro"));
        headers.append("x-size", HeaderValue::from_static("10"));
        let caller = Caller {
            scope: Some(ScopeId("s1".to_owned())),
            unit: Some("billing.service".to_owned()),
            pid: Some(42),
            ..Caller::default()
        };
        let request = Request {
            method: "GET",
            scheme: "https",
            authority: "a",
            path: "/b",
            query: Some("q=a%20b+c&empty=&flag&n=5&n=7&%6bey=v"),
            headers: &headers,
            caller: &caller,
        };
        assert_eq!(spec.when.unmet(&request).is_none(), holds, "{rule}");
    }

    #[test]
    fn any_of_several_headers_suffices_in_any_case() {
        check(json!({"headers": {"X-Plan": "pro"}}), true);
        check(json!({"headers": {"x-plan": "PRO"}}), false);
        check(json!({"headers": {"x-plan": {"regex": "^p"}}}), true);
        check(json!({"headers": {"x-plan": {"regex": "^r"}}}), false);
        // One value has to meet all that is said of values.
        check(json!({"headers": {"x-plan": {"regex": "^p", "equals": "free"}}}), false);
        check(json!({"headers": {"x-plan": {"not": "pro"}}}), false);
        check(json!({"headers": {"x-plan": {"not": "gold"}}}), true);
        check(json!({"headers": {"x-none": {"not": "gold"}}}), true);
    }

    #[test]
    fn presence_and_numbers() {
        check(json!({"headers": {"x-plan": {"present": true}}}), true);
        check(json!({"headers": {"x-plan": {"present": false}}}), false);
        check(json!({"headers": {"x-plan": {"absent": true}}}), false);
        check(json!({"headers": {"x-none": {"absent": true}}}), true);
        check(json!({"headers": {"x-none": {"absent": false}}}), false);
        check(json!({"headers": {"x-size": {"gt": 9, "lt": 11}}}), true);
        check(json!({"headers": {"x-size": {"gt": 10}}}), false);
        check(json!({"headers": {"x-size": {"gte": 10, "lte": 10}}}), true);
        check(json!({"headers": {"x-plan": {"gt": 0}}}), false);
        check(json!({"query": {"n": {"gt": 6}}}), true);
    }

    #[test]
    fn query_is_decoded() {
        check(json!({"query": {"q": "a b c"}}), true);
        check(json!({"query": {"empty": "", "flag": ""}}), true);
        check(json!({"query": {"key": "v"}}), true);
        check(json!({"query": {"none": ""}}), false);
    }

    #[test]
    fn caller_and_scheme() {
        check(json!({"caller": {"scope": "s1", "unit": {"regex": "billing"}, "pid": 42}}), true);
        check(json!({"caller": {"container": {"absent": true}}}), true);
        check(json!({"caller": {"comm": "curl"}}), false);
        check(json!({"scheme": "https"}), true);
        check(json!({"scheme": "http"}), false);
        check(json!({"scheme": {"not": "http"}}), true);
        check(json!({"scheme": "https", "query": {"n": "8"}}), false);
    }
}
