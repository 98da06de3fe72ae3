//! The cases: answers that two readers might read differently, made along axes, each with a name that stays.

use std::collections::BTreeSet;

use crate::cases::{CODINGS, Case, LENGTHS};

/// What follows every case.
pub const SENTINEL: &[u8] = b"HTTP/1.1 299 Sentinel\r\nContent-Length: 8\r\n\r\nsentinel";
const CHUNKED: &str = "3\r\nabc\r\n0\r\n\r\n";

/// All cases, in the table's order.
pub fn all() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    plain(&mut cases);
    status_lines(&mut cases);
    statuses(&mut cases);
    framing(&mut cases);
    chunks(&mut cases);
    lines(&mut cases);
    let mut seen = BTreeSet::new();
    cases.0.retain(|case| seen.insert((case.name.starts_with("head/"), case.bytes.clone())));
    cases.0
}

struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: impl Into<String>, bytes: impl AsRef<[u8]>) {
        self.0.push(Case { name: name.into(), bytes: [bytes.as_ref(), SENTINEL].concat() });
    }

    /// An answer 200 with these header lines (each with its end) and body.
    fn ok(&mut self, name: impl Into<String>, lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) {
        self.add(name, [b"HTTP/1.1 200 OK\r\n", lines.as_ref(), b"\r\n", body.as_ref()].concat());
    }
}

