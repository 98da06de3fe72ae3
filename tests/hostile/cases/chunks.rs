//! Chunked bodies.

use super::Cases;

/// Bodies, all of a request that says `Transfer-Encoding: chunked`.
const BODIES: [(&str, &[u8]); 62] = [
    ("plain", b"3\r\nabc\r\n0\r\n\r\n"),
    ("empty", b"0\r\n\r\n"),
    ("upper-hex", b"A\r\n0123456789\r\n0\r\n\r\n"),
    ("lower-hex", b"a\r\n0123456789\r\n0\r\n\r\n"),
    ("leading-zeros", b"0003\r\nabc\r\n000\r\n\r\n"),
    ("16-digits", b"0000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("17-digits", b"00000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("33-digits", b"000000000000000000000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("space-before", b" 3\r\nabc\r\n0\r\n\r\n"),
    ("space-after", b"3 \r\nabc\r\n0\r\n\r\n"),
    ("tab-after", b"3\t\r\nabc\r\n0\r\n\r\n"),
    ("vertical-tab-after", b"3\x0b\r\nabc\r\n0\r\n\r\n"),
    ("plus", b"+3\r\nabc\r\n0\r\n\r\n"),
    ("minus", b"-3\r\nabc\r\n0\r\n\r\n"),
    ("minus-zero", b"3\r\nabc\r\n-0\r\n\r\n"),
    ("0x", b"0x3\r\nabc\r\n0\r\n\r\n"),
    ("h", b"3h\r\nabc\r\n0\r\n\r\n"),
    ("underscore", b"0_3\r\nabc\r\n0\r\n\r\n"),
    ("no-digits", b"\r\nabc\r\n0\r\n\r\n"),
    ("no-digits-extension", b";x\r\nabc\r\n0\r\n\r\n"),
    ("comma", b"3,3\r\nabc\r\n0\r\n\r\n"),
    ("nul", b"3\0\r\nabc\r\n0\r\n\r\n"),
    ("two-to-32", b"100000003\r\nabc\r\n0\r\n\r\n"),
    ("two-to-63", b"8000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("two-to-64", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("all-f", b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    ("two-to-64-zero", b"3\r\nabc\r\n10000000000000000\r\n\r\n"),
    ("extension", b"3;x\r\nabc\r\n0\r\n\r\n"),
    ("extension-value", b"3;x=y\r\nabc\r\n0;z\r\n\r\n"),
    ("extension-quoted", b"3;x=\"y;z\"\r\nabc\r\n0\r\n\r\n"),
    ("extension-space", b"3; x\r\nabc\r\n0\r\n\r\n"),
    ("extension-space-before", b"3 ;x\r\nabc\r\n0\r\n\r\n"),
    ("extension-empty", b"3;\r\nabc\r\n0\r\n\r\n"),
    ("extension-lf", b"3;x\nabc\r\n0\r\n\r\n"),
    ("extension-hidden-lf", b"3;x\n0\r\nabc\r\n0\r\n\r\n"),
    ("extension-cr", b"3;x\ry\r\nabc\r\n0\r\n\r\n"),
    ("extension-quoted-crlf", b"3;x=\"\r\nabc\r\n0\r\n\r\n"),
    ("extension-control", b"3;\x01\r\nabc\r\n0\r\n\r\n"),
    ("extension-high", b"3;\xff\r\nabc\r\n0\r\n\r\n"),
    ("size-lf", b"3\nabc\r\n0\r\n\r\n"),
    ("size-cr", b"3\rabc\r\n0\r\n\r\n"),
    ("size-cr-cr-lf", b"3\r\r\nabc\r\n0\r\n\r\n"),
    ("data-lf", b"3\r\nabc\n0\r\n\r\n"),
    ("data-cr", b"3\r\nabc\r0\r\n\r\n"),
    ("data-nothing", b"3\r\nabc0\r\n\r\n"),
    ("data-two", b"3\r\nabcxx0\r\n\r\n"),
    ("data-long", b"3\r\nabcd\r\n0\r\n\r\n"),
    ("last-lf", b"3\r\nabc\r\n0\n\r\n"),
    ("last-lf-lf", b"3\r\nabc\r\n0\n\n"),
    ("end-lf", b"3\r\nabc\r\n0\r\n\n"),
    ("end-cr", b"3\r\nabc\r\n0\r\n\r"),
    ("end-missing", b"3\r\nabc\r\n0\r\n"),
    ("end-text", b"3\r\nabc\r\n0\r\nxx"),
    ("trailer", b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"),
    ("trailer-length", b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n"),
    ("trailer-coding", b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("trailer-host", b"3\r\nabc\r\n0\r\nHost: b.example\r\n\r\n"),
    ("trailer-lf", b"3\r\nabc\r\n0\r\nX-Sum: 1\n\r\n"),
    ("trailer-folded", b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n 2\r\n\r\n"),
    ("trailer-no-colon", b"3\r\nabc\r\n0\r\nX-Sum\r\n\r\n"),
    ("trailer-space", b"3\r\nabc\r\n0\r\nX-Sum : 1\r\n\r\n"),
    ("trailer-nul", b"3\r\nabc\r\n0\r\nX-Sum: \0\r\n\r\n"),
];

pub(super) fn add(cases: &mut Cases) {
    for (name, body) in BODIES {
        cases.post(format!("chunk/{name}"), "Transfer-Encoding: chunked\r\n", body);
    }
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(20_000));
    cases.post("chunk/extension-long".to_owned(), "Transfer-Encoding: chunked\r\n", long);
    let some = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(3_000));
    cases.post("chunk/extension-of-3000".to_owned(), "Transfer-Encoding: chunked\r\n", some);
}
