//! Targets: every byte, every form.

use super::{Case, OK, case};

pub(super) fn cases() -> Vec<Case> {
    vec![
        odd_bytes("path-bytes", |byte| [b"/a".as_slice(), &[byte], b"b"].concat()),
        odd_bytes("query-bytes", |byte| [b"/a?b=".as_slice(), &[byte], b"c"].concat()),
        first("control-byte-in-the-path", b"/a\x01b"),
        first("lone-byte-in-the-path", b"/a\xffb"),
        first("angle-brackets-in-the-path", b"/a<b>`c"),
        first("quotes-in-the-query", b"/a?b=\"<c>\""),
        first("fragment", b"/a?b=1#fragment"),
        first("percent-signs", b"/%zz/%00/%2e%2e/%"),
        first("dots-and-slashes", b"//a/./b/../c//"),
        first("overlong-utf-8", b"/%c0%af/\xc0\xaf"),
        first("colons-and-at-signs", b"/a:b@c;d=e,f"),
        first("backslashes", b"/a\\b\\..\\c"),
        first("absolute-form", b"http://api.example/a?b"),
        first("absolute-form-of-another-scheme", b"https://api.example:8443/a"),
        first("empty-query", b"/a?"),
        first("authority-form-without-connect", b"api.example:80").opaque(),
    ]
}

fn get(target: &[u8]) -> Vec<u8> {
    [b"GET ".as_slice(), target, b" HTTP/1.1\r\nHost: api.example\r\n\r\n"].concat()
}

fn first(name: &'static str, target: &'static [u8]) -> Case {
    case(name, |s| {
        s.asks(get(target)).answers(OK);
    })
}

/// One request for each byte but those that end a target or a line, on one connection.
fn odd_bytes(name: &'static str, target: impl Fn(u8) -> Vec<u8>) -> Case {
    case(name, |s| {
        // By the first one it is known whose these are.
        s.asks(get(b"/")).answers(OK);
        for byte in (0..=u8::MAX).filter(|byte| ![b' ', b'\r', b'\n', b'\t', 0x0b, 0x0c].contains(byte)) {
            s.asks(get(&target(byte))).answers(OK);
        }
    })
}
