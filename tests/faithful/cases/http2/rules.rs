//! Rules that fire on one stream: what they name is changed, and no other stream can tell, but by how its fields are written.

use serde_json::{Value, json};

use super::super::ends::{CLIENT, FINISH, ORIGIN};
use super::super::{Case, pattern};
use super::{get, greet, head, http2, ok};
use crate::frames::Last::{No, Yes};
use crate::frames::{
    Last, block_by_static_table, data, flag, frame, goaway, headers, kind, reset, settings, settings_ack, window,
};
use crate::script::{Script, Side};

pub(super) fn cases() -> Vec<Case> {
    [answers(), edits()].concat()
}

impl Case {
    /// With a rule for one path the conversation goes as `write` says, once the parties have greeted each other.
    fn fires(self, rule: Value, write: impl FnOnce(&mut Script)) -> Self {
        self.fired("/fired", rule, |s| {
            greet(s);
            write(s);
        })
    }
}

/// A head as the agent writes it once a rule has acted: whatever table the sender keeps, the reader's is another by then.
fn anew(stream: u32, fields: &[(&str, &str)], last: Last) -> Vec<u8> {
    frame(kind::HEADERS, flags(last), stream, &block_by_static_table(fields))
}

/// The first of a direction, which says that no table is kept from now on (RFC 7541 section 6.3).
fn first_anew(stream: u32, fields: &[(&str, &str)], last: Last) -> Vec<u8> {
    frame(kind::HEADERS, flags(last), stream, &[vec![0x20], block_by_static_table(fields)].concat())
}

fn flags(last: Last) -> u8 {
    flag::END_HEADERS | if last == Yes { flag::END_STREAM } else { 0 }
}

fn ok_anew(stream: u32) -> Vec<u8> {
    [anew(stream, &[(":status", "200")], No), data(stream, "ok", Yes)].concat()
}

fn fired(stream: u32) -> Vec<u8> {
    get(stream, "/fired")
}

fn slow_down() -> Value {
    json!({"status_code": 429, "response": "slow down", "response_media_type": "text/plain", "response_headers": {"Retry-After": "4", "X-mIxEd": "v"}})
}

const SLOWED: [(&str, &str); 5] = [
    (":status", "429"),
    ("retry-after", "4"),
    ("x-mixed", "v"),
    ("content-type", "text/plain"),
    ("content-length", "9"),
];

/// What that rule says on a stream.
fn slowed(stream: u32) -> Vec<u8> {
    [anew(stream, &SLOWED, No), data(stream, "slow down", Yes)].concat()
}

