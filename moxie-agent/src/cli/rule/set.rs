//! `moxie rule set ID KEY=VALUE…`: a JSON merge patch, typed by hand.

use std::str::FromStr;

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use super::{path, saved, warn};
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::cli::output::print;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: moxie rule set 018f… status_code=503 response_delay=250ms response_headers.Retry-After=4"
)]
pub(in crate::cli) struct Arguments {
    /// The rule's id
    id: String,
    /// Fields to change; dots go deeper, a value that parses as JSON is JSON, null takes a field back to its default
    #[arg(value_name = "KEY=VALUE", required_unless_present = "mock_count")]
    fields: Vec<Assignment>,
    /// How many times the rule fires from now on; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    mock_count: Option<i64>,
}

/// `key=value`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assignment {
    keys: Vec<String>,
    value: Value,
}

impl FromStr for Assignment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, text) = text.split_once('=').ok_or("write KEY=VALUE")?;
        let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            return Err("the key is empty: write KEY=VALUE");
        }
        Ok(Self { keys, value: value(text) })
    }
}

impl Assignment {
    /// Sets the value in `object`, making the objects on the way.
    pub(super) fn apply(&self, object: &mut Value) {
        let mut place = object;
        for key in &self.keys {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[key.as_str()];
        }
        *place = self.value.clone();
    }
}

/// JSON where the text is JSON, else the text.
pub(super) fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

pub(super) async fn run(arguments: &Arguments, client: &Client) -> Result<(), Failure> {
    let answer = client.call(Method::PATCH, &path(&arguments.id), Some(&arguments.patch())).await?;
    print(&saved(&answer.json))?;
    warn(&answer.json);
    Ok(())
}

impl Arguments {
    fn patch(&self) -> Value {
        let mut patch = json!({});
        for assignment in &self.fields {
            assignment.apply(&mut patch);
        }
        if let Some(count) = self.mock_count {
            patch["mock_count"] = json!(count);
        }
        patch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_make_a_merge_patch() {
        let fields = [
            "status_code=503",
            "name=slow day",
            "when=null",
            "response_headers.Retry-After=4",
            "response_headers.X=a=b",
            "response={\"a\":1}",
        ];
        let fields = fields.iter().map(|text| text.parse().unwrap()).collect();
        let arguments = Arguments { id: "r".into(), fields, mock_count: Some(-1) };
        let expected = json!({"status_code": 503, "name": "slow day", "when": null, "response_headers": {"Retry-After": 4, "X": "a=b"},
            "response": {"a": 1}, "mock_count": -1});
        assert_eq!(arguments.patch(), expected);
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        for text in ["status_code", "=1", "when..x=1"] {
            assert!(text.parse::<Assignment>().is_err(), "{text}");
        }
    }
}
