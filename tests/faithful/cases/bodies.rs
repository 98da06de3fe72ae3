//! Bodies: how they are framed, how large they are and when they come.

use super::ends::{CLIENT, ORIGIN};
use super::{Case, GET, OK, case, pattern};
use crate::script::{Close, Layer};

const POST: &str = "POST / HTTP/1.1\r\nHost: api.example\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = chunked();
    cases.extend(delimited());
    cases.extend(timed());
    cases.extend(large());
    cases
}

fn chunked() -> Vec<Case> {
    let request = |body: &str| format!("{POST}Transfer-Encoding: chunked\r\n\r\n{body}");
    vec![
        case("chunk-sizes", |s| {
            s.asks(request("1\r\na\r\n5\r\nbcdef\r\nA\r\n0123456789\r\n0\r\n\r\n"))
                .answers(format!("{CHUNKED}3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"));
        }),
        case("chunk-extensions", |s| {
            s.asks(request("4;name=value\r\nbody\r\n0;last\r\n\r\n"))
                .answers(format!("{CHUNKED}4;a=\"b c\"\r\nbody\r\n0\r\n\r\n"));
        }),
        case("padded-chunk-sizes", |s| {
            s.asks(request("0004\r\nbody\r\n00\r\n\r\n")).answers(format!("{CHUNKED}02\r\nok\r\n000\r\n\r\n"));
        }),
        case("chunk-sizes-in-both-cases", |s| {
            s.asks(request(&format!("a\r\n{0}\r\nA\r\n{0}\r\n0\r\n\r\n", "0123456789"))).answers(OK);
        }),
        case("trailers-of-a-request", |s| {
            s.asks(request("4\r\nbody\r\n0\r\nX-Trailer: 1\r\nx-LAST: 2\r\n\r\n")).answers(OK);
        }),
        case("trailers-of-a-response", |s| {
            s.asks(GET)
                .answers(format!("{CHUNKED}4\r\nbody\r\n0\r\nX-Trailer: 1\r\nX-Trailer: 2\r\n\r\n"))
                .asks(GET)
                .answers(OK);
        }),
        case("trailers-announced-and-asked-for", |s| {
            s.asks("GET / HTTP/1.1\r\nHost: api.example\r\nTE: trailers\r\nConnection: TE\r\n\r\n").answers(
                "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            );
        }),
        case("empty-chunked-body", |s| {
            s.asks(request("0\r\n\r\n")).answers(format!("{CHUNKED}0\r\n\r\n"));
        }),
        case("many-small-chunks", |s| {
            s.asks(request(&format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(2_000))))
                .answers(format!("{CHUNKED}{}0\r\n\r\n", "1\r\ny\r\n".repeat(2_000)));
        }),
        case("transfer-encoding-in-odd-case", |s| {
            s.asks(format!("{POST}transfer-ENCODING: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
                .answers("HTTP/1.1 200 OK\r\nTRANSFER-encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        }),
        case("gzip-then-chunked", |s| {
            s.asks(format!("{POST}Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n\x1f\x08\r\n0\r\n\r\n")).answers(OK);
        }),
    ]
}

fn delimited() -> Vec<Case> {
    vec![
        case("close-delimited-body", |s| {
            s.asks(GET).answers("HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nuntil the end").closes(ORIGIN, Close::Finish);
        }),
        case("close-delimited-body-in-http-1-0", |s| {
            s.asks("GET / HTTP/1.0\r\nHost: api.example\r\n\r\n")
                .answers("HTTP/1.0 200 OK\r\n\r\nuntil the end")
                .closes(ORIGIN, Close::Finish);
        }),
        case("close-delimited-and-empty", |s| {
            s.asks(GET).answers("HTTP/1.1 200 OK\r\n\r\n").closes(ORIGIN, Close::Finish);
        }),
        case("close-announced-with-a-length", |s| {
            s.asks(GET)
                .answers("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
                .closes(ORIGIN, Close::Finish);
        }),
    ]
}

fn timed() -> Vec<Case> {
    vec![
        case("trickled-both-ways", |s| {
            s.trickles(CLIENT, format!("{POST}Content-Length: 4\r\n\r\nbody")).trickles(ORIGIN, OK);
        }),
        case("trickled-chunks", |s| {
            let body = "3\r\nabc\r\n2;x\r\nde\r\n0\r\nX-T: 1\r\n\r\n";
            s.trickles(CLIENT, format!("{POST}Transfer-Encoding: chunked\r\n\r\n{body}"))
                .trickles(ORIGIN, format!("{CHUNKED}{body}"));
        }),
        case("a-head-in-two-parts", |s| {
            // The destination sees a head only when it is there whole, if somebody looks into it.
            s.says(CLIENT, "GET / HTTP/1.1\r\nHo")
                .says(CLIENT, "st: api.example\r\n\r\n")
                .hears(ORIGIN, GET)
                .answers(OK);
        }),
        case("a-body-long-after-its-head", |s| {
            s.asks(format!("{POST}Content-Length: 8\r\n\r\n")).asks("half").asks("rest").answers(OK);
        }),
        case("answer-before-the-body-ends", |s| {
            s.asks(format!("{POST}Content-Length: 8\r\n\r\nhalf")).answers(OK).asks("rest").asks(GET).answers(OK);
        }),
        case("answer-before-a-chunked-body-ends", |s| {
            s.asks(format!("{POST}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"))
                .answers("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
                .asks("4\r\nrest\r\n0\r\n\r\n");
        }),
        case("refused-before-the-body-ends", |s| {
            s.asks(format!("{POST}Content-Length: 8\r\n\r\nhalf"))
                .answers("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .closes(ORIGIN, Close::Finish);
        }),
        case("talk-while-both-bodies-are-open", |s| {
            s.asks(format!("{POST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"))
                .answers(format!("{CHUNKED}1\r\nA\r\n"));
            for _ in 0..5 {
                s.asks("1\r\nb\r\n").answers("1\r\nB\r\n");
            }
            s.asks("0\r\n\r\n").answers("0\r\n\r\n");
        }),
        case("server-sent-events", |s| {
            s.asks(GET).answers("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
            for event in 0..20 {
                s.answers(format!("data: {event}\n\n"));
            }
            s.closes(CLIENT, Close::Finish);
        }),
        case("server-sent-events-in-chunks", |s| {
            s.asks(GET)
                .answers("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            for event in 0..9 {
                s.answers(format!("9\r\ndata: {event}\n\n\r\n"));
            }
            s.answers("0\r\n\r\n");
        }),
    ]
}

fn large() -> Vec<Case> {
    let with_length =
        |count: usize| [format!("{POST}Content-Length: {count}\r\n\r\n").as_bytes(), &pattern(count)].concat();
    let answer = |count: usize| {
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n").as_bytes(), &pattern(count)].concat()
    };
    let both = |name, count: usize| {
        case(name, move |s| {
            s.asks(with_length(count)).answers(answer(count)).asks(GET).answers(OK);
        })
    };
    vec![
        both("bodies-of-1-mib", 1 << 20),
        both("bodies-of-64-mib", 64 << 20).only(Layer::Clear),
        both("bodies-of-8-mib", 8 << 20).only(Layer::Secret),
        case("large-bodies-at-the-same-time", |s| {
            let (request, response) = (with_length(2 << 20), answer(2 << 20));
            s.asks(&request[..5_000]).says(ORIGIN, &response).says(CLIENT, &request[5_000..]);
            s.hears(ORIGIN, &request[5_000..]).hears(CLIENT, &response);
        }),
        case("a-slow-reader-gets-it-all", |s| {
            let response = answer(4 << 20);
            s.asks(GET).step(crate::script::Step::Deafens(CLIENT)).says(ORIGIN, &response);
            // The request after it proves that the way up does not wait for the way down.
            s.step(crate::script::Step::Listens(CLIENT)).hears(CLIENT, &response).asks(GET).answers(OK);
        }),
    ]
}
