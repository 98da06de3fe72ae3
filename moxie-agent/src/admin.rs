//! The admin API: rules, scopes, traffic and the agent itself, over a Unix socket and TCP.
//!
//! One file per resource in `admin/`, each with its own `router()`; the OpenAPI document is made from the same handlers.
//! Around every handler: [`envelope`] (request id, headers, problems), then [`access`] (who may).

pub mod access;
mod coverage;
pub mod divert;
mod docs;
mod events;
mod legacy;
mod probes;
pub mod problem;
mod refusals;
mod request;
mod rules;
pub mod scopes;
mod serve;
pub mod status;
mod traffic;
mod trial;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use futures_util::FutureExt;
use jiff::Timestamp;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use access::{Access, Door};
pub use serve::{Doors, ServeError};

use crate::clock::Clock;
use crate::datapath::learned::Learned;
use crate::datapath::load::Load;
use crate::divert::{Divert, PortSet};
use crate::drain::Drain;
use crate::events::Events;
use crate::journal::Journal;
use crate::rulebook::RuleBook;
use crate::scope::Scopes;
use crate::store::Store;
use crate::switchboard::Switchboard;
use crate::telemetry::Metrics;
use crate::ui;
use problem::{PROBLEM_JSON, Pending, Refusal};

/// Names the request in the answer and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Nothing but our own files; no inline script anywhere.
const CSP: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/// Swagger UI sets styles inline and draws with `data:` images.
const CSP_DOCS: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; \
                        base-uri 'none'; form-action 'self'";

/// The parts of the agent that the API shows and changes.
#[derive(Debug)]
pub struct AdminState {
    /// The rules in force.
    pub rules: Arc<RuleBook>,
    /// Who is opted in.
    pub scopes: Arc<Scopes>,
    /// What happened.
    pub journal: Arc<Journal>,
    /// What the agent counts of itself.
    pub metrics: Arc<Metrics>,
    /// What connections have taught.
    pub learned: Arc<Learned>,
    /// How much the agent has to do.
    pub load: Arc<Load>,
    /// What followers are told.
    pub events: Events,
    /// The kill switch and the address lists.
    pub switchboard: Arc<Switchboard>,
    /// The way on path.
    pub divert: Arc<dyn Divert>,
    /// Where scopes are written down.
    pub store: Arc<dyn Store>,
    /// The authority's certificate, PEM.
    pub authority_pem: String,
    /// Wall-clock time.
    pub clock: Clock,
    /// What TCP callers are held against.
    pub access: Access,
    /// What does not change while the agent runs.
    pub facts: Facts,
    /// Set once connections are accepted.
    pub ready: Arc<AtomicBool>,
    /// Destination ports that are diverted.
    pub ports: PortSet,
    /// Why the last upgrade failed, if it did.
    pub upgrade: Arc<ArcSwapOption<String>>,
    /// Ends the streams of events.
    pub drain: Drain,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Version of the agent.
    pub version: String,
    /// The host's environment, as configured.
    pub environment: Option<String>,
    /// Inode of the network namespace that the agent lives in.
    pub netns: u64,
    /// Files of roots that destinations are verified with, besides the system's.
    pub upstream_ca: Vec<String>,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
}

/// Everything the API serves. Requests without a [`Door`] (see [`Doors`]) are treated as coming over TCP.
pub fn router(state: AdminState) -> Router {
    let state = Arc::new(state);
    let (routes, document) = resources();
    routes
        .merge(docs::router(document))
        .merge(ui::router())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(request::MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), access::guard))
        .layer(middleware::from_fn(envelope))
        .with_state(state)
}

/// The OpenAPI document; `docs/openapi.json` is its copy.
#[must_use]
pub fn openapi() -> OpenApi {
    resources().1
}

fn resources() -> (Router<Arc<AdminState>>, OpenApi) {
    let (routes, mut document) = OpenApiRouter::with_openapi(docs::outline())
        .merge(rules::router())
        .merge(trial::router())
        .merge(scopes::router())
        .merge(traffic::router())
        .merge(events::router())
        .merge(divert::router())
        .merge(status::router())
        .merge(coverage::router())
        .merge(refusals::router())
        .merge(probes::router())
        .merge(legacy::router())
        .split_for_parts();
    docs::complete(&mut document);
    (routes, document)
}

async fn no_route(uri: Uri) -> Refusal {
    Refusal::NoRoute(uri.path().chars().take(256).collect())
}

async fn no_method(method: Method) -> Refusal {
    Refusal::MethodNotAllowed(method.to_string())
}

/// Around every request: names it, catches a handler that breaks, turns refusals into problems, sets the headers that all answers have.
async fn envelope(request: Request, next: Next) -> Response {
    let id = crate::journal::record_id();
    let path = request.uri().path().to_owned();
    let answered = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = match answered {
        Ok(response) => as_problem(response, &id),
        Err(_) => {
            tracing::error!(request_id = id, path, "an admin handler panicked");
            Refusal::Broken.render(&id)
        }
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    set_common_headers(response.headers_mut(), &path);
    response
}

/// Refusals of ours get their body here; so do those of the framework, which are bare text.
fn as_problem(response: Response, id: &str) -> Response {
    let status = response.status();
    let mut problem = match response.extensions().get::<Pending>() {
        Some(Pending(refusal)) => refusal.render(id),
        None if is_error_without_form(&response) => Refusal::Framework(status).render(id),
        None => return response,
    };
    problem::keep_allow(&response, &mut problem);
    problem
}

fn is_error_without_form(response: &Response) -> bool {
    let status = response.status();
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    (status.is_client_error() || status.is_server_error())
        && (media_type.is_empty() || media_type.starts_with("text/plain"))
}

fn set_common_headers(headers: &mut HeaderMap, path: &str) {
    let docs = path == "/docs" || path.starts_with("/docs/");
    let is_problem = headers.get(CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(if docs { CSP_DOCS } else { CSP }));
    if is_problem || !(docs || path.starts_with("/assets/")) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests;
