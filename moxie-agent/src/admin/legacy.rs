//! The first Moxie's five routes, with its bodies: tools written for it go on working.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::problem::Refusal;
use super::request::JsonBody;
use crate::rulebook::BookError;
use crate::rules::{Rule, RuleBody, RuleId};

/// The fields of a rule that the first Moxie had, besides `id` and `mock_count`.
const FIELDS: [&str; 10] = [
    "description",
    "method",
    "url",
    "call_backend",
    "custom_headers",
    "status_code",
    "response",
    "enable",
    "response_delay",
    "response_media_type",
];

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(list))
        .routes(routes!(remove))
        .routes(routes!(status))
        .routes(routes!(mock_count))
}

/// A rule as the first Moxie showed it; its `mock_count` is what is left.
fn view(rule: &Rule) -> Value {
    let spec = rule.spec.to_json();
    let mut shown = Map::new();
    shown.insert("id".into(), json!(rule.id));
    for field in FIELDS {
        shown.insert(field.into(), spec.get(field).cloned().unwrap_or_default());
    }
    shown.insert("mock_count".into(), json!(rule.tally.remaining.load(Ordering::Relaxed)));
    Value::Object(shown)
}

/// Makes a rule (first Moxie)
#[utoipa::path(
    post, path = "/api/api_v1/api_management/rule", tag = "first Moxie", operation_id = "legacyCreateRule", request_body = RuleBody,
    responses(
        (status = 201, description = "The rule", body = Object),
        (status = 400, description = "The body is not JSON"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not a rule: every problem"),
        (status = 503, description = "The store did not take it; nothing is changed"),
    )
)]
async fn create(State(state): State<Arc<AdminState>>, JsonBody(body): JsonBody) -> Result<Response, Refusal> {
    let saved = state.rules.create(&body).await?;
    Ok((StatusCode::CREATED, Json(view(&saved.rule))).into_response())
}

/// Lists the rules (first Moxie)
///
/// All of them, as a plain list, in the order in which they are tried.
#[utoipa::path(
    get, path = "/api/api_v1/api_management/rules", tag = "first Moxie", operation_id = "legacyListRules",
    responses((status = 200, description = "The rules", body = Vec<Object>))
)]
async fn list(State(state): State<Arc<AdminState>>) -> Json<Vec<Value>> {
    Json(state.rules.list().iter().map(|rule| view(rule)).collect())
}

/// Removes a rule (first Moxie)
///
/// 204 also when there was none.
#[utoipa::path(
    delete, path = "/api/api_v1/api_management/rule/{id}", tag = "first Moxie", operation_id = "legacyRemoveRule",
    params(("id" = String, Path, description = "The rule's id")),
    responses((status = 204, description = "Not there (any more)"), (status = 503, description = "The store did not take it; nothing is changed"))
)]
async fn remove(State(state): State<Arc<AdminState>>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let id = RuleId(id);
    state.metrics.forget_rule(&id);
    match state.rules.delete(&id, None).await {
        Ok(()) | Err(BookError::Unknown(_)) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error.into()),
    }
}

/// Enables or disables a rule (first Moxie)
///
/// `{"enable": bool}`; a missing `enable` disables.
#[utoipa::path(
    patch, path = "/api/api_v1/api_management/rule/{id}/status", tag = "first Moxie", operation_id = "legacySetStatus", request_body = Object,
    params(("id" = String, Path, description = "The rule's id")),
    responses(
        (status = 200, description = "The rule", body = Object),
        (status = 400, description = "The body is not JSON"),
        (status = 404, description = "No such rule"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not a boolean"),
        (status = 503, description = "The store did not take it; nothing is changed"),
    )
)]
async fn status(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Refusal> {
    if !body.is_object() {
        return Err(Refusal::field("", "write {\"enable\": true}"));
    }
    let enable = body.get("enable").cloned().unwrap_or(Value::Bool(false));
    if !enable.is_boolean() {
        return Err(Refusal::field("enable", "write true or false"));
    }
    patch(&state, id, &json!({"enable": enable})).await
}

/// Sets how many times a rule fires from now on (first Moxie)
///
/// `{"mock_count": int}`: -1 no limit, 0 never, n exactly n times.
#[utoipa::path(
    patch, path = "/api/api_v1/api_management/rule/{id}/mock_count", tag = "first Moxie", operation_id = "legacySetMockCount", request_body = Object,
    params(("id" = String, Path, description = "The rule's id")),
    responses(
        (status = 200, description = "The rule", body = Object),
        (status = 400, description = "The body is not JSON"),
        (status = 404, description = "No such rule"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not a count"),
        (status = 503, description = "The store did not take it; nothing is changed"),
    )
)]
async fn mock_count(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Refusal> {
    let count = body.get("mock_count").filter(|count| count.is_i64());
    let count = count
        .ok_or_else(|| Refusal::field("mock_count", "write an integer: -1 no limit, 0 never, n exactly n times"))?;
    patch(&state, id, &json!({"mock_count": count})).await
}

async fn patch(state: &AdminState, id: String, patch: &Value) -> Result<Json<Value>, Refusal> {
    let saved = state.rules.patch(&RuleId(id), patch, None).await?;
    Ok(Json(view(&saved.rule)))
}
