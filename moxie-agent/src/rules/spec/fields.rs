//! Reading fields out of a JSON object while collecting every problem with its path.

use serde_json::{Map, Value};

use super::Problem;
use super::problem::nearest;

/// The problems and warnings found so far.
#[derive(Debug, Default)]
pub(in crate::rules) struct Log {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Log {
    pub(in crate::rules) fn problem(&mut self, field: &str, message: impl Into<String>) {
        self.problems.push(Problem { field: field.to_owned(), message: message.into() });
    }

    pub(in crate::rules) fn warn(&mut self, field: &str, message: impl Into<String>) {
        self.warnings.push(Problem { field: field.to_owned(), message: message.into() });
    }

    /// `expected what, got a string`.
    pub(in crate::rules) fn wrong_type(&mut self, field: &str, what: &str, got: &Value) {
        self.problem(field, format!("expected {what}, got {}", kind(got)));
    }
}

/// A JSON object and where it is. `null` is the same as not given.
#[derive(Clone, Copy, Debug)]
pub(in crate::rules) struct Object<'a> {
    path: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// Reads `value` as an object; says so if it is none.
    pub(in crate::rules) fn read(value: &'a Value, path: &'a str, log: &mut Log) -> Option<Self> {
        let map = value.as_object();
        if map.is_none() {
            log.wrong_type(path, "an object", value);
        }
        Some(Self { path, map: map? })
    }

    pub(in crate::rules) fn path(&self) -> &'a str {
        self.path
    }

    /// The path of a member.
    pub(in crate::rules) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(in crate::rules) fn member(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(in crate::rules) fn members(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.map.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.as_str(), value))
    }

    /// Says of every member that is in neither list that there is no such field.
    pub(in crate::rules) fn refuse_unknown(&self, known: &[&str], ignored: &[&str], log: &mut Log) {
        for name in self.map.keys().map(String::as_str).filter(|name| !known.contains(name) && !ignored.contains(name))
        {
            let message = match nearest(name, known) {
                Some(meant) => format!("there is no field `{name}`; did you mean `{meant}`?"),
                None => format!("there is no field `{name}`; there are {}", known.join(", ")),
            };
            log.problem(&self.at(name), message);
        }
    }

    pub(in crate::rules) fn text(&self, name: &str, log: &mut Log) -> Option<&'a str> {
        self.take(name, "a string", log, Value::as_str)
    }

    pub(in crate::rules) fn bool(&self, name: &str, log: &mut Log) -> Option<bool> {
        self.take(name, "true or false", log, Value::as_bool)
    }

    pub(in crate::rules) fn number(&self, name: &str, log: &mut Log) -> Option<f64> {
        self.take(name, "a number", log, Value::as_f64)
    }

    /// A whole number; `3.0` is one.
    pub(in crate::rules) fn integer(&self, name: &str, log: &mut Log) -> Option<i64> {
        self.take(name, "a whole number", log, |value| {
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
            let whole = |number: f64| (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64);
            value.as_i64().or_else(|| value.as_f64().and_then(whole))
        })
    }

    fn take<T>(&self, name: &str, what: &str, log: &mut Log, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.member(name)?;
        let read = read(value);
        if read.is_none() {
            log.wrong_type(&self.at(name), what, value);
        }
        read
    }
}

/// How a JSON value is called in messages.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
