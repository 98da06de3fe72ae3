//! `moxie rule add|ls|show|set|enable|disable|rm|test|import|export`: rules, as the API has them.

mod add;
mod set;
mod test;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, encode};
use super::exit::{Exit, Failure};
use super::output::{self, Form, Listing, field, note};
use super::{Context, rulefile};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a rule
    Add(add::Arguments),
    /// List the rules, in the order in which they are tried
    #[command(visible_alias = "list")]
    Ls(Form),
    /// Show a rule
    Show {
        /// The rule's id
        id: String,
    },
    /// Change fields of a rule
    Set(set::Arguments),
    /// Let a rule fire
    Enable(Ids),
    /// Keep a rule from changing anything
    Disable(Ids),
    /// Remove rules
    Rm(Ids),
    /// Which rule would answer a request, and why the others would not; fires nothing
    Test(test::Arguments),
    /// Make many rules, all or none
    Import {
        /// JSON as `export` writes it, a list, one rule, or one shorthand a line; `-` is stdin
        file: PathBuf,
    },
    /// Print every rule as JSON, for `import`
    Export,
}

#[derive(Debug, Args)]
pub(super) struct Ids {
    /// The rules' ids
    #[arg(required = true)]
    ids: Vec<String>,
}

pub(super) async fn run(command: Command, context: &Context) -> Result<Exit, Failure> {
    let client = Client::locate(context)?;
    match command {
        Command::Add(arguments) => add::run(&arguments, &client).await?,
        Command::Ls(form) => list(form, &client, context).await?,
        Command::Show { id } => output::print_json(&client.get(&path(&id)).await?)?,
        Command::Set(arguments) => set::run(&arguments, &client).await?,
        Command::Enable(Ids { ids }) => enable(&ids, true, &client).await?,
        Command::Disable(Ids { ids }) => enable(&ids, false, &client).await?,
        Command::Rm(Ids { ids }) => {
            for id in ids {
                client.call(Method::DELETE, &path(&id), None).await?;
                output::print(&format!("{id} is gone"))?;
            }
        }
        Command::Test(arguments) => test::run(&arguments, &client, context).await?,
        Command::Import { file } => import(&file, &client).await?,
        Command::Export => output::print_json(&client.get("/api/v1/rules/export").await?)?,
    }
    Ok(Exit::Done)
}

fn path(id: &str) -> String {
    format!("/api/v1/rules/{}", encode(id))
}

async fn list(form: Form, client: &Client, context: &Context) -> Result<(), Failure> {
    let rules = client.items("/api/v1/rules").await?;
    if form.json {
        return output::print_json(&json!({"items": rules, "next": null}));
    }
    let mut listing = Listing::new(&["ID", "STATUS", "HITS", "LEFT", "RULE", "DOES"], &context.env);
    listing.numbers(2);
    listing.numbers(3);
    for rule in &rules {
        let of = |pointer| field(rule, pointer);
        listing.row([of("/id"), of("/status"), of("/hits"), left(rule), matcher(rule), action(rule)]);
    }
    listing.print("there are no rules\n  next: moxie rule add 'GET api.example.com/v1/.* -> 429 x3'")
}

fn left(rule: &Value) -> String {
    match rule.get("remaining").and_then(Value::as_i64) {
        Some(left) if left >= 0 => left.to_string(),
        _ => "no limit".to_owned(),
    }
}

/// What a rule looks for: its name if it has one.
fn matcher(rule: &Value) -> String {
    let pattern = format!("{} {}", field(rule, "/method"), field(rule, "/url"));
    match rule.get("name").and_then(Value::as_str) {
        None | Some("") => pattern,
        Some(name) => format!("{name}: {pattern}"),
    }
}

/// What a rule does, in a few words.
fn action(rule: &Value) -> String {
    let is_set = |name: &str| rule.get(name).is_some_and(|value| !value.is_null() && value.as_f64() != Some(0.0));
    let mut words = Vec::new();
    if rule.get("call_backend") == Some(&Value::Bool(true)) {
        words.push("backend".to_owned());
    }
    if is_set("status_code") {
        words.push(field(rule, "/status_code"));
    }
    if is_set("response_delay") {
        words.push(format!("delay {}", delay(&rule["response_delay"])));
    }
    if let Some(share) = rule.get("percentage").and_then(Value::as_f64).filter(|share| *share < 100.0) {
        words.push(format!("{share}%"));
    }
    words.join(", ")
}

fn delay(delay: &Value) -> String {
    match delay {
        Value::Number(seconds) => format!("{seconds} s"),
        Value::String(duration) => duration.clone(),
        distribution => distribution.to_string(),
    }
}

async fn enable(ids: &[String], enable: bool, client: &Client) -> Result<(), Failure> {
    for id in ids {
        let answer = client.call(Method::PATCH, &path(id), Some(&json!({"enable": enable}))).await?;
        output::print(&saved(&answer.json))?;
    }
    Ok(())
}

async fn import(file: &Path, client: &Client) -> Result<(), Failure> {
    let rules = rulefile::parse(&read(file)?, &file.display().to_string())?;
    let answer = client.call(Method::POST, "/api/v1/rules/import", Some(&json!({"rules": rules}))).await?;
    for rule in answer.json.get("rules").and_then(Value::as_array).into_iter().flatten() {
        output::print(&saved(rule))?;
        warn(rule);
    }
    Ok(())
}

/// The text of a file, or of stdin for `-`.
fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(file).map(|content| text = content)
    };
    read.map_err(|error| Failure::because(format_args!("cannot read {}", file.display()), &error))?;
    Ok(text)
}

/// One line about a rule that is in force now.
fn saved(rule: &Value) -> String {
    format!("{} {}: {} -> {}", field(rule, "/id"), field(rule, "/status"), matcher(rule), action(rule))
}

/// What the author of a rule may want to look at again.
fn warn(rule: &Value) {
    for warning in rule.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        note(&format!("{}: {}", field(warning, "/field"), field(warning, "/message")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_told_in_a_few_words() {
        let rule = json!({"id": "r1", "status": "armed", "method": "GET", "url": "a/b", "name": "", "status_code": 429,
            "response_delay": 4, "percentage": 50, "call_backend": false, "remaining": -1});
        assert_eq!(saved(&rule), "r1 armed: GET a/b -> 429, delay 4 s, 50%");
        assert_eq!(left(&rule), "no limit");
        let rule = json!({"id": "r2", "status": "disabled", "method": ["GET", "PUT"], "url": "a", "name": "slow",
            "status_code": null, "response_delay": "250ms", "percentage": 100, "call_backend": true, "remaining": 2});
        assert_eq!(saved(&rule), r#"r2 disabled: slow: ["GET","PUT"] a -> backend, delay 250ms"#);
        assert_eq!(left(&rule), "2");
    }
}
