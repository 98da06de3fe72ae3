//! Durations: seconds as a number, or text with a unit.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::fields::{Log, Object};

/// Longest delay before an answer.
const MAX_DELAY: Duration = Duration::from_secs(3600);

pub(super) fn delay(rule: &Object<'_>, log: &mut Log) -> Duration {
    let field = "response_delay";
    let Some(value) = rule.member(field) else { return Duration::ZERO };
    if value.is_object() {
        let message = "this version does not take a distribution; write seconds (2.5) or a duration (\"250ms\")";
        log.problem(&rule.at(field), message);
        return Duration::ZERO;
    }
    let delay = read(value, &rule.at(field), log).unwrap_or_default();
    if delay > MAX_DELAY {
        log.problem(&rule.at(field), "a delay is at most one hour; write 3600 or less");
    }
    delay
}

/// `expires_at`, or `now` plus `ttl`.
pub(super) fn expiry(rule: &Object<'_>, now: Timestamp, log: &mut Log) -> Option<Timestamp> {
    let at = rule.text("expires_at", log);
    let Some(ttl) = rule.member("ttl") else { return at.and_then(|at| timestamp(at, log)) };
    if let Some(at) = at {
        timestamp(at, log);
        read(ttl, "ttl", log);
        log.problem("ttl", "`ttl` and `expires_at` both say when the rule ends; give one of them");
        return None;
    }
    let ttl = read(ttl, "ttl", log)?;
    let end = SignedDuration::try_from(ttl).ok().and_then(|ttl| now.checked_add(ttl).ok());
    if end.is_none() {
        log.problem("ttl", "is too long; leave it out for a rule that never expires");
    }
    end
}

fn timestamp(text: &str, log: &mut Log) -> Option<Timestamp> {
    let read = text.parse().ok();
    if read.is_none() {
        let message = format!("`{text}` is not a point in time; write it like 2030-01-31T12:00:00Z, or give `ttl`");
        log.problem("expires_at", message);
    }
    read
}

fn read(value: &Value, field: &str, log: &mut Log) -> Option<Duration> {
    let read = match value {
        Value::Number(seconds) => seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        Value::String(text) => humantime::parse_duration(text.trim()).ok(),
        _ => None,
    };
    if read.is_none() {
        log.problem(
            field,
            format!("{value} is not a duration; write seconds (4, 0.25) or a unit (\"250ms\", \"4s\", \"1m\")"),
        );
    }
    read
}
