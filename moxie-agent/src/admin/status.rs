//! `/api/v1/status`, the kill switch, and the authority's certificate.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::problem::{Refusal, wrong};
use super::request::JsonBody;
use crate::events::Kind;
use crate::rules::spec::Problem;
use crate::rules::{self, Rule};

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(divert)).routes(routes!(ca))
}

/// The state of the agent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// The host's environment, as configured; null where none is needed (`moxie run`).
    pub environment: Option<String>,
    /// How connections reach the agent: `ebpf`.
    pub way: String,
    /// Whether new connections of the scopes are diverted: the kill switch.
    pub diverting: bool,
    /// Whether the agent can do its work now.
    pub ready: bool,
    /// Why it cannot; empty when ready.
    pub reasons: Vec<String>,
    /// What does not work as it should though the agent does its work: a container runtime that cannot be asked, say.
    pub warnings: Vec<String>,
    /// Inode of the network namespace that the agent lives in.
    pub netns: u64,
    /// Files of roots that destinations are verified with, besides the system's.
    pub upstream_ca: Vec<String>,
    /// When the agent started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// The agent's clock now.
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// The rules.
    pub rules: RuleCounts,
    /// How many scopes are in force.
    pub scopes: usize,
    /// Connections of the scopes that are open in the agent now.
    pub active_connections: u64,
    /// What is wrong with the store; null when nothing is.
    pub store_trouble: Option<String>,
}

/// How many rules there are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct RuleCounts {
    /// All of them.
    pub total: usize,
    /// Those that can fire now.
    pub armed: usize,
}

/// The kill switch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"enabled": false}))]
pub struct Switch {
    /// Whether new connections of the scopes are diverted.
    pub enabled: bool,
}

/// Shows the state of the agent
#[utoipa::path(
    get, path = "/api/v1/status", tag = "agent", operation_id = "getStatus",
    responses((status = 200, description = "The state", body = Status))
)]
async fn status(State(state): State<Arc<AdminState>>) -> Json<Status> {
    Json(observe(&state))
}

/// The state as it is now.
pub(crate) fn observe(state: &AdminState) -> Status {
    let (now, scopes, reasons) = (state.clock.now(), state.scopes.list(), reasons(state));
    let rules = state.rules.list();
    let armed = rules.iter().filter(|rule| can_fire(rule, now)).count();
    Status {
        version: state.facts.version.clone(),
        environment: state.facts.environment.clone(),
        way: state.divert.name().into(),
        diverting: state.divert.is_enabled(),
        ready: reasons.is_empty(),
        reasons,
        warnings: state.scopes.warnings(),
        netns: state.facts.netns,
        upstream_ca: state.facts.upstream_ca.clone(),
        started_at: state.facts.started_at,
        now,
        rules: RuleCounts { total: rules.len(), armed },
        scopes: scopes.len(),
        active_connections: scopes.iter().map(|scope| scope.active_connections).sum(),
        store_trouble: state.rules.trouble(),
    }
}

/// Whether the rule is in play: a status of its own only says more of the same.
fn can_fire(rule: &Rule, now: Timestamp) -> bool {
    matches!(rules::Status::of(rule, now), rules::Status::Armed | rules::Status::Delivered | rules::Status::NoTraffic)
}

/// Why the agent cannot do its work; empty when it can.
pub(super) fn reasons(state: &AdminState) -> Vec<String> {
    let mut reasons = Vec::new();
    if !state.ready.load(Ordering::Acquire) {
        reasons.push("the agent is starting".into());
    }
    if !state.divert.is_enabled() {
        reasons.push("diversion is switched off: `moxie on` switches it on".into());
    }
    reasons.extend(state.rules.trouble());
    reasons
}

/// Switches diversion off or on
///
/// The kill switch: off sends every new connection direct, at once. Connections that are open are finished as they began.
#[utoipa::path(
    put, path = "/api/v1/divert", tag = "agent", operation_id = "setDivert", request_body = Switch,
    responses(
        (status = 200, description = "The switch as it is now", body = Switch),
        (status = 400, description = "The body is not JSON"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not a switch: every problem"),
        (status = 503, description = "The kernel did not take it"),
    )
)]
async fn divert(State(state): State<Arc<AdminState>>, JsonBody(body): JsonBody) -> Result<Json<Switch>, Refusal> {
    let enabled = read_switch(&body).map_err(Refusal::Invalid)?;
    state.divert.set_enabled(enabled).map_err(Refusal::Divert)?;
    let switch = Switch { enabled: state.divert.is_enabled() };
    tracing::info!(enabled = switch.enabled, "diversion switched");
    state.events.send(Kind::Divert, &switch);
    Ok(Json(switch))
}

fn read_switch(body: &Value) -> Result<bool, Vec<Problem>> {
    let Some(fields) = body.as_object() else { return Err(vec![wrong("", "write {\"enabled\": false}")]) };
    let unknown = fields.keys().filter(|name| *name != "enabled");
    let mut problems: Vec<Problem> =
        unknown.map(|name| wrong(name, "no such field: there is only `enabled`")).collect();
    match fields.get("enabled").and_then(Value::as_bool) {
        Some(enabled) if problems.is_empty() => return Ok(enabled),
        Some(_) => {}
        None => problems.push(wrong("enabled", "write true or false")),
    }
    Err(problems)
}

/// Gives the authority's certificate
///
/// PEM, for clients that are to trust it. Its key never leaves the agent.
#[utoipa::path(
    get, path = "/api/v1/ca.pem", tag = "agent", operation_id = "getAuthority",
    responses((status = 200, description = "The certificate", body = String, content_type = "application/x-pem-file"))
)]
async fn ca(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    let headers =
        [(CONTENT_TYPE, "application/x-pem-file"), (CONTENT_DISPOSITION, "attachment; filename=\"moxie-ca.pem\"")];
    (headers, state.authority_pem.clone())
}
