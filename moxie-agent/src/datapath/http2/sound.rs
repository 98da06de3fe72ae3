//! Whether every server must take a request for what it says. Of one that some server refuses nobody knows what it would have been
//! to its own, so no rule acts on it.

use http::Method;

use super::fields::Request;
use super::hpack::Field;
use crate::http1::authority::{plain, same, split};
use crate::http1::is_token_byte;

/// Headers that say how HTTP/1 connections are used, which HTTP/2 does not know (RFC 9113 section 8.2.2).
pub(super) const OF_CONNECTIONS: [&str; 5] =
    ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"];

/// By RFC 9113 sections 8.1.1 to 8.5. `ends` is whether the head is the whole request.
pub(super) fn is_sound(request: &Request<'_>, fields: &[Field], ends: bool) -> bool {
    let first = fields.iter().take_while(|field| field.name.starts_with(b":")).count();
    let (special, regular) = fields.split_at(first);
    are_well_formed(special, regular) && is_addressed(request, special, regular) && has_one_length(regular, ends)
}

/// Whether trailers are what trailers may be.
pub(super) fn are_trailers(fields: &[Field]) -> bool {
    are_well_formed(&[], fields)
}

/// Pseudo-fields first, known, each once; names in lower case; nothing of HTTP/1 connections.
fn are_well_formed(special: &[Field], regular: &[Field]) -> bool {
    const PSEUDO: [&[u8]; 5] = [b":method", b":scheme", b":authority", b":path", b":protocol"];
    let once = |name: &[u8]| special.iter().filter(|field| field.name == name).count() <= 1;
    special.iter().all(|field| PSEUDO.contains(&&field.name[..]) && once(&field.name) && is_value(&field.value))
        && regular.iter().all(|field| is_name(&field.name) && is_value(&field.value) && is_of_http_2(field))
}

fn is_of_http_2(field: &Field) -> bool {
    match &field.name[..] {
        b"te" => field.value.eq_ignore_ascii_case(b"trailers"),
        name => !OF_CONNECTIONS.iter().any(|odd| odd.as_bytes() == name),
    }
}

/// Whether it says once, and plainly, what it is for.
fn is_addressed(request: &Request<'_>, special: &[Field], regular: &[Field]) -> bool {
    let value_of = |name: &[u8]| special.iter().find(|field| field.name == name).map(|field| &field.value[..]);
    let hosts = regular.iter().filter(|field| &field.name[..] == b"host").count();
    let is_connect = request.method == Method::CONNECT.as_str();
    let is_method = !request.method.is_empty() && request.method.bytes().all(is_token_byte);
    if !is_method || hosts > 1 || plain(request.authority.as_bytes()).is_err() {
        return false;
    }
    // The extended one (RFC 8441 section 4) is like any other request.
    if is_connect && value_of(b":protocol").is_none() {
        let has_port = split(request.authority).1.is_some();
        return has_port && value_of(b":path").is_none() && value_of(b":scheme").is_none() && hosts == 0;
    }
    let default_port = match value_of(b":scheme") {
        Some(b"http") => "80",
        Some(b"https") => "443",
        Some(_) | None => return false,
    };
    let is_same_host = |field: &Field| {
        let host = plain(&field.value).is_ok_and(|host| same(request.authority, host, default_port));
        &field.name[..] != b"host" || host
    };
    let has_protocol = value_of(b":protocol").is_some();
    is_target(request) && regular.iter().all(is_same_host) && (is_connect || !has_protocol)
}

/// A path that begins as one, without blanks and control characters; what else it has is the destination's business.
fn is_target(request: &Request<'_>) -> bool {
    let is_plain = !request.target.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
    is_plain && (request.target.starts_with('/') || request.target == "*" && request.method == Method::OPTIONS.as_str())
}

/// What the body must have, if that is said; `None` as well where several things or nonsense is said.
pub(super) fn length(fields: &[Field]) -> Option<u64> {
    let mut said = fields.iter().filter(|field| &field.name[..] == b"content-length");
    let only = said.next().filter(|_| said.next().is_none())?;
    let digits = std::str::from_utf8(&only.value).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn has_one_length(regular: &[Field], ends: bool) -> bool {
    match length(regular) {
        Some(length) => length == 0 || !ends,
        None => !regular.iter().any(|field| &field.name[..] == b"content-length"),
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte) && !byte.is_ascii_uppercase())
}

fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') && !blank(value.first()) && !blank(value.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":path", "/a?b=1?2"), (":authority", "api.example")];
    const CONNECT: (&str, &str) = (":method", "CONNECT");

    #[track_caller]
    fn check(of: &[(&str, &str)], ends: bool, expected: bool) {
        let fields: Vec<Field> =
            of.iter().map(|(name, value)| Field::new((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(is_sound(&Request::read(&fields), &fields, ends), expected, "{of:?}, ends: {ends}");
    }

    #[track_caller]
    fn check_with(more: &[(&str, &str)], ends: bool, expected: bool) {
        check(&[&GET[..], more].concat(), ends, expected);
    }

    /// `GET` with another value of a pseudo-field.
    #[track_caller]
    fn check_but(name: &str, value: &str, expected: bool) {
        let but = GET.map(|field| if field.0 == name { (field.0, value) } else { field });
        check(&but, true, expected);
    }

    #[test]
    fn no_rule_acts_on_fields_that_a_server_may_refuse() {
        check(&GET, true, true);
        for odd in [
            (":method", "POST"),
            ("X-Upper", "1"),
            ("", "1"),
            ("a b", "1"),
            ("a(b", "1"),
            ("x-a", "a\u{1}b"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("te", "gzip"),
            ("x-a", "a\r\nb"),
            ("x-a", " a"),
            (":status", "200"),
            (":odd", "1"),
        ] {
            check_with(&[odd], true, false);
        }
        check_with(&[("te", "trailers")], true, true);
        check(&[&GET[..3], &[("x-a", "1")], &GET[3..]].concat(), true, false);
        for missing in 0..GET.len() {
            let mut without = GET.to_vec();
            without.remove(missing);
            check(&without, true, false);
        }
    }

    #[test]
    fn no_rule_acts_on_what_may_be_for_somebody_else() {
        for path in ["x", "/x y", "/x\u{1}", "/x\u{7f}", "http://api.example/x", "*", ""] {
            check_but(":path", path, false);
        }
        check_but(":path", "/\u{e4}#\"<", true);
        check_but(":method", "GE T", false);
        check_but(":method", "G\u{1}T", false);
        for authority in ["", "u@api.example", "api.example:", "a b", "a,b"] {
            check_but(":authority", authority, false);
        }
        check_but(":authority", "[::1]:8443", true);
        check_but(":scheme", "ftp", false);
        check_with(&[("host", "other.example")], true, false);
        check_with(&[("host", "API.example:443")], true, true);
        check_with(&[("host", "api.example"), ("host", "api.example")], true, false);
        check(&[&GET[..3], &[("host", "api.example")]].concat(), true, true);
        check(&[(":method", "OPTIONS"), GET[1], (":path", "*"), GET[3]], true, true);
    }

    #[test]
    fn connect_has_a_port_and_the_extended_one_is_whole() {
        check(&[CONNECT, (":authority", "a:443")], false, true);
        check(&[CONNECT, (":authority", "a")], false, false);
        check(&[CONNECT, (":authority", "a:443"), GET[1], GET[2]], false, false);
        check(&[CONNECT, (":protocol", "websocket"), (":authority", "a")], false, false);
        check(&[CONNECT, (":protocol", "websocket"), GET[1], GET[2], GET[3]], false, true);
        check_with(&[], true, true);
        check(&[&GET[..], &[(":protocol", "websocket")]].concat(), false, false);
    }

    #[test]
    fn a_length_is_one_number_that_the_body_can_have() {
        let of = |value| ("content-length", value);
        check_with(&[of("5")], false, true);
        check_with(&[of("5")], true, false);
        check_with(&[of("0")], true, true);
        for odd in ["x", "", "+5", "5, 5", "99999999999999999999"] {
            check_with(&[of(odd)], false, false);
        }
        check_with(&[of("3"), of("4")], false, false);
        check_with(&[of("3"), of("3")], false, false);
    }
}
