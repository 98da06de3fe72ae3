//! What has become of a rule, in one word.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Rule;

/// How long an armed rule may see nothing before that is worth a word.
const QUIET: SignedDuration = SignedDuration::from_secs(60);

/// What has become of a rule. Where several hold, the first of this list is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = RuleStatus)]
pub enum Status {
    /// Switched off by `enable`.
    Disabled,
    /// `expires_at` is past.
    Expired,
    /// Fired as often as `mock_count` allows.
    Exhausted,
    /// Has fired, and still can.
    Delivered,
    /// Could fire, but nothing matched for a minute since it was last changed.
    NoTraffic,
    /// Could fire.
    Armed,
}

impl Status {
    /// The status of `rule` at `now`.
    #[must_use]
    pub fn of(rule: &Rule, now: Timestamp) -> Self {
        if !rule.spec.enable {
            Self::Disabled
        } else if rule.spec.expires_at.is_some_and(|end| end <= now) {
            Self::Expired
        } else if rule.tally.remaining.load(Ordering::Acquire) == 0 {
            Self::Exhausted
        } else if rule.tally.hits.load(Ordering::Relaxed) > 0 {
            Self::Delivered
        } else if now.duration_since(rule.updated_at) > QUIET {
            Self::NoTraffic
        } else {
            Self::Armed
        }
    }
}
