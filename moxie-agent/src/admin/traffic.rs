//! `/api/v1/exchanges` and `/api/v1/connections`: what happened, newest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::problem::Refusal;
use super::request::{Params, ensure_id, page_size};
use crate::journal::{Connection, Exchange, Filter, Page};

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(exchanges)).routes(routes!(exchange)).routes(routes!(connections))
}

/// Lists exchanges
///
/// The last that ended first. Records are kept in memory, bounded by bytes.
#[utoipa::path(
    get, path = "/api/v1/exchanges", tag = "traffic", operation_id = "listExchanges", params(Filter),
    responses(
        (status = 200, description = "One request and its answer each", body = Page<Exchange>),
        (status = 400, description = "The query does not read"),
    )
)]
async fn exchanges(
    State(state): State<Arc<AdminState>>,
    Params(filter): Params<Filter>,
) -> Result<Json<Page<Exchange>>, Refusal> {
    page_size(filter.limit)?;
    ensure_id(filter.cursor.as_deref())?;
    Ok(Json(state.journal.exchanges(&filter)))
}

/// Shows an exchange
#[utoipa::path(
    get, path = "/api/v1/exchanges/{id}", tag = "traffic", operation_id = "getExchange",
    params(("id" = String, Path, description = "The exchange's id")),
    responses((status = 200, description = "The exchange", body = Exchange), (status = 404, description = "No such exchange (any more)"))
)]
async fn exchange(State(state): State<Arc<AdminState>>, Path(id): Path<String>) -> Result<Json<Exchange>, Refusal> {
    state.journal.find_exchange(&id).map(Json).ok_or(Refusal::NoExchange(id))
}

/// Lists connections
///
/// The last that closed first: a connection is recorded when it closes.
#[utoipa::path(
    get, path = "/api/v1/connections", tag = "traffic", operation_id = "listConnections", params(Filter),
    responses(
        (status = 200, description = "One diverted connection each", body = Page<Connection>),
        (status = 400, description = "The query does not read"),
    )
)]
async fn connections(
    State(state): State<Arc<AdminState>>,
    Params(filter): Params<Filter>,
) -> Result<Json<Page<Connection>>, Refusal> {
    page_size(filter.limit)?;
    ensure_id(filter.cursor.as_deref())?;
    Ok(Json(state.journal.connections(&filter)))
}
