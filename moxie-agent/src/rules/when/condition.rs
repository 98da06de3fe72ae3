//! One condition on a named thing of a request, which may have no value, one, or several.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::rules::pattern::MAX_NESTING;
use crate::rules::spec::{Log, Object, number};

const KEYS: [&str; 9] = ["equals", "regex", "present", "absent", "not", "gt", "gte", "lt", "lte"];
const MAX_SOURCE: usize = 4 * 1024;
const MAX_COMPILED: usize = 1024 * 1024;

/// All that is given must hold. What is said of a value must all hold for the same value.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    equals: Option<String>,
    regex: Option<Regex>,
    present: Option<bool>,
    absent: Option<bool>,
    not: Option<Box<Condition>>,
    bounds: Vec<(Bound, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Gt,
    Gte,
    Lt,
    Lte,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
}

impl Condition {
    pub(super) fn read(value: &Value, at: &str, log: &mut Log) -> Option<Self> {
        let equals = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Object(_) => return Self::read_object(&Object::read(value, at, log)?, log),
            other => {
                log.wrong_type(at, &format!("an exact string, or an object of {}", KEYS.join(", ")), other);
                return None;
            }
        };
        Some(Self { equals: Some(equals), ..Self::default() })
    }

    fn read_object(object: &Object<'_>, log: &mut Log) -> Option<Self> {
        object.refuse_unknown(&KEYS, &[], log);
        if object.members().next().is_none() {
            log.problem(object.path(), format!("says nothing; write an exact string, or one of {}", KEYS.join(", ")));
        }
        let not = object.member("not").and_then(|value| Self::read(value, &object.at("not"), log));
        let bounds = [("gt", Bound::Gt), ("gte", Bound::Gte), ("lt", Bound::Lt), ("lte", Bound::Lte)];
        Some(Self {
            equals: object.text("equals", log).map(str::to_owned),
            regex: regex(object, log),
            present: object.bool("present", log),
            absent: object.bool("absent", log),
            not: not.map(Box::new),
            bounds: bounds.iter().filter_map(|(name, bound)| Some((*bound, object.number(name, log)?))).collect(),
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = Map::new();
        let mut put = |name: &str, value: Option<Value>| value.map(|value| json.insert(name.to_owned(), value));
        put("equals", self.equals.as_deref().map(Value::from));
        put("regex", self.regex.as_ref().map(|regex| regex.as_str().into()));
        put("present", self.present.map(Value::from));
        put("absent", self.absent.map(Value::from));
        put("not", self.not.as_ref().map(|not| not.to_json()));
        for (bound, than) in &self.bounds {
            put(bound.name(), Some(number(*than).into()));
        }
        match &self.equals {
            Some(equals) if json.len() == 1 => Value::from(equals.as_str()),
            _ => Value::Object(json),
        }
    }

    pub(super) fn holds(&self, values: &[Cow<'_, str>]) -> bool {
        self.present.is_none_or(|present| present != values.is_empty())
            && self.absent.is_none_or(|absent| absent == values.is_empty())
            && self.not.as_ref().is_none_or(|not| !not.holds(values))
            && (!self.is_about_values() || values.iter().any(|value| self.takes(value)))
    }

    fn is_about_values(&self) -> bool {
        self.equals.is_some() || self.regex.is_some() || !self.bounds.is_empty()
    }

    fn takes(&self, value: &str) -> bool {
        self.equals.as_ref().is_none_or(|equals| equals == value)
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(value))
            && self
                .bounds
                .iter()
                .all(|(bound, than)| value.trim().parse().is_ok_and(|number| bound.holds(number, *than)))
    }
}

impl Bound {
    fn name(self) -> &'static str {
        match self {
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::Lt => "lt",
            Self::Lte => "lte",
        }
    }

    fn holds(self, number: f64, than: f64) -> bool {
        match self {
            Self::Gt => number > than,
            Self::Gte => number >= than,
            Self::Lt => number < than,
            Self::Lte => number <= than,
        }
    }
}

fn regex(object: &Object<'_>, log: &mut Log) -> Option<Regex> {
    let source = object.text("regex", log)?;
    if source.len() > MAX_SOURCE {
        log.problem(&object.at("regex"), format!("is {} bytes long; write at most {MAX_SOURCE}", source.len()));
        return None;
    }
    let built = RegexBuilder::new(source).size_limit(MAX_COMPILED).nest_limit(MAX_NESTING).build();
    built.map_err(|error| log.problem(&object.at("regex"), format!("is not a usable regex: {error}"))).ok()
}
