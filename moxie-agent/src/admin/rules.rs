//! `/api/v1/rules`: what is answered, and how.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::problem::Refusal;
use super::request::{JsonBody, Paging, Params, if_match, is_fresh, page_size};
use crate::journal::Page;
use crate::rulebook::{self, Saved};
use crate::rules::{Rule, RuleBody, RuleId, RuleView, view};

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, replace, change, remove))
        .routes(routes!(import))
        .routes(routes!(export))
}

/// Many rules.
#[derive(Serialize, ToSchema)]
struct Rules<T> {
    /// The rules, in the order in which they are tried.
    rules: Vec<T>,
}

/// Lists the rules
///
/// In the order in which they are tried.
#[utoipa::path(
    get, path = "/api/v1/rules", tag = "rules", operation_id = "listRules", params(Paging),
    responses((status = 200, description = "The rules", body = Page<RuleView>), (status = 400, description = "The query does not read"))
)]
async fn list(
    State(state): State<Arc<AdminState>>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<RuleView>>, Refusal> {
    let size = page_size(paging.limit)?;
    let rules = state.rules.list();
    let rest = match &paging.cursor {
        None => rules.as_slice(),
        Some(cursor) => {
            let last =
                Place::read(cursor).ok_or_else(|| Refusal::BadQuery("cursor: not the `next` of a page".into()))?;
            rules.get(rules.partition_point(|rule| Place::of(rule) <= last)..).unwrap_or_default()
        }
    };
    let page = rest.get(..size).unwrap_or(rest);
    let next = page.last().filter(|_| page.len() < rest.len()).map(|rule| Place::of(rule).write());
    let now = state.clock.now();
    Ok(Json(Page { items: page.iter().map(|rule| view(rule, now, &[])).collect(), next }))
}

/// A rule's place in the order of trial. Holds also when the rule that a page ended with is gone by the next page.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: Reverse<i64>,
    seq: i64,
}

impl Place {
    fn of(rule: &Rule) -> Self {
        Self { priority: Reverse(rule.spec.priority()), seq: rule.seq }
    }

    fn read(cursor: &str) -> Option<Self> {
        let (priority, seq) = cursor.split_once('_')?;
        Some(Self { priority: Reverse(priority.parse().ok()?), seq: seq.parse().ok()? })
    }

    fn write(&self) -> String {
        format!("{}_{}", self.priority.0, self.seq)
    }
}

/// Makes a rule
#[utoipa::path(
    post, path = "/api/v1/rules", tag = "rules", operation_id = "createRule", request_body = RuleBody,
    responses(
        (status = 201, description = "The rule, in force", body = RuleView, headers(
            ("Location" = String, description = "Where the rule is"), ("ETag" = String, description = "For If-Match"),
        )),
        (status = 400, description = "The body is not JSON"),
        (status = 409, description = "A rule with this id exists"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not a rule: every problem"),
        (status = 503, description = "The store did not take it; nothing is changed"),
    )
)]
async fn create(State(state): State<Arc<AdminState>>, JsonBody(body): JsonBody) -> Result<Response, Refusal> {
    let saved = state.rules.create(&body).await?;
    let location = format!("/api/v1/rules/{}", saved.rule.id);
    let headers = [(LOCATION, location), (ETAG, rulebook::etag(&saved.rule))];
    Ok((StatusCode::CREATED, headers, Json(view(&saved.rule, state.clock.now(), &saved.warnings))).into_response())
}

/// Shows a rule
#[utoipa::path(
    get, path = "/api/v1/rules/{id}", tag = "rules", operation_id = "getRule",
    params(("id" = String, Path, description = "The rule's id"), ("If-None-Match" = Option<String>, Header, description = "The ETag that is known already")),
    responses(
        (status = 200, description = "The rule", body = RuleView, headers(("ETag" = String, description = "For If-Match"))),
        (status = 304, description = "As known already (counts may have changed)"),
        (status = 404, description = "No such rule"),
    )
)]
async fn show(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = RuleId(id);
    let Some(rule) = state.rules.find(&id) else { return Err(Refusal::NoRule(id)) };
    let etag = rulebook::etag(&rule);
    if is_fresh(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response());
    }
    Ok(([(ETAG, etag)], Json(view(&rule, state.clock.now(), &[]))).into_response())
}

