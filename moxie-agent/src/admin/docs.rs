//! The OpenAPI document, made from the handlers, and Swagger UI at `/docs`, from files inside the binary.

use std::sync::Arc;

use axum::{Json, Router};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi as _};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::AdminState;
use super::problem::{PROBLEM_JSON, ProblemDetails};

/// Where the document is served.
const DOCUMENT: &str = "/api/openapi.json";

/// What the handlers do not say themselves.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Moxie",
        description = "Diverts outbound connections of chosen services on this host, and answers their HTTP calls by rules."
    ),
    tags(
        (name = "rules", description = "What is answered, and how"),
        (name = "scopes", description = "Who is opted in"),
        (name = "traffic", description = "What happened"),
        (name = "agent", description = "The agent itself"),
        (name = "probes", description = "For supervisors and scrapers; no token"),
        (name = "first Moxie", description = "The first Moxie's routes, with its bodies"),
    ),
    components(schemas(ProblemDetails)),
    security(("token" = [])),
    modifiers(&TokenScheme)
)]
pub(super) struct Document;

struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, document: &mut OpenApi) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description =
            Some("The token in `<state-dir>/admin.token`, over TCP. The Unix socket needs none.".into());
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// Says of every operation what the API says of itself: which refusals it knows, and that each is a problem.
pub(super) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten();
        operations.for_each(refusals);
    }
}

fn refusals(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    if operation.security.is_none() {
        responses.entry("401".into()).or_insert_with(|| Response::new("No valid token (TCP)").into());
    }
    responses
        .entry("403".into())
        .or_insert_with(|| Response::new("Unknown Host header, or a page of another origin (TCP)").into());
    responses.entry("500".into()).or_insert_with(|| Response::new("The agent failed; its log tells more").into());
    for (_, response) in responses.iter_mut().filter(|(status, _)| status.as_str() >= "400") {
        let RefOr::T(response) = response else { continue };
        if response.content.is_empty() {
            let schema = Ref::from_schema_name("ProblemDetails");
            response.content.insert(PROBLEM_JSON.into(), RefOr::T(Content::new(Some(schema))));
        }
    }
}

/// Serves the document and Swagger UI.
pub(super) fn router(document: OpenApi) -> Router<Arc<AdminState>> {
    let document = Arc::new(document);
    let serve = move || async move { Json(Arc::clone(&document)) };
    let config = Config::from(DOCUMENT).validator_url("none").persist_authorization(false);
    Router::new().route(DOCUMENT, axum::routing::get(serve)).merge(SwaggerUi::new("/docs").config(config))
}

/// The document's outline, before the handlers are added.
pub(super) fn outline() -> OpenApi {
    Document::openapi()
}
