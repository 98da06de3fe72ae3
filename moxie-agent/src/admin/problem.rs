//! What the API answers when it refuses: one closed enum, shown as RFC 9457 problem+json.

use std::error::Error;
use std::io::ErrorKind;

use axum::http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::chain::Chain;
use crate::divert::DivertError;
use crate::rulebook::BookError;
use crate::rules::RuleId;
use crate::rules::spec::Problem;
use crate::scope::ScopeError;
use crate::scope::cgroup::CgroupError;
use crate::scope::process::ProcessError;
use crate::store::StoreError;
use crate::switchboard::SwitchError;

/// Media type of every refusal.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Problem details (RFC 9457).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// Stable URN of the kind of problem: `urn:moxie:problem:CODE`.
    #[schema(examples("urn:moxie:problem:rule_not_found"))]
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable name of the kind of problem.
    #[schema(examples("rule_not_found"))]
    pub code: String,
    /// What is wrong here, and what to do about it.
    pub detail: String,
    /// Every field that is wrong; empty where no field is to blame.
    pub errors: Vec<Problem>,
    /// Names this request in the agent's log; also in the header `x-request-id`.
    pub request_id: String,
}

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    MalformedJson(serde_json::Error),
    /// The body is not declared as JSON.
    #[error("send the body as JSON with `Content-Type: application/json`")]
    WrongMediaType,
    /// The body is larger than the API takes.
    #[error("the body is larger than the {} MiB that are taken at once", super::request::MAX_BODY >> 20)]
    TooLarge,
    /// The body did not arrive whole.
    #[error("the body did not arrive whole")]
    BrokenBody,
    /// The query does not read.
    #[error("the query does not read: {0}")]
    BadQuery(String),
    /// No valid token came with the request.
    #[error("send the token from <state-dir>/admin.token: `Authorization: Bearer TOKEN`")]
    Unauthorized,
    /// The Host header names something this agent is not known as.
    #[error("the Host header says `{0}`, which is not this agent: add the name to `admin.hosts` in the configuration")]
    HostNotAllowed(String),
    /// A page of another origin made the call.
    #[error("a page of another origin made this call; open the agent's own address instead")]
    CrossOrigin,
    /// No rule has this id.
    #[error("no rule has the id {0}")]
    NoRule(RuleId),
    /// A rule with this id exists.
    #[error("a rule with the id {0} exists: change it with PUT or PATCH")]
    RuleExists(RuleId),
    /// The rule changed since its author saw it.
    #[error("rule {0} was changed meanwhile: read it again, then repeat the change with its new ETag")]
    RuleChanged(RuleId),
    /// The body is JSON but says something that cannot be.
    #[error("{} to mend, see `errors`", count(.0.len()))]
    Invalid(Vec<Problem>),
    /// No scope has this id.
    #[error("no scope has the id {0}")]
    NoScope(String),
    /// No exchange has this id.
    #[error("no exchange has the id {0}: records are bounded, the oldest go first")]
    NoExchange(String),
    /// What was asked for cannot be opted in.
    #[error("the scope was refused")]
    Scope(#[source] ScopeError),
    /// The store did not take the change.
    #[error("{0}")]
    Store(&'static str, #[source] StoreError),
    /// The way on path did not take the switch.
    #[error("the kernel did not take the switch")]
    Divert(#[source] DivertError),
    /// A change is in force, and a restart undoes it.
    #[error(transparent)]
    NotKept(SwitchError),
    /// No such route.
    #[error("no route `{0}`; /docs lists them")]
    NoRoute(String),
    /// The route has no such method.
    #[error("this route does not take {0}; /docs lists what it takes")]
    MethodNotAllowed(String),
    /// A handler broke; the log says how.
    #[error("the agent failed at this request; its log tells more under the request id")]
    Broken,
    /// The framework refused; only its status is known.
    #[error("the request cannot be served")]
    Framework(StatusCode),
}

/// A field that is wrong, and what to write instead.
pub(super) fn wrong(field: &str, message: impl Into<String>) -> Problem {
    Problem { field: field.into(), message: message.into() }
}

/// `1 problem`, `2 problems`.
fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".into() } else { format!("{problems} problems") }
}

/// Whose fault it is: the request's, another scope's, or the host's.
fn scope_kind(error: &ScopeError) -> (StatusCode, &'static str) {
    match error {
        ScopeError::OtherTerms { .. } => (StatusCode::CONFLICT, "scope_exists"),
        ScopeError::Configured { .. } => (StatusCode::CONFLICT, "scope_configured"),
        ScopeError::Divert { source: DivertError::ContainsAgent { .. } | DivertError::Cgroup(_), .. }
        | ScopeError::Cgroup(_)
        | ScopeError::Process(_) => (StatusCode::UNPROCESSABLE_ENTITY, "scope_refused"),
        ScopeError::Divert { .. } => (StatusCode::SERVICE_UNAVAILABLE, "divert_failed"),
    }
}

/// What to write instead of a target that is not there.
fn missing_target(error: &ScopeError) -> Option<Problem> {
    match error {
        ScopeError::Cgroup(CgroupError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Some(wrong(
            "cgroup",
            "there is no such directory: write one below the cgroup2 mount (`systemd-cgls` shows them), or opt in by `unit` what is still to start",
        )),
        ScopeError::Process(ProcessError::Cgroup(CgroupError::NoProcess { .. })) => {
            Some(wrong("pid", "there is no such process: write the id of one that runs, as `pgrep` gives it"))
        }
        _ => None,
    }
}

impl Refusal {
    /// One wrong field.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![wrong(field, message)])
    }

    /// HTTP status and stable code.
    #[must_use]
    pub fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::MalformedJson(_) => (StatusCode::BAD_REQUEST, "malformed_json"),
            Self::BrokenBody => (StatusCode::BAD_REQUEST, "broken_body"),
            Self::BadQuery(_) => (StatusCode::BAD_REQUEST, "bad_query"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::HostNotAllowed(_) => (StatusCode::FORBIDDEN, "host_not_allowed"),
            Self::CrossOrigin => (StatusCode::FORBIDDEN, "cross_origin"),
            Self::NoRule(_) => (StatusCode::NOT_FOUND, "rule_not_found"),
            Self::NoScope(_) => (StatusCode::NOT_FOUND, "scope_not_found"),
            Self::NoExchange(_) => (StatusCode::NOT_FOUND, "exchange_not_found"),
            Self::NoRoute(_) => (StatusCode::NOT_FOUND, "route_not_found"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::RuleExists(_) => (StatusCode::CONFLICT, "rule_exists"),
            Self::RuleChanged(_) => (StatusCode::PRECONDITION_FAILED, "rule_changed"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::WrongMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_media_type"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::Scope(error) => scope_kind(error),
            Self::Store(..) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            Self::Divert(_) => (StatusCode::SERVICE_UNAVAILABLE, "divert_failed"),
            Self::NotKept(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_kept"),
            Self::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::Framework(status) => (*status, "bad_request"),
        }
    }

    /// What its author is told. Scopes and ways on path name what they refuse and what to do; what is below them stays in the log.
    fn detail(&self) -> String {
        match self {
            Self::Scope(ScopeError::Divert { source, .. }) => format!("the scope was refused: {source}"),
            Self::Scope(error) => error.to_string(),
            Self::Divert(error) => format!("{self}: {error}"),
            _ => self.to_string(),
        }
    }

    /// The body for the request called `request_id`.
    #[must_use]
    pub fn details(&self, request_id: &str) -> ProblemDetails {
        let (status, code) = self.kind();
        ProblemDetails {
            r#type: format!("urn:moxie:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Refused").into(),
            status: status.as_u16(),
            code: code.into(),
            detail: self.detail(),
            errors: match self {
                Self::Invalid(problems) => problems.clone(),
                Self::Scope(error) => missing_target(error).into_iter().collect(),
                _ => Vec::new(),
            },
            request_id: request_id.into(),
        }
    }

    /// The whole answer for the request called `request_id`; what only the agent may know goes to its log.
    #[must_use]
    pub fn render(&self, request_id: &str) -> Response {
        let (status, code) = self.kind();
        if let Some(cause) = self.source() {
            tracing::warn!(request_id, code, cause = %Chain(cause), "admin request refused");
        }
        let body = serde_json::to_vec(&self.details(request_id)).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if matches!(self, Self::Unauthorized) {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"moxie\""));
        }
        response
    }
}

impl From<BookError> for Refusal {
    fn from(error: BookError) -> Self {
        match error {
            BookError::Invalid(problems) => Self::Invalid(problems),
            BookError::Unknown(id) => Self::NoRule(id),
            BookError::Exists(id) => Self::RuleExists(id),
            BookError::Changed(id) => Self::RuleChanged(id),
            BookError::Store(source) => {
                Self::Store("the store did not take the change; the rules in force are as before", source)
            }
        }
    }
}

/// A refusal on its way out: rendered by [`super::envelope`], which knows the request's id.
#[derive(Clone, Debug)]
pub(super) struct Pending(pub(super) std::sync::Arc<Refusal>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.kind().0.into_response();
        response.extensions_mut().insert(Pending(std::sync::Arc::new(self)));
        response
    }
}

/// Carries the Allow header of the framework's bare 405 over to the problem that replaces it.
pub(super) fn keep_allow(from: &Response, to: &mut Response) {
    if let Some(allow) = from.headers().get(ALLOW) {
        to.headers_mut().insert(ALLOW, allow.clone());
    }
}
