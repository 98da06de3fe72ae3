//! `moxie rule test`: which rule would answer, and of each other rule why not.

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use super::add::headers;
use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::cli::output::{Form, Listing, field, print, print_json};

#[derive(Debug, Args)]
#[command(
    after_help = "Example: moxie rule test 'GET https://api.customer.io/v1/activities?limit=5' -H 'x-plan: gold'"
)]
pub(in crate::cli) struct Arguments {
    /// The request: [METHOD] URL, in one argument or two
    #[arg(required = true, num_args = 1..=2, value_name = "REQUEST")]
    request: Vec<String>,
    /// A header of the request; may be repeated
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The scope of the caller
    #[arg(long, value_name = "ID")]
    scope: Option<String>,
    /// The unit of the caller
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(arguments: &Arguments, client: &Client, context: &Context) -> Result<(), Failure> {
    let verdict = client.call(Method::POST, "/api/v1/rules/test", Some(&arguments.to_json()?)).await?.json;
    if arguments.form.json {
        return print_json(&verdict);
    }
    let rule = verdict.get("rule").and_then(Value::as_str);
    let rule = rule.map(|id| format!(" (rule {id})")).unwrap_or_default();
    print(&format!("{}{rule}: {}", field(&verdict, "/verdict"), field(&verdict, "/detail")))?;
    let others = verdict.get("others").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if others.is_empty() {
        return Ok(());
    }
    let mut listing = Listing::new(&["OTHER RULE", "NAME", "BECAUSE OF", "DETAIL"], &context.env);
    for other in others {
        listing.row(["/rule", "/name", "/reason", "/detail"].map(|pointer| field(other, pointer)));
    }
    listing.print("")
}

impl Arguments {
    fn to_json(&self) -> Result<Value, Failure> {
        let words: Vec<&str> = self.request.iter().flat_map(|argument| argument.split_whitespace()).collect();
        let (method, url) = match words.as_slice() {
            [url] => ("GET", *url),
            [method, url] => (*method, *url),
            _ => {
                return Err(Failure::usage(format!("`{}` is no request", self.request.join(" ")))
                    .next("moxie rule test 'GET https://api.example.com/v1'"));
            }
        };
        let mut request = Map::from_iter([("method".to_owned(), json!(method)), ("url".to_owned(), json!(url))]);
        if let Some(headers) = headers(&self.header)? {
            request.insert("headers".to_owned(), headers);
        }
        if self.scope.is_some() || self.unit.is_some() {
            let caller = json!({"scope": self.scope, "unit": self.unit, "container": null, "pid": null, "comm": null});
            request.insert("caller".to_owned(), caller);
        }
        Ok(Value::Object(request))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(argv: &[&str]) -> Result<Value, Failure> {
        let cli = Cli::try_parse_from(["moxie", "rule", "test"].iter().chain(argv)).unwrap();
        let Command::Rule(super::super::Command::Test(arguments)) = cli.command else { panic!("not rule test") };
        arguments.to_json()
    }

    #[test]
    fn a_request_is_one_argument_or_two() {
        let expected = json!({"method": "PUT", "url": "https://a/b"});
        assert_eq!(parse(&["PUT https://a/b"]).unwrap(), expected);
        assert_eq!(parse(&["PUT", "https://a/b"]).unwrap(), expected);
        assert_eq!(parse(&["https://a/b"]).unwrap()["method"], "GET");
        assert_eq!(parse(&["a", "-H", "X: 1"]).unwrap()["headers"], json!({"X": "1"}));
        assert!(parse(&["GET https://a/b HTTP/1.1"]).is_err());
    }
}
