//! `moxie divert`: which destinations are diverted.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::Context;
use super::client::Client;
use super::exit::{Exit, Failure};
use super::output::{self, Form};

const PATH: &str = "/api/v1/divert";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the kill switch and the address lists
    Show(Form),
    /// Set the address lists: of both, the longest prefix decides
    Set(Set),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct Set {
    /// Divert these destinations and no others; `none` empties the list, `configured` is what the configuration says
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    allow: Vec<String>,
    /// Leave these destinations direct; `none` empties the list, `configured` is what the configuration says
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    deny: Vec<String>,
}

pub(super) async fn run(command: Command, context: &Context) -> Result<Exit, Failure> {
    let client = Client::locate(context)?;
    match command {
        Command::Show(form) => {
            let diverting = client.get(PATH).await?;
            if form.json { output::print_json(&diverting)? } else { output::print(&tell(&diverting))? }
        }
        Command::Set(set) => {
            client.call(Method::PUT, PATH, Some(&set.body())).await?;
            output::print(&tell(&client.get(PATH).await?))?;
        }
    }
    Ok(Exit::Done)
}

impl Set {
    fn body(&self) -> Value {
        let given = [("allow", &self.allow), ("deny", &self.deny)].into_iter().filter(|(_, list)| !list.is_empty());
        Value::Object(given.map(|(name, list)| (name.to_owned(), value(list))).collect::<Map<_, _>>())
    }
}

/// A list as the API takes it; it tells what is no network.
fn value(list: &[String]) -> Value {
    match list {
        [one] if one == "none" => json!([]),
        [one] if one == "configured" => Value::Null,
        networks => json!(networks),
    }
}

fn tell(diverting: &Value) -> String {
    let is_on = diverting["enabled"].as_bool().unwrap_or(false);
    let list = |name: &str| {
        let networks = diverting[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        networks.collect::<Vec<_>>().join(", ")
    };
    let (allow, deny) = (list("allow"), list("deny"));
    let switch = if is_on { "on" } else { "OFF: every new connection goes direct; `moxie on` undoes this" };
    let allow = if allow.is_empty() { "every destination".to_owned() } else { format!("only {allow}") };
    let deny = if deny.is_empty() { "none".to_owned() } else { deny };
    format!("switch: {switch}\ndiverted: {allow}\ndirect: {deny}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_given_emptied_or_left_to_the_configuration() {
        let set = |allow: &[&str], deny: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            Set { allow: owned(allow), deny: owned(deny) }.body()
        };
        assert_eq!(set(&["10.0.0.0/8", "::/0"], &[]), json!({"allow": ["10.0.0.0/8", "::/0"]}));
        assert_eq!(set(&["none"], &["configured"]), json!({"allow": [], "deny": null}));
    }

    #[test]
    fn what_is_diverted_is_told_in_three_lines() {
        let told = tell(&json!({"enabled": true, "allow": [], "deny": ["10.0.0.0/8"]}));
        assert_eq!(told, "switch: on\ndiverted: every destination\ndirect: 10.0.0.0/8");
        let told = tell(&json!({"enabled": false, "allow": ["10.0.0.0/8", "::/0"], "deny": []}));
        assert!(told.contains("OFF") && told.contains("only 10.0.0.0/8, ::/0") && told.ends_with("direct: none"));
    }
}
