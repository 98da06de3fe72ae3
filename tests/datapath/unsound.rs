//! HTTP/2 requests that some server refuses: whatever a rule says of them, they are the destination's to judge.

use h2::Reason;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};
use crate::frames::{DATA, END, END_HEADERS, HEADERS, PREFACE, RST_STREAM, SETTINGS, Wire, block, frame, settings};

type Fields = Vec<(&'static str, &'static str)>;

/// An agent with a rule for whatever `h2.example` is asked, and the place where it finds it.
async fn scene() -> (Agent, TcpListener) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let agent = Agent::start(Some(listener.local_addr().unwrap()), None).await;
    agent.rule("h2.example/.*", json!({"status_code": 418})).await;
    (agent, listener)
}

/// The fields of a request, `more` behind them or in the place of those of their names.
fn request(more: &[(&'static str, &'static str)]) -> Fields {
    let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "h2.example")];
    let said = |name: &str| more.iter().find(|(other, _)| *other == name).copied();
    let special = usual.iter().map(|field| said(field.0).unwrap_or(*field));
    special.chain(more.iter().filter(|(name, _)| !name.starts_with(':')).copied()).collect()
}

#[tokio::test]
async fn what_a_server_may_refuse_is_the_destinations_to_judge() {
    let (agent, listener) = scene().await;
    let odd: [(&str, Fields); 11] = [
        ("no slash", request(&[(":path", "x")])),
        ("a blank in the path", request(&[(":path", "/x y")])),
        ("a whole URL as path", request(&[(":path", "http://h2.example/x")])),
        ("another name as path", request(&[(":path", ".evil.example/x")])),
        ("no scheme", request(&[]).into_iter().filter(|field| field.0 != ":scheme").collect()),
        ("a length and no body", request(&[("content-length", "5")])),
        ("a length that is none", request(&[("content-length", "x")])),
        ("two lengths", request(&[("content-length", "0"), ("content-length", "0")])),
        ("CONNECT with a path", request(&[(":method", "CONNECT")])),
        ("a coding of HTTP/1's", request(&[("te", "gzip")])),
        ("another host", request(&[("host", "other.example")])),
    ];
    for (what, fields) in &odd {
        let asked = frame(HEADERS, END | END_HEADERS, 1, &block(fields));
        let mut client = Wire::client(&agent, &[], &asked).await;
        let mut origin = Wire(timeout(BOUND, listener.accept()).await.expect(what).unwrap().0);
        origin.expect(PREFACE, what).await;
        origin.send(&settings(&[])).await;
        assert_eq!(origin.next_of(HEADERS).await.payload, block(fields), "{what}");
        client.next_of(SETTINGS).await;
    }
    let records = agent.exchanges(odd.len()).await;
    assert!(records.iter().all(|record| record.rule_id.is_none()), "{records:?}");
    let hosts = records.iter().map(|record| record.url.starts_with("http://h2.example/"));
    assert!(hosts.into_iter().all(|is_named| is_named), "{records:?}");
}

#[tokio::test]
async fn a_body_that_is_not_what_its_head_said_has_no_answer_of_a_rules() {
    let (agent, _listener) = scene().await;
    let refused = u32::from(Reason::PROTOCOL_ERROR);
    let told = |body: &[u8], end: u8| {
        let head = block(&request(&[(":method", "POST"), ("content-length", "3")]));
        [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, end, 1, body)].concat()
    };
    let trailers = |fields: &[(&str, &str)]| frame(HEADERS, END | END_HEADERS, 1, &block(fields));
    let odd = [
        told(b"123456", END),
        told(b"1234", 0),
        told(b"12", END),
        [told(b"12", 0), trailers(&[("x-sum", "1")])].concat(),
        [told(b"123", 0), trailers(&[(":path", "/y")])].concat(),
    ];
    for asked in &odd {
        let mut client = Wire::client(&agent, &[], asked).await;
        let answer = client.next_of(RST_STREAM).await;
        assert_eq!((answer.stream, answer.word(0)), (1, refused), "{asked:?}");
        // The connection goes on.
        client.send(&frame(HEADERS, END | END_HEADERS, 3, &block(&request(&[])))).await;
        assert_eq!(client.next_of(HEADERS).await.stream, 3);
    }
    for asked in [told(b"123", END), [told(b"123", 0), trailers(&[("x-sum", "1")])].concat()] {
        let mut client = Wire::client(&agent, &[], &asked).await;
        assert_eq!(client.next_of(HEADERS).await.stream, 1);
    }
}
