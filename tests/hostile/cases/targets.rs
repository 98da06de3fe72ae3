//! Request lines, targets and hosts.

use super::Cases;

/// Request lines, without their end.
const LINES: [(&str, &[u8]); 36] = [
    ("two-spaces", b"GET  /a HTTP/1.1"),
    ("two-spaces-after", b"GET /a  HTTP/1.1"),
    ("tab", b"GET\t/a HTTP/1.1"),
    ("tab-after", b"GET /a\tHTTP/1.1"),
    ("space-first", b" GET /a HTTP/1.1"),
    ("space-last", b"GET /a HTTP/1.1 "),
    ("tab-last", b"GET /a HTTP/1.1\t"),
    ("word-last", b"GET /a HTTP/1.1 x"),
    ("space-in-target", b"GET /a b HTTP/1.1"),
    ("request-in-target", b"GET /a HTTP/1.1 GET /b HTTP/1.1"),
    ("no-version", b"GET /a"),
    ("no-version-space", b"GET /a "),
    ("no-target", b"GET HTTP/1.1"),
    ("http09", b"GET /a HTTP/0.9"),
    ("http12", b"GET /a HTTP/1.2"),
    ("http19", b"GET /a HTTP/1.9"),
    ("http20", b"GET /a HTTP/2.0"),
    ("http3", b"GET /a HTTP/3"),
    ("http11-long", b"GET /a HTTP/1.10"),
    ("http011", b"GET /a HTTP/01.1"),
    ("http1", b"GET /a HTTP/1"),
    ("http-comma", b"GET /a HTTP/1,1"),
    ("lower-case-version", b"GET /a http/1.1"),
    ("other-protocol", b"GET /a XTTP/1.1"),
    ("no-slash", b"GET /a HTTP 1.1"),
    ("lower-case-method", b"get /a HTTP/1.1"),
    ("odd-method", b"G=T /a HTTP/1.1"),
    ("control-method", b"G\x01T /a HTTP/1.1"),
    ("nul-method", b"GE\0T /a HTTP/1.1"),
    ("high-method", b"G\xc4T /a HTTP/1.1"),
    ("colon-method", b"GET: /a HTTP/1.1"),
    ("unknown-method", b"FROB /a HTTP/1.1"),
    ("token-method", b"!#$% /a HTTP/1.1"),
    ("long-method", b"AVERYLONGMETHODTHATNOBODYHASEVERREGISTEREDANDTHATGOESONUNTILITISTOOLONG /a HTTP/1.1"),
    ("vertical-tab", b"GET\x0b/a\x0bHTTP/1.1"),
    ("preface", b"PRI * HTTP/2.0"),
];
/// Targets.
const TARGETS: [(&str, &[u8]); 44] = [
    ("plain", b"/a?b"),
    ("asterisk", b"*"),
    ("relative", b"a"),
    ("relative-host", b"b.example/a"),
    ("empty-query", b"/a?"),
    ("fragment", b"/a#b"),
    ("query-fragment", b"/a?b#c?d"),
    ("double-slash", b"//b.example/a"),
    ("dots", b"/x/../a"),
    ("encoded-slash", b"/x%2f..%2fa"),
    ("encoded-nul", b"/a%00"),
    ("bad-escape", b"/a%zz"),
    ("half-escape", b"/a%"),
    ("overlong", b"/a%c0%af"),
    ("angle", b"/a<b>"),
    ("quote", b"/a\"b"),
    ("braces", b"/a{b}|\\^`"),
    ("brackets", b"/a[b]"),
    ("semicolon", b"/a;b"),
    ("high", b"/\xe4\xff"),
    ("utf8", "/\u{2603}".as_bytes()),
    ("control", b"/a\x01"),
    ("nul", b"/a\0b"),
    ("delete", b"/a\x7f"),
    ("tab", b"/a\tb"),
    ("vertical-tab", b"/a\x0bb"),
    ("escape", b"/a\x1b"),
    ("absolute", b"http://a.example/a"),
    ("absolute-upper", b"HTTP://A.EXAMPLE/a"),
    ("absolute-port", b"http://a.example:80/a"),
    ("absolute-no-path", b"http://a.example"),
    ("absolute-query", b"http://a.example?b"),
    ("absolute-other", b"http://b.example/a"),
    ("absolute-other-port", b"http://a.example:8080/a"),
    ("absolute-user", b"http://a.example@b.example/a"),
    ("absolute-empty", b"http:///a"),
    ("absolute-backslash", b"http://a.example\\b/a"),
    ("absolute-one-slash", b"http:/a.example/a"),
    ("absolute-https", b"https://a.example/a"),
    ("absolute-ftp", b"ftp://a.example/a"),
    ("absolute-nul", b"http://a.example\0/a"),
    ("authority", b"a.example:80"),
    ("query-only", b"?a"),
    ("userinfo", b"user@a.example"),
];
/// Values of the only Host line.
const HOSTS: [(&str, &[u8]); 30] = [
    ("plain", b"a.example"),
    ("upper", b"A.EXAMPLE"),
    ("port", b"a.example:80"),
    ("dot", b"a.example."),
    ("ipv4", b"192.0.2.1"),
    ("ipv6", b"[2001:db8::1]:80"),
    ("ipv6-bare", b"2001:db8::1"),
    ("ipv6-open", b"[2001:db8::1"),
    ("empty", b""),
    ("space", b"a.example b.example"),
    ("comma", b"a.example, b.example"),
    ("user", b"a@b.example"),
    ("path", b"a.example/b"),
    ("query", b"a.example?b"),
    ("fragment", b"a.example#b"),
    ("backslash", b"a.example\\b"),
    ("empty-port", b"a.example:"),
    ("port-name", b"a.example:http"),
    ("port-zero", b"a.example:0"),
    ("port-zeros", b"a.example:080"),
    ("port-large", b"a.example:65536"),
    ("port-plus", b"a.example:+80"),
    ("two-ports", b"a.example:80:81"),
    ("escape", b"a%2eexample"),
    ("underscore", b"a_b.example"),
    ("high", b"\xe4.example"),
    ("scheme", b"http://a.example"),
    ("quoted", b"\"a.example\""),
    ("star", b"*.example"),
    ("semicolon", b"a.example;b"),
];

