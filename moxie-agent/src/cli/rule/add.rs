//! `moxie rule add`: a rule from a shorthand, from JSON, or from flags; flags go on top of either.

use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use super::{read, saved, set, warn};
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::cli::output::print;
use crate::cli::rulefile;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: moxie rule add 'GET api.customer.io/v1/activities -> 429 x3 delay 4s header \"Retry-After: 4\"'"
)]
#[group(id = "rule_source", required = true, multiple = true)]
pub(in crate::cli) struct Arguments {
    /// The rule in shorthand: METHOD URL -> STATUS [xN] [delay D] [header "NAME: VALUE"] [body TEXT]
    #[arg(value_name = "SPEC", conflicts_with = "json", group = "rule_source")]
    spec: Option<String>,
    /// The rule as JSON, from a file or `-` for stdin
    #[arg(long, value_name = "FILE", group = "rule_source")]
    json: Option<PathBuf>,
    /// Regex of authority/path, without scheme (`--url` names the agent)
    #[arg(long, value_name = "REGEX", group = "rule_source")]
    url_regex: Option<String>,
    /// Any other field, such as `priority=5` or `when.headers.x-plan=gold`; a value that parses as JSON is JSON
    #[arg(long = "field", value_name = "KEY=VALUE")]
    fields: Vec<set::Assignment>,
    #[command(flatten)]
    flags: Flags,
}

/// The fields that have a flag of their own.
#[derive(Debug, Default, Args)]
struct Flags {
    /// Only this method
    #[arg(long)]
    method: Option<String>,
    /// Status of the answer
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,
    /// How many times it fires; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    count: Option<i64>,
    /// Wait before the answer: seconds, or a duration such as 250ms
    #[arg(long, value_name = "DURATION")]
    delay: Option<String>,
    /// Body of the answer
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Header of the answer; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Share of matching requests that fire
    #[arg(long, value_name = "PERCENT")]
    percentage: Option<f64>,
    /// How long the rule lives, such as 30m
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// What people call the rule
    #[arg(long)]
    name: Option<String>,
    /// Make the rule, but let it change nothing yet
    #[arg(long)]
    disabled: bool,
}

pub(super) async fn run(arguments: &Arguments, client: &Client) -> Result<(), Failure> {
    let rule = arguments.to_json()?;
    let answer = client.call(Method::POST, "/api/v1/rules", Some(&rule)).await?;
    print(&saved(&answer.json))?;
    warn(&answer.json);
    Ok(())
}

impl Arguments {
    fn to_json(&self) -> Result<Value, Failure> {
        let mut rule = match (&self.spec, &self.json) {
            (Some(spec), _) => rulefile::shorthand(spec)?,
            (None, Some(file)) => rulefile::one(&read(file)?, &file.display().to_string())?,
            (None, None) => json!({}),
        };
        let Some(fields) = rule.as_object_mut() else {
            return Err(Failure::usage(format!("{rule} is no rule"))
                .next("{\"url\": \"api.example.com/.*\", \"status_code\": 429}"));
        };
        fields.extend(self.url_regex.iter().map(|url| ("url".to_owned(), json!(url))));
        fields.extend(self.flags.fields()?);
        for assignment in &self.fields {
            assignment.apply(&mut rule);
        }
        Ok(rule)
    }
}

impl Flags {
    fn fields(&self) -> Result<Map<String, Value>, Failure> {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        set("method", self.method.as_deref().map(Value::from));
        set("status_code", self.status.map(Value::from));
        set("mock_count", self.count.map(Value::from));
        // `4` is four seconds, as in the JSON.
        set("response_delay", self.delay.as_deref().map(set::value));
        set("response", self.body.as_deref().map(Value::from));
        set("percentage", self.percentage.map(Value::from));
        set("ttl", self.ttl.as_deref().map(Value::from));
        set("name", self.name.as_deref().map(Value::from));
        set("enable", self.disabled.then_some(Value::Bool(false)));
        set("response_headers", headers(&self.header)?);
        Ok(fields)
    }
}

/// An object of headers; a name that comes twice gets a list.
pub(super) fn headers(lines: &[String]) -> Result<Option<Value>, Failure> {
    let mut headers = Map::new();
    for line in lines {
        let (name, value) = split_header(line)?;
        let values = headers.entry(name).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(json!(value));
        }
    }
    for value in headers.values_mut() {
        if let Some([single]) = value.as_array().map(Vec::as_slice) {
            *value = single.clone();
        }
    }
    Ok((!headers.is_empty()).then_some(Value::Object(headers)))
}

/// Name and value of `NAME: VALUE`.
fn split_header(line: &str) -> Result<(&str, &str), Failure> {
    let split =
        line.split_once(':').map(|(name, value)| (name.trim(), value.trim())).filter(|(name, _)| !name.is_empty());
    split.ok_or_else(|| Failure::usage(format!("`{line}` is no header")).next("write it as 'Retry-After: 4'"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(argv: &[&str]) -> Result<Value, String> {
        let argv = ["moxie", "rule", "add"].iter().chain(argv);
        let cli = Cli::try_parse_from(argv).map_err(|error| error.to_string())?;
        let Command::Rule(super::super::Command::Add(arguments)) = cli.command else { panic!("not rule add") };
        arguments.to_json().map_err(|failure| failure.to_string())
    }

    #[test]
    fn flags_make_a_rule() {
        let rule = parse(&[
            "--url-regex",
            "a/b",
            "--status",
            "503",
            "--count",
            "-1",
            "--delay",
            "4",
            "--header",
            "X: 1",
            "--header",
            "X:2",
            "--header",
            "Y: a: b",
            "--body",
            "{}",
            "--disabled",
            "--field",
            "when.headers.x-plan=gold",
            "--field",
            "priority=5",
        ]);
        let expected = json!({"url": "a/b", "status_code": 503, "mock_count": -1, "response_delay": 4, "response": "{}",
            "enable": false, "response_headers": {"X": ["1", "2"], "Y": "a: b"}, "when": {"headers": {"x-plan": "gold"}}, "priority": 5});
        assert_eq!(rule.unwrap(), expected);
        assert_eq!(parse(&["--url-regex", "a", "--delay", "250ms"]).unwrap()["response_delay"], json!("250ms"));
    }

    #[test]
    fn url_is_the_agent_wherever_it_stands() {
        let cli = Cli::try_parse_from(["moxie", "rule", "add", "a/b -> 429", "--url", "unix:/x"]).unwrap();
        assert_eq!(cli.global.url.as_deref(), Some("unix:/x"));
        let rule = parse(&["a/b -> 429", "--url", "unix:/x"]).unwrap();
        assert_eq!(rule["url"], json!("a/b"), "not the rule's url");
        let cli = Cli::try_parse_from(["moxie", "rule", "add", "--url-regex", "a/b"]).unwrap();
        assert_eq!(cli.global.url, None, "the rule's url is no place of an agent");
    }

    #[test]
    fn a_rule_needs_a_source_and_headers_a_name() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--status", "503"]).is_err());
        assert!(parse(&["GET a -> 200", "--json", "-"]).is_err());
        assert!(parse(&["--url-regex", "a", "--header", "nothing"]).unwrap_err().contains("is no header"));
    }
}