fn answers() -> Vec<Case> {
    vec![
        http2("h2-answered-between-others", |s| {
            for request in [get(3, "/"), fired(5), get(7, "/")] {
                s.asks(request);
            }
            s.answers(ok(7)).answers(ok(5)).answers(ok(3));
        })
        .fires(slow_down(), |s| {
            s.asks(get(3, "/")).says(CLIENT, fired(5)).hears(CLIENT, slowed(5));
            s.says(CLIENT, get(7, "/")).hears(ORIGIN, first_anew(7, &head("GET", "/"), Yes));
            s.answers(ok(7)).answers(ok(3));
        }),
        http2("h2-answered-in-the-middle-of-a-body", |s| {
            s.asks(get(3, "/")).answers(headers(3, &[(":status", "200")], No)).answers(data(3, pattern(9_000), No));
            s.asks(fired(5)).answers(ok(5)).answers(data(3, "the rest", Yes));
        })
        .fires(slow_down(), |s| {
            s.asks(get(3, "/")).answers(headers(3, &[(":status", "200")], No)).answers(data(3, pattern(9_000), No));
            s.says(CLIENT, fired(5)).hears(CLIENT, slowed(5)).answers(data(3, "the rest", Yes));
        }),
        http2("h2-answered-five-at-once", |s| {
            let numbers = [3, 5, 7, 9, 11];
            s.asks(numbers.map(fired).concat()).answers(numbers.map(ok).concat());
        })
        .fires(slow_down(), |s| {
            let numbers = [3, 5, 7, 9, 11];
            s.says(CLIENT, numbers.map(fired).concat()).hears(CLIENT, numbers.map(slowed).concat());
            s.says(CLIENT, get(13, "/")).hears(ORIGIN, first_anew(13, &head("GET", "/"), Yes)).answers(ok(13));
            s.says(CLIENT, get(15, "/")).hears(ORIGIN, anew(15, &head("GET", "/"), Yes)).answers(ok(15));
        }),
        http2("h2-answered-after-a-body", |s| {
            let request = [headers(3, &head("POST", "/fired"), No), data(3, "body", Yes)];
            s.asks(request.concat()).answers(ok(3)).asks(get(5, "/")).answers(ok(5));
        })
        .fires(slow_down(), |s| {
            s.says(CLIENT, [headers(3, &head("POST", "/fired"), No), data(3, "body", Yes)].concat());
            s.hears(CLIENT, slowed(3));
            s.says(CLIENT, get(5, "/")).hears(ORIGIN, first_anew(5, &head("GET", "/"), Yes)).answers(ok(5));
        }),
        http2("h2-answered-head", |s| {
            s.asks(headers(3, &head("HEAD", "/fired"), Yes)).answers(headers(3, &[(":status", "200")], Yes));
        })
        .fires(slow_down(), |s| {
            s.says(CLIENT, headers(3, &head("HEAD", "/fired"), Yes)).hears(CLIENT, anew(3, &SLOWED, Yes));
        }),
        http2("h2-answered-and-the-connection-goes-on", |s| {
            s.asks(fired(3)).answers(ok(3));
            around(s, 77, |stream| get(stream, "/"));
        })
        .fires(slow_down(), |s| {
            s.says(CLIENT, fired(3)).hears(CLIENT, slowed(3));
            // The rule's body has used up some of what the client grants, of which the destination does not know.
            around(s, 77 - 9, |stream| match stream {
                5 => first_anew(stream, &head("GET", "/"), Yes),
                _ => anew(stream, &head("GET", "/"), Yes),
            });
        }),
    ]
}

/// What belongs to the connection and to no stream, and streams that end otherwise than well. The destination gets `more` of the 77
/// octets that the client grants, and requests as `heard`.
fn around(s: &mut Script, more: u32, heard: impl Fn(u32) -> Vec<u8>) {
    s.asks(frame(kind::PING, 0, 0, b"of mine!")).answers(frame(kind::PING, flag::ACK, 0, b"of mine!"));
    s.answers(frame(kind::PING, 0, 0, b"of yours")).asks(frame(kind::PING, flag::ACK, 0, b"of yours"));
    s.asks(settings(&[(4, 100_000)])).answers(settings_ack());
    s.says(CLIENT, window(0, 77)).hears(ORIGIN, window(0, more)).answers(window(0, 78));
    let asks = |s: &mut Script, stream| {
        s.says(CLIENT, get(stream, "/")).hears(ORIGIN, heard(stream));
    };
    asks(s, 5);
    s.answers(reset(5, 7));
    asks(s, 7);
    s.asks(reset(7, 8));
    asks(s, 9);
    s.answers(goaway(9, 0, "enough")).answers(ok(9)).closes(ORIGIN, FINISH);
}

