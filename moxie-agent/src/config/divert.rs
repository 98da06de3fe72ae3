//! `[divert]`: which connections of a scope come to the agent.

use std::time::Duration;

use toml::Value;

use super::Problem;
use super::raw::{Section, Setting};
use crate::divert::{PortSet, Via};

/// What comes to the agent.
#[derive(Clone, Debug)]
pub struct Divert {
    /// `via`: the way on path; the first that works unless set.
    pub via: Via,
    /// `ports`: destination ports that are diverted; 80 and 443 unless set.
    pub ports: PortSet,
    /// `refuse_quic`: whether UDP to those ports is refused, so that clients of HTTP/3 fall back to TCP; false unless set.
    pub refuse_quic: bool,
    /// `heartbeat`: the kernel sends connections direct once the agent has not beaten for this long; 1 s unless set.
    pub heartbeat: Duration,
    /// `kernel_log`: whether the kernel half logs each decision; false unless set.
    pub kernel_log: bool,
}

impl TryFrom<Section> for Divert {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let divert = Self {
            via: raw.take("via").unwrap_or_default(),
            ports: raw.take("ports").unwrap_or_default(),
            refuse_quic: raw.take("refuse_quic").unwrap_or(false),
            heartbeat: raw.take("heartbeat").unwrap_or(Duration::from_secs(1)),
            kernel_log: raw.take("kernel_log").unwrap_or(false),
        };
        // Below, an agent that waits for its turn on a busy host would look dead; above, a hung one would hold calls up.
        if !(Duration::from_millis(500)..=Duration::from_mins(1)).contains(&divert.heartbeat) {
            raw.refuse("heartbeat", "must be between \"500ms\" and \"1m\"");
        }
        raw.finish(divert)
    }
}

impl Setting for Via {
    fn read(value: &Value) -> Result<Self, String> {
        String::read(value)?.parse().map_err(|error: crate::divert::ParseViaError| error.to_string())
    }
}

impl Setting for PortSet {
    fn read(value: &Value) -> Result<Self, String> {
        let wrong = || format!("is {value}: write a list of ports, such as [80, 443], or \"all\"");
        match value {
            Value::String(text) if text == "all" => Ok(Self::All),
            Value::Array(items) if !items.is_empty() => {
                let port =
                    |item: &Value| item.as_integer().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
                items.iter().map(port).collect::<Option<_>>().map(Self::List).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}
