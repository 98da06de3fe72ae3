//! Whole requests and their order: what is plain, pipelines, bodies where few have one, changes of protocol.

use super::Cases;

const CHUNKED: &str = "3\r\nabc\r\n0\r\n\r\n";

/// What has to be seen, without a doubt.
const PLAIN: [(&str, &str); 14] = [
    ("get", "GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ("head", "HEAD /a HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ("delete", "DELETE /a?b=c HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n\r\n"),
    ("options", "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ("port", "GET /a HTTP/1.1\r\nHost: a.example:8080\r\n\r\n"),
    ("case", "GET /a HTTP/1.1\r\nhOST:a.example\r\nX-Empty:\r\nx:  y  \r\n\r\n"),
    ("post", "POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"),
    (
        "put-chunked",
        "PUT /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    ),
    ("expect", "POST /a HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"),
    (
        "three",
        "GET /1 HTTP/1.1\r\nHost: a.example\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\n\r\nxGET /3 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ),
    ("keep-alive", "GET /a HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n"),
    ("high-value", "GET /a HTTP/1.1\r\nHost: a.example\r\nX: \u{e4}\r\n\r\n"),
    ("same-length-twice", "POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("empty-line-first", "\r\nGET /a HTTP/1.1\r\nHost: a.example\r\n\r\n"),
];

pub(super) fn add(cases: &mut Cases) {
    for (name, bytes) in PLAIN {
        cases.add(format!("plain/{name}"), bytes);
    }
    for (name, before) in
        [("crlf-crlf", "\r\n\r\n"), ("lf", "\n"), ("cr", "\r"), ("space", " \r\n"), ("nul", "\0"), ("bom", "\u{feff}")]
    {
        cases.add(format!("before/{name}"), format!("{before}GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        cases.post(format!("between/{name}"), "Content-Length: 5\r\n", format!("hello{before}"));
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "POST", "FROB"] {
        let head = format!("{method} /a HTTP/1.1\r\nHost: a.example\r\n");
        let name = method.to_ascii_lowercase();
        cases.add(
            format!("body/{name}/length"),
            format!("{head}Content-Length: 33\r\n\r\nGET /b HTTP/1.1\r\nHost: b.example\r\n"),
        );
        cases.add(format!("body/{name}/chunked"), format!("{head}Transfer-Encoding: chunked\r\n\r\n{CHUNKED}"));
        cases.add(format!("body/{name}/unannounced"), format!("{head}\r\nhello"));
    }
    cases.post("body/too-short".to_owned(), "Content-Length: 500\r\n", "hello");
    cases.post("body/too-long".to_owned(), "Content-Length: 4\r\n", "hello");
    cases.post(
        "body/zero-then-request".to_owned(),
        "Content-Length: 0\r\n",
        "GET /b HTTP/1.1\r\nHost: b.example\r\n\r\n",
    );
    connections(cases);
    protocols(cases);
}

fn connections(cases: &mut Cases) {
    for (name, value) in [
        ("close", "close"),
        ("close-upper", "CLOSE"),
        ("close-listed", "x, close"),
        ("close-prefixed", "xclose"),
        ("close-quoted", "\"close\""),
        ("both", "keep-alive, close"),
        ("both-other-way", "close, keep-alive"),
        ("empty", ""),
        ("length", "Content-Length"),
        ("coding", "Transfer-Encoding"),
        ("host", "Host"),
        ("vertical-tab", "close\x0b"),
        ("high", "close\u{a0}"),
    ] {
        cases.post(format!("connection/{name}"), format!("Connection: {value}\r\nContent-Length: 5\r\n"), "hello");
    }
    cases.post(
        "connection/coding-with-coding".to_owned(),
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
        CHUNKED,
    );
    cases.add("connection/old".to_owned(), "GET /a HTTP/1.0\r\nHost: a.example\r\n\r\n");
    cases.add(
        "connection/old-close".to_owned(),
        "GET /a HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive, close\r\n\r\n",
    );
    cases.add(
        "connection/proxy".to_owned(),
        "GET /a HTTP/1.0\r\nHost: a.example\r\nProxy-Connection: keep-alive\r\n\r\n",
    );
}

fn protocols(cases: &mut Cases) {
    for (name, lines) in [
        ("websocket", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ("without-connection", "Upgrade: websocket\r\n"),
        ("without-upgrade", "Connection: upgrade\r\n"),
        ("unknown", "Connection: upgrade\r\nUpgrade: frob/9\r\n"),
    ] {
        cases.add(format!("upgrade/{name}/get"), format!("GET /a HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"));
        cases.post(format!("upgrade/{name}/length"), format!("{lines}Content-Length: 5\r\n"), "hello");
        cases.post(format!("upgrade/{name}/chunked"), format!("{lines}Transfer-Encoding: chunked\r\n"), CHUNKED);
    }
    for (name, value) in [("upper", "100-CONTINUE"), ("other", "200-ok"), ("list", "100-continue, x"), ("empty", "")] {
        cases.post(format!("expect/{name}"), format!("Expect: {value}\r\nContent-Length: 5\r\n"), "hello");
    }
    cases.add("expect/get".to_owned(), "GET /a HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\n\r\n");
    cases.add(
        "expect/old".to_owned(),
        "POST /a HTTP/1.0\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    );
}
