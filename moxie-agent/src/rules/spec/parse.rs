//! JSON to [`RuleSpec`]: every field is read, so that every problem is told at once.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use super::fields::{Log, Object};
use super::{Body, Checked, MatchMode, Problem, RuleSpec, duration, headers, url};
use crate::rules::when::When;

const FIELDS: [&str; 21] = [
    "name",
    "description",
    "owner",
    "enable",
    "priority",
    "method",
    "url",
    "match",
    "hosts",
    "when",
    "percentage",
    "mock_count",
    "expires_at",
    "ttl",
    "call_backend",
    "custom_headers",
    "status_code",
    "response",
    "response_headers",
    "response_media_type",
    "response_delay",
];

/// What a listed rule shows besides; `id` is its caller's business.
const READ_ONLY: [&str; 8] = ["id", "remaining", "hits", "last_hit", "created_at", "updated_at", "status", "warnings"];

pub(super) fn rule(json: &Value, now: Timestamp) -> Result<Checked<RuleSpec>, Vec<Problem>> {
    let mut log = Log::default();
    let spec = Object::read(json, "", &mut log).and_then(|rule| read(&rule, now, &mut log));
    match spec {
        Some(value) if log.problems.is_empty() => Ok(Checked { value, warnings: log.warnings }),
        _ => Err(log.problems),
    }
}

/// `None` only with a problem told.
fn read(rule: &Object<'_>, now: Timestamp, log: &mut Log) -> Option<RuleSpec> {
    rule.refuse_unknown(&FIELDS, &READ_ONLY, log);
    let match_mode = url::match_mode(rule, log);
    let url = url::url(rule, match_mode, log);
    Some(RuleSpec {
        name: text(rule, "name", log),
        description: text(rule, "description", log),
        owner: text(rule, "owner", log),
        enable: rule.bool("enable", log).unwrap_or(true),
        priority: rule.integer("priority", log).unwrap_or(0),
        methods: url::methods(rule, log),
        match_mode,
        hosts: url::hosts(rule, match_mode, log),
        when: When::read(rule, log),
        percentage: percentage(rule, log),
        mock_count: mock_count(rule, log),
        expires_at: duration::expiry(rule, now, log),
        call_backend: rule.bool("call_backend", log).unwrap_or(false),
        custom_headers: headers::headers(rule, "custom_headers", log),
        status_code: status_code(rule, log),
        response: body(rule, log),
        response_headers: headers::headers(rule, "response_headers", log),
        response_media_type: media_type(rule, log),
        response_delay: duration::delay(rule, log),
        url: url?,
    })
    .filter(|spec| spec.match_mode != MatchMode::Search || !spec.hosts.is_empty())
}

fn text(rule: &Object<'_>, field: &str, log: &mut Log) -> String {
    rule.text(field, log).unwrap_or_default().to_owned()
}

fn percentage(rule: &Object<'_>, log: &mut Log) -> f64 {
    let percentage = rule.number("percentage", log).unwrap_or(100.0);
    if !(0.0..=100.0).contains(&percentage) {
        log.problem("percentage", format!("{percentage} is not a share; write a number from 0 to 100"));
    }
    percentage
}

fn mock_count(rule: &Object<'_>, log: &mut Log) -> i64 {
    let count = rule.integer("mock_count", log).unwrap_or(-1);
    if count < -1 {
        log.problem(
            "mock_count",
            format!("{count} is not a count; write -1 for no limit, 0 for never, or how many times"),
        );
    }
    count
}

fn status_code(rule: &Object<'_>, log: &mut Log) -> Option<StatusCode> {
    let written = rule.integer("status_code", log)?;
    let status =
        u16::try_from(written).ok().filter(|code| *code <= 599).and_then(|code| StatusCode::from_u16(code).ok());
    if status.is_none() {
        log.problem("status_code", format!("{written} is not an HTTP status; write a number from 100 to 599"));
    }
    if status.is_some_and(|status| status.is_informational()) {
        log.warn(
            "status_code",
            format!("{written} is no end of an answer: the client goes on waiting, and is cut off"),
        );
    }
    status
}

fn media_type(rule: &Object<'_>, log: &mut Log) -> Option<String> {
    let written = rule.text("response_media_type", log)?.trim_matches([' ', '\t']);
    if !written.contains('/') || HeaderValue::from_str(written).is_err() {
        log.problem(
            "response_media_type",
            format!("{written:?} is not a media type; write one such as application/xml"),
        );
    }
    Some(written.to_owned())
}

fn body(rule: &Object<'_>, log: &mut Log) -> Option<Body> {
    let value = rule.member("response")?;
    Some(match (value, sole_text(value)) {
        (Value::String(text), _) => Body::Text(text.clone()),
        (_, Some(("base64", text))) => Body::Base64(match STANDARD.decode(text) {
            Ok(bytes) => bytes.into(),
            Err(error) => {
                log.problem(
                    "response.base64",
                    format!("is not base64 ({error}); write the standard alphabet with padding"),
                );
                return None;
            }
        }),
        (_, Some(("file", path))) => {
            check_path(path, log);
            Body::File(path.to_owned())
        }
        _ => Body::Json(value.clone()),
    })
}

/// The only member of an object, if it is a text.
fn sole_text(value: &Value) -> Option<(&str, &str)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    let (name, value) = object.iter().next()?;
    Some((name, value.as_str()?))
}

fn check_path(path: &str, log: &mut Log) {
    if path.is_empty() || path.contains('\0') {
        log.problem("response.file", "is no path; write one such as bodies/429.json");
    } else if path.starts_with('/') {
        log.problem("response.file", "is absolute; write the path relative to the directory of bodies");
    } else if path.split('/').any(|part| part == "..") {
        log.problem("response.file", "leaves the directory of bodies; write a path without `..`");
    }
}
