//! Request heads: what is read off them, and what is doubted.

use proptest::prelude::*;

use super::*;
use crate::http1::MAX_HEAD;

/// What a head says, in one line: method, target, authority, framing.
fn said(head: &RequestHead, bytes: &[u8]) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{} {} {} {:?}",
        head.method(bytes),
        text(head.target(bytes)),
        head.authority(bytes).unwrap_or("-"),
        head.framing()
    )
}

fn read(bytes: &[u8]) -> Result<Option<String>, Doubt> {
    let mut head = RequestHead::default();
    Ok(match head.read(bytes)? {
        Read::Done => Some(said(&head, bytes)),
        Read::Partial => None,
    })
}

fn whole(bytes: &str) -> RequestHead {
    let mut head = RequestHead::default();
    assert_eq!(head.read(bytes.as_bytes()), Ok(Read::Done), "{bytes:?}");
    head
}

#[test]
fn plain_requests_are_read_as_everyone_reads_them() {
    let check = |request: &str, expected: &str| {
        assert_eq!(read(request.as_bytes()), Ok(Some(expected.to_owned())), "{request:?}");
        let with_more = [request.as_bytes(), b"\0more\n"].concat();
        assert_eq!(read(&with_more), Ok(Some(expected.to_owned())), "{request:?} and more");
        for end in 0..request.len() {
            assert_eq!(read(&request.as_bytes()[..end]), Ok(None), "{:?}", &request[..end]);
        }
    };
    check("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "GET / a.example None");
    check("\r\n\r\nGET /x?y HTTP/1.0\r\n\r\n", "GET /x?y - None");
    check(
        "POST /a HTTP/1.1\r\nhOST:\t a.example:8080 \t\r\nCONTENT-length:5\r\n\r\n",
        "POST /a a.example:8080 Length(5)",
    );
    check("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  Chunked \r\n\r\n", "POST /a a Chunked");
    check("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", "POST /a a Length(5)");
    check("GET http://b.example/x HTTP/1.1\r\nHost: B.example:80\r\n\r\n", "GET http://b.example/x b.example None");
    check("GET HTTPS://b.example:8443?u HTTP/1.0\r\n\r\n", "GET HTTPS://b.example:8443?u b.example:8443 None");
    check(
        "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n",
        "CONNECT [2001:db8::1]:443 [2001:db8::1]:443 None",
    );
    check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * a None");
    check("M-SEARCH /<>\"{}|\\^`[]%zz#f HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH /<>\"{}|\\^`[]%zz#f a None");
    check("GET /\u{e4}\u{2603} HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX: \u{1}\r\n\r\n", "GET /\u{e4}\u{2603} a None");
    check("GET / HTTP/1.1\r\nHost: a\r\nX-Host: b\r\nContent_Length: 3\r\n\r\n", "GET / a None");
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n",
        "GET / a Length(9223372036854775807)",
    );
}

