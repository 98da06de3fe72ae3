//! What the page shows of a rule and of an exchange, as words.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::Value;

use crate::journal::{Exchange, ExchangeError};
use crate::rules::Rule;
use crate::scope::Caller;

/// A row of the rules.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RuleRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) method: String,
    pub(super) url: String,
    pub(super) action: String,
    pub(super) remaining: String,
    pub(super) hits: String,
    pub(super) status: String,
}

impl RuleRow {
    pub(super) fn of(rule: &Rule, now: Timestamp) -> Self {
        let shown = serde_json::to_value(crate::admin::rule_view::view(rule, now)).unwrap_or_default();
        Self::read(&shown)
    }

    /// Reads the row off the rule's JSON, as the API shows it.
    fn read(rule: &Value) -> Self {
        let text = |field| plain(rule.get(field));
        let remaining =
            if rule.get("remaining") == Some(&Value::from(-1)) { "no limit".into() } else { text("remaining") };
        Self {
            id: text("id"),
            name: text("name"),
            method: text("method"),
            url: text("url"),
            action: action(rule),
            remaining,
            hits: text("hits"),
            status: text("status"),
        }
    }
}

/// `429 after 4`, `the backend's answer as 503`.
fn action(rule: &Value) -> String {
    let status = plain(rule.get("status_code"));
    let mut words = match (rule.get("call_backend") == Some(&Value::Bool(true)), status.is_empty()) {
        (true, true) => "backend, rewritten".to_owned(),
        (true, false) => format!("backend, as {status}"),
        (false, true) => "200".to_owned(),
        (false, false) => status,
    };
    let delay = rule.get("response_delay").filter(|delay| delay.as_f64() != Some(0.0));
    let delay = match delay {
        Some(Value::Number(seconds)) => format!("{seconds}s"),
        other => plain(other),
    };
    if !delay.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(words, " after {delay}");
    }
    words
}

/// A value without its quotes; a list with commas; nothing for null.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(|item| plain(Some(item))).collect::<Vec<_>>().join(", "),
        Some(other) => other.to_string(),
    }
}

/// A row of the traffic.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallRow {
    pub(super) started_at: String,
    pub(super) time: String,
    pub(super) caller: String,
    pub(super) method: String,
    pub(super) url: String,
    pub(super) status: String,
    pub(super) outcome: String,
    pub(super) rule: String,
}

impl CallRow {
    pub(super) fn of(call: Exchange) -> Self {
        let outcome = plain(serde_json::to_value(call.outcome).ok().as_ref());
        Self {
            started_at: call.started_at.to_string(),
            time: call.started_at.strftime("%H:%M:%S%.3fZ").to_string(),
            caller: caller(&call.caller),
            method: call.method,
            url: call.url,
            status: call.status.map_or_else(|| missing(call.error).into(), |status| status.to_string()),
            outcome,
            rule: call.rule_id.map_or_else(String::new, |rule| rule.0),
        }
    }
}

/// The most telling name of a caller that is known.
fn caller(caller: &Caller) -> String {
    // Twelve digits name a container, as its own tools print it.
    let container = caller.container.as_deref().map(|id| id.get(..12).unwrap_or(id));
    let name = caller.unit.as_deref().or(container).or(caller.comm.as_deref()).unwrap_or("unknown");
    match caller.pid {
        Some(pid) => format!("{name} ({pid})"),
        None => name.to_owned(),
    }
}

/// Why a call has no status.
fn missing(error: Option<ExchangeError>) -> &'static str {
    match error {
        Some(ExchangeError::UpstreamUnreachable) => "unreachable",
        Some(ExchangeError::UpstreamUntrusted) => "untrusted",
        Some(ExchangeError::UpstreamBroke) => "broke off",
        Some(ExchangeError::ClientGone) => "client gone",
        None => "none",
    }
}
