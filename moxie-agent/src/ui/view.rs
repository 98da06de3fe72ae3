//! What the page shows of a rule and of an exchange, as words.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::journal::{Exchange, ExchangeError};
use crate::rules::{Rule, RuleView, view};
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
        let rule = view(rule, now, &[]);
        Self {
            action: action(&rule),
            remaining: if rule.remaining < 0 { "no limit".into() } else { rule.remaining.to_string() },
            hits: rule.hits.to_string(),
            status: word(&rule.status),
            id: rule.id.0,
            name: rule.name,
            method: method(&rule.method),
            url: rule.url,
        }
    }
}

/// `429 after 4s`, `backend, as 503`.
fn action(rule: &RuleView) -> String {
    let answer = match (rule.call_backend, rule.status_code) {
        (true, None) => "backend, rewritten".to_owned(),
        (true, Some(status)) => format!("backend, as {status}"),
        (false, status) => status.map_or_else(String::new, |status| status.to_string()),
    };
    let is_delayed = rule.response_delay.as_f64() != Some(0.0);
    if is_delayed { format!("{answer} after {}s", rule.response_delay) } else { answer }
}

/// One method, or a list of them.
fn method(method: &Value) -> String {
    let methods = method.as_array().map_or(std::slice::from_ref(method), Vec::as_slice);
    methods.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// The API's word for a state.
fn word(state: &impl Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
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
        Self {
            started_at: call.started_at.to_string(),
            time: call.started_at.strftime("%H:%M:%S%.3fZ").to_string(),
            caller: caller(&call.caller),
            method: call.method,
            url: call.url,
            status: call.status.map_or_else(|| missing(call.error).into(), |status| status.to_string()),
            outcome: word(&call.outcome),
            rule: call.rule_id.map_or_else(String::new, |rule| rule.0),
        }
    }
}

/// The most telling name of a caller that is known.
fn caller(caller: &Caller) -> String {
    // Twelve digits name a container, as its own tools print it.
    let is_id = caller.container == caller.container_id;
    let container = caller.container.as_deref().map(|id| if is_id { id.get(..12).unwrap_or(id) } else { id });
    let name = container.or(caller.unit.as_deref()).or(caller.comm.as_deref()).unwrap_or("unknown");
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
