//! `[log]`: what the agent tells of itself.

use toml::Value;
use tracing_subscriber::EnvFilter;

use super::Problem;
use super::raw::{Section, Setting};
use crate::telemetry::LogFormat;

/// What the agent tells of itself.
#[derive(Clone, Debug)]
pub struct Log {
    /// `format`: for people or for machines; `human` unless set.
    pub format: LogFormat,
    /// `filter`: what is told, as directives (`info`, `warn,moxie_agent::datapath=debug`); `info` unless set.
    pub filter: String,
}

impl TryFrom<Section> for Log {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let log = Self {
            format: raw.take("format").unwrap_or_default(),
            filter: raw.take("filter").unwrap_or_else(|| "info".to_owned()),
        };
        if let Err(why) = check(&log.filter) {
            raw.refuse(
                "filter",
                format!("is no list of directives such as \"info\" or \"warn,moxie_agent=debug\": {why}"),
            );
        }
        raw.finish(log)
    }
}

/// Modules have ASCII names; of other text `EnvFilter` (tracing-subscriber 0.3.23) may split a character, and panic.
fn check(filter: &str) -> Result<(), String> {
    if let Some(other) = filter.chars().find(|character| !matches!(character, ' '..='~')) {
        return Err(format!("{other:?} is in no directive"));
    }
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

impl Setting for LogFormat {
    fn read(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some("human") => Ok(Self::Human),
            Some("json") => Ok(Self::Json),
            _ => Err(format!("is {value}: write \"human\" or \"json\"")),
        }
    }
}
