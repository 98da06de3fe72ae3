//! `/api/v1/status`, the kill switch, and the authority's certificate.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::divert::HINTS_OFF;
use crate::rules::{self, Rule};
use crate::scope::Scope;

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(ca))
}

/// The state of the agent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// The host's environment, as configured; null where none is needed (`moxie run`).
    pub environment: Option<String>,
    /// How connections reach the agent: `ebpf`, `netfilter` or `proxy`.
    pub way: String,
    /// The URL of the explicit proxy that programs have to be told of; null on every other way.
    pub proxy: Option<String>,
    /// Whether new connections of the scopes are diverted: the kill switch.
    pub diverting: bool,
    /// Whether the agent can do its work now.
    pub ready: bool,
    /// Why it cannot; empty when ready.
    pub reasons: Vec<String>,
    /// Why new connections go direct though diversion is switched on: the agent has enough to do, with the figures; null while it has
    /// not. It is among the `reasons` too.
    pub shedding: Option<String>,
    /// What does not work as it should though the agent does its work: a container runtime that cannot be asked, say.
    pub warnings: Vec<String>,
    /// Inode of the network namespace that the agent lives in.
    pub netns: u64,
    /// Files of roots that destinations are verified with, besides the system's.
    pub upstream_ca: Vec<String>,
    /// Process id of the agent.
    pub pid: u32,
    /// Why the last upgrade failed; null when none has.
    pub upgrade_trouble: Option<String>,
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
    /// How many of them match something and are left direct all the same, since no rule could act on what they do.
    #[serde(default)]
    pub scopes_direct: usize,
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
        proxy: state.divert.door().map(|door| format!("http://{door}")),
        diverting: state.divert.is_enabled(),
        ready: reasons.is_empty(),
        reasons,
        shedding: state.load.shedding().map(|shedding| shedding.to_string()),
        warnings: warnings(state, &scopes),
        netns: state.facts.netns,
        upstream_ca: state.facts.upstream_ca.clone(),
        pid: state.facts.pid,
        upgrade_trouble: state.upgrade.load_full().map(|trouble| (*trouble).clone()),
        started_at: state.facts.started_at,
        now,
        rules: RuleCounts { total: rules.len(), armed },
        scopes: scopes.len(),
        scopes_direct: scopes.iter().filter(|scope| scope.is_direct()).count(),
        active_connections: state.scopes.open_guests()
            + scopes.iter().map(|scope| scope.active_connections).sum::<u64>(),
        store_trouble: state.rules.trouble(),
    }
}

/// What does not work as it should, each thing once.
fn warnings(state: &AdminState, scopes: &[Scope]) -> Vec<String> {
    let obstacles = scopes.iter().flat_map(|scope| &scope.matches).filter_map(|one| one.hints_obstacle.as_deref());
    let mut obstacles: Vec<&str> = obstacles.filter(|obstacle| *obstacle != HINTS_OFF).collect();
    obstacles.sort_unstable();
    obstacles.dedup();
    let hints = obstacles
        .into_iter()
        .map(|obstacle| format!("what no rule names comes too, for DNS answers cannot be looked at: {obstacle}"));
    state.scopes.warnings().into_iter().chain(hints).collect()
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
    reasons.extend(state.load.shedding().map(|shedding| shedding.to_string()));
    reasons.extend(state.rules.trouble());
    reasons
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
