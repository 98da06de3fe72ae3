//! [`RuleSpec`] to JSON, in the order of DESIGN section 4.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value, json};

use super::{Body, Headers, MatchMode, Methods, RuleSpec};

pub(super) fn rule(spec: &RuleSpec) -> Value {
    json!({
        "name": spec.name,
        "description": spec.description,
        "owner": spec.owner,
        "enable": spec.enable,
        "priority": spec.priority,
        "method": spec.methods.to_json(),
        "url": spec.url.source(),
        "match": spec.match_mode.as_str(),
        "hosts": spec.hosts.iter().map(|host| host.source()).collect::<Vec<_>>(),
        "when": spec.when.to_json(),
        "percentage": number(spec.percentage),
        "mock_count": spec.mock_count,
        "expires_at": spec.expires_at.map(|at| at.to_string()),
        "call_backend": spec.call_backend,
        "custom_headers": spec.custom_headers.to_json(),
        "status_code": spec.status_code.map(|status| status.as_u16()),
        "response": spec.response.as_ref().map(Body::to_json),
        "response_headers": spec.response_headers.to_json(),
        "response_media_type": spec.response_media_type,
        "response_delay": number(spec.response_delay.as_secs_f64()),
    })
}

/// The JSON of a finite number; a whole one without `.0`.
pub(in crate::rules) fn number(number: f64) -> Number {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    let whole = || Number::from(number as i64);
    let is_whole = number.fract() == 0.0 && number.abs() < 9e15;
    if is_whole { whole() } else { Number::from_f64(number).unwrap_or_else(whole) }
}

impl Methods {
    pub(in crate::rules) fn to_json(&self) -> Value {
        match self {
            Self::Any => Value::from("*"),
            Self::These(methods) => one_or_list(methods),
        }
    }
}

impl MatchMode {
    pub(in crate::rules) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Prefix => "prefix",
            Self::Search => "search",
        }
    }
}

impl Body {
    pub(in crate::rules) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Json(json) => json.clone(),
            Self::Base64(bytes) => json!({ "base64": STANDARD.encode(bytes) }),
            Self::File(path) => json!({ "file": path }),
        }
    }
}

impl Headers {
    pub(in crate::rules) fn to_json(&self) -> Map<String, Value> {
        self.written.iter().map(|(name, values)| (name.clone(), one_or_list(values))).collect()
    }
}

fn one_or_list(texts: &[String]) -> Value {
    match texts {
        [one] => Value::from(one.as_str()),
        many => Value::from(many),
    }
}
