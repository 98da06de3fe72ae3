//! The first request head that a proxy gets: which destination it names, and where the head ends.

use http::Uri;
use http::uri::{Authority, PathAndQuery};

use super::refusal::Refusal;
use crate::divert::Form;

/// Most header lines that are read.
const MAX_HEADERS: usize = 1024;

/// A complete first head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// CONNECT, or a request in absolute-form.
    pub form: Form,
    /// Name or address asked for.
    pub host: String,
    /// Port asked for, or the one that goes without saying.
    pub port: u16,
    /// Bytes of the head, its empty line included.
    pub length: usize,
}

/// Parses the first bytes of a connection; `None` while the head is incomplete.
///
/// # Errors
/// What the client is told instead of being served.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
        Err(_) => return Err(Refusal::NotHttp),
    };
    let (Some(method), Some(target)) = (request.method, request.path) else { return Err(Refusal::NotHttp) };
    let (form, authority) = match method {
        "CONNECT" => (Form::Tunnel, tunnel(target)?),
        _ => (Form::Requests, absolute(target)?),
    };
    let (host, port) = split(&authority, form)?;
    Ok(Some(Head { form, host, port, length }))
}

fn tunnel(target: &str) -> Result<Authority, Refusal> {
    target.parse().map_err(|_| Refusal::NoDestination { target: target.to_owned() })
}

fn absolute(target: &str) -> Result<Authority, Refusal> {
    if target.starts_with('/') || target == "*" {
        return Err(Refusal::NotForAProxy);
    }
    let uri: Uri = target.parse().map_err(|_| no_uri(target))?;
    destination(&uri).cloned()
}

/// What is wrong with a target that [`Uri`] does not take.
fn no_uri(target: &str) -> Refusal {
    let after = target.split_once("://").map_or("", |(_, after)| after);
    let path = after.find(['/', '?', '#']).and_then(|at| after.get(at..)).unwrap_or_default();
    let names_somebody = target.strip_suffix(path).is_some_and(|named| named.parse::<Uri>().is_ok());
    match barred(path).filter(|_| names_somebody) {
        Some(barred) => Refusal::Barred { barred },
        None => Refusal::NoDestination { target: target.to_owned() },
    }
}

/// The first character that keeps a path with its query from being passed on. What follows `#` is not passed on anyway.
fn barred(path: &str) -> Option<char> {
    let mut before = "/";
    path.split('#').next()?.chars().find(|character| {
        if *character == '?' {
            before = "/?";
        }
        format!("{before}{character}").parse::<PathAndQuery>().is_err()
    })
}

/// Whom a request in absolute-form asks.
///
/// # Errors
/// It is not in absolute-form, or its scheme is none that is spoken in the clear.
pub(crate) fn destination(uri: &Uri) -> Result<&Authority, Refusal> {
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) => Ok(authority),
        (Some(scheme), Some(_)) => Err(Refusal::Scheme { scheme: scheme.to_owned() }),
        _ => Err(Refusal::NotForAProxy),
    }
}

/// Host and port of an authority; credentials in it are nobody's business here.
pub(crate) fn split(authority: &Authority, form: Form) -> Result<(String, u16), Refusal> {
    let refused = || Refusal::NoDestination { target: authority.to_string() };
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let after = authority.as_str().rsplit('@').next().unwrap_or_default();
    let names_port = after.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.contains(']'));
    let port = match (authority.port_u16(), form) {
        (Some(port), _) => port,
        (None, Form::Requests) if !names_port => 80,
        (None, _) => return Err(refused()),
    };
    if host.is_empty() || port == 0 {
        return Err(refused());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Result<Option<(Form, String, u16)>, Refusal> {
        Ok(parse(text.as_bytes())?.map(|head| (head.form, head.host, head.port)))
    }

    #[test]
    fn both_forms_name_their_destination() {
        for (line, form, host, port) in [
            ("CONNECT api.customer.io:443", Form::Tunnel, "api.customer.io", 443),
            ("CONNECT [fd00::1]:8443", Form::Tunnel, "fd00::1", 8443),
            ("GET http://plain.example/x?y=1", Form::Requests, "plain.example", 80),
            ("POST http://user:secret@plain.example:8080/", Form::Requests, "plain.example", 8080),
            ("OPTIONS http://[::1]/", Form::Requests, "::1", 80),
            ("BREW HTTP://Plain.Example", Form::Requests, "Plain.Example", 80),
        ] {
            let read = head(&format!("{line} HTTP/1.1\r\nHost: other\r\n\r\nmore")).unwrap();
            assert_eq!(read, Some((form, host.to_owned(), port)), "{line}");
        }
    }

    #[test]
    fn what_a_proxy_does_not_serve_is_told_apart() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", Refusal::NotForAProxy),
            ("OPTIONS * HTTP/1.1\r\n\r\n", Refusal::NotForAProxy),
            ("GET https://a.example/ HTTP/1.1\r\n\r\n", Refusal::Scheme { scheme: "https".into() }),
            ("GET ftp://a.example/ HTTP/1.1\r\n\r\n", Refusal::Scheme { scheme: "ftp".into() }),
            ("GET http://a.example/x<\"` HTTP/1.1\r\n\r\n", Refusal::Barred { barred: '<' }),
            ("GET http://a.example/`?\" HTTP/1.1\r\n\r\n", Refusal::Barred { barred: '`' }),
            ("GET http://a.example?a`{\"#` HTTP/1.1\r\n\r\n", Refusal::Barred { barred: '"' }),
            ("GET http://a<b/x HTTP/1.1\r\n\r\n", Refusal::NoDestination { target: "http://a<b/x".into() }),
            ("GET http:///x HTTP/1.1\r\n\r\n", Refusal::NoDestination { target: "http:///x".into() }),
            ("CONNECT a.example HTTP/1.1\r\n\r\n", Refusal::NoDestination { target: "a.example".into() }),
            ("CONNECT a.example:0 HTTP/1.1\r\n\r\n", Refusal::NoDestination { target: "a.example:0".into() }),
            ("CONNECT a.example:99999 HTTP/1.1\r\n\r\n", Refusal::NoDestination { target: "a.example:99999".into() }),
            ("CONNECT /x HTTP/1.1\r\n\r\n", Refusal::NoDestination { target: "/x".into() }),
            ("\u{16}\u{3}\u{1}", Refusal::NotHttp),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::NotHttp),
            ("SSH-2.0-OpenSSH_9.2\r\n", Refusal::NotHttp),
        ] {
            assert_eq!(head(text), Err(expected), "{text:?}");
        }
        assert_eq!(parse(b"GET http://a.example/\xff HTTP/1.1\r\n\r\n"), Err(Refusal::NotHttp));
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(head(&format!("CONNECT a:1 HTTP/1.1\r\n{many}\r\n")), Err(Refusal::TooLarge));
    }

    #[test]
    fn the_head_ends_where_its_empty_line_does() {
        let head = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Connection: Keep-Alive\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(parse(&head[..cut]), Ok(None), "{cut}");
        }
        let with_more = [&head[..], b"\x16\x03\x01"].concat();
        assert_eq!(parse(&with_more).unwrap().unwrap().length, head.len());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_target_makes_it_panic(method in "[A-Z]{1,8}", target in "[ -~]{0,40}") {
            let _ = parse(format!("{method} {target} HTTP/1.1\r\n\r\n").as_bytes());
        }
    }
}
