//! `POST /api/v1/rules/test`: what would happen to a request, and why. Nothing fires, nothing is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::uri::Uri;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::problem::{Refusal, wrong};
use super::request::JsonBody;
use crate::rules::Explanation;
use crate::rules::set::{Request, normal_authority};
use crate::rules::spec::Problem;
use crate::scope::Caller;

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(test))
}

/// A request to try the rules on.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"method": "GET", "url": "https://api.customer.io/v1/activities?limit=5"}))]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; the body is read field by field")]
struct TrialRequest {
    /// HTTP method.
    #[schema(nullable = false, default = "GET")]
    method: Option<String>,
    /// The whole URL; `https` where the scheme is left out.
    url: String,
    /// Request headers; a list for one that comes more than once.
    #[schema(nullable = false, value_type = Object)]
    headers: Option<BTreeMap<String, Value>>,
    /// Who would make it.
    #[schema(nullable = false)]
    caller: Option<Caller>,
}

/// Tries the rules on a request
///
/// Tells which rule would fire, and of each other rule why it would not. Nothing fires, nothing is counted.
#[utoipa::path(
    post, path = "/api/v1/rules/test", tag = "rules", operation_id = "testRules", request_body = TrialRequest,
    responses(
        (status = 200, description = "The verdict", body = Explanation),
        (status = 400, description = "The body is not JSON"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not a request: every problem"),
    )
)]
async fn test(State(state): State<Arc<AdminState>>, JsonBody(body): JsonBody) -> Result<Json<Explanation>, Refusal> {
    let trial = Trial::read(&body).map_err(Refusal::Invalid)?;
    Ok(Json(state.rules.current().explain(&trial.request(), state.clock.now())))
}

/// A request to try the rules on, read.
struct Trial {
    method: String,
    scheme: String,
    authority: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    caller: Caller,
}

impl Trial {
    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            caller: &self.caller,
        }
    }

    fn read(body: &Value) -> Result<Self, Vec<Problem>> {
        let Some(fields) = body.as_object() else {
            return Err(vec![wrong(
                "",
                "write an object such as {\"method\": \"GET\", \"url\": \"https://api.example.com/v1\"}",
            )]);
        };
        let known = ["method", "url", "headers", "caller"];
        let unknown = fields.keys().filter(|name| !known.contains(&name.as_str()));
        let mut problems: Vec<Problem> = unknown
            .map(|name| wrong(name, "no such field: there are `method`, `url`, `headers` and `caller`"))
            .collect();
        let method = method(fields, &mut problems);
        let headers = headers(fields, &mut problems);
        let caller = caller(fields, &mut problems);
        let url = url(fields);
        match url {
            Ok((scheme, authority, path, query)) if problems.is_empty() => {
                Ok(Self { method, scheme, authority, path, query, headers, caller })
            }
            Ok(_) => Err(problems),
            Err(problem) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }
}

fn method(fields: &Map<String, Value>, problems: &mut Vec<Problem>) -> String {
    let given = fields.get("method").map(|method| method.as_str().filter(|name| name.parse::<http::Method>().is_ok()));
    if given == Some(None) {
        problems.push(wrong("method", "write an HTTP method, such as \"GET\""));
    }
    given.flatten().unwrap_or("GET").to_owned()
}

/// Scheme, authority, path and query, as the data path would see them.
fn url(fields: &Map<String, Value>) -> Result<(String, String, String, Option<String>), Problem> {
    let problem = || wrong("url", "write a whole URL, such as \"https://api.example.com/v1?limit=5\"");
    let text = fields.get("url").and_then(Value::as_str).ok_or_else(problem)?;
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let uri: Uri = whole.parse().map_err(|_| problem())?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or_else(problem)?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(problem)?;
    Ok((scheme.into(), normal_authority(authority.as_str(), scheme), uri.path().into(), uri.query().map(Into::into)))
}

fn headers(fields: &Map<String, Value>, problems: &mut Vec<Problem>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let given = match fields.get("headers") {
        None => return headers,
        Some(Value::Object(given)) => given,
        Some(_) => {
            problems.push(wrong("headers", "write an object of names and values"));
            return headers;
        }
    };
    for (name, value) in given {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let read = values.iter().map(|value| value.as_str().and_then(|text| HeaderValue::from_str(text).ok()));
        match (name.parse::<HeaderName>(), read.collect::<Option<Vec<_>>>()) {
            (Ok(name), Some(values)) => headers.extend(values.into_iter().map(|value| (name.clone(), value))),
            (Err(_), _) => problems.push(wrong(&format!("headers.{name}"), "not a header name")),
            (_, None) => problems.push(wrong(&format!("headers.{name}"), "write a string, or a list of strings")),
        }
    }
    headers
}

fn caller(fields: &Map<String, Value>, problems: &mut Vec<Problem>) -> Caller {
    let read = fields.get("caller").map(|caller| serde_json::from_value(caller.clone()));
    match read {
        None => Caller::default(),
        Some(Ok(caller)) => caller,
        Some(Err(_)) => {
            problems.push(wrong("caller", "write an object of `scope`, `unit`, `container`, `pid` and `comm`"));
            Caller::default()
        }
    }
}
