//! What a user wrote, parsed and validated: a `RuleSpec` that exists can match.

mod duration;
mod fields;
mod headers;
mod parse;
mod patch;
mod problem;
#[cfg(test)]
mod tests;
mod url;
mod write;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use super::pattern::Pattern;
use super::when::When;

pub use problem::{Checked, Problem};

pub(super) use fields::{Log, Object};
pub(super) use write::number;

/// A validated rule as its user wrote it (DESIGN section 4).
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) owner: String,
    pub(super) enable: bool,
    pub(super) priority: i64,
    pub(super) methods: Methods,
    pub(super) url: Pattern,
    pub(super) match_mode: MatchMode,
    /// Whole authorities; only with [`MatchMode::Search`].
    pub(super) hosts: Vec<Pattern>,
    pub(super) when: When,
    pub(super) percentage: f64,
    pub(super) mock_count: i64,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) call_backend: bool,
    pub(super) custom_headers: Headers,
    pub(super) status_code: Option<StatusCode>,
    pub(super) response: Option<Body>,
    pub(super) response_headers: Headers,
    pub(super) response_media_type: Option<String>,
    pub(super) response_delay: Duration,
}

/// The methods that a rule takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Methods {
    Any,
    These(Vec<String>),
}

/// How much of the text the url has to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatchMode {
    Full,
    Prefix,
    Search,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Text(String),
    /// Sent compact.
    Json(Value),
    Base64(Bytes),
    /// A path below the directory that the caller of the engine chose.
    File(String),
}

/// Headers in the spelling and order of their author, and ready for use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Headers {
    pub(super) written: Vec<(String, Vec<String>)>,
    pub(super) map: HeaderMap,
}

impl RuleSpec {
    /// Reads a rule's JSON. Read-only fields of a listed rule are accepted and ignored, so that an export can be imported.
    ///
    /// # Errors
    /// Every problem at once, each with its field and what to write instead.
    pub fn from_json(json: &Value, now: Timestamp) -> Result<Checked<Self>, Vec<Problem>> {
        parse::rule(json, now)
    }

    /// The rule with a JSON merge patch (RFC 7396) applied; `null` takes a field back to its default.
    ///
    /// `response` is one value: a patch replaces it whole. Header names are the same in any case.
    ///
    /// # Errors
    /// As [`RuleSpec::from_json`].
    pub fn patched(&self, patch: &Value, now: Timestamp) -> Result<Checked<Self>, Vec<Problem>> {
        Self::from_json(&patch::merged(self.to_json(), patch), now)
    }

    /// The rule's JSON with every field of DESIGN section 4 but the read-only ones; [`RuleSpec::from_json`] reads it back to an equal spec.
    ///
    /// `null` is a field that was not given and whose default depends on `call_backend`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        write::rule(self)
    }

    /// What its author calls it; may be empty.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Wait before the first byte of the answer.
    #[must_use]
    pub fn response_delay(&self) -> Duration {
        self.response_delay
    }

    /// Whether it is switched on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enable
    }

    /// Higher is tried first.
    #[must_use]
    pub fn priority(&self) -> i64 {
        self.priority
    }

    /// How many times it may fire: -1 is no limit.
    #[must_use]
    pub fn mock_count(&self) -> i64 {
        self.mock_count
    }

    /// The url regex as written.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.source()
    }

    /// The path of the file that is its body, if that is one.
    #[must_use]
    pub fn body_file(&self) -> Option<&str> {
        match &self.response {
            Some(Body::File(path)) => Some(path),
            _ => None,
        }
    }

    /// When it stops firing, if ever.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}