#[test]
fn what_two_servers_could_read_differently_is_doubted_with_the_line_that_shows_it() {
    let check = |request: &[u8], doubt: Doubt| {
        assert_eq!(read(request), Err(doubt), "{:?}", request.escape_ascii().to_string());
        assert_eq!(
            read(&[request, b"\r\nmore\r\n\r\n"].concat()),
            Err(doubt),
            "{:?} and more",
            request.escape_ascii().to_string()
        );
    };
    let line = |line: &[u8]| {
        let host: &[u8] = if line.to_ascii_lowercase().starts_with(b"host") { b"" } else { b"Host: a\r\n" };
        [b"POST / HTTP/1.1\r\n", host, line, b"\r\n\r\n"].concat()
    };
    check(b"\n", Doubt::BareLineFeed);
    check(b"\rG", Doubt::BareCarriageReturn);
    check(b"GET / HTTP/1.1\n", Doubt::BareLineFeed);
    check(b"GET / HTTP/1.1\rH", Doubt::BareCarriageReturn);
    check(b"\x16\x03", Doubt::OddMethod);
    check(b" GET", Doubt::OddMethod);
    check(b"GE\0T", Doubt::OddMethod);
    check(b"GET\t/ HTTP/1.1\r\n", Doubt::OddMethod);
    check(&[b'A'; MAX_METHOD + 1], Doubt::OddMethod);
    check(b"GET\r", Doubt::OddRequestLine);
    for request in [
        "GET  / HTTP/1.1\r\n",
        "GET / \r\n",
        "GET /\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET /  HTTP/1.1\r\n",
        "GET /a b HTTP/1.1\r\n",
    ] {
        let expected = if request == "GET / \r\n" { Doubt::OddVersion } else { Doubt::OddRequestLine };
        check(request.as_bytes(), expected);
    }
    for version in
        ["HTTP/1.2", "HTTP/0.9", "HTTP/2.0", "http/1.1", "HTTP/1.1\t", "HTTP/01.1", "HTTP/1", "HTTP/1.10", "XTTP/1.1"]
    {
        check(format!("GET / {version}\r\n").as_bytes(), Doubt::OddVersion);
    }
    for target in ["a", "a.example/x", "ftp://a/", "http:/a", "mailto:a", "?x", "**", "/\u{1}", "/\u{7f}", "/\0", "/\t"]
    {
        check(format!("GET {target} HTTP/1.1\r\n").as_bytes(), Doubt::OddTarget);
    }
    for target in ["http://", "http:///x", "http://u@a/", "http://a:/", "http://a:b/", "http://a\\b/", "http://\u{e4}/"]
    {
        check(format!("GET {target} HTTP/1.1\r\n").as_bytes(), Doubt::OddHost);
    }
    check(b"CONNECT a HTTP/1.1\r\n", Doubt::OddTarget);
    check(b"CONNECT /a:1 HTTP/1.1\r\n", Doubt::OddHost);
    check(b"CONNECT http://a:1 HTTP/1.1\r\n", Doubt::OddHost);

    check(b"GET / HTTP/1.1\r\n\r\n", Doubt::NoHost);
    check(b"GET http://a/ HTTP/1.1\r\n\r\n", Doubt::NoHost);
    check(b"GET / HTTP/1.1\r\n Host: a\r\n", Doubt::Folded);
    check(&line(b"X: a\r\n\tb: c"), Doubt::Folded);
    check(&line(b"X: a\r\n \r\nHost: b"), Doubt::Folded);
    check(&line(b"X"), Doubt::NoColon);
    check(&line(b": a"), Doubt::EmptyName);
    check(&line(b"Host : a"), Doubt::SpaceBeforeColon);
    check(&line(b"Transfer-Encoding\t: chunked"), Doubt::SpaceBeforeColon);
    check(&line(b"Content-Length\x0b: 5"), Doubt::OddName);
    check(&line(b"Content Length: 5"), Doubt::OddName);
    check(&line(b"X\0: 5"), Doubt::OddName);
    check(&line(b"X: a\0b"), Doubt::Nul);
    check(&line(b"X: a\nY: b"), Doubt::BareLineFeed);
    check(&line(b"X: a\rY: b"), Doubt::BareCarriageReturn);

    for host in ["", "a b", "a,b", "a/", "u@a", "a:", "a:x", "a:080", "::1", "[::1", "a%41", "a\u{e4}", "http://a"] {
        check(&line(format!("Host: {host}").as_bytes()), Doubt::OddHost);
    }
    check(&line(b"Host: a\r\nHost: a"), Doubt::SeveralHosts);
    check(b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Doubt::HostDiffers);
    check(b"GET http://a/ HTTP/1.1\r\nHost: a:8080\r\n\r\n", Doubt::HostDiffers);
    check(b"CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", Doubt::HostDiffers);
    check(b"CONNECT a:443 HTTP/1.1\r\nContent-Length: 1\r\n\r\n", Doubt::ConnectWithBody);

    for length in [
        "",
        "+5",
        "-5",
        "5, 5",
        "5,5",
        "0x5",
        "5 5",
        "5;",
        "5.0",
        "05",
        "00",
        "a",
        "\"5\"",
        "5\u{b}",
        "9223372036854775808",
        "99999999999999999999",
    ] {
        check(&line(format!("Content-Length: {length}").as_bytes()), Doubt::OddLength);
    }
    check(&line(b"Content-Length: 5\r\nContent-Length: 6"), Doubt::LengthsDiffer);
    check(&line(b"Content-Length: x\r\nContent-Length: 6"), Doubt::OddLength);
    check(&line(b"Content-Length: 5\r\nTransfer-Encoding: chunked"), Doubt::LengthAndCoding);
    check(&line(b"Transfer-Encoding: x\r\nContent-Length: 5"), Doubt::LengthAndCoding);
    for coding in [
        "",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "x chunked",
        "\u{b}chunked",
        "\"chunked\"",
    ] {
        check(&line(format!("Transfer-Encoding: {coding}").as_bytes()), Doubt::OddCoding);
    }
    check(&line(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Doubt::OddCoding);
    check(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Doubt::CodingInHttp10);
    check(&line(b"Connection: close\x0b"), Doubt::OddConnection);
}

#[test]
fn path_and_query_are_of_the_target() {
    let check = |target: &str, path: &str, query: Option<&str>| {
        let bytes = format!("GET {target} HTTP/1.0\r\n\r\n");
        let head = whole(&bytes);
        let found = (head.path(bytes.as_bytes()), head.query(bytes.as_bytes()));
        assert_eq!(found, (path.as_bytes(), query.map(str::as_bytes)), "{target:?}");
    };
    check("/", "/", None);
    check("/a?", "/a", Some(""));
    check("/a?b?c#d", "/a", Some("b?c#d"));
    check("/a#b?c", "/a#b", Some("c"));
    check("//a/../b", "//a/../b", None);
    check("*", "*", None);
    check("http://a", "/", None);
    check("http://a?b", "/", Some("b"));
    check("http://a:80/c?b", "/c", Some("b"));
}

#[test]
fn the_connection_s_end_is_what_both_sides_take_it_for() {
    let check = |version: &str, connection: &str, persists: bool, switches: bool| {
        let head = whole(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"));
        assert_eq!((head.persists(), head.switches()), (persists, switches), "{version} {connection:?}");
    };
    check("1.1", "", true, false);
    check("1.1", "Connection: x, CLOSE\r\n", false, false);
    check("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false, false);
    check("1.1", "Connection: closed\r\n", true, false);
    check("1.0", "", false, false);
    check("1.0", "Connection: Keep-Alive\r\n", true, false);
    check("1.1", "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", true, true);
    check("1.1", "Upgrade: h2c\r\n", true, true);
    let connect = whole("CONNECT a:1 HTTP/1.1\r\n\r\n");
    assert!(connect.switches());
    assert!(whole("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n").expects_continue());
    assert!(!whole("PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue());
    assert!(!whole("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\n\r\n").expects_continue());
}

#[test]
fn fields_are_given_as_sent() {
    let bytes = "GET / HTTP/1.1\r\nhOsT:  a \r\nX-B:\r\nx-b: 2:3\r\n\r\n";
    let head = whole(bytes);
    let fields: Vec<_> = head.fields(bytes.as_bytes()).collect();
    let found: Vec<_> = fields.iter().map(|field| (field.name, field.value, &bytes[field.lines.clone()])).collect();
    let expected: [(&str, &[u8], &str); 3] =
        [("hOsT", b"a", "hOsT:  a \r\n"), ("X-B", b"", "X-B:\r\n"), ("x-b", b"2:3", "x-b: 2:3\r\n")];
    assert_eq!(found, expected);
    assert_eq!(head.len(), bytes.len());
}

#[test]
fn a_head_is_interpreted_up_to_its_limit_and_however_many_fields_it_has() {
    let long = |len: usize| {
        let begin = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{begin}{}\r\n\r\n", "x".repeat(len - begin.len() - 4))
    };
    assert_eq!(read(long(MAX_HEAD).as_bytes()), Ok(Some("GET / a None".to_owned())));
    assert_eq!(read(long(MAX_HEAD + 1).as_bytes()), Err(Doubt::HeadTooLong));
    assert_eq!(read(&long(MAX_HEAD + 1).as_bytes()[..MAX_HEAD]), Err(Doubt::HeadTooLong));
    assert_eq!(read(&vec![b'\r'; MAX_HEAD * 2]), Err(Doubt::BareCarriageReturn));
    assert_eq!(read(&b"\r\n".repeat(MAX_HEAD)), Err(Doubt::HeadTooLong));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a:b\r\n".repeat(50_000));
    assert_eq!(read(many.as_bytes()), Ok(Some("GET / a None".to_owned())));
}

#[test]
fn a_head_is_reused_without_a_trace_of_the_one_before() {
    let mut head = RequestHead::default();
    let first = b"POST http://a:1/x?y HTTP/1.0\r\nHost: a:1\r\nContent-Length: 5\r\nConnection: close, upgrade\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(head.read(first), Ok(Read::Done));
    head.clear();
    let second = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(head.read(second), Ok(Read::Done));
    assert_eq!(said(&head, second), "GET / - None");
    assert!(head.persists() && !head.switches() && !head.expects_continue() && head.fields(second).count() == 1);
    assert_eq!(head.query(second), None);
}

/// Heads, near-heads and noise.
pub(in crate::http1) const LIKE_A_HEAD: &str = "(\r\n|\n|\r|\0| |\t|:|GET|POST|CONNECT|/|\\?|http://|a|b:1|HTTP/1\\.1|HTTP/1\\.0|Host: a\r\n|\
     Content-Length: 5\r\n|Content-Length|Transfer-Encoding: chunked\r\n|Connection: close\r\n|GET / HTTP/1\\.1\r\n|X: y\r\n|\r\n\r\n|\u{e4}){0,16}";

proptest! {
    #[test]
    fn reading_does_not_depend_on_segmentation(begin in "(GET / HTTP/1\\.1\r\n)?", rest in LIKE_A_HEAD, steps in prop::collection::vec(1_usize..9, 1..9)) {
        let bytes = [begin.as_bytes(), rest.as_bytes()].concat();
        let mut in_pieces = RequestHead::default();
        let mut end = 0;
        let mut found = Ok(Read::Partial);
        for step in steps.iter().cycle() {
            found = in_pieces.read(&bytes[..end]);
            if found != Ok(Read::Partial) || end == bytes.len() {
                break;
            }
            end = bytes.len().min(end + step);
        }
        let found = found.map(|read| (read == Read::Done).then(|| said(&in_pieces, &bytes)));
        prop_assert_eq!(found, read(&bytes));
    }
}
