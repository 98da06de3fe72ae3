//! HTTP/2, frame by frame.

mod rules;

use super::ends::{CLIENT, FINISH, ORIGIN};
use super::{COUNTED, Case, case, pattern};
use crate::frames::Last::{No, Yes};
use crate::frames::{
    PREFACE, block, data, flag, frame, goaway, headers, kind, literal, reset, settings, settings_ack, window,
};
use crate::script::{Close, Script};

pub(super) fn cases() -> Vec<Case> {
    [heads(), streams(), bodies(), connection(), ends(), odd(), rules::cases()]
        .concat()
        .into_iter()
        .map(Case::counted)
        .collect()
}

/// A case whose parties have greeted each other and agreed on HTTP/2.
fn http2(name: &'static str, write: impl FnOnce(&mut Script)) -> Case {
    case(name, |s| {
        greet(s);
        write(s);
    })
    .speaking(&["h2", "http/1.1"], &["h2", "http/1.1"])
}

/// The client asks at once, as clients do that know whom they talk to; stream 1 is used up by that.
fn greet(s: &mut Script) {
    s.asks([PREFACE, &settings(&[]), &get(1, "/")].concat());
    s.answers([settings(&[]), settings_ack(), ok(1)].concat()).asks(settings_ack());
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, &head("GET", path), Yes)
}

fn post(stream: u32) -> Vec<u8> {
    headers(stream, &head("POST", "/"), No)
}

fn head<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "https"), (":authority", COUNTED), (":path", path)]
}

fn with<'a>(method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&head(method, "/")[..], more].concat()
}

fn ok(stream: u32) -> Vec<u8> {
    [headers(stream, &[(":status", "200")], No), data(stream, "ok", Yes)].concat()
}

/// Stream 3 asks with one frame and is answered with another.
fn one(name: &'static str, request: Vec<u8>, response: Vec<u8>) -> Case {
    http2(name, |s| {
        s.asks(request).answers(response);
    })
}

