//! `moxie run … -- CMD…`: CMD under rules, in a cgroup of its own or told of a proxy, and an account of what it called.

mod account;
mod child;
mod directory;
mod host;
mod own;
mod place;
mod proxy;
mod report;
mod shared;
mod trust;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::exit::{Exit, Failure, MOXIE_FAILED};
use super::output::note;
use super::rulefile::{self, Entry};
use super::settings::ConfigFile;
use super::{Context, settings};
use crate::clock::Clock;
use crate::descriptors;
use crate::divert::Via;
use crate::rules::RuleSpec;
use account::Account;
use host::Host;
use place::Place;
use report::Report;

/// How long CMD's last connections may take to close, so that the account is whole.
const SETTLING: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = "Example: moxie run --rule 'GET api.customer.io/v1/.* -> 429 x3' -- ./nightly-sync\n\
    Exits with CMD's own code; 125 Moxie failed before CMD ran, 126 CMD cannot be executed, 127 no such CMD, 128+n ended by signal n.")]
pub(super) struct Arguments {
    /// A rule in shorthand; may be repeated
    #[arg(long, value_name = "SPEC")]
    rule: Vec<String>,
    /// Rules from a file: JSON, or one shorthand a line; may be repeated
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// How connections come on path [default: auto]
    #[arg(long, value_enum, value_name = "WAY")]
    via: Option<Via>,
    /// Whether CMD is made to trust Moxie's authority
    #[arg(long, value_enum, default_value_t = Trust::Auto)]
    trust: Trust,
    /// Where to write what CMD called, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// PEM file of roots that destinations are verified with, besides the system's and CMD's own; may be repeated
    #[arg(long, value_name = "FILE")]
    upstream_ca: Vec<PathBuf>,
    /// Seed of rules with a percentage, so that a run can be repeated
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    file: ConfigFile,
    /// The command, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Whether CMD is made to trust the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Trust {
    /// Where the common runtimes look: variables, and the host's bundle as CMD sees it
    Auto,
    /// Not at all: rules for HTTPS then fail in CMD, unless it trusts the authority already
    None,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    settings::warn_of_unknown_variables(context);
    let rules = arguments.read_rules()?;
    let config = own::configuration(&arguments, context)?;
    // Before anything is made that would be left behind: a fifo may wait for its reader, and an interrupt ends that.
    let report = arguments.report.as_deref().map(Report::reserve).transpose().map_err(before_cmd)?;
    let place = Place::find(config.divert.via).map_err(before_cmd)?;
    let descriptors = descriptors::limit();

    let host = host::open(&arguments, config, &rules, &place, context).await.map_err(before_cmd)?;
    note(&format!("on path by {}, through {}", host.on_path(), host.name()));
    let ended = under_rules(&*host, &arguments, &place, descriptors, context).await;
    let account = Account::take(&*host, SETTLING).await;
    let door = host.door();
    host.close().await;
    let (status, trusted) = ended.map_err(before_cmd)?;

    account.tell(door);
    if let Some(trusted) = trusted {
        trusted.end(place.cgroup());
    }
    if let Some(report) = report {
        // CMD has run: its exit code stands, whatever becomes of the report.
        report.write(&account, status.code()).unwrap_or_else(|failure| failure.tell());
    }
    Ok(status)
}

/// Runs CMD to its end, trusting the authority if it shall: by files that what it leaves running may go on to need.
async fn under_rules(
    host: &dyn Host,
    arguments: &Arguments,
    place: &Place,
    descriptors: u64,
    context: &Context,
) -> Result<(Exit, Option<trust::Prepared>), Failure> {
    let trusted = match arguments.trust {
        Trust::Auto => Some(trust::Prepared::new(&host.authority_pem().await?, context)?),
        Trust::None => None,
    };
    let mut variables = trusted.as_ref().map(|trusted| trusted.variables().to_vec()).unwrap_or_default();
    if let Some(door) = host.door() {
        let given = variables.clone();
        let given = |name: &str| given.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let told = proxy::tell(door, |name| given(name).or_else(|| context.env.text(name)));
        told.warnings.iter().for_each(|warning| note(warning));
        variables.extend(told.variables);
    }
    let start = child::Start {
        cgroup: place.cgroup(),
        descriptors,
        binds: trusted.as_ref().map(trust::Prepared::binds).unwrap_or_default(),
        variables,
    };
    Ok((child::run(&arguments.command, start).await?, trusted))
}

/// A failure before CMD ran; wrong use and missing permission keep their own codes.
fn before_cmd(failure: Failure) -> Failure {
    match failure.exit() {
        Exit::Usage | Exit::Denied => failure,
        _ => failure.with_exit(MOXIE_FAILED),
    }
}

impl Arguments {
    /// Every rule of the run, valid; else every problem of every one of them.
    fn read_rules(&self) -> Result<Vec<Value>, Failure> {
        let mut entries: Vec<Entry> = rulefile::shorthands(&self.rule).collect();
        for file in &self.rules {
            let name = file.display().to_string();
            match std::fs::read_to_string(file) {
                Ok(text) => entries.extend(rulefile::entries(&text, &name)),
                Err(error) => entries.push(Entry { place: name, rule: Err(format!("cannot be read: {error}")) }),
            }
        }
        check(entries)
    }

    /// Whether only an agent of its own can do what this run asks for.
    fn needs_own_agent(&self) -> bool {
        !self.upstream_ca.is_empty() || self.seed.is_some() || self.file.is_given()
    }
}

fn check(entries: Vec<Entry>) -> Result<Vec<Value>, Failure> {
    let now = Clock::system().now();
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for Entry { place, rule } in entries {
        let at = |problem| format!("{place}: {}", super::client::line(problem));
        match rule.map(|rule| (RuleSpec::from_json(&rule, now), rule)) {
            Ok((Ok(checked), rule)) => {
                checked.warnings.iter().for_each(|warning| note(&at(warning)));
                rules.push(rule);
            }
            Ok((Err(found), _)) => problems.extend(found.iter().map(at)),
            Err(problem) => problems.push(format!("{place}: {problem}")),
        }
    }
    if problems.is_empty() {
        Ok(rules)
    } else {
        Err(Failure::usage("the rules are not valid, CMD was not started").details(problems))
    }
}

#[cfg(test)]
mod tests;
