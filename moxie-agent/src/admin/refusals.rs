//! Clients that refused the authority, and are left alone for a while: forgotten once they have been made to trust it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(forget))
}

/// Forgets which clients refused the authority
///
/// Their connections pass through for ten minutes after a refusal. Once they have been made to trust the authority, there is no reason to
/// wait: the next connection that a rule can name is looked into.
#[utoipa::path(
    delete, path = "/api/v1/refusals", tag = "agent", operation_id = "forgetRefusals",
    responses((status = 204, description = "Forgotten"))
)]
async fn forget(State(state): State<Arc<AdminState>>) -> StatusCode {
    state.learned.refused.clear();
    StatusCode::NO_CONTENT
}