fn heads() -> Vec<Case> {
    let answered = |fields: &[(&str, &str)]| headers(3, &[&[(":status", "200")], fields].concat(), Yes);
    let many: Vec<(String, String)> = (0..300).map(|n| (format!("x-{n}"), n.to_string())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let long = "v".repeat(12_000);
    vec![
        one("h2-plain", get(3, "/a?b"), ok(3)),
        one(
            "h2-order-and-duplicates",
            headers(3, &with("GET", &[("x-b", "1"), ("accept", "*/*"), ("x-a", "2"), ("x-b", "3")]), Yes),
            answered(&[
                ("x-b", "1"),
                ("server", "s"),
                ("x-a", "2"),
                ("x-b", "3"),
                ("set-cookie", "a"),
                ("set-cookie", "b"),
            ]),
        ),
        one("h2-cookie-crumbs", headers(3, &with("GET", &[("cookie", "a=b"), ("cookie", "c=d")]), Yes), ok(3)),
        one("h2-host-beside-authority", headers(3, &with("GET", &[("host", COUNTED)]), Yes), ok(3)),
        one(
            "h2-host-without-authority",
            headers(3, &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", COUNTED)], Yes),
            ok(3),
        ),
        one(
            "h2-spaces-and-bytes-in-values",
            headers(3, &with("GET", &[("x-a", "caf\u{e9}"), ("x-b", "")]), Yes),
            ok(3),
        ),
        one("h2-odd-path", get(3, "/<a>\"`|%zz?\"{}#f"), ok(3)),
        one("h2-te-trailers", headers(3, &with("GET", &[("te", "trailers")]), Yes), ok(3)),
        one("h2-300-fields", headers(3, &with("GET", &many), Yes), answered(&many)),
        one("h2-long-values", headers(3, &with("GET", &[("x-long", &long)]), Yes), answered(&[("x-long", &long)])),
        one("h2-no-date-and-no-length", get(3, "/"), headers(3, &[(":status", "204")], Yes)),
        one("h2-head-with-a-length", headers(3, &head("HEAD", "/"), Yes), answered(&[("content-length", "5")])),
        one(
            "h2-not-modified-with-a-length",
            get(3, "/"),
            headers(3, &[(":status", "304"), ("content-length", "5")], Yes),
        ),
        one(
            "h2-never-indexed",
            frame(
                kind::HEADERS,
                flag::END_HEADERS | flag::END_STREAM,
                3,
                &[block(&head("GET", "/")), literal(0x10, "authorization", "secret")].concat(),
            ),
            ok(3),
        ),
        http2("h2-indexed-fields", |s| {
            let kept =
                [block(&head("GET", "/")), literal(0x40, "x-kept", "one"), literal(0x40, "x-also", "two")].concat();
            let told = [block(&[(":status", "200")]), literal(0x40, "x-told", "three")].concat();
            let whole = flag::END_HEADERS | flag::END_STREAM;
            s.asks(frame(kind::HEADERS, whole, 3, &kept)).answers(frame(kind::HEADERS, whole, 3, &told));
            // By their places in the table: the latest first.
            let named = [block(&head("GET", "/2")), vec![0xbe, 0xbf]].concat();
            let again = [block(&[(":status", "200")]), vec![0xbe]].concat();
            s.asks(frame(kind::HEADERS, whole, 5, &named)).answers(frame(kind::HEADERS, whole, 5, &again));
        }),
        http2("h2-continuation", |s| {
            s.asks(long_head().concat()).answers(ok(3));
        }),
        http2("h2-continuation-in-parts", |s| {
            for part in long_head() {
                s.asks(part);
            }
            s.answers(ok(3));
        }),
        http2("h2-padded", |s| {
            let padded = [&[3][..], &block(&head("POST", "/")), &[0; 3]].concat();
            s.asks(frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED, 3, &padded));
            s.asks(frame(kind::DATA, flag::END_STREAM | flag::PADDED, 3, b"\x05body\0\0\0\0\0")).answers(ok(3));
        }),
        http2("h2-priorities", |s| {
            let weighed = [&[0, 0, 0, 1, 200][..], &block(&head("GET", "/"))].concat();
            let flags = flag::END_HEADERS | flag::END_STREAM | flag::PRIORITY;
            s.asks(frame(kind::HEADERS, flags, 3, &weighed)).asks(frame(kind::PRIORITY, 0, 3, &[0, 0, 0, 0, 9]));
            s.answers(ok(3));
        }),
    ]
}

/// A head in three frames.
fn long_head() -> [Vec<u8>; 3] {
    let block = block(&with("GET", &[("x-long", &"v".repeat(30_000))]));
    [
        frame(kind::HEADERS, flag::END_STREAM, 3, &block[..16_000]),
        frame(kind::CONTINUATION, 0, 3, &block[16_000..20_000]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 3, &block[20_000..]),
    ]
}

fn streams() -> Vec<Case> {
    vec![
        http2("h2-five-streams-at-once", |s| {
            for stream in [3, 5, 7, 9, 11] {
                s.asks(get(stream, "/"));
            }
            for stream in [11, 3, 9, 5, 7] {
                s.answers(headers(stream, &[(":status", "200")], No));
            }
            for stream in [7, 9, 3, 11, 5] {
                s.answers(data(stream, format!("of {stream}"), Yes));
            }
        }),
        http2("h2-interim-answers", |s| {
            s.asks(headers(3, &with("POST", &[("expect", "100-continue")]), No)).answers(headers(
                3,
                &[(":status", "100")],
                No,
            ));
            s.asks(data(3, "body", Yes)).answers(headers(3, &[(":status", "103"), ("link", "<x>")], No)).answers(ok(3));
        }),
        http2("h2-trailers", |s| {
            s.asks(post(3)).asks(data(3, "body", No)).asks(headers(3, &[("x-sum", "1")], Yes));
            s.answers(headers(3, &[(":status", "200"), ("trailer", "x-sum")], No)).answers(data(3, "ok", No));
            s.answers(headers(3, &[("x-sum", "2"), ("grpc-status", "0")], Yes));
        }),
        http2("h2-grpc-both-ways", |s| {
            s.asks(headers(3, &with("POST", &[("content-type", "application/grpc"), ("te", "trailers")]), No));
            s.answers(headers(3, &[(":status", "200"), ("content-type", "application/grpc")], No));
            for message in 0..10 {
                s.asks(data(3, [0, 0, 0, 0, 1, message], No)).answers(data(3, [0, 0, 0, 0, 1, message], No));
            }
            s.asks(data(3, "", Yes)).answers(headers(3, &[("grpc-status", "0"), ("grpc-message", "")], Yes));
        }),
        http2("h2-grpc-trailers-only", |s| {
            s.asks(headers(3, &with("POST", &[("content-type", "application/grpc")]), No)).asks(data(3, [0; 5], Yes));
            s.answers(headers(
                3,
                &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "7")],
                Yes,
            ));
        }),
        http2("h2-answer-before-the-body-ends", |s| {
            s.asks(post(3))
                .asks(data(3, "half", No))
                .answers(headers(3, &[(":status", "413")], Yes))
                .answers(reset(3, 0));
            s.asks(get(5, "/")).answers(ok(5));
        }),
        http2("h2-codes-of-origin-resets", |s| {
            for (stream, code) in [(3, 1), (5, 2), (7, 7), (9, 8), (11, 11), (13, 13), (15, 0x1234)] {
                s.asks(get(stream, "/")).answers(reset(stream, code));
            }
            s.asks(get(17, "/")).answers(ok(17));
        }),
        http2("h2-codes-of-client-resets", |s| {
            for (stream, code) in [(3, 1), (5, 2), (7, 7), (9, 8), (11, 11), (13, 13), (15, 0x1234)] {
                s.asks(post(stream)).asks(reset(stream, code));
            }
            s.asks(get(17, "/")).answers(ok(17));
        }),
        http2("h2-reset-in-an-answer", |s| {
            s.asks(get(3, "/"))
                .answers(headers(3, &[(":status", "200")], No))
                .answers(data(3, "half", No))
                .answers(reset(3, 2));
            s.asks(get(5, "/"))
                .answers(headers(5, &[(":status", "200")], No))
                .answers(data(5, "half", No))
                .asks(reset(5, 8));
            s.asks(get(7, "/")).answers(ok(7));
        }),
        http2("h2-refused-stream", |s| {
            s.asks(get(3, "/")).answers(reset(3, 7)).asks(get(5, "/")).answers(ok(5));
        }),
        http2("h2-connect", |s| {
            s.asks(headers(3, &[(":method", "CONNECT"), (":authority", "other.example:443")], No));
            s.answers(headers(3, &[(":status", "200")], No)).asks(data(3, "\x16\x03\x01", No)).answers(data(
                3,
                "\x16\x03\x03",
                No,
            ));
            s.asks(data(3, "", Yes)).answers(data(3, "last", Yes));
        }),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        http2("h2-frames-as-they-are-cut", |s| {
            s.asks(post(3));
            for length in [1, 0, 10, 100, 1_000, 16_384] {
                s.asks(data(3, pattern(length), No));
            }
            s.asks(data(3, "", Yes)).answers(headers(3, &[(":status", "200")], No));
            for length in [16_384, 1, 0, 0, 500] {
                s.answers(data(3, pattern(length), No));
            }
            s.answers(data(3, "", Yes));
        }),
        http2("h2-windows", |s| {
            // 65,535 octets are all that may be on their way; the reader says when there may be more.
            s.asks(post(3));
            for _ in 0..6 {
                for _ in 0..3 {
                    s.asks(data(3, pattern(16_384), No));
                }
                s.answers([window(0, 49_152), window(3, 49_152)].concat());
            }
            s.asks(data(3, "", Yes)).answers(headers(3, &[(":status", "200")], No));
            for _ in 0..6 {
                for _ in 0..3 {
                    s.answers(data(3, pattern(16_384), No));
                }
                s.asks([window(3, 49_152), window(0, 49_152)].concat());
            }
            s.answers(data(3, "", Yes));
        }),
        http2("h2-large-windows", |s| {
            s.asks([window(0, 10_000_000), window(3 - 2, 1)].concat());
            s.asks([settings(&[(4, 8_000_000)]), get(3, "/")].concat()).answers(settings_ack());
            let body: Vec<u8> = (0..200).flat_map(|_| data(3, pattern(16_384), No)).collect();
            s.answers([headers(3, &[(":status", "200")], No), body, data(3, "", Yes)].concat());
        }),
        http2("h2-a-lengthened-frame", |s| {
            s.asks(settings(&[(5, 100_000), (4, 1_000_000)]))
                .answers(settings_ack())
                .asks([window(0, 1_000_000), get(3, "/")].concat());
            s.answers([headers(3, &[(":status", "200")], No), data(3, pattern(90_000), Yes)].concat());
        }),
        http2("h2-server-sent-events", |s| {
            s.asks(get(3, "/")).answers(headers(3, &[(":status", "200"), ("content-type", "text/event-stream")], No));
            for event in 0..20 {
                s.answers(data(3, format!("data: {event}\n\n"), No));
            }
            s.asks(reset(3, 8));
        }),
    ]
}