pub(super) fn add(cases: &mut Cases) {
    for (name, line) in LINES {
        cases.add(format!("request-line/{name}"), [line, b"\r\nHost: a.example\r\n\r\n"].concat());
    }
    for (name, target) in TARGETS {
        cases.add(format!("target/{name}"), [b"GET ", target, b" HTTP/1.1\r\nHost: a.example\r\n\r\n"].concat());
    }
    for byte in 0..=255_u8 {
        for (part, before) in [("path", &b"/a"[..]), ("query", b"/a?b=")] {
            let line = [b"GET ", before, &[byte], b"z HTTP/1.1\r\nHost: a.example\r\n\r\n"].concat();
            cases.add(format!("byte/{part}-{byte:02x}"), line);
        }
    }
    for (name, host) in HOSTS {
        cases.add(format!("host/{name}"), [b"GET /a HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat());
    }
    for (name, second) in [("same", "a.example"), ("differs", "b.example"), ("empty", "")] {
        cases.add(format!("hosts/{name}"), format!("GET /a HTTP/1.1\r\nHost: a.example\r\nHost: {second}\r\n\r\n"));
        cases.add(
            format!("hosts/{name}-before"),
            format!("GET /a HTTP/1.1\r\nHost: {second}\r\nhost: a.example\r\n\r\n"),
        );
    }
    cases.add("hosts/none".to_owned(), "GET /a HTTP/1.1\r\n\r\n");
    cases.add("hosts/none-old".to_owned(), "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    cases.add("hosts/none-absolute".to_owned(), "GET http://a.example/a HTTP/1.1\r\n\r\n");
    for (name, head) in [
        ("plain", "a.example:443 HTTP/1.1\r\nHost: a.example:443"),
        ("no-port", "a.example HTTP/1.1\r\nHost: a.example"),
        ("path", "/a HTTP/1.1\r\nHost: a.example"),
        ("absolute", "http://a.example/ HTTP/1.1\r\nHost: a.example"),
        ("other-host", "a.example:443 HTTP/1.1\r\nHost: b.example"),
        ("length", "a.example:443 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5"),
        ("chunked", "a.example:443 HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked"),
    ] {
        cases.add(format!("connect/{name}"), format!("CONNECT {head}\r\n\r\n"));
    }
}
