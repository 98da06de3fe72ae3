//! The bytes of an answer that a rule has a part in.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, StatusCode};

use super::exchange::Fate;
use crate::datapath::act::rewrite::{OF_THE_OLD_BODY, is_bodiless, new_body};
use crate::http1::{Asked, Awaited, Edit, ResponseHead, StatusLine, Version};
use crate::rules::set::Rewrite;

/// Sent to a client that waits for leave to send its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Bodies up to this length are sent in one piece with their head.
const ONE_PIECE: usize = 16 * 1024;

/// Whether the connection stays after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// For the next request.
    Kept,
    /// The client is told that it ends.
    Ended,
}

/// A rule's answer, byte for byte: no header is added but the framing that HTTP itself needs. Head and body; both in the first where
/// they are short.
pub(super) fn own(status: StatusCode, lines: &[u8], body: &Bytes, to: Awaited, stay: Stay) -> [Bytes; 2] {
    let reason = status.canonical_reason().unwrap_or_default();
    let sent = if has_body(status, to) { body.clone() } else { Bytes::new() };
    let in_one = sent.len() <= ONE_PIECE;
    let mut head = BytesMut::with_capacity(96 + lines.len() + if in_one { sent.len() } else { 0 });
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(reason.as_bytes());
    head.put_slice(b"\r\n");
    head.put_slice(lines);
    if !is_bodiless(status) {
        head.put_slice(b"Content-Length: ");
        head.put_slice(body.len().to_string().as_bytes());
        head.put_slice(b"\r\n");
    }
    match (stay, to.version) {
        (Stay::Ended, _) => head.put_slice(b"Connection: close\r\n"),
        // What HTTP/1.0 wants to hear (RFC 9112 section 9.3).
        (Stay::Kept, Version::Http10) => head.put_slice(b"Connection: keep-alive\r\n"),
        (Stay::Kept, Version::Http11) => {}
    }
    head.put_slice(b"\r\n");
    if in_one {
        head.put_slice(&sent);
        return [head.freeze(), Bytes::new()];
    }
    [head.freeze(), sent]
}

/// A real answer's head with a rule's parts in it, and what becomes of its body.
pub(super) struct Replacement {
    pub(super) head: Vec<u8>,
    /// To be sent behind it.
    pub(super) body: Bytes,
    pub(super) status: StatusCode,
    pub(super) fate: Fate,
}

/// Replaces what `rewrite` names in the head that was read from `bytes`, and says that the connection ends, if it does.
pub(super) fn replaced(
    answer: &ResponseHead,
    bytes: &[u8],
    to: Awaited,
    rewrite: Option<&Rewrite>,
    stay: Stay,
) -> Replacement {
    let real = StatusCode::from_u16(answer.status()).unwrap_or_default();
    let wanted = rewrite.and_then(|rewrite| rewrite.status);
    let status = wanted.unwrap_or(real);
    let new = new_body(real, status, rewrite);
    let length = [new.as_ref().map_or(HeaderValue::from_static("0"), |body| body.len().into())];
    let close = [HeaderValue::from_static("close")];
    let mut edits: Vec<Edit<'_>> = Vec::new();
    for header in rewrite.into_iter().flat_map(|rewrite| &rewrite.response_written) {
        edits.push(Edit::Set { name: &header.name, values: &header.values });
    }
    if new.is_some() {
        if !is_bodiless(status) {
            edits.push(Edit::Set { name: "Content-Length", values: &length });
        }
        // The first edit of a name counts.
        edits.extend(OF_THE_OLD_BODY.map(|name| Edit::Remove { name }));
    }
    if stay == Stay::Ended {
        edits.push(Edit::Set { name: "Connection", values: &close });
    }
    let line = wanted
        .filter(|wanted| *wanted != real)
        .map(|wanted| StatusLine { status: wanted.as_u16(), reason: wanted.canonical_reason().unwrap_or_default() });
    let mut head = Vec::with_capacity(answer.len() + 64);
    answer.edited(bytes, line, &edits, &mut head);
    let fate = if new.is_some() { Fate::Replaced } else { Fate::Passed };
    Replacement { head, body: new.filter(|_| has_body(status, to)).unwrap_or_default(), status, fate }
}

