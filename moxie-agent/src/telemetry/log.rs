//! Log lines on standard error.

use std::io::{IsTerminal, stderr};

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("`{filter}` is no log filter: write a level such as `info`, or `info,moxie_agent::datapath=debug`")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else logs in this process already.
    #[error("logging is set up already")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends the log lines that pass `filter` to standard error, for the whole process and from now on.
///
/// # Errors
/// See [`LogError`].
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let chosen = EnvFilter::try_new(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(chosen).with_writer(stderr);
    let set = match format {
        LogFormat::Human => lines.with_ansi(stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(LogError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_says_what_to_write() {
        let error = init(LogFormat::Human, "moxie_agent=loud").unwrap_err();
        assert!(error.to_string().contains("`moxie_agent=loud` is no log filter: write"), "{error}");
    }

    #[test]
    fn set_up_once() {
        init(LogFormat::Json, "error,moxie_agent::datapath=debug").unwrap();
        assert!(matches!(init(LogFormat::Human, "info"), Err(LogError::Twice(_))));
    }
}