fn edits() -> Vec<Case> {
    const ASKED: [(&str, &str); 3] = [("x-b", "1"), ("x-a", "2"), ("x-b", "3")];
    const KEPT: [(&str, &str); 4] = [("server", "s"), ("x-odd", "1"), ("x-kept", "2"), ("x-odd", "3")];
    let asked = || [&head("GET", "/fired")[..], &ASKED].concat();
    let answered = |status| [&[(":status", status)][..], &KEPT].concat();
    let grpc = |status| [(":status", status), ("content-type", "application/grpc")];
    let message = || data(3, [0, 0, 0, 0, 1, 7], No);
    let trailers = [("grpc-status", "0"), ("grpc-message", "")];
    let plain = |name| {
        http2(name, |s| {
            s.asks(headers(3, &asked(), Yes)).answers(headers(3, &answered("200"), No)).answers(data(3, "ok", Yes));
        })
    };
    // The rule changes one head on its way; the body passes.
    let changed = |s: &mut Script, from: Side, heard: Vec<u8>| {
        s.says(CLIENT, headers(3, &asked(), Yes));
        s.hears(ORIGIN, if from == CLIENT { heard.clone() } else { headers(3, &asked(), Yes) });
        s.says(ORIGIN, headers(3, &answered("200"), No));
        s.hears(CLIENT, if from == ORIGIN { heard } else { headers(3, &answered("200"), No) });
        s.answers(data(3, "ok", Yes));
    };
    vec![
        plain("h2-status-rewritten").fires(json!({"call_backend": true, "status_code": 503}), |s| {
            changed(s, ORIGIN, first_anew(3, &answered("503"), No));
            s.asks(get(5, "/")).says(ORIGIN, ok(5)).hears(CLIENT, ok_anew(5));
        }),
        http2("h2-status-rewritten-and-trailers", |s| {
            s.asks(headers(3, &head("POST", "/fired"), No)).asks(data(3, "body", Yes));
            s.answers(headers(3, &grpc("200"), No)).answers(message()).answers(headers(3, &trailers, Yes));
        })
        .fires(json!({"call_backend": true, "status_code": 500}), |s| {
            s.asks(headers(3, &head("POST", "/fired"), No)).asks(data(3, "body", Yes));
            s.says(ORIGIN, headers(3, &grpc("200"), No)).hears(CLIENT, first_anew(3, &grpc("500"), No));
            s.answers(message()).says(ORIGIN, headers(3, &trailers, Yes)).hears(CLIENT, anew(3, &trailers, Yes));
        }),
        plain("h2-request-header-added").fires(
            json!({"call_backend": true, "custom_headers": {"X-Added": "yes"}}),
            |s| {
                let more = [&asked()[..], &[("x-added", "yes")]].concat();
                changed(s, CLIENT, first_anew(3, &more, Yes));
            },
        ),
        plain("h2-response-header-added").fires(
            json!({"call_backend": true, "response_headers": {"X-Added": "yes"}}),
            |s| {
                let more = [&answered("200")[..], &[("x-added", "yes")]].concat();
                changed(s, ORIGIN, first_anew(3, &more, No));
            },
        ),
        plain("h2-response-header-replaced").fires(
            json!({"call_backend": true, "response_headers": {"X-oDd": "new"}}),
            |s| {
                let fields = [(":status", "200"), ("server", "s"), ("x-odd", "new"), ("x-kept", "2")];
                changed(s, ORIGIN, first_anew(3, &fields, No));
            },
        ),
        plain("h2-body-replaced").fires(json!({"call_backend": true, "response": "another"}), |s| {
            s.asks(headers(3, &asked(), Yes))
                .says(ORIGIN, headers(3, &answered("200"), No))
                .says(ORIGIN, data(3, "ok", Yes));
            let of_the_body = [("content-length", "7"), ("content-type", "application/json")];
            let fields = [&answered("200")[..], &of_the_body].concat();
            s.hears(CLIENT, [first_anew(3, &fields, No), data(3, "another", Yes)].concat());
        }),
        http2("h2-status-of-an-answer-without-a-body", |s| {
            s.asks(headers(3, &asked(), Yes)).answers(headers(3, &[(":status", "200"), ("content-length", "2")], No));
            s.answers(data(3, "ok", Yes));
        })
        .fires(json!({"call_backend": true, "status_code": 204}), |s| {
            s.asks(headers(3, &asked(), Yes))
                .says(ORIGIN, headers(3, &[(":status", "200"), ("content-length", "2")], No));
            s.says(ORIGIN, data(3, "ok", Yes)).hears(CLIENT, first_anew(3, &[(":status", "204")], Yes));
            s.asks(get(5, "/")).says(ORIGIN, ok(5)).hears(CLIENT, ok_anew(5));
        }),
        plain("h2-host-replaced").fires(
            json!({"call_backend": true, "custom_headers": {"Host": "elsewhere.example"}}),
            |s| {
                let [method, scheme, _, path] = head("GET", "/fired");
                let fields = [&[method, scheme, (":authority", "elsewhere.example"), path], &ASKED[..]].concat();
                changed(s, CLIENT, first_anew(3, &fields, Yes));
            },
        ),
        plain("h2-delayed-and-else-untouched").fires(json!({"call_backend": true, "response_delay": "30ms"}), |s| {
            changed(s, ORIGIN, first_anew(3, &answered("200"), No));
        }),
    ]
}