/// Whether a body is sent behind the head of an answer.
pub(super) fn has_body(status: StatusCode, to: Awaited) -> bool {
    to.method != Asked::Head && !is_bodiless(status)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::http1::Read;
    use crate::rules::set::Written;

    const GET: Awaited = Awaited { method: Asked::Other, version: Version::Http11 };
    const HEAD: Awaited = Awaited { method: Asked::Head, version: Version::Http11 };

    fn text(parts: &[Bytes; 2]) -> String {
        parts.iter().map(|part| String::from_utf8_lossy(part)).collect()
    }

    #[test]
    fn an_answer_has_the_rules_lines_and_its_framing_and_nothing_else() {
        let check = |status: u16, to, stay, expected: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(text(&own(status, b"X-ODD: 1\r\n", &Bytes::from_static(b"body"), to, stay)), expected);
        };
        check(429, GET, Stay::Kept, "HTTP/1.1 429 Too Many Requests\r\nX-ODD: 1\r\nContent-Length: 4\r\n\r\nbody");
        check(200, HEAD, Stay::Kept, "HTTP/1.1 200 OK\r\nX-ODD: 1\r\nContent-Length: 4\r\n\r\n");
        check(204, GET, Stay::Kept, "HTTP/1.1 204 No Content\r\nX-ODD: 1\r\n\r\n");
        check(304, GET, Stay::Ended, "HTTP/1.1 304 Not Modified\r\nX-ODD: 1\r\nConnection: close\r\n\r\n");
        check(599, GET, Stay::Kept, "HTTP/1.1 599 \r\nX-ODD: 1\r\nContent-Length: 4\r\n\r\nbody");
        let old = Awaited { version: Version::Http10, ..GET };
        let kept = "HTTP/1.1 200 OK\r\nX-ODD: 1\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nbody";
        check(200, old, Stay::Kept, kept);
    }

    #[test]
    fn a_long_body_is_not_copied() {
        let body = Bytes::from(vec![b'x'; ONE_PIECE + 1]);
        let parts = own(StatusCode::OK, b"", &body, GET, Stay::Kept);
        assert_eq!((parts[1].len(), parts[1].as_ptr()), (ONE_PIECE + 1, body.as_ptr()));
    }

    fn check(real: &str, to: Awaited, rewrite: &Rewrite, stay: Stay, expected: &str) {
        let mut answer = ResponseHead::default();
        assert_eq!(answer.read(real.as_bytes(), &to), Ok(Read::Done));
        let replaced = replaced(&answer, real.as_bytes(), to, Some(rewrite), stay);
        let all = String::from_utf8([replaced.head, replaced.body.to_vec()].concat()).unwrap();
        assert_eq!(all, expected);
    }

    fn written(name: &str, values: &[&'static str]) -> Written {
        Written { name: name.into(), values: values.iter().map(|value| HeaderValue::from_static(value)).collect() }
    }

    #[test]
    fn only_what_a_rule_names_is_another() {
        let real = "HTTP/1.1 200 Fine\r\nserver:  odd \r\nX-A: 1\r\ncontent-LENGTH: 3\r\nETag: w\r\nx-a: 2\r\n\r\n";
        let status = Rewrite { status: Some(StatusCode::BAD_GATEWAY), ..Rewrite::default() };
        check(real, GET, &status, Stay::Kept, &real.replace("200 Fine", "502 Bad Gateway"));
        let same = Rewrite { status: Some(StatusCode::OK), ..Rewrite::default() };
        check(real, GET, &same, Stay::Kept, real);
        let headers = Rewrite { response_written: vec![written("X-a", &["3", "4"])], ..Rewrite::default() };
        let changed = real.replace("X-A: 1", "X-a: 3\r\nX-a: 4").replace("x-a: 2\r\n", "");
        check(real, GET, &headers, Stay::Kept, &changed);
        let ended = changed.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        check(real, GET, &headers, Stay::Ended, &ended);
        let body = Rewrite { body: Some("longer".into()), response_headers: HeaderMap::new(), ..Rewrite::default() };
        let head = real.replace("content-LENGTH: 3", "Content-Length: 6").replace("ETag: w\r\n", "");
        check(real, GET, &body, Stay::Kept, &format!("{head}longer"));
        check(real, HEAD, &body, Stay::Kept, &head);
    }

    #[test]
    fn a_status_of_the_other_kind_takes_the_framing_along() {
        let none = Rewrite { status: Some(StatusCode::NO_CONTENT), ..Rewrite::default() };
        let real = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n";
        check(real, GET, &none, Stay::Kept, "HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n");
        let some = Rewrite { status: Some(StatusCode::OK), ..Rewrite::default() };
        let real = "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nX: 1\r\n\r\n";
        check(real, GET, &some, Stay::Kept, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: 1\r\n\r\n");
    }
}
