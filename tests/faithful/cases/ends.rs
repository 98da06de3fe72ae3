//! How conversations end: FIN, half-closes, resets, at every moment.

use super::{Case, GET, OK, case};
use crate::script::{Close, Layer, Side, Step};

pub(super) const CLIENT: Side = Side::Client;
pub(super) const ORIGIN: Side = Side::Origin;
pub(super) const FINISH: Close = Close::Finish;

const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf";
const POSTED_HALF: &str = "POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 8\r\n\r\nhalf";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = orderly();
    cases.extend(resets());
    cases.extend(early());
    cases.extend(nobody());
    cases
}

fn orderly() -> Vec<Case> {
    vec![
        case("client-half-closes-and-waits", |s| {
            s.asks(GET).closes(CLIENT, FINISH).answers(OK);
        }),
        case("client-half-closes-at-once-and-waits", |s| {
            s.says(CLIENT, GET).step(Step::Closes(CLIENT, FINISH));
            s.hears(ORIGIN, GET).step(Step::HearsEnd(ORIGIN)).answers(OK);
        }),
        case("client-half-closes-and-waits-for-much", |s| {
            s.asks(GET).closes(CLIENT, FINISH).answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..10 {
                s.answers("4\r\nmore\r\n");
            }
            s.answers("0\r\n\r\n");
        }),
        case("origin-half-closes-and-hears-on", |s| {
            s.asks(POSTED_HALF).answers("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            s.closes(ORIGIN, FINISH).asks("rest").closes(CLIENT, FINISH);
        }),
        case("client-closes-between-requests", |s| {
            s.asks(GET).answers(OK).asks(GET).answers(OK).closes(CLIENT, FINISH);
        }),
        case("origin-closes-while-idle", |s| {
            s.asks(GET).answers(OK).closes(ORIGIN, FINISH);
        }),
        case("origin-closes-while-a-request-is-on-its-way", |s| {
            // What a keep-alive race comes to: the client asks when the origin has already said its last.
            s.asks(GET).answers(OK).closes(ORIGIN, FINISH).asks(GET).closes(CLIENT, FINISH);
        }),
        case("origin-closes-in-an-answer", |s| {
            s.asks(GET).answers(HALF).closes(ORIGIN, FINISH);
        }),
        case("origin-closes-in-a-head", |s| {
            s.asks(GET).answers("HTTP/1.1 200 OK\r\nContent-Le").closes(ORIGIN, FINISH);
        }),
        case("origin-closes-in-a-chunk", |s| {
            s.asks(GET)
                .answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf")
                .closes(ORIGIN, FINISH);
        }),
        case("origin-closes-without-an-answer", |s| {
            s.asks(GET).closes(ORIGIN, FINISH);
        }),
        case("client-closes-in-a-body", |s| {
            s.asks(POSTED_HALF).closes(CLIENT, FINISH);
        }),
        case("client-closes-in-a-body-and-is-answered", |s| {
            s.asks(POSTED_HALF).closes(CLIENT, FINISH).answers("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
        }),
        case("client-closes-in-a-head", |s| {
            s.says(CLIENT, "GET / HTTP/1.1\r\nHost: api.exa").step(crate::script::Step::Closes(CLIENT, FINISH));
            s.hears(ORIGIN, "GET / HTTP/1.1\r\nHost: api.exa").step(crate::script::Step::HearsEnd(ORIGIN));
        })
        .opaque(),
        case("client-closes-in-a-second-head", |s| {
            s.asks(GET)
                .answers(OK)
                .says(CLIENT, "GET /2 HTTP/1.1\r\nHo")
                .step(crate::script::Step::Closes(CLIENT, FINISH));
            s.hears(ORIGIN, "GET /2 HTTP/1.1\r\nHo").step(crate::script::Step::HearsEnd(ORIGIN));
        }),
    ]
}

fn resets() -> Vec<Case> {
    vec![
        case("origin-resets-before-an-answer", |s| {
            s.asks(GET).closes(ORIGIN, Close::Reset);
        }),
        case("origin-resets-in-an-answer", |s| {
            s.asks(GET).answers(HALF).closes(ORIGIN, Close::Reset);
        }),
        case("origin-resets-in-a-chunk", |s| {
            s.asks(GET)
                .answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf")
                .closes(ORIGIN, Close::Reset);
        }),
        case("origin-resets-in-a-close-delimited-body", |s| {
            s.asks(GET).answers("HTTP/1.1 200 OK\r\n\r\nsome").closes(ORIGIN, Close::Reset);
        }),
        case("origin-resets-while-idle", |s| {
            s.asks(GET).answers(OK).closes(ORIGIN, Close::Reset);
        }),
        case("origin-resets-in-a-request", |s| {
            s.asks(POSTED_HALF).closes(ORIGIN, Close::Reset);
        }),
        case("origin-resets-after-interim", |s| {
            s.asks(GET).answers("HTTP/1.1 103 Early Hints\r\n\r\n").closes(ORIGIN, Close::Reset);
        }),
        case("client-resets-in-an-answer", |s| {
            s.asks(GET).answers(HALF).closes(CLIENT, Close::Reset);
        }),
        case("client-resets-in-a-request", |s| {
            s.asks(POSTED_HALF).closes(CLIENT, Close::Reset);
        }),
        case("client-resets-while-it-waits", |s| {
            s.asks(GET).closes(CLIENT, Close::Reset);
        }),
        case("client-resets-while-idle", |s| {
            s.asks(GET).answers(OK).closes(CLIENT, Close::Reset);
        }),
        case("client-half-closes-and-the-origin-resets", |s| {
            s.asks(GET).closes(CLIENT, FINISH).closes(ORIGIN, Close::Reset);
        }),
    ]
}

fn early() -> Vec<Case> {
    vec![
        case("server-speaks-first", |s| {
            s.answers("220 ready\r\n").asks("HELO a\r\n").answers("250 ok\r\n").asks("QUIT\r\n").closes(ORIGIN, FINISH);
        })
        .opaque(),
        case("client-says-nothing-and-closes", |s| {
            s.closes(CLIENT, FINISH);
        })
        .only(Layer::Clear)
        .opaque(),
        case("origin-closes-at-once", |s| {
            s.closes(ORIGIN, FINISH);
        })
        .only(Layer::Clear)
        .opaque(),
        case("origin-resets-at-once", |s| {
            s.closes(ORIGIN, Close::Reset);
        })
        .only(Layer::Clear)
        .opaque(),
        case("origin-answers-before-it-is-asked", |s| {
            s.answers("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .closes(ORIGIN, FINISH);
        })
        .opaque(),
        case("timed-out-while-idle", |s| {
            s.asks(GET)
                .answers(OK)
                .answers("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            s.closes(ORIGIN, FINISH);
        }),
    ]
}

fn nobody() -> Vec<Case> {
    vec![case("connection-refused", |_| {}).only(Layer::Clear).absent().opaque()]
}
