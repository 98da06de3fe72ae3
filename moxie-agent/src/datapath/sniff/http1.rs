//! The first HTTP/1 request head (RFC 9112), read from peeked bytes.
//!
//! Only the request line decides whether this is HTTP/1; header lines are read for Host alone and never refused, since what is
//! odd about them is for the destination to judge. Where two readers could disagree about the host, there is no authority.

use super::Progress;

/// Longest method accepted; the longest registered one has 17 bytes.
const MAX_METHOD: usize = 64;
/// What every version of this protocol starts with.
const VERSION: &[u8] = b"HTTP/1.";

/// What the agent wants to know of the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Authority the client asked for: of an absolute-form target, else of the Host header; as sent.
    pub authority: Option<String>,
}

/// Parses the first bytes of a connection.
#[must_use]
pub fn parse(bytes: &[u8]) -> Progress<Head> {
    let (line, rest) = match request_line(skip_empty_lines(bytes)) {
        Progress::Done(found) => found,
        Progress::Partial => return Progress::Partial,
        Progress::Other => return Progress::Other,
    };
    let Some(host) = host(rest) else { return Progress::Partial };
    let authority = match line {
        Target::Names(authority) => authority,
        Target::AskHost => host,
    };
    Progress::Done(Head { authority: authority.and_then(authority_text) })
}

/// Where a request line says that the authority is.
enum Target<'a> {
    /// In the target itself (absolute-form, authority-form); none if it cannot be read without doubt.
    Names(Option<&'a [u8]>),
    /// In the Host header (origin-form, asterisk-form).
    AskHost,
}

/// RFC 9112 section 2.2: a server ignores empty lines before the request line.
fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")) {
        bytes = rest;
    }
    bytes
}

/// Reads `METHOD SP TARGET SP HTTP/1.x [CR] LF`; gives what follows too.
fn request_line(bytes: &[u8]) -> Progress<(Target<'_>, &[u8])> {
    if bytes.is_empty() || bytes == b"\r" {
        return Progress::Partial;
    }
    let method = bytes.iter().take_while(|byte| is_token(**byte)).count();
    let Some((method, rest)) = bytes.split_at_checked(method) else { return Progress::Other };
    if method.len() > MAX_METHOD || (method.is_empty() && !rest.is_empty()) {
        return Progress::Other;
    }
    let rest = match rest.split_first() {
        None => return Progress::Partial,
        Some((b' ', rest)) => rest,
        Some(_) => return Progress::Other,
    };
    let Some(end) = rest.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n')) else { return Progress::Partial };
    let (Some(target), Some((b' ', rest))) = (rest.get(..end), rest.get(end..).and_then(<[u8]>::split_first)) else {
        return Progress::Other;
    };
    if target.is_empty() {
        return Progress::Other;
    }
    match version(rest) {
        Progress::Done(rest) => Progress::Done((authority_of(method, target), rest)),
        Progress::Partial => Progress::Partial,
        Progress::Other => Progress::Other,
    }
}

/// Reads `HTTP/1.x [CR] LF`; gives what follows.
fn version(bytes: &[u8]) -> Progress<&[u8]> {
    let known = bytes.len().min(VERSION.len());
    if bytes.get(..known) != VERSION.get(..known) {
        return Progress::Other;
    }
    match bytes.get(VERSION.len()..).unwrap_or_default() {
        [] => Progress::Partial,
        [digit, ..] if !digit.is_ascii_digit() => Progress::Other,
        [_] | [_, b'\r'] => Progress::Partial,
        [_, b'\n', rest @ ..] | [_, b'\r', b'\n', rest @ ..] => Progress::Done(rest),
        _ => Progress::Other,
    }
}

fn authority_of<'a>(method: &[u8], target: &'a [u8]) -> Target<'a> {
    if method == b"CONNECT" {
        return Target::Names(Some(target));
    }
    if target.starts_with(b"/") || target == b"*" {
        return Target::AskHost;
    }
    // Anything else is read as absolute-form; without a scheme there is nobody to ask.
    let scheme = target.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    let after = target.get(scheme..).and_then(|rest| rest.strip_prefix(b"://"));
    Target::Names(after.and_then(|rest| rest.split(|byte| b"/?#".contains(byte)).next()))
}