fn connection() -> Vec<Case> {
    let http2_from =
        |name, write: fn(&mut Script)| case(name, write).speaking(&["h2", "http/1.1"], &["h2", "http/1.1"]);
    vec![
        http2_from("h2-settings-of-both", |s| {
            s.asks(
                [PREFACE, &settings(&[(1, 8192), (2, 0), (3, 50), (4, 70_000), (6, 9_000), (0x99, 7)]), &get(1, "/")]
                    .concat(),
            );
            s.answers([settings(&[(3, 7), (4, 100_000), (8, 1), (0xaaaa, 1)]), settings_ack()].concat())
                .asks(settings_ack());
            s.answers(ok(1));
        }),
        http2_from("h2-extended-connect", |s| {
            s.asks([PREFACE, &settings(&[]), &get(1, "/")].concat());
            s.answers([settings(&[(8, 1)]), settings_ack(), ok(1)].concat()).asks(settings_ack());
            let chat = [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":authority", COUNTED),
                (":path", "/chat"),
                ("sec-websocket-version", "13"),
            ];
            s.asks(headers(3, &chat, No)).answers(headers(3, &[(":status", "200")], No));
            s.asks(data(3, b"\x81\x80\0\0\0\0", No))
                .answers(data(3, b"\x81\x02hi", No))
                .asks(data(3, "", Yes))
                .answers(data(3, "", Yes));
        }),
        http2_from("h2-client-that-waits-for-settings", |s| {
            s.asks([PREFACE, &settings(&[])].concat()).answers([settings(&[(3, 9)]), settings_ack()].concat());
            s.asks([settings_ack(), get(1, "/")].concat()).answers(ok(1));
        })
        // In the clear its host is not known until the server has spoken, so any rule makes the agent look into it.
        .looked_into(),
        http2("h2-settings-later", |s| {
            s.asks(settings(&[(4, 100_000)])).answers(settings_ack()).answers(settings(&[(3, 2)])).asks(settings_ack());
            s.asks(get(3, "/")).answers(ok(3));
        }),
        http2("h2-pings", |s| {
            s.asks(frame(kind::PING, 0, 0, b"of mine!")).answers(frame(kind::PING, flag::ACK, 0, b"of mine!"));
            s.answers(frame(kind::PING, 0, 0, b"of yours")).asks(frame(kind::PING, flag::ACK, 0, b"of yours"));
        }),
        http2("h2-unknown-frames", |s| {
            s.asks(frame(0xfa, 0x55, 0, b"what is this")).answers(frame(0x0c, 0, 0, b"\0\x13https://api.example"));
            s.answers(frame(0x0a, 0, 0, b"\0\x0bapi.exampleh3=\":443\""));
            s.asks(get(3, "/")).answers(frame(0xfb, 1, 3, b"of a stream")).answers(ok(3));
        }),
        http2("h2-windows-of-the-connection", |s| {
            s.asks(window(0, 1)).asks(window(0, 1_000_000)).answers(window(0, 77)).asks(get(3, "/")).answers(ok(3));
        }),
        http2("h2-pushed", |s| {
            s.asks(get(3, "/"));
            let promise = [&[0, 0, 0, 2][..], &block(&head("GET", "/pushed"))].concat();
            s.answers(frame(kind::PUSH_PROMISE, flag::END_HEADERS, 3, &promise)).answers(ok(3)).answers(ok(2));
        }),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        http2("h2-goaway-of-the-origin", |s| {
            s.asks(get(3, "/")).answers(goaway(3, 0, "")).answers(ok(3)).closes(ORIGIN, FINISH);
        }),
        http2("h2-goaway-with-a-reason", |s| {
            s.asks(get(3, "/")).answers(goaway(1, 11, "enhance your calm")).closes(ORIGIN, FINISH);
        }),
        http2("h2-goaway-twice", |s| {
            s.asks(get(3, "/")).answers(goaway(0x7fff_ffff, 0, "soon")).asks(get(5, "/")).answers(goaway(5, 0, "now"));
            s.answers(ok(5)).answers(ok(3)).closes(ORIGIN, FINISH);
        }),
        http2("h2-goaway-of-the-client", |s| {
            s.asks(get(3, "/")).asks(goaway(0, 2, "broken")).answers(ok(3)).closes(CLIENT, FINISH);
        }),
        http2("h2-origin-ends-without-a-word", |s| {
            s.asks(get(3, "/")).answers(headers(3, &[(":status", "200")], No)).closes(ORIGIN, FINISH);
        }),
        http2("h2-origin-resets", |s| {
            s.asks(get(3, "/")).answers(headers(3, &[(":status", "200")], No)).closes(ORIGIN, Close::Reset);
        }),
        http2("h2-client-resets", |s| {
            s.asks(get(3, "/")).closes(CLIENT, Close::Reset);
        }),
        http2("h2-client-half-closes", |s| {
            s.asks(get(3, "/")).closes(CLIENT, FINISH).answers(ok(3)).closes(ORIGIN, FINISH);
        }),
    ]
}