/// Replaces a rule
///
/// Whole: what the body leaves out takes its default. Its count starts anew.
#[utoipa::path(
    put, path = "/api/v1/rules/{id}", tag = "rules", operation_id = "replaceRule", request_body = RuleBody,
    params(("id" = String, Path, description = "The rule's id"), ("If-Match" = Option<String>, Header, description = "The ETag that the change is based on")),
    responses(
        (status = 200, description = "The rule, in force", body = RuleView, headers(("ETag" = String, description = "For If-Match"))),
        (status = 400, description = "The body is not JSON"),
        (status = 404, description = "No such rule"),
        (status = 412, description = "The rule was changed meanwhile"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not a rule: every problem"),
        (status = 503, description = "The store did not take it; nothing is changed"),
    )
)]
async fn replace(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    let id = RuleId(id);
    let saved = state.rules.replace(&id, &body, if_match(&headers).as_deref()).await?;
    Ok(changed(&saved, state.clock.now()))
}

/// Changes a rule
///
/// JSON merge patch (RFC 7396): fields that are given change, `null` takes a field back to its default.
#[utoipa::path(
    patch, path = "/api/v1/rules/{id}", tag = "rules", operation_id = "changeRule",
    request_body(content((Object = "application/merge-patch+json"), (Object = "application/json")), description = "Fields of a rule"),
    params(("id" = String, Path, description = "The rule's id"), ("If-Match" = Option<String>, Header, description = "The ETag that the change is based on")),
    responses(
        (status = 200, description = "The rule, in force", body = RuleView, headers(("ETag" = String, description = "For If-Match"))),
        (status = 400, description = "The body is not JSON"),
        (status = 404, description = "No such rule"),
        (status = 412, description = "The rule was changed meanwhile"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "The patched rule is none: every problem"),
        (status = 503, description = "The store did not take it; nothing is changed"),
    )
)]
async fn change(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    let id = RuleId(id);
    let saved = state.rules.patch(&id, &body, if_match(&headers).as_deref()).await?;
    Ok(changed(&saved, state.clock.now()))
}

/// Removes a rule
#[utoipa::path(
    delete, path = "/api/v1/rules/{id}", tag = "rules", operation_id = "removeRule",
    params(("id" = String, Path, description = "The rule's id"), ("If-Match" = Option<String>, Header, description = "The ETag that the removal is based on")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "No such rule"),
        (status = 412, description = "The rule was changed meanwhile"),
        (status = 503, description = "The store did not take it; nothing is changed"),
    )
)]
async fn remove(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let id = RuleId(id);
    state.rules.delete(&id, if_match(&headers).as_deref()).await?;
    state.metrics.forget_rule(&id);
    Ok(StatusCode::NO_CONTENT)
}

fn changed(saved: &Saved, now: Timestamp) -> Response {
    ([(ETAG, rulebook::etag(&saved.rule))], Json(view(&saved.rule, now, &saved.warnings))).into_response()
}

/// Makes many rules
///
/// All or none. Takes what the export gives, and a page of the listing. A rule with the id of an existing one replaces it.
#[utoipa::path(
    post, path = "/api/v1/rules/import", tag = "rules", operation_id = "importRules", request_body = Rules<RuleBody>,
    responses(
        (status = 201, description = "The rules, in force", body = Rules<RuleView>),
        (status = 400, description = "The body is not JSON"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not rules: every problem; nothing is changed"),
        (status = 503, description = "The store did not take them; nothing is changed"),
    )
)]
async fn import(State(state): State<Arc<AdminState>>, JsonBody(body): JsonBody) -> Result<Response, Refusal> {
    let saved = state.rules.import(rules_of(&body)?).await?;
    saved.iter().for_each(|saved| state.metrics.know_rule(&saved.rule.id));
    let now = state.clock.now();
    let rules = saved.iter().map(|saved| view(&saved.rule, now, &saved.warnings)).collect();
    Ok((StatusCode::CREATED, Json(Rules { rules })).into_response())
}

/// The rules of `{"rules": […]}` or of a page of the listing.
fn rules_of(body: &Value) -> Result<&[Value], Refusal> {
    let fields = body.as_object().ok_or_else(|| Refusal::field("", "write {\"rules\": [...]}"))?;
    let known = ["rules", "items", "next"];
    if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Refusal::field(unknown, "no such field: write {\"rules\": [...]}"));
    }
    let rules = fields.get("rules").or_else(|| fields.get("items")).and_then(Value::as_array);
    rules.map(Vec::as_slice).ok_or_else(|| Refusal::field("rules", "write a list of rules"))
}

/// Gives every rule for an import
#[utoipa::path(
    get, path = "/api/v1/rules/export", tag = "rules", operation_id = "exportRules",
    responses((status = 200, description = "Every rule, in the order in which they are tried", body = Rules<RuleView>))
)]
async fn export(State(state): State<Arc<AdminState>>) -> Json<Rules<RuleView>> {
    let now = state.clock.now();
    Json(Rules { rules: state.rules.list().iter().map(|rule| view(rule, now, &[])).collect() })
}
