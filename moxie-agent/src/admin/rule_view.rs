//! Stand-in until rules/view.rs exists.
use crate::rules::Rule;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use utoipa::ToSchema;

/// view
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct RuleView(pub Value);
/// body
#[derive(ToSchema)]
#[schema(value_type = Object)]
#[allow(dead_code, reason = "tmp")]
pub struct RuleBody(Value);

pub fn view(rule: &Rule, _now: Timestamp) -> RuleView {
    let mut v = rule.spec.to_json();
    v["id"] = json!(rule.id);
    v["remaining"] = json!(rule.tally.remaining.load(Ordering::Relaxed));
    v["hits"] = json!(rule.tally.hits.load(Ordering::Relaxed));
    v["status"] = json!("armed");
    RuleView(v)
}
pub fn is_armed(_rule: &Rule, _now: Timestamp) -> bool {
    true
}
pub fn priority(rule: &Rule) -> i64 {
    rule.spec.to_json()["priority"].as_i64().unwrap_or(0)
}
