//! Heads as odd as they may be: names, order, spaces, framing fields, sizes.

use super::{Case, GET, OK, case};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = requests();
    cases.extend(responses());
    cases.extend(large());
    cases
}

/// A case whose client sends one head, with or without a body, and is answered.
fn asked(name: &'static str, request: &'static str) -> Case {
    case(name, |s| {
        s.asks(request).answers(OK);
    })
}

/// A case whose origin answers so.
fn answered(name: &'static str, response: &'static str) -> Case {
    case(name, |s| {
        s.asks(GET).answers(response);
    })
}

fn requests() -> Vec<Case> {
    vec![
        asked("plain", GET),
        asked("header-case", "GET / HTTP/1.1\r\nhOST: api.example\r\nX-UPPER: A\r\nx-lower: b\r\nX-mIxEd: c\r\n\r\n"),
        asked(
            "header-order-and-duplicates",
            "GET / HTTP/1.1\r\nX-b: 1\r\nHOST: api.example\r\nx-A: 2\r\nX-B: 3\r\nAccept: */*\r\nx-a: 4\r\n\r\n",
        ),
        asked("host-last", "GET / HTTP/1.1\r\nAccept: */*\r\nUser-Agent: t\r\nHost: api.example\r\n\r\n"),
        asked(
            "spaces-around-values",
            "GET / HTTP/1.1\r\nHost:  api.example \r\nX-A:   v  \r\nX-B:\tv\t\r\nX-C:v\r\n\r\n",
        ),
        asked("empty-values", "GET / HTTP/1.1\r\nHost: api.example\r\nX-Empty:\r\nX-Blank:   \r\n\r\n"),
        asked("values-beyond-ascii", "GET / HTTP/1.1\r\nHost: api.example\r\nX-Name: caf\u{e9} \u{2603}\r\n\r\n"),
        case("values-of-lone-bytes", |s| {
            s.asks(b"GET / HTTP/1.1\r\nHost: api.example\r\nX-Raw: \x80\xff\xfe\r\n\r\n").answers(OK);
        }),
        asked("connection-close", "GET / HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n"),
        asked(
            "connection-lists",
            "GET / HTTP/1.1\r\nHost: api.example\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n",
        ),
        asked(
            "hop-by-hop-fields",
            "GET / HTTP/1.1\r\nHost: api.example\r\nTE: trailers\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\r\n",
        ),
        asked("unknown-method", "BREW / HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        asked("odd-method", "!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        asked("lower-case-method", "get / HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        asked("options-star", "OPTIONS * HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        asked("get-with-a-body", "GET / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4\r\n\r\nbody"),
        asked("length-zero", "POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 0\r\n\r\n"),
        asked("post-without-length", "POST / HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        asked("padded-length", "POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 0004\r\n\r\nbody"),
        asked(
            "duplicate-equal-lengths",
            "POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
        ),
        asked("lengths-in-a-list", "POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4, 4\r\n\r\nbody"),
        asked(
            "length-and-chunked",
            "POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        ),
        asked("http-1-0", "GET / HTTP/1.0\r\nHost: api.example\r\n\r\n"),
        asked("http-1-0-kept-alive", "GET / HTTP/1.0\r\nHost: api.example\r\nConnection: keep-alive\r\n\r\n"),
        asked("http-1-0-without-host", "GET / HTTP/1.0\r\n\r\n").opaque(),
        asked("no-host", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n").opaque(),
        asked("two-hosts", "GET / HTTP/1.1\r\nHost: api.example\r\nHost: api.example\r\n\r\n"),
        asked("host-with-a-port", "GET / HTTP/1.1\r\nHost: api.example:80\r\n\r\n"),
        asked("empty-line-before-a-request", "\r\nGET / HTTP/1.1\r\nHost: api.example\r\n\r\n"),
    ]
}

fn responses() -> Vec<Case> {
    vec![
        answered(
            "response-header-case",
            "HTTP/1.1 200 OK\r\nX-uPPer: 1\r\nCONTENT-LENGTH: 2\r\nset-cookie: a\r\nSet-Cookie: b\r\n\r\nok",
        ),
        answered(
            "response-order-and-duplicates",
            "HTTP/1.1 200 OK\r\nX-b: 1\r\nServer: s\r\nx-A: 2\r\nContent-Length: 2\r\nX-B: 3\r\n\r\nok",
        ),
        answered("response-spaces", "HTTP/1.1 200 OK\r\nX-A:   v  \r\nX-B:v\r\nContent-Length:2\r\n\r\nok"),
        answered("empty-reason", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
        answered("no-reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
        answered("reason-of-its-own", "HTTP/1.1 200 Alles  in Ordnung!\r\nContent-Length: 2\r\n\r\nok"),
        case("reason-of-odd-bytes", |s| {
            s.asks(GET).answers(b"HTTP/1.1 200 \xe9t\xc3\xa9\t~\r\nContent-Length: 2\r\n\r\nok");
        }),
        answered("odd-status", "HTTP/1.1 799 Whatever\r\nContent-Length: 2\r\n\r\nok"),
        answered("no-date", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        answered(
            "a-date-and-a-via",
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nVia: 1.1 x\r\nServer: y\r\nContent-Length: 2\r\n\r\nok",
        ),
        answered(
            "folded-response-field",
            "HTTP/1.1 200 OK\r\nX-Fold: one\r\n two\r\n\tthree\r\nContent-Length: 2\r\n\r\nok",
        ),
        answered("space-before-a-response-colon", "HTTP/1.1 200 OK\r\nX-Space : v\r\nContent-Length: 2\r\n\r\nok"),
        answered("response-values-beyond-ascii", "HTTP/1.1 200 OK\r\nX-N: \u{2603}\r\nContent-Length: 2\r\n\r\nok"),
        answered("response-lengths-twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
        case("answer-in-http-1-0", |s| {
            s.asks(GET)
                .answers("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .closes(super::ends::ORIGIN, super::ends::FINISH);
        }),
        case("no-content-with-a-length", |s| {
            s.asks(GET).answers("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nX-A: 1\r\n\r\n").asks(GET).answers(OK);
        }),
        case("not-modified-with-a-length", |s| {
            s.asks(GET)
                .answers("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n")
                .asks(GET)
                .answers(OK);
        }),
        case("head-with-a-length", |s| {
            s.asks("HEAD / HTTP/1.1\r\nHost: api.example\r\n\r\n")
                .answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
                .asks(GET)
                .answers(OK);
        }),
        case("head-with-chunked", |s| {
            s.asks("HEAD / HTTP/1.1\r\nHost: api.example\r\n\r\n")
                .answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .asks(GET)
                .answers(OK);
        }),
        answered(
            "response-length-and-chunked",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    ]
}

fn large() -> Vec<Case> {
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>();
    let request = |fields: String| format!("GET / HTTP/1.1\r\nHost: api.example\r\n{fields}\r\n");
    let response = |fields: String| format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok");
    let both = |name, count| {
        case(name, move |s| {
            s.asks(request(fields(count))).answers(response(fields(count)));
        })
    };
    let long = |count: usize| format!("X-Long: {}\r\n", "v".repeat(count));
    vec![
        both("101-headers", 101),
        both("1000-headers", 1_000),
        both("10000-headers", 10_000).opaque(),
        case("a-value-of-60-kib", |s| {
            s.asks(request(long(60_000))).answers(response(long(60_000)));
        }),
        case("a-head-of-300-kib", |s| {
            s.asks(request(long(300_000))).answers(response(long(300_000)));
        })
        .opaque(),
        case("a-head-of-10-mib", |s| {
            s.asks(request(long(10 << 20))).answers(response(long(10 << 20)));
        })
        .opaque(),
        case("a-response-head-of-300-kib", |s| {
            s.asks(GET).answers(response(long(300_000)));
        }),
        case("a-target-of-20-kib", |s| {
            s.asks(format!("GET /{} HTTP/1.1\r\nHost: api.example\r\n\r\n", "p".repeat(20_000))).answers(OK);
        }),
        case("a-target-of-64-kib", |s| {
            s.asks(format!("GET /{} HTTP/1.1\r\nHost: api.example\r\n\r\n", "p".repeat(65_536))).answers(OK);
        })
        // The host comes behind what is looked at.
        .opaque(),
    ]
}
