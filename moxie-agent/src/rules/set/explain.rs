//! Asks every rule of a set about one request, and fires none.

use jiff::Timestamp;

use super::{Action, Prepared, Request, RuleSet, Text};
use crate::rules::explain::{Explanation, Verdict, WhyNot, WhyNotReason};
use crate::rules::spec::number;

impl RuleSet {
    /// What [`RuleSet::decide`] would do, and of each other rule why it would not fire. Fires and counts nothing.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>, now: Timestamp) -> Explanation {
        let text = Text::of(request);
        let named = self.named(&text);
        let mut winner: Option<&Prepared> = None;
        let mut others = Vec::new();
        for (place, prepared) in (0u32..).zip(&self.rules) {
            let failure = prepared.failure(request, &text, named.binary_search(&place).is_ok(), now);
            let (reason, detail) = match (failure, winner) {
                (Some(failure), _) => (failure.reason(), failure.to_string()),
                (None, Some(winner)) => {
                    (WhyNotReason::RuleBefore, format!("a rule before it fires: {}", winner.in_words()))
                }
                (None, None) => {
                    winner = Some(prepared);
                    continue;
                }
            };
            let rule = &prepared.rule;
            others.push(WhyNot { rule: rule.id.clone(), name: rule.spec.name.clone(), reason, detail });
        }
        Explanation {
            verdict: winner.map_or(Verdict::Forward, Prepared::verdict),
            rule: winner.map(|winner| winner.rule.id.clone()),
            percentage: winner.map(|winner| number(winner.rule.spec.percentage)),
            detail: winner.map_or_else(|| "no rule matches; the request is forwarded".to_owned(), Prepared::in_words),
            others,
        }
    }
}

impl Prepared {
    fn verdict(&self) -> Verdict {
        match self.action {
            Some(Action::Respond { .. }) => Verdict::Respond,
            Some(Action::Rewrite(_)) => Verdict::Rewrite,
            None => Verdict::Forward,
        }
    }

    /// `rule ID "name" fires for 30 % of such requests`.
    fn in_words(&self) -> String {
        let (id, name) = (&self.rule.id, &self.rule.spec.name);
        let name = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        let percentage = self.rule.spec.percentage;
        if percentage >= 100.0 {
            return format!("rule {id}{name} fires");
        }
        format!(
            "rule {id}{name} fires for {} % of such requests; the others go on to the rules after it",
            number(percentage)
        )
    }
}
