//! Header maps of a rule: names and values that can be sent, none that frames the message.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::Headers;
use super::fields::{Log, Object};

/// Headers about one hop or the length of the message: they are the sender's business.
const FRAMING: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

pub(super) fn headers(rule: &Object<'_>, field: &str, log: &mut Log) -> Headers {
    let path = rule.at(field);
    let Some(object) = rule.member(field).and_then(|value| Object::read(value, &path, log)) else {
        return Headers::default();
    };
    let mut headers = Headers::default();
    for (written, value) in object.members() {
        let at = object.at(written);
        let Some(name) = name(written, &at, log) else { continue };
        if headers.map.contains_key(&name) {
            log.problem(&at, format!("`{name}` is given twice; write one list of values"));
        }
        let values = values(value, &at, log);
        append(&mut headers.map, &name, &values, &at, log);
        headers.written.push((written.to_owned(), values));
    }
    headers
}

fn name(written: &str, at: &str, log: &mut Log) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
        log.problem(at, format!("`{written}` is not a header name; write letters, digits and -, such as Retry-After"));
        return None;
    };
    if FRAMING.contains(&name.as_str()) {
        log.problem(at, format!("`{name}` frames the message and is set by the sender; leave it out"));
        return None;
    }
    Some(name)
}

/// The values of one header: a text, a number or a list of those.
fn values(value: &Value, at: &str, log: &mut Log) -> Vec<String> {
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    if all.is_empty() {
        log.problem(at, "the list is empty; write a value, or leave the header out");
    }
    let mut texts = Vec::new();
    for one in all {
        match one {
            // Blanks around a value are no part of it (RFC 9110 section 5.5), and HTTP/2 refuses them.
            Value::String(text) => texts.push(text.trim_matches([' ', '\t']).to_owned()),
            Value::Number(number) => texts.push(number.to_string()),
            other => log.wrong_type(at, "a string or a list of strings", other),
        }
    }
    texts
}

fn append(map: &mut HeaderMap, name: &HeaderName, values: &[String], at: &str, log: &mut Log) {
    for text in values {
        let Ok(value) = HeaderValue::from_str(text) else {
            log.problem(at, format!("{text:?} is not a header value; leave out line breaks and control characters"));
            continue;
        };
        if map.try_append(name, value).is_err() {
            log.problem(at, "there are too many headers");
        }
    }
}
