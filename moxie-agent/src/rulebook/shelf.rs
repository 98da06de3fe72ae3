//! One consistent state of the rules: listed, indexed and compiled. Immutable; a change makes the next.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::files::Files;
use crate::rules::{Rule, RuleId, RuleSet};

#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// In the order in which they are tried.
    pub(super) rules: Vec<Arc<Rule>>,
    by_id: HashMap<RuleId, Arc<Rule>>,
    pub(super) set: Arc<RuleSet>,
}

impl Shelf {
    /// Compiles `rules`. May take a while.
    pub(super) fn build(mut rules: Vec<Arc<Rule>>, seed: u64, files: &Files) -> Self {
        rules.sort_by(|a, b| order(a).cmp(&order(b)));
        let by_id = rules.iter().map(|rule| (rule.id.clone(), rule.clone())).collect();
        let set = Arc::new(RuleSet::compile_with(rules.clone(), seed, &|path| files.read(path)));
        Self { rules, by_id, set }
    }

    pub(super) fn find(&self, id: &RuleId) -> Option<&Arc<Rule>> {
        self.by_id.get(id)
    }

    /// The rules of this shelf without `removed`, and with `put` in the place of those that have the same ids.
    pub(super) fn changed<'a>(&self, put: impl Iterator<Item = &'a Arc<Rule>>, removed: Option<&RuleId>) -> Vec<Arc<Rule>> {
        let put: HashMap<_, _> = put.map(|rule| (&rule.id, rule)).collect();
        let kept = self.rules.iter().filter(|rule| !put.contains_key(&rule.id) && Some(&rule.id) != removed);
        kept.chain(put.values().copied()).cloned().collect()
    }
}

fn order(rule: &Rule) -> (Reverse<i64>, i64, &RuleId) {
    (Reverse(rule.spec.priority()), rule.seq, &rule.id)
}