fn odd() -> Vec<Case> {
    let calm = |s: &mut Script| {
        s.answers(goaway(1, 1, "what?")).closes(ORIGIN, FINISH);
    };
    vec![
        http2("h2-data-on-no-stream", |s| {
            s.asks(data(3, "of whom?", No));
            calm(s);
        }),
        http2("h2-a-frame-too-large", |s| {
            s.asks(post(3)).asks(data(3, pattern(20_000), No));
            calm(s);
        }),
        http2("h2-a-block-that-is-none", |s| {
            s.asks(frame(
                kind::HEADERS,
                flag::END_HEADERS | flag::END_STREAM,
                3,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            ));
            calm(s);
        }),
        http2("h2-upper-case-names", |s| {
            s.asks(headers(3, &with("GET", &[("X-Upper", "1")]), Yes)).answers(reset(3, 1));
        }),
        http2("h2-fields-of-http-1", |s| {
            s.asks(headers(3, &with("GET", &[("connection", "close"), ("transfer-encoding", "chunked")]), Yes));
            s.answers(reset(3, 1));
        }),
        http2("h2-pseudo-fields-missing", |s| {
            s.asks(headers(3, &[(":method", "GET")], Yes)).answers(reset(3, 1));
        }),
        http2("h2-stream-numbers-going-back", |s| {
            s.asks(get(5, "/")).answers(ok(5)).asks(get(3, "/"));
            calm(s);
        }),
        http2("h2-lengths-that-do-not-hold", |s| {
            s.asks(headers(3, &with("POST", &[("content-length", "9")]), No))
                .asks(data(3, "body", Yes))
                .answers(reset(3, 1));
        }),
        http2("h2-octets-of-no-protocol", |s| {
            s.asks(b"GET / HTTP/1.1\r\n\r\n");
            calm(s);
        }),
        http2("h2-answer-to-no-request", |s| {
            s.answers(headers(2, &[(":status", "200")], Yes)).answers(headers(77, &[(":status", "200")], Yes));
            s.closes(CLIENT, FINISH);
        }),
    ]
}
