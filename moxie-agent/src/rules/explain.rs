//! Why a request would be answered the way it would: which rule, and of each other rule what keeps it from firing.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use super::RuleId;
use super::set::Failure;
use super::when::Part;

/// What would happen to a request. Nothing fired for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// What would be done.
    pub verdict: Verdict,
    /// The rule that would fire; null if the request is forwarded.
    pub rule: Option<RuleId>,
    /// The share of such requests for which it fires, percent; null if the request is forwarded.
    #[schema(value_type = Option<f64>)]
    pub percentage: Option<Number>,
    /// The same in words.
    pub detail: String,
    /// Every other rule, in the order in which they are tried.
    pub others: Vec<WhyNot>,
}

/// What would be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The rule answers.
    Respond,
    /// The destination answers, and the rule changes the answer.
    Rewrite,
    /// The destination answers.
    Forward,
}

/// Why one rule would not fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyNot {
    /// The rule.
    pub rule: RuleId,
    /// What its author calls it.
    pub name: String,
    /// The first condition that does not hold.
    pub reason: WhyNotReason,
    /// The same in words, with what was wanted and what was there.
    pub detail: String,
}

/// The condition that keeps a rule from firing. Closed: tests and the user interface rely on the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyNotReason {
    /// It is switched off.
    Disabled,
    /// It has expired.
    Expired,
    /// It has fired as often as it may.
    Exhausted,
    /// The file of its body cannot be read.
    BodyUnreadable,
    /// Another method.
    Method,
    /// The url does not match.
    Url,
    /// None of its `hosts` matches.
    Host,
    /// A condition on a header.
    Headers,
    /// A condition on the query.
    Query,
    /// A condition on the caller.
    Caller,
    /// A condition on the scheme.
    Scheme,
    /// It fires for 0 % of such requests.
    Percentage,
    /// A rule before it fires.
    RuleBefore,
}

impl Failure<'_> {
    pub(super) fn reason(&self) -> WhyNotReason {
        match self {
            Self::Disabled => WhyNotReason::Disabled,
            Self::Expired(_) => WhyNotReason::Expired,
            Self::Exhausted => WhyNotReason::Exhausted,
            Self::BodyUnreadable => WhyNotReason::BodyUnreadable,
            Self::NotTheirs(_) => WhyNotReason::Caller,
            Self::Method { .. } => WhyNotReason::Method,
            Self::Url(_) => WhyNotReason::Url,
            Self::Host(_) => WhyNotReason::Host,
            Self::When(unmet) => match unmet.part {
                Part::Headers => WhyNotReason::Headers,
                Part::Query => WhyNotReason::Query,
                Part::Caller => WhyNotReason::Caller,
                Part::Scheme => WhyNotReason::Scheme,
            },
            Self::NeverDrawn => WhyNotReason::Percentage,
        }
    }
}
