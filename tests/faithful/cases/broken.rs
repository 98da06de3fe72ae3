//! What is no HTTP, or HTTP that its readers disagree about. None of it is Moxie's to judge.

use super::ends::{CLIENT, FINISH, ORIGIN};
use super::{Case, GET, OK, case, pattern};

const BAD: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = requests();
    cases.extend(responses());
    cases.extend(no_http());
    cases
}

/// A request that an origin refuses, in its own words.
fn refused(name: &'static str, request: &'static [u8]) -> Case {
    case(name, |s| {
        s.asks(request).answers(BAD).closes(ORIGIN, FINISH);
    })
}

/// The same, behind a request that is as good as any: what comes second is looked into in the clear too.
fn second(name: &'static str, request: &'static [u8]) -> Case {
    case(name, |s| {
        s.asks(GET).answers(OK).asks(request).answers(BAD).closes(ORIGIN, FINISH);
    })
}

fn requests() -> Vec<Case> {
    vec![
        second("lines-that-end-in-lf", b"GET / HTTP/1.1\nHost: api.example\n\n"),
        second("one-line-that-ends-in-lf", b"GET / HTTP/1.1\r\nHost: api.example\nX-A: 1\r\n\r\n"),
        second("a-lone-cr", b"GET / HTTP/1.1\r\nHost: api.example\r\nX-A: 1\r2\r\n\r\n"),
        second("a-nul-in-a-value", b"GET / HTTP/1.1\r\nHost: api.example\r\nX-A: 1\x002\r\n\r\n"),
        second("a-control-byte-in-a-name", b"GET / HTTP/1.1\r\nHost: api.example\r\nX\x01A: 1\r\n\r\n"),
        second("a-folded-field", b"GET / HTTP/1.1\r\nHost: api.example\r\nX-A: 1\r\n 2\r\n\r\n"),
        second("a-space-before-a-colon", b"GET / HTTP/1.1\r\nHost: api.example\r\nX-A : 1\r\n\r\n"),
        second("a-space-before-the-colon-of-a-length", b"POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length : 2\r\n\r\nok"),
        second("a-line-without-a-colon", b"GET / HTTP/1.1\r\nHost: api.example\r\nnonsense\r\n\r\n"),
        second("a-field-without-a-name", b"GET / HTTP/1.1\r\nHost: api.example\r\n: v\r\n\r\n"),
        second("two-different-lengths", b"POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        second("a-signed-length", b"POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: +2\r\n\r\nok"),
        second("a-negative-length", b"POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: -1\r\n\r\nok"),
        second("a-length-in-hex", b"POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 0x2\r\n\r\nok"),
        second("an-endless-length", b"POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 99999999999999999999\r\n\r\nok"),
        second("chunked-not-last", b"POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        second("chunked-twice", b"POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        second("an-odd-transfer-encoding", b"POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        second("chunked-in-http-1-0", b"POST / HTTP/1.0\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        second("a-chunk-size-that-is-none", b"POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n0\r\n\r\n"),
        second("a-chunk-size-beyond-all-bounds", b"POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nok\r\n0\r\n\r\n"),
        second("a-chunk-that-does-not-end", b"POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX\r\n0\r\n\r\n"),
        second("a-chunk-line-that-ends-in-lf", b"POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n"),
        second("version-2-0-in-a-line", b"GET / HTTP/2.0\r\nHost: api.example\r\n\r\n"),
        second("version-1-9", b"GET / HTTP/1.9\r\nHost: api.example\r\n\r\n"),
        second("a-lower-case-version", b"GET / http/1.1\r\nHost: api.example\r\n\r\n"),
        second("http-0-9", b"GET /\r\n"),
        second("two-spaces-in-a-request-line", b"GET  /  HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        second("a-target-with-a-space", b"GET /a b HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        second("a-target-with-nothing", b"GET  HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        second("a-second-host", b"GET / HTTP/1.1\r\nHost: api.example\r\nHost: other.example\r\n\r\n"),
        second("a-host-that-is-none", b"GET / HTTP/1.1\r\nHost: a b/c\r\n\r\n"),
        second("another-host-in-the-target", b"GET http://other.example/ HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        second("garbage-after-a-request", b"\x00\x01\x02 nothing that anybody knows\r\n\r\n"),
        refused("first-request-with-lf-only", b"GET / HTTP/1.1\nHost: api.example\n\n"),
        refused("first-request-is-smuggling-shaped", b"POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5c\r\n"),
    ]
}

/// An answer that a client has to make sense of by itself.
fn answered(name: &'static str, response: &'static [u8]) -> Case {
    case(name, |s| {
        s.asks(GET).answers(response).closes(ORIGIN, FINISH);
    })
}

fn responses() -> Vec<Case> {
    vec![
        answered("garbage-instead-of-an-answer", b"\x00\x01garbage\xff that ends nowhere"),
        answered("an-answer-of-lf-lines", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        answered("an-answer-without-a-version", b"200 OK\r\nContent-Length: 2\r\n\r\nok"),
        answered("an-answer-in-http-0-9", b"<html>only a body</html>"),
        answered("an-answer-with-a-status-of-two-digits", b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
        answered("an-answer-with-two-lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
        answered("an-answer-with-a-bad-length", b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok"),
        answered(
            "an-answer-with-a-bad-chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        ),
        answered("an-answer-with-a-nul", b"HTTP/1.1 200 OK\r\nX-A: \x00\r\nContent-Length: 2\r\n\r\nok"),
        answered("an-answer-longer-than-it-says", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"),
        answered(
            "two-answers-to-one-request",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        ),
        answered("a-body-where-none-may-be", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"),
        answered("an-icy-answer", b"ICY 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n\xff\xfb"),
        case("two-answers-and-another-request", |s| {
            s.asks(GET).answers(format!("{OK}{OK}")).asks(GET).answers(OK);
        }),
    ]
}

fn no_http() -> Vec<Case> {
    vec![
        case("bytes-of-a-protocol-nobody-knows", |s| {
            s.asks(b"\x01\x02MQTT\x7f\xff")
                .answers(b"\x20\x02\0\0")
                .asks(pattern(3_000))
                .answers(pattern(5_000))
                .closes(CLIENT, FINISH);
        })
        .opaque(),
        case("a-word-and-nothing-more", |s| {
            s.asks("PING\r\n").answers("PONG\r\n").closes(CLIENT, FINISH);
        })
        .opaque(),
        case("a-single-byte", |s| {
            s.asks("x").answers("y");
        })
        .opaque(),
        case("half-a-head-and-an-answer-to-it", |s| {
            s.asks("GET / HTTP/1.1\r\nHost: api.ex")
                .answers("HTTP/1.1 408 Too slow\r\nConnection: close\r\n\r\n")
                .closes(ORIGIN, FINISH);
        })
        .opaque(),
        case("half-a-second-head-and-an-answer-to-it", |s| {
            s.asks(GET)
                .answers(OK)
                .asks("GET / HTTP/1.1\r\nHost: api.ex")
                .answers("HTTP/1.1 408 Too slow\r\nConnection: close\r\n\r\n");
            s.closes(ORIGIN, FINISH);
        }),
    ]
}
