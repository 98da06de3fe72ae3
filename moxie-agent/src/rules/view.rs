//! A rule as the API takes it and shows it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use utoipa::ToSchema;

use super::set::DEFAULT_MEDIA_TYPE;
use super::spec::{Body, Problem, number};
use super::{Rule, RuleId, Status};

/// A rule as it is shown: what its user wrote, with defaults filled in, and what has become of it.
///
/// Of a `call_backend` rule `status_code`, `response` and `response_media_type` are null where the backend's own are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuleView {
    /// Opaque and stable.
    pub id: RuleId,
    /// What its author calls it.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Free text: whom to ask.
    pub owner: String,
    /// A disabled rule changes nothing at all.
    pub enable: bool,
    /// Higher first; equal: older first.
    pub priority: i64,
    /// One method, a list of them, or `*`.
    pub method: Value,
    /// Regex without scheme, held against `authority/path` and `authority/path?query`.
    pub url: String,
    /// `full`, `prefix` or `search`.
    pub r#match: String,
    /// Host regexes of a `search` rule.
    pub hosts: Vec<String>,
    /// Further conditions.
    #[schema(value_type = Object)]
    pub when: Value,
    /// Share of matching requests that fire, percent.
    #[schema(value_type = f64)]
    pub percentage: Number,
    /// How many times it fires: -1 is no limit.
    pub mock_count: i64,
    /// How many times are left: -1 is no limit.
    pub remaining: i64,
    /// After it the rule never fires.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Whether the call goes to the real destination and its answer is changed.
    pub call_backend: bool,
    /// Request headers set on the way to the backend.
    #[schema(value_type = Object)]
    pub custom_headers: Map<String, Value>,
    /// Status of the answer.
    pub status_code: Option<u16>,
    /// Body of the answer: a string, any JSON, `{"base64": …}` or `{"file": …}`.
    pub response: Value,
    /// Headers of the answer.
    #[schema(value_type = Object)]
    pub response_headers: Map<String, Value>,
    /// Content-Type of the answer.
    pub response_media_type: Option<String>,
    /// Wait before the first byte of the answer, seconds.
    #[schema(value_type = f64)]
    pub response_delay: Number,
    /// How many times it fired.
    pub hits: u64,
    /// When it last fired.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_hit: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When a user last changed it.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// What has become of it.
    pub status: Status,
    /// Dubious but allowed; only in the answer to a change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
}

/// A rule as it is written. Only `url` is required; an unknown field is refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleBody {
    /// What you call it.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Free text: whom to ask.
    pub owner: Option<String>,
    /// A disabled rule changes nothing at all. Default true.
    pub enable: Option<bool>,
    /// Higher first; equal: older first. Default 0.
    pub priority: Option<i64>,
    /// One method, a list of them, or `*` (the default).
    pub method: Option<Value>,
    /// Regex without scheme, held against `authority/path` and `authority/path?query`.
    #[schema(example = "api.customer.io/v1/activities")]
    pub url: String,
    /// `full` (the default), `prefix`, or `search`, which needs `hosts`.
    pub r#match: Option<String>,
    /// Host regexes of a `search` rule.
    pub hosts: Option<Vec<String>>,
    /// Further conditions: `headers`, `query`, `caller`, `scheme`; each an exact string or an object of conditions.
    #[schema(value_type = Option<Object>)]
    pub when: Option<Value>,
    /// Share of matching requests that fire, percent. Default 100.
    #[schema(minimum = 0, maximum = 100)]
    pub percentage: Option<f64>,
    /// How many times it fires: -1 is no limit, the default.
    #[schema(minimum = -1)]
    pub mock_count: Option<i64>,
    /// After it the rule never fires.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<String>,
    /// Seconds, or a duration such as `10m`, after which the rule never fires; instead of `expires_at`.
    pub ttl: Option<Value>,
    /// Whether the call goes to the real destination and its answer is changed. Default false.
    pub call_backend: Option<bool>,
    /// Request headers set on the way to the backend: a value or a list each.
    #[schema(value_type = Option<Object>)]
    pub custom_headers: Option<BTreeMap<String, Value>>,
    /// Status of the answer. Default 200, or the backend's.
    #[schema(minimum = 100, maximum = 599)]
    pub status_code: Option<u16>,
    /// Body of the answer: a string, any JSON, `{"base64": …}` or `{"file": …}`. Default empty, or the backend's.
    pub response: Option<Value>,
    /// Headers of the answer: a value or a list each.
    #[schema(value_type = Option<Object>)]
    pub response_headers: Option<BTreeMap<String, Value>>,
    /// Content-Type of the answer. Default `application/json`.
    pub response_media_type: Option<String>,
    /// Seconds, or a duration such as `250ms`, before the first byte of the answer. Default 0.
    pub response_delay: Option<Value>,
}

/// `rule` as it is shown at `now`.
#[must_use]
pub fn view(rule: &Rule, now: Timestamp, warnings: &[Problem]) -> RuleView {
    let spec = &rule.spec;
    let is_mock = !spec.call_backend;
    let response = spec.response.as_ref().map(Body::to_json);
    let media_type = spec.response_media_type.clone();
    let last_hit_ms = rule.tally.last_hit_ms.load(Ordering::Relaxed);
    RuleView {
        id: rule.id.clone(),
        name: spec.name.clone(),
        description: spec.description.clone(),
        owner: spec.owner.clone(),
        enable: spec.enable,
        priority: spec.priority,
        method: spec.methods.to_json(),
        url: spec.url.source().to_owned(),
        r#match: spec.match_mode.as_str().to_owned(),
        hosts: spec.hosts.iter().map(|host| host.source().to_owned()).collect(),
        when: spec.when.to_json(),
        percentage: number(spec.percentage),
        mock_count: spec.mock_count,
        remaining: rule.tally.remaining.load(Ordering::Relaxed),
        expires_at: spec.expires_at,
        call_backend: spec.call_backend,
        custom_headers: spec.custom_headers.to_json(),
        status_code: spec.status_code.map(|status| status.as_u16()).or(is_mock.then_some(200)),
        response: response.unwrap_or_else(|| if is_mock { Value::from("") } else { Value::Null }),
        response_headers: spec.response_headers.to_json(),
        response_media_type: media_type.or_else(|| is_mock.then(|| DEFAULT_MEDIA_TYPE.to_owned())),
        response_delay: number(spec.response_delay.as_secs_f64()),
        hits: rule.tally.hits.load(Ordering::Relaxed),
        last_hit: (last_hit_ms != 0).then(|| Timestamp::from_millisecond(last_hit_ms).ok()).flatten(),
        created_at: rule.created_at,
        updated_at: rule.updated_at,
        status: Status::of(rule, now),
        warnings: warnings.to_vec(),
    }
}
