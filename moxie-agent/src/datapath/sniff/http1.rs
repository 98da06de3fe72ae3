//! The first HTTP/1 request head (RFC 9112), read from peeked bytes as [`crate::http1`] reads every head.
//!
//! Whether this is HTTP/1 is decided by the request line. A head that two readers could read differently names nobody: what it asks
//! is for the destination to judge, and for the record to tell.

use super::Progress;
use crate::http1::{Doubt, Read, RequestHead};

/// What the agent wants to know of the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Authority the client asked for: of an absolute-form target, else of the Host header; as sent.
    pub authority: Option<String>,
    /// Why it is not interpreted; then there is no authority.
    pub doubt: Option<Doubt>,
}

/// Parses the first bytes of a connection.
#[must_use]
pub fn parse(bytes: &[u8]) -> Progress<Head> {
    let mut head = RequestHead::default();
    match head.read(bytes) {
        Ok(Read::Partial) => Progress::Partial,
        Ok(Read::Done) => Progress::Done(Head { authority: head.authority(bytes).map(str::to_owned), doubt: None }),
        Err(doubt) if is_other(doubt, bytes) => Progress::Other,
        Err(doubt) => Progress::Done(Head { authority: None, doubt: Some(doubt) }),
    }
}

/// Whether bytes that are doubted are no HTTP/1 at all.
fn is_other(doubt: Doubt, bytes: &[u8]) -> bool {
    match doubt {
        Doubt::OddMethod | Doubt::OddRequestLine | Doubt::OddVersion => true,
        Doubt::BareLineFeed | Doubt::BareCarriageReturn => !begins_like_a_request(bytes),
        _ => false,
    }
}

/// Other protocols end lines with LF alone too. Only the first line counts, so that more bytes change nothing.
fn begins_like_a_request(mut bytes: &[u8]) -> bool {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    let first = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    first.is_some_and(|line| memchr::memmem::find(line, b" HTTP/1.").is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn done(authority: Option<&str>) -> Progress<Head> {
        Progress::Done(Head { authority: authority.map(str::to_owned), doubt: None })
    }

    const REQUESTS: [(&str, Option<&str>); 11] = [
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", Some("a.example")),
        ("GET / HTTP/1.1\r\nhOST:a.example:8080  \r\n\r\n", Some("a.example:8080")),
        ("\r\n\r\nGET / HTTP/1.0\r\nAccept: */*\r\nHOST:\t A.Example\r\n\r\n", Some("A.Example")),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("GET /a<b>`\"{}|\\^[]%zz#f HTTP/1.1\r\nHost: a\r\n\r\n", Some("a")),
        ("M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n", Some("a")),
        ("GET http://b.example/x?y HTTP/1.1\r\nHost: b.example\r\n\r\n", Some("b.example")),
        ("GET https://b.example:8443?u=http://c HTTP/1.0\r\n\r\n", Some("b.example:8443")),
        ("CONNECT b.example:443 HTTP/1.1\r\nHost: b.example\r\n\r\n", Some("b.example:443")),
        ("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n", Some("[2001:db8::1]:443")),
        ("GET / HTTP/1.1\r\nX-Host: b\r\nHosts: c\r\nHost: a\r\n\r\n", Some("a")),
    ];

    #[test]
    fn requests_are_recognised_whole_and_partial_before() {
        for (request, authority) in REQUESTS {
            assert_eq!(parse(request.as_bytes()), done(authority), "{request:?}");
            assert_eq!(parse(&[request.as_bytes(), b"body\xff"].concat()), done(authority), "{request:?}");
            for end in 0..request.len() {
                assert_eq!(parse(&request.as_bytes()[..end]), Progress::Partial, "{:?}", &request[..end]);
            }
        }
    }

    #[test]
    fn a_request_with_two_readings_is_http_that_names_nobody() {
        let check = |request: &str, doubt: Doubt| {
            let expected = Progress::Done(Head { authority: None, doubt: Some(doubt) });
            assert_eq!(parse(request.as_bytes()), expected, "{request:?}");
        };
        check("GET / HTTP/1.1\nHost: a\n\n", Doubt::BareLineFeed);
        check("GET / HTTP/1.1\rHost: a\r\r", Doubt::BareCarriageReturn);
        check("GET / HTTP/1.1\r\nHost: a\n", Doubt::BareLineFeed);
        check("GET /\0 HTTP/1.1\r\n", Doubt::OddTarget);
        check("GET b.example HTTP/1.1\r\n", Doubt::OddTarget);
        check("GET http://user:pw@b.example/ HTTP/1.1\r\n", Doubt::OddHost);
        check("GET / HTTP/1.1\r\nHost: a\r\nhost: A\r\n\r\n", Doubt::SeveralHosts);
        check("GET / HTTP/1.1\r\nHost : a\r\n", Doubt::SpaceBeforeColon);
        check("GET / HTTP/1.1\r\nHost: a\r\n .example\r\n", Doubt::Folded);
        check("GET / HTTP/1.1\r\nHost: a\0b\r\n", Doubt::Nul);
        check("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Doubt::OddHost);
        check("GET / HTTP/1.1\r\nno colon\r\n", Doubt::NoColon);
        check("GET / HTTP/1.1\r\n\r\n", Doubt::NoHost);
        check(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Doubt::LengthAndCoding,
        );
    }

    #[test]
    fn other_protocols_are_refused_with_the_first_byte_that_shows_it() {
        let check = |bytes: &[u8]| {
            assert_eq!(parse(bytes), Progress::Other, "{bytes:?}");
            assert_eq!(parse(&bytes[..bytes.len() - 1]), Progress::Partial, "{bytes:?}");
        };
        check(b"\x16");
        check(b"\0");
        check(b" ");
        check(b"\n");
        check(b"\rX");
        check(b"SSH-2.0-OpenSSH_9.2\r");
        check(b"PING\r");
        check(b"*1\r");
        check(b"*1\n");
        check(b"GET  /\r\n");
        check(b"GET /\r\n");
        check(b"GET a\n");
        check(b"EHLO mail.example\r\n");
        check(b"GET / HTTQ/1.1\r\n");
        check(b"GET / HTTP/1.2\r\n");
        check(b"PRI * HTTP/2.0\r\n");
        check(b"GET /a b HTTP/1.1\r\n");
        check(&[b'A'; crate::http1::request::MAX_METHOD + 1]);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_a_verdict_is_final(bytes in "(GET |http://|/|HTTP/1\\.1|\r\n|\n|Host|:|a| |\\PC){0,24}") {
            let mut last = Progress::Partial;
            for end in 0..=bytes.len() {
                let now = parse(&bytes.as_bytes()[..end]);
                prop_assert!(last == Progress::Partial || now == last);
                last = now;
            }
        }
    }
}
