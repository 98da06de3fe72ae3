//! `/healthz`, `/readyz`, `/metrics`: for supervisors and scrapers, without a token.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{AdminState, status};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// Whether the agent can do its work.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// Why it cannot; empty when ready.
    pub reasons: Vec<String>,
}

/// Tells that the agent lives
#[utoipa::path(
    get, path = "/healthz", tag = "probes", operation_id = "getHealth", security(()),
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain"))
)]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Tells whether the agent can do its work
///
/// Not while it starts, while diversion is switched off, while it has enough to do and new connections go direct (`shedding`), or while
/// the store is down (rules then stay as they are and keep working).
#[utoipa::path(
    get, path = "/readyz", tag = "probes", operation_id = "getReadiness", security(()),
    responses(
        (status = 200, description = "It can", body = Readiness),
        (status = 503, description = "It cannot, and why", body = Readiness),
    )
)]
async fn readyz(State(state): State<Arc<AdminState>>) -> Response {
    let reasons = status::reasons(&state);
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Readiness { ready: reasons.is_empty(), reasons })).into_response()
}

/// Gives the metrics
#[utoipa::path(
    get, path = "/metrics", tag = "probes", operation_id = "getMetrics", security(()),
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"))
)]
async fn metrics(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    state.journal.settle();
    state.metrics.store_up(state.rules.trouble().is_none());
    state.metrics.known_addresses(state.scopes.known_addresses());
    ([(CONTENT_TYPE, OPENMETRICS)], state.metrics.render(&state.divert.counters()))
}
