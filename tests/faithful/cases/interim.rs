//! What comes before an answer: 1xx, Expect, pipelining.

use super::ends::{CLIENT, ORIGIN};
use super::{Case, GET, OK, case};
use crate::script::Close;

const EXPECTING: &str = "PUT / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = interim();
    cases.extend(pipelined());
    cases
}

fn interim() -> Vec<Case> {
    vec![
        case("expect-and-continue", |s| {
            s.asks(EXPECTING).answers(CONTINUE).asks("body").answers(OK);
        }),
        case("expect-and-refuse", |s| {
            s.asks(EXPECTING).answers("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
        }),
        case("expect-and-early-answer", |s| {
            s.asks(EXPECTING).answers(OK).asks("body").asks(GET).answers(OK);
        }),
        case("expect-without-reply", |s| {
            s.asks(EXPECTING).asks("body").answers(OK);
        }),
        case("expect-and-a-close", |s| {
            s.asks(EXPECTING)
                .answers("HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .closes(ORIGIN, Close::Finish);
        }),
        case("continue-that-nobody-expected", |s| {
            s.asks("POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4\r\n\r\nbody")
                .answers(CONTINUE)
                .answers(OK);
        }),
        case("continue-with-fields", |s| {
            s.asks(EXPECTING).answers("HTTP/1.1 100 Go on\r\nX-A: 1\r\n\r\n").asks("body").answers(OK);
        }),
        case("processing", |s| {
            s.asks(GET).answers("HTTP/1.1 102 Processing\r\n\r\n").answers(OK);
        }),
        case("early-hints", |s| {
            s.asks(GET).answers("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n").answers(OK);
        }),
        case("five-early-hints", |s| {
            s.asks(GET);
            for number in 0..5 {
                s.answers(format!("HTTP/1.1 103 Early Hints\r\nLink: </{number}>\r\n\r\n"));
            }
            s.answers(OK);
        }),
        case("early-hints-and-an-answer-in-one-segment", |s| {
            s.asks(GET).answers(format!("HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n{OK}"));
        }),
        case("an-unknown-interim-answer", |s| {
            s.asks(GET).answers("HTTP/1.1 199 Hm\r\nX-A: 1\r\n\r\n").answers(OK);
        }),
    ]
}

fn get(number: usize) -> String {
    format!("GET /{number} HTTP/1.1\r\nHost: api.example\r\n\r\n")
}

fn pipelined() -> Vec<Case> {
    let pipeline = |name, count: usize| {
        case(name, move |s| {
            let requests: String = (0..count).map(get).collect();
            s.asks(requests);
            for number in 0..count {
                let body = "r".repeat(number);
                s.answers(format!("HTTP/1.1 200 OK\r\nContent-Length: {number}\r\n\r\n{body}"));
            }
        })
    };
    vec![
        pipeline("pipeline-of-2", 2),
        pipeline("pipeline-of-5", 5),
        pipeline("pipeline-of-20", 20),
        case("pipelined-answers-in-one-segment", |s| {
            s.asks(format!("{GET}{GET}{GET}")).answers(format!("{OK}{OK}{OK}"));
        }),
        case("pipelined-one-by-one", |s| {
            // Each is through before there is any answer to the one before it.
            s.asks(get(1)).asks(get(2)).asks(get(3)).answers(OK).answers(OK).answers(OK);
        }),
        case("pipelined-bodies", |s| {
            s.asks("POST /1 HTTP/1.1\r\nHost: api.example\r\nContent-Length: 3\r\n\r\noneGET /2 HTTP/1.1\r\nHost: api.example\r\n\r\nPOST /3 HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\n\r\n");
            s.answers(OK).answers("HTTP/1.1 204 No Content\r\n\r\n").answers(OK);
        }),
        case("pipelined-behind-a-close", |s| {
            s.asks(format!("GET / HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n{GET}"))
                .answers("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
                .closes(ORIGIN, Close::Finish);
        }),
        case("kept-alive-twenty-times", |s| {
            for number in 0..20 {
                s.asks(get(number)).answers(OK);
            }
        }),
        case("pipelined-then-a-half-close", |s| {
            s.asks(format!("{GET}{GET}")).closes(CLIENT, Close::Finish).answers(OK).answers(OK);
        }),
    ]
}
