//! The fields of a message: what rules want to know of a request, and what they change.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::hpack::Field;
use super::sound::OF_CONNECTIONS;
use crate::datapath::act::rewrite::OF_THE_OLD_BODY;
use crate::rules::set;

/// What a request's head says; empty where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// `:authority`, else `host` (RFC 9113 section 8.3.1).
    pub(super) authority: &'a str,
    /// Path and query, as sent.
    pub(super) target: &'a str,
}

impl<'a> Request<'a> {
    /// Reads a request's fields.
    pub(super) fn read(fields: &'a [Field]) -> Self {
        let method = pseudo(fields, b":method").unwrap_or_default();
        let authority = pseudo(fields, b":authority").or_else(|| pseudo(fields, b"host")).unwrap_or_default();
        let target = pseudo(fields, b":path").unwrap_or_default();
        Self { method, authority, target }
    }

    /// Path and query apart.
    pub(super) fn split(&self) -> (&'a str, Option<&'a str>) {
        match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        }
    }
}

fn pseudo<'a>(fields: &'a [Field], name: &[u8]) -> Option<&'a str> {
    let field = fields.iter().find(|field| field.name == name)?;
    std::str::from_utf8(&field.value).ok()
}

/// A request's fields, as rules look at headers.
#[derive(Debug)]
pub(super) struct Headers<'a>(pub(super) &'a [Field]);

impl set::Headers for Headers<'_> {
    fn values<'a>(&'a self, name: &str) -> Vec<Cow<'a, str>> {
        let named = self.0.iter().filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        let values: Vec<_> = named.map(|field| String::from_utf8_lossy(&field.value)).collect();
        match values.len() {
            // Conditions are the same for both versions, and this is where HTTP/2 says it.
            0 if name.eq_ignore_ascii_case("host") => {
                pseudo(self.0, b":authority").map(Cow::from).into_iter().collect()
            }
            // One header, which may be sent in crumbs (RFC 9113 section 8.2.3).
            2.. if name.eq_ignore_ascii_case("cookie") => vec![values.join("; ").into()],
            _ => values,
        }
    }
}

/// Whether a client may wait for the answer before it ends its request: CONNECT of both forms, gRPC, whose calls may be talks,
/// and `expect`.
pub(super) fn is_asked_first(fields: &[Field]) -> bool {
    let is_grpc =
        |field: &Field| field.value.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"));
    fields.iter().any(|field| match &field.name[..] {
        b":method" => *field.value == *b"CONNECT",
        b"content-type" => is_grpc(field),
        b"expect" => true,
        _ => false,
    })
}

/// The status of an answer's head; `None` for trailers, and for what is no status.
pub(super) fn status(fields: &[Field]) -> Option<StatusCode> {
    let field = fields.iter().find(|field| &field.name[..] == b":status")?;
    StatusCode::from_bytes(&field.value).ok()
}

/// Each name of `with` replaces every field of that name, where the first of them was, else behind all others; a name with several
/// values keeps them all.
pub(super) fn replace(fields: &mut Vec<Field>, with: &HeaderMap) {
    for name in with.keys().filter(|name| !OF_CONNECTIONS.contains(&name.as_str())) {
        if name == header::HOST && replace_authority(fields, with) {
            continue;
        }
        let place = fields.iter().position(|field| field.name == name.as_str());
        fields.retain(|field| field.name != name.as_str());
        let place = place.unwrap_or(fields.len());
        fields.splice(place..place, with.get_all(name).iter().map(|value| own(name, value.as_bytes())));
    }
}

/// What HTTP/1 says in `Host`, a request of HTTP/2 says in `:authority`, and the two must not differ (RFC 9113 section 8.3.1).
/// False: it has none.
fn replace_authority(fields: &mut Vec<Field>, with: &HeaderMap) -> bool {
    let Some(host) = with.get(header::HOST).map(HeaderValue::as_bytes) else { return false };
    let Some(authority) = fields.iter_mut().find(|field| &field.name[..] == b":authority") else { return false };
    authority.value = Bytes::copy_from_slice(host);
    fields.retain(|field| &field.name[..] != b"host");
    true
}

/// Another status in an answer's head.
pub(super) fn replace_status(fields: &mut [Field], status: StatusCode) {
    if let Some(field) = fields.iter_mut().find(|field| &field.name[..] == b":status") {
        field.value = Bytes::copy_from_slice(status.as_str().as_bytes());
    }
}

/// Another body behind an answer's head, so many octets long.
pub(super) fn replace_body(fields: &mut Vec<Field>, length: usize) {
    fields.retain(|field| !OF_THE_OLD_BODY.iter().any(|name| name.as_bytes() == field.name));
    if length > 0 {
        fields.push(Field::new(&b"content-length"[..], length.to_string()));
    }
}

/// A rule's answer: no field is added but the length of the body.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap, length: usize) -> Vec<Field> {
    let mut fields = vec![Field::new(&b":status"[..], Bytes::copy_from_slice(status.as_str().as_bytes()))];
    replace(&mut fields, headers);
    if length > 0 && !headers.contains_key(header::CONTENT_LENGTH) {
        fields.push(Field::new(&b"content-length"[..], length.to_string()));
    }
    fields
}

fn own(name: &HeaderName, value: &[u8]) -> Field {
    Field::new(Bytes::copy_from_slice(name.as_str().as_bytes()), Bytes::copy_from_slice(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(of: &[(&str, &str)]) -> Vec<Field> {
        of.iter().map(|(name, value)| Field::new((*name).to_owned(), (*value).to_owned())).collect()
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":path", "/a?b=1?2"), (":authority", "api.example")];

    #[test]
    fn a_request_says_what_it_is() {
        let fields = fields(&[&GET[..], &[("host", "other.example")]].concat());
        let request = Request::read(&fields);
        assert_eq!((request.method, request.authority), ("GET", "api.example"));
        assert_eq!(request.split(), ("/a", Some("b=1?2")));
        let fields = super::tests::fields(&[&GET[..3], &[("host", "h.example")]].concat());
        assert_eq!(Request::read(&fields).authority, "h.example");
    }

    #[test]
    fn conditions_see_the_headers_that_http_1_would_show() {
        let fields =
            fields(&[(":authority", "a.example"), ("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("x-a", "2")]);
        assert_eq!(set::Headers::values(&Headers(&fields), "Cookie"), ["a=1; b=2"]);
        assert_eq!(set::Headers::values(&Headers(&fields), "x-a"), ["1", "2"]);
        assert_eq!(set::Headers::values(&Headers(&fields), "Host"), ["a.example"]);
    }

    #[test]
    fn a_rule_replaces_its_parts_in_their_place_and_leaves_the_others() {
        let mut said = fields(&[(":status", "200"), ("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("etag", "e")]);
        let mut with = HeaderMap::new();
        with.append("x-a", "4".parse().unwrap());
        with.append("x-a", "5".parse().unwrap());
        with.append("connection", "close".parse().unwrap());
        replace(&mut said, &with);
        replace_status(&mut said, StatusCode::IM_A_TEAPOT);
        replace_body(&mut said, 7);
        let expected = [(":status", "418"), ("x-a", "4"), ("x-a", "5"), ("x-b", "2"), ("content-length", "7")];
        assert_eq!(said, fields(&expected));
    }
}
