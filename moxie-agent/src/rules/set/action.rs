//! The action of a rule, made ready once so that firing only clones it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Action, Rewrite};
use crate::rules::spec::{Body, RuleSpec};

/// Content type of an answer whose rule names none.
pub(in crate::rules) const DEFAULT_MEDIA_TYPE: &str = "application/json";

/// The action, or `None` if the body's file cannot be had.
pub(super) fn prepare(spec: &RuleSpec, files: &dyn Fn(&str) -> Option<Bytes>) -> Option<Action> {
    let body = match &spec.response {
        None => None,
        Some(Body::Text(text)) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Some(Body::Json(json)) => Some(json.to_string().into()),
        Some(Body::Base64(bytes)) => Some(bytes.clone()),
        Some(Body::File(path)) => Some(files(path)?),
    };
    Some(if spec.call_backend { rewrite(spec, body) } else { respond(spec, body) })
}

fn respond(spec: &RuleSpec, body: Option<Bytes>) -> Action {
    Action::Respond {
        status: spec.status_code.unwrap_or(StatusCode::OK),
        headers: headers(spec, true),
        body: body.unwrap_or_default(),
    }
}

fn rewrite(spec: &RuleSpec, body: Option<Bytes>) -> Action {
    Action::Rewrite(Arc::new(Rewrite {
        request_headers: spec.custom_headers.map.clone(),
        status: spec.status_code,
        response_headers: headers(spec, body.is_some()),
        body,
    }))
}

/// The headers as written, with the content type if one is given or a body needs one; one among the headers wins.
fn headers(spec: &RuleSpec, has_body: bool) -> HeaderMap {
    let mut headers = spec.response_headers.map.clone();
    let media_type = spec.response_media_type.as_deref().or(has_body.then_some(DEFAULT_MEDIA_TYPE));
    if let Some(value) = media_type.and_then(|media_type| HeaderValue::from_str(media_type).ok()) {
        headers.entry(CONTENT_TYPE).or_insert(value);
    }
    headers
}
