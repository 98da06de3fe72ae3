//! What handlers take from a request: JSON bodies and queries that refuse with a problem, and preconditions.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::IntoParams;

use super::problem::Refusal;

/// The largest body that is taken, bytes.
pub(super) const MAX_BODY: usize = 16 << 20;

/// A JSON body, not looked into yet: what it must say is its resource's business.
pub(super) struct JsonBody(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::WrongMediaType);
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
            _ => Refusal::BrokenBody,
        })?;
        serde_json::from_slice(&body).map(Self).map_err(Refusal::MalformedJson)
    }
}

/// `application/json` and its relatives, such as `application/merge-patch+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The query, read into `T`.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Refusal::BadQuery(rejection.body_text())),
        }
    }
}

/// Which page of a listing.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Page size; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<usize>,
    /// Where the last page ended: its `next`.
    pub(super) cursor: Option<String>,
}

/// A page size within what every listing takes; `given` or 100.
pub(super) fn page_size(given: Option<usize>) -> Result<usize, Refusal> {
    match given.unwrap_or(100) {
        size @ 1..=1000 => Ok(size),
        size => Err(Refusal::BadQuery(format!("limit: {size} is not within 1 to 1000"))),
    }
}

/// A cursor that is the id of the last entry of a page, which may be gone by now; refused if it never was one.
pub(super) fn ensure_id(cursor: Option<&str>) -> Result<(), Refusal> {
    let is_id = cursor.is_none_or(|cursor| uuid::Uuid::try_parse(cursor).is_ok());
    if is_id { Ok(()) } else { Err(Refusal::BadQuery("cursor: not the `next` of a page".into())) }
}

/// The ETags that the author of a change has seen, as sent; `None` where any will do.
pub(super) fn if_match(headers: &HeaderMap) -> Option<String> {
    headers.contains_key(IF_MATCH).then(|| tags(headers, IF_MATCH).join(", "))
}

/// Whether the reader has what is current already.
pub(super) fn is_fresh(headers: &HeaderMap, current: &str) -> bool {
    let strong = |tag: &str| tag.trim_start_matches("W/").to_owned();
    tags(headers, IF_NONE_MATCH).iter().any(|tag| tag == "*" || strong(tag) == strong(current))
}

fn tags(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect()
}
