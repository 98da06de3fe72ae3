//! What is special to TLS: its ends, its protocols, its records.

use super::ends::{CLIENT, FINISH, ORIGIN};
use super::{Case, GET, OK, case, pattern};
use crate::script::{Close, Layer};

pub(super) fn cases() -> Vec<Case> {
    let cases = vec![
        case("truncated-close-delimited-body", |s| {
            s.asks(GET).answers("HTTP/1.1 200 OK\r\n\r\nis this all?").closes(ORIGIN, Close::Cut);
        }),
        case("truncated-while-idle", |s| {
            s.asks(GET).answers(OK).closes(ORIGIN, Close::Cut);
        }),
        case("truncated-in-an-answer", |s| {
            s.asks(GET).answers("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").closes(ORIGIN, Close::Cut);
        }),
        case("client-cuts-while-idle", |s| {
            s.asks(GET).answers(OK).closes(CLIENT, Close::Cut);
        }),
        case("client-says-its-last-and-waits", |s| {
            s.asks(GET).closes(CLIENT, Close::Notify).answers(OK).closes(ORIGIN, FINISH).closes(CLIENT, Close::Cut);
        }),
        case("origin-says-its-last-and-hears-on", |s| {
            s.asks("POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4\r\n\r\n").answers(OK);
            s.closes(ORIGIN, Close::Notify).asks("body").closes(CLIENT, FINISH).closes(ORIGIN, Close::Cut);
        }),
        case("no-protocol-offered", |s| {
            s.asks(GET).answers(OK);
        })
        .speaking(&[], &["http/1.1"]),
        case("no-protocol-known", |s| {
            s.asks(GET).answers(OK);
        })
        .speaking(&["http/1.1"], &[]),
        case("both-offered-and-one-known", |s| {
            s.asks(GET).answers(OK);
        })
        .speaking(&["h2", "http/1.1"], &["http/1.1"]),
        case("no-http-inside", |s| {
            s.asks(b"\x01\x02 neither\xff")
                .answers(b"\x03 nor")
                .asks(pattern(40_000))
                .answers(pattern(50_000))
                .closes(CLIENT, FINISH);
        })
        .speaking(&[], &[]),
        case("server-first-inside", |s| {
            s.answers("220 ready\r\n").asks("HELO\r\n").answers("250 ok\r\n");
        })
        .speaking(&[], &[]),
        case("another-protocol-offered", |s| {
            s.asks("SELECT 1").answers("1");
        })
        .speaking(&["postgresql"], &["postgresql"])
        .left_alone(),
        case("records-as-large-as-may-be", |s| {
            let body = pattern(100_000);
            s.asks(
                [b"POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 100000\r\n\r\n".as_slice(), &body].concat(),
            )
            .answers([b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".as_slice(), &body].concat());
        }),
    ];
    cases.into_iter().map(|case| case.only(Layer::Secret)).collect()
}
