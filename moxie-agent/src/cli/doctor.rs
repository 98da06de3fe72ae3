//! `moxie doctor`: what this host can and cannot do, each line with the next thing to type.

mod agent;
mod hints;
mod host;
mod neighbours;
mod ways;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::Context;
use super::exit::{Exit, Failure};
use super::output::{self, Form, Listing};
use super::settings::{self, ConfigFile};
use crate::config::{self, Config, Flags};
use crate::paths::CONFIG_FILE;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    form: Form,
}

/// What a check means for Moxie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Moxie works, with something missing.
    Warn,
    /// Moxie does not work.
    Blocks,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to type; none where nothing has to be done.
    fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), fix: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    fn blocks(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Blocks, found: found.into(), fix: Some(fix.into()) }
    }
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let mut checks = host::checks();
    let config = settings::load(&ConfigFile::default(), &Flags::default(), context);
    checks.push(configuration(&config));
    let config = config.or_else(|_| defaults())?;
    checks.extend(neighbours::checks(&config.scopes));
    checks.extend(ways::checks(&config.divert));
    checks.extend(agent::checks(context).await);
    let is_blocked = checks.iter().any(|check| check.verdict == Verdict::Blocks);
    if arguments.form.json {
        let items =
            serde_json::to_value(&checks).map_err(|error| Failure::because("cannot show the checks", &error))?;
        output::print_json(&json!({"items": items, "next": null}))?;
    } else {
        show(&checks, context)?;
    }
    Ok(if is_blocked { Exit::Failed } else { Exit::Done })
}

fn configuration(config: &Result<Config, Failure>) -> Check {
    match config {
        Ok(_) => Check::ok("configuration", "valid"),
        Err(failure) => Check::blocks("configuration", failure.to_string(), format!("correct {CONFIG_FILE}")),
    }
}

/// What goes where nothing is set.
fn defaults() -> Result<Config, Failure> {
    config::read("", |_| None, &Flags::default()).map_err(|error| Failure::because("no settings", &error))
}

fn show(checks: &[Check], context: &Context) -> Result<(), Failure> {
    let mut listing = Listing::new(&["CHECK", "STATE", "FOUND", "NEXT"], &context.env);
    for check in checks {
        let state = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Blocks => "blocks",
        };
        listing.row([
            check.name.to_owned(),
            state.to_owned(),
            check.found.clone(),
            check.fix.clone().unwrap_or_default(),
        ]);
    }
    listing.print("nothing was looked at")
}
