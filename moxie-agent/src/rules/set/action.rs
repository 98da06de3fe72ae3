//! The action of a rule, made ready once so that firing only clones it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Action, Rewrite, Written};
use crate::rules::spec::{Body, Headers, RuleSpec};

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
    let written = written(&spec.response_headers, media_type(spec, true));
    Action::Respond {
        status: spec.status_code.unwrap_or(StatusCode::OK),
        headers: Arc::new(map(&written)),
        lines: lines(&written),
        body: body.unwrap_or_default(),
    }
}

fn rewrite(spec: &RuleSpec, body: Option<Bytes>) -> Action {
    let response_written = written(&spec.response_headers, media_type(spec, body.is_some()));
    Action::Rewrite(Arc::new(Rewrite {
        request_headers: spec.custom_headers.map.clone(),
        request_written: written(&spec.custom_headers, None),
        status: spec.status_code,
        response_headers: map(&response_written),
        response_written,
        body,
    }))
}

/// The content type, if one is given or a body needs one.
fn media_type(spec: &RuleSpec, has_body: bool) -> Option<HeaderValue> {
    let media_type = spec.response_media_type.as_deref().or(has_body.then_some(DEFAULT_MEDIA_TYPE));
    media_type.and_then(|media_type| HeaderValue::from_str(media_type).ok())
}

/// The headers as written, and the content type behind them; one among the headers wins.
fn written(headers: &Headers, media_type: Option<HeaderValue>) -> Vec<Written> {
    let values = |values: &[String]| values.iter().filter_map(|value| HeaderValue::from_str(value).ok()).collect();
    let spelt = |(name, texts): &(String, Vec<String>)| Written { name: name.as_str().into(), values: values(texts) };
    let content_type = media_type
        .filter(|_| !headers.map.contains_key(CONTENT_TYPE))
        .map(|value| Written { name: "Content-Type".into(), values: vec![value] });
    headers.written.iter().map(spelt).chain(content_type).collect()
}

fn map(written: &[Written]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for header in written {
        let Ok(name) = HeaderName::from_bytes(header.name.as_bytes()) else { continue };
        for value in &header.values {
            map.append(name.clone(), value.clone());
        }
    }
    map
}

fn lines(written: &[Written]) -> Bytes {
    let mut lines = Vec::new();
    for header in written {
        for value in &header.values {
            lines.extend_from_slice(header.name.as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value.as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
    }
    lines.into()
}
