//! What a user wrote, parsed and validated: a `RuleSpec` that exists can match.

use jiff::Timestamp;
use serde_json::Value;

/// A validated rule as its user wrote it (DESIGN section 4).
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {}

/// One thing that is wrong, or dubious, about a rule.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// Path of the field, such as `rules[3].when.headers.x-plan.regex`; empty for the whole body.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// A value together with what its author may want to look at again.
#[derive(Clone, Debug)]
pub struct Checked<T> {
    /// The value, valid.
    pub value: T,
    /// Dubious but allowed.
    pub warnings: Vec<Problem>,
}

impl RuleSpec {
    /// Reads a rule's JSON. Read-only fields of a listed rule are accepted and ignored, so that an export can be imported.
    ///
    /// # Errors
    /// Every problem at once, each with its field and what to write instead.
    pub fn from_json(json: &Value, now: Timestamp) -> Result<Checked<Self>, Vec<Problem>> {
        let _ = (json, now);
        todo!()
    }

    /// The rule with a JSON merge patch (RFC 7396) applied; `null` takes a field back to its default.
    ///
    /// # Errors
    /// As [`RuleSpec::from_json`].
    pub fn patched(&self, patch: &Value, now: Timestamp) -> Result<Checked<Self>, Vec<Problem>> {
        let _ = (patch, now);
        todo!()
    }

    /// The rule's JSON with every field of DESIGN section 4 but the read-only ones; [`RuleSpec::from_json`] reads it back to an equal spec.
    #[must_use]
    pub fn to_json(&self) -> Value {
        todo!()
    }
}