/// The Host of a complete header section, none if there is none or the lines disagree; `None` while the section is incomplete.
fn host(mut rest: &[u8]) -> Option<Option<&[u8]>> {
    let mut host = None;
    let mut doubt = false;
    let mut after_host = false;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = rest.get(..end).map(|line| line.strip_suffix(b"\r").unwrap_or(line))?;
        rest = rest.get(end + 1..)?;
        if line.is_empty() {
            return Some(host.filter(|_| !doubt));
        }
        // A folded line continues the one before it (RFC 9112 section 5.2); some readers join it, some do not.
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            doubt |= after_host;
            continue;
        }
        let (name, value) = split_field(line);
        after_host = name.trim_ascii().eq_ignore_ascii_case(b"host");
        if after_host {
            doubt |= name.len() != b"host".len() || host.is_some_and(|first: &[u8]| !first.eq_ignore_ascii_case(value));
            host = host.or(Some(value));
        }
    }
}

fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
    (name, value.strip_prefix(b":").unwrap_or(value).trim_ascii())
}

/// User information (`user@host`) makes readers disagree about the host: not an authority.
fn authority_text(bytes: &[u8]) -> Option<String> {
    let plain = !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_graphic() && !b"@/?#\\,".contains(byte));
    plain.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn done(authority: Option<&str>) -> Progress<Head> {
        Progress::Done(Head { authority: authority.map(str::to_owned) })
    }

    const REQUESTS: [(&str, Option<&str>); 25] = [
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", Some("a.example")),
        ("GET / HTTP/1.1\nhOST:a.example:8080  \n\n", Some("a.example:8080")),
        ("\r\n\n\r\nGET / HTTP/1.0\r\nAccept: */*\r\nHOST:\t A.Example\r\n\r\n", Some("A.Example")),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("GET /a<b>`\"{}|\\^[]%zz#f HTTP/1.1\r\nHost: a\r\n\r\n", Some("a")),
        ("M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n", Some("a")),
        ("GET http://b.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", Some("b.example")),
        ("GET https://b.example:8443?u=http://c HTTP/1.1\r\n\r\n", Some("b.example:8443")),
        ("GET http://user:pw@b.example/ HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET b.example HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("CONNECT b.example:443 HTTP/1.1\r\nHost: a\r\n\r\n", Some("b.example:443")),
        ("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n", Some("[2001:db8::1]:443")),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: A\r\n\r\n", Some("a")),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\n .example\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nX: y\r\n folded\r\nHost: a\r\n\r\n", Some("a")),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nno colon\r\n: empty\r\nHost: a\r\n\r\n", Some("a")),
        ("GET / HTTP/1.1\r\nX-Host: b\r\nHosts: c\r\nHost: a\r\n\r\n", Some("a")),
        ("OPTIONS * HTTP/1.9\r\nHost: a\r\n\r\n", Some("a")),
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
    fn other_protocols_are_refused_with_the_first_byte_that_shows_it() {
        let check = |bytes: &[u8]| {
            assert_eq!(parse(bytes), Progress::Other, "{bytes:?}");
            assert_eq!(parse(&bytes[..bytes.len() - 1]), Progress::Partial, "{bytes:?}");
        };
        check(b"\x16");
        check(b"\0");
        check(b" ");
        check(b"\rX");
        check(b"SSH-2.0-OpenSSH_9.2\r");
        check(b"PING\r");
        check(b"*1\r");
        check(b"GET  ");
        check(b"GET /\r");
        check(b"EHLO mail.example\r");
        check(b"GET / HTTQ");
        check(b"GET / HTTP/1.x");
        check(b"GET / HTTP/1.1 ");
        check(b"GET / HTTP/1.1\rX");
        check(b"PRI * HTTP/2");
        check(b"GET /a b");
        check(&[b'A'; MAX_METHOD + 1]);
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
