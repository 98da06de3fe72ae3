//! Configuration: the file, then `MOXIE_*` variables, then flags; read by a pure function into values that are valid.
//!
//! [`read`] reports every problem at once, each with the key, variable or flag it came from. What a setting means and
//! what it is without being set stands in its section's file.

mod admin;
mod divert;
mod drain;
mod environment;
mod limits;
mod log;
mod raw;
mod records;
mod rules;
mod scopes;
mod sniff;
mod store;
mod suggest;
mod tls;
mod units;
mod variables;

use std::fmt;
use std::path::PathBuf;

pub use admin::{Admin, Secret};
pub use divert::Divert;
pub use drain::Drain;
pub use environment::{Environment, EnvironmentError, admit};
pub use limits::Limits;
pub use log::Log;
pub use records::Records;
pub use rules::Rules;
pub use scopes::Scopes;
pub use sniff::Sniff;
pub use store::{Store, StoreUrl};
pub use tls::Tls;
pub use variables::{VARIABLES, Variable, unknown_variables};

use crate::divert::Via;
use raw::{Raw, Section};

/// Everything that can be set, valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// What kind of environment this host belongs to; the daemon asks [`admit`] about it.
    pub environment: Option<Environment>,
    /// Who may talk to the agent, and where.
    pub admin: Admin,
    /// What comes to the agent.
    pub divert: Divert,
    /// What opts itself in, and who tells of containers.
    pub scopes: Scopes,
    /// Bounds of the look at a connection's first bytes.
    pub sniff: Sniff,
    /// Roots and certificates.
    pub tls: Tls,
    /// Where rules live.
    pub store: Store,
    /// How much the agent takes on.
    pub limits: Limits,
    /// How much of what happened is kept.
    pub records: Records,
    /// How rules are drawn.
    pub rules: Rules,
    /// What the agent tells of itself.
    pub log: Log,
    /// The orderly end.
    pub drain: Drain,
}

/// What the command line sets; each goes before the file and the variables.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--admin`.
    pub admin: Option<String>,
    /// `--store`.
    pub store: Option<String>,
    /// `--via`.
    pub via: Option<Via>,
    /// `--upstream-ca`, each; added to what the file and the variables name.
    pub upstream_ca: Vec<PathBuf>,
    /// `--seed`.
    pub seed: Option<u64>,
}

/// One thing that is wrong about the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key (`sniff.timeout`), variable (`MOXIE_STORE`) or flag (`--admin`) that is wrong; empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// The configuration cannot be used; every problem is listed.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not valid")]
pub struct Invalid(pub Vec<Problem>);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.key, self.message) }
    }
}

/// Reads the configuration from the text of the file (empty: no file), the variables that `env` tells, and `flags`.
///
/// # Errors
/// Every problem at once.
pub fn read(text: &str, env: impl Fn(&str) -> Option<String>, flags: &Flags) -> Result<Config, Invalid> {
    let mut raw = Raw::parse(text).map_err(|problem| Invalid(vec![problem]))?;
    raw.overlay_variables(env);
    raw.overlay_flags(flags);

    let mut problems = Vec::new();
    let environment = section("", &mut raw, &mut problems).map(|Top(environment)| environment);
    let admin = section("admin", &mut raw, &mut problems);
    let divert = section("divert", &mut raw, &mut problems);
    let scopes = section("scopes", &mut raw, &mut problems);
    let sniff = section("sniff", &mut raw, &mut problems);
    let tls = section("tls", &mut raw, &mut problems);
    let store = section("store", &mut raw, &mut problems);
    let limits = section("limits", &mut raw, &mut problems);
    let records = section("records", &mut raw, &mut problems);
    let rules = section("rules", &mut raw, &mut problems);
    let log = section("log", &mut raw, &mut problems);
    let drain = section("drain", &mut raw, &mut problems);
    problems.extend(raw.unknown_sections());

    match (environment, admin, divert, scopes, sniff, tls, store, limits, records, rules, log, drain) {
        (
            Some(environment),
            Some(admin),
            Some(divert),
            Some(scopes),
            Some(sniff),
            Some(tls),
            Some(store),
            Some(limits),
            Some(records),
            Some(rules),
            Some(log),
            Some(drain),
        ) if problems.is_empty() => {
            Ok(Config { environment, admin, divert, scopes, sniff, tls, store, limits, records, rules, log, drain })
        }
        _ => Err(Invalid(problems)),
    }
}

/// The keys outside every section.
struct Top(Option<Environment>);

impl TryFrom<Section> for Top {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let top = Self(raw.take("environment"));
        raw.finish(top)
    }
}

fn section<T>(name: &'static str, raw: &mut Raw, problems: &mut Vec<Problem>) -> Option<T>
where
    T: TryFrom<Section, Error = Vec<Problem>>,
{
    T::try_from(raw.section(name)).map_err(|found| problems.extend(found)).ok()
}

#[cfg(test)]
mod tests;