fn plain(cases: &mut Cases) {
    cases.ok("plain/length", "Content-Length: 5\r\n", "hello");
    cases.ok("plain/chunked", "Transfer-Encoding: chunked\r\n", CHUNKED);
    cases.ok("plain/nothing", "Content-Length: 0\r\n", "");
    cases.ok("plain/until-close", "X-A: b\r\n", "hello");
    cases.ok("plain/trailers", "Transfer-Encoding: chunked\r\n", "3;a=b\r\nabc\r\n0\r\nX-T: y\r\n\r\n");
    cases.add("plain/no-content", "HTTP/1.1 204 No Content\r\n\r\n");
    cases.add("plain/not-modified", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n");
    cases.add(
        "plain/early",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    cases.add("plain/old", "HTTP/1.0 200 OK\r\n\r\nhello");
    cases.add("plain/old-length", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    cases.ok("head/plain/length", "Content-Length: 5\r\n", "");
    cases.ok("head/plain/chunked", "Transfer-Encoding: chunked\r\n", "");
    cases.ok("head/plain/neither", "", "");
}

fn status_lines(cases: &mut Cases) {
    const LINES: [(&str, &[u8]); 44] = [
        ("no-reason", b"HTTP/1.1 200\r\n"),
        ("empty-reason", b"HTTP/1.1 200 \r\n"),
        ("two-spaces", b"HTTP/1.1  200 OK\r\n"),
        ("tab", b"HTTP/1.1\t200\tOK\r\n"),
        ("space-before", b" HTTP/1.1 200 OK\r\n"),
        ("crlf-before", b"\r\nHTTP/1.1 200 OK\r\n"),
        ("lf-before", b"\nHTTP/1.1 200 OK\r\n"),
        ("crlfs-before", b"\r\n\r\n\r\nHTTP/1.1 200 OK\r\n"),
        ("garbage-before", b"xHTTP/1.1 200 OK\r\n"),
        ("line-before", b"hello\r\nHTTP/1.1 200 OK\r\n"),
        ("lower", b"http/1.1 200 OK\r\n"),
        ("mixed", b"Http/1.1 200 OK\r\n"),
        ("version-2", b"HTTP/2 200 OK\r\n"),
        ("version-2.0", b"HTTP/2.0 200 OK\r\n"),
        ("version-1.2", b"HTTP/1.2 200 OK\r\n"),
        ("version-1.10", b"HTTP/1.10 200 OK\r\n"),
        ("version-01.1", b"HTTP/01.1 200 OK\r\n"),
        ("version-1", b"HTTP/1 200 OK\r\n"),
        ("version-0.9", b"HTTP/0.9 200 OK\r\n"),
        ("version-none", b"HTTP 200 OK\r\n"),
        ("icy", b"ICY 200 OK\r\n"),
        ("two-digits", b"HTTP/1.1 20 OK\r\n"),
        ("four-digits", b"HTTP/1.1 2000 OK\r\n"),
        ("leading-zero", b"HTTP/1.1 0200 OK\r\n"),
        ("zero", b"HTTP/1.1 000 OK\r\n"),
        ("plus", b"HTTP/1.1 +200 OK\r\n"),
        ("minus", b"HTTP/1.1 -200 OK\r\n"),
        ("hex", b"HTTP/1.1 0xc8 OK\r\n"),
        ("word", b"HTTP/1.1 OK 200\r\n"),
        ("glued", b"HTTP/1.1 200OK\r\n"),
        ("no-status", b"HTTP/1.1\r\n"),
        ("status-99", b"HTTP/1.1 099 OK\r\n"),
        ("status-600", b"HTTP/1.1 600 OK\r\n"),
        ("status-999", b"HTTP/1.1 999 OK\r\n"),
        ("lf", b"HTTP/1.1 200 OK\n"),
        ("cr", b"HTTP/1.1 200 OK\r"),
        ("cr-inside", b"HTTP/1.1 200 O\rK\r\n"),
        ("nul", b"HTTP/1.1 200 O\0K\r\n"),
        ("eight-bit", b"HTTP/1.1 200 \xd6K\r\n"),
        ("control", b"HTTP/1.1 200 O\x01K\r\n"),
        ("two-crs", b"HTTP/1.1 200 OK\r\r\n"),
        ("request", b"GET / HTTP/1.1\r\n"),
        ("folded", b"HTTP/1.1 200\r\n OK\r\n"),
        ("none", b""),
    ];
    for (name, line) in LINES {
        cases.add(format!("status-line/{name}"), [line, b"Content-Length: 5\r\n\r\nhello"].concat());
    }
}

fn statuses(cases: &mut Cases) {
    for (status, name) in [(204, "no-content"), (304, "not-modified"), (205, "reset-content"), (404, "not-found")] {
        cases.add(format!("status/{name}-length"), format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\nhello"));
        let chunked = "Transfer-Encoding: chunked";
        cases.add(format!("status/{name}-chunked"), format!("HTTP/1.1 {status} X\r\n{chunked}\r\n\r\n{CHUNKED}"));
        cases.add(format!("status/{name}-chunked-no-body"), format!("HTTP/1.1 {status} X\r\n{chunked}\r\n\r\n"));
        cases.add(format!("status/{name}-surplus"), format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\nhello"));
        cases.add(format!("status/{name}-close"), format!("HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n"));
    }
    for (name, early) in [
        ("continue", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("continue-thrice", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"),
        ("processing", "HTTP/1.1 102 Processing\r\n\r\n"),
        ("199", "HTTP/1.1 199 Odd\r\n\r\n"),
        ("length", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n"),
        ("length-body", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello"),
        ("chunked-body", "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ("chunked", "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("old", "HTTP/1.0 100 Continue\r\n\r\n"),
        ("close", "HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n"),
        ("switch", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
        ("switch-bare", "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        ("lf", "HTTP/1.1 100 Continue\n\n"),
    ] {
        cases.add(format!("early/{name}"), format!("{early}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"));
    }
}

fn framing(cases: &mut Cases) {
    for (name, value) in LENGTHS {
        cases.ok(format!("length/{name}"), format!("Content-Length:{value}\r\n"), "hello");
    }
    for (name, value) in CODINGS {
        cases.ok(format!("coding/{name}"), format!("Transfer-Encoding:{value}\r\n"), CHUNKED);
        let both = format!("Content-Length: 5\r\nTransfer-Encoding:{value}\r\n");
        cases.ok(format!("coding-and-length/{name}"), both, CHUNKED);
        let old = format!("HTTP/1.0 200 OK\r\nTransfer-Encoding:{value}\r\n\r\n{CHUNKED}");
        cases.add(format!("old-coding/{name}"), old);
    }
    for (name, lines) in [
        ("length-first", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("length-last", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("lengths-same", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        ("lengths-differ", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("lengths-case", "content-length: 5\r\nCONTENT-LENGTH: 4\r\n"),
        ("codings-same", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("codings-identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("identity-codings", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        ("codings-gzip", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        ("length-space", "Content-Length : 5\r\n"),
        ("coding-space", "Transfer-Encoding : chunked\r\n"),
        ("length-tab", "Content-Length\t: 5\r\n"),
        ("coding-tab", "Transfer-Encoding\t: chunked\r\n"),
        ("length-underscore", "Content_Length: 5\r\n"),
        ("coding-underscore", "Transfer_Encoding: chunked\r\n"),
        ("length-begins-blank", " Content-Length: 5\r\n"),
        ("coding-begins-blank", " Transfer-Encoding: chunked\r\n"),
        ("length-folded-behind", "X-A: b\r\n Content-Length: 5\r\n"),
        ("length-nul", "Content-Length\0: 5\r\n"),
        ("length-cr-before", "X: a\rContent-Length: 5\r\n"),
        ("coding-cr-before", "X: a\rTransfer-Encoding: chunked\r\n"),
        ("coding-lf-before", "X: a\nTransfer-Encoding: chunked\r\n"),
        ("coding-nul-before", "X: a\0\r\nTransfer-Encoding: chunked\r\n"),
        ("keep-alive-neither", "Connection: keep-alive\r\n"),
        ("proxy-connection", "Proxy-Connection: close\r\nContent-Length: 5\r\n"),
    ] {
        cases.ok(format!("framing/{name}"), lines, CHUNKED);
        cases.ok(format!("head/framing/{name}"), lines, "");
    }
}

fn chunks(cases: &mut Cases) {
    const BODIES: [(&str, &[u8]); 40] = [
        ("leading-zeros", b"0003\r\nabc\r\n0\r\n\r\n"),
        ("many-zeros", b"000000000000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("upper", b"A\r\n0123456789\r\n0\r\n\r\n"),
        ("space-after", b"3 \r\nabc\r\n0\r\n\r\n"),
        ("spaces-after", b"3    \r\nabc\r\n0\r\n\r\n"),
        ("tab-after", b"3\t\r\nabc\r\n0\r\n\r\n"),
        ("space-before", b" 3\r\nabc\r\n0\r\n\r\n"),
        ("plus", b"+3\r\nabc\r\n0\r\n\r\n"),
        ("minus", b"-3\r\nabc\r\n0\r\n\r\n"),
        ("hex", b"0x3\r\nabc\r\n0\r\n\r\n"),
        ("underscore", b"0_3\r\nabc\r\n0\r\n\r\n"),
        ("letter", b"g\r\nabc\r\n0\r\n\r\n"),
        ("letter-after", b"3g\r\nabc\r\n0\r\n\r\n"),
        ("empty", b"\r\nabc\r\n0\r\n\r\n"),
        ("overflow", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("overflow-more", b"100000000000000000000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("too-long", b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("extension", b"3;a\r\nabc\r\n0\r\n\r\n"),
        ("extension-value", b"3;a=\"b\"\r\nabc\r\n0\r\n\r\n"),
        ("extension-quoted-crlf", b"3;a=\"\r\nabc\r\n0\r\n\r\n"),
        ("extension-space", b"3 ; a = b\r\nabc\r\n0\r\n\r\n"),
        ("extension-lf", b"3;a\nabc\r\n0\r\n\r\n"),
        ("extension-cr", b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("extension-nul", b"3;a\0b\r\nabc\r\n0\r\n\r\n"),
        ("lf", b"3\nabc\n0\n\n"),
        ("size-lf", b"3\nabc\r\n0\r\n\r\n"),
        ("data-lf", b"3\r\nabc\n0\r\n\r\n"),
        ("cr", b"3\rabc\r0\r\r"),
        ("no-end", b"3\r\nabc0\r\n\r\n"),
        ("more-data", b"3\r\nabcde\r\n0\r\n\r\n"),
        ("less-data", b"3\r\na\r\n0\r\n\r\n"),
        ("last-zeros", b"3\r\nabc\r\n000\r\n\r\n"),
        ("last-extension", b"3\r\nabc\r\n0;x\r\n\r\n"),
        ("last-lf", b"3\r\nabc\r\n0\n\n"),
        ("last-no-end", b"3\r\nabc\r\n0\r\n"),
        ("trailer-length", b"3\r\nabc\r\n0\r\nContent-Length: 1\r\n\r\n"),
        ("trailer-coding", b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("trailer-no-colon", b"3\r\nabc\r\n0\r\nx\r\n\r\n"),
        ("trailer-folded", b"3\r\nabc\r\n0\r\nX: a\r\n b\r\n\r\n"),
        ("trailer-lf", b"3\r\nabc\r\n0\r\nX: a\n\n"),
    ];
    for (name, body) in BODIES {
        cases.ok(format!("chunk/{name}"), "Transfer-Encoding: chunked\r\n", body);
    }
}

fn lines(cases: &mut Cases) {
    const LINES: [(&str, &[u8]); 22] = [
        ("space-before-colon", b"X : a\r\nContent-Length: 5\r\n"),
        ("space-before-colon-last", b"Content-Length: 5\r\nX : a\r\n"),
        ("lf", b"X: a\nContent-Length: 5\n"),
        ("lf-first", b"X: a\nContent-Length: 5\r\n"),
        ("cr", b"X: a\rContent-Length: 5\r\n"),
        ("cr-value", b"X: a\rb\r\nContent-Length: 5\r\n"),
        ("two-crs", b"X: a\r\r\nContent-Length: 5\r\n"),
        ("nul-value", b"X: a\0b\r\nContent-Length: 5\r\n"),
        ("nul-name", b"X\0: a\r\nContent-Length: 5\r\n"),
        ("control-value", b"X: \x01\r\nContent-Length: 5\r\n"),
        ("eight-bit-value", b"X: \xe4\r\nContent-Length: 5\r\n"),
        ("eight-bit-name", b"\xe4: x\r\nContent-Length: 5\r\n"),
        ("folded", b"X: a\r\n b\r\nContent-Length: 5\r\n"),
        ("folded-tab", b"X: a\r\n\tb\r\nContent-Length: 5\r\n"),
        ("folded-first", b" X: a\r\nContent-Length: 5\r\n"),
        ("folded-empty", b"X: a\r\n \r\nContent-Length: 5\r\n"),
        ("no-name", b": a\r\nContent-Length: 5\r\n"),
        ("no-colon", b"X a\r\nContent-Length: 5\r\n"),
        ("no-colon-last", b"Content-Length: 5\r\nX a\r\n"),
        ("space-name", b"X Y: a\r\nContent-Length: 5\r\n"),
        ("quoted-name", b"\"X\": a\r\nContent-Length: 5\r\n"),
        ("empty-value", b"X:\r\nContent-Length: 5\r\n"),
    ];
    for (name, lines) in LINES {
        cases.ok(format!("line/{name}"), lines, "hello");
    }
    cases.ok("line/long", format!("X: {}\r\nContent-Length: 5\r\n", "a".repeat(70_000)), "hello");
    cases.ok("line/many", format!("{}Content-Length: 5\r\n", "X: a\r\n".repeat(300)), "hello");
    cases.add("line/head-lf", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello");
    cases.add("line/head-mixed", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello");
    cases.add("line/head-lf-crlf", "HTTP/1.1 200 OK\nContent-Length: 5\n\r\nhello");
}
