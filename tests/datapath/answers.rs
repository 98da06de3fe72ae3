//! HTTP/2: rules answer every ordinary client whole, once and in time, whatever it grants and however it asks.

use bytes::Bytes;
use h2::client::Builder;
use http::{Method, Request};
use moxie_agent::journal::Outcome;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};
use crate::frames::{
    DATA, END, END_HEADERS, Frame, HEADERS, PING, PREFACE, SETTINGS, WINDOW_UPDATE, Wire, block, frame, get, head,
    settings,
};

const MEGABYTE: usize = 1 << 20;

async fn scene() -> (Agent, TcpListener) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let agent = Agent::start(Some(listener.local_addr().unwrap()), None).await;
    agent.rule("h2.example/mock", json!({"status_code": 429, "response": "slow down"})).await;
    (agent, listener)
}

/// Everything up to the answer to a PING that is sent now.
async fn until_now(wire: &mut Wire) -> Vec<Frame> {
    wire.send(&frame(PING, 0, 0, b"till now")).await;
    let mut frames = Vec::new();
    loop {
        let next = wire.next().await.expect("the connection stands");
        if next.kind == PING {
            return frames;
        }
        frames.push(next);
    }
}

/// Waits for the head of an answer on `stream`.
async fn answered(wire: &mut Wire, stream: u32, what: &str) {
    let read = timeout(BOUND, wire.next_of(HEADERS)).await;
    assert_eq!(read.unwrap_or_else(|_| panic!("no answer to {what}")).stream, stream, "{what}");
}

#[tokio::test]
async fn a_client_that_grants_seldom_gets_every_body_whole() {
    let (agent, _listener) = scene().await;
    agent.rule("h2.example/small", json!({"status_code": 200, "response": "s".repeat(1024)})).await;
    agent.rule("h2.example/long", json!({"status_code": 200, "response": "l".repeat(MEGABYTE)})).await;
    #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
    let stream = TcpStream::connect(agent.door).await.unwrap();
    // The library grants again once half of the window has been read.
    let mut builder = Builder::new();
    builder.initial_window_size(2 << 20).initial_connection_window_size(5 << 20);
    let (mut sender, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    for n in 0..=100 {
        let (path, length) = if n < 100 { ("small", 1024) } else { ("long", MEGABYTE) };
        let request = Request::builder().method(Method::GET).uri(format!("http://h2.example/{path}")).body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let mut body = timeout(BOUND, response).await.expect("an answer").unwrap().into_body();
        let mut read = 0;
        while let Some(data) = timeout(BOUND, body.data()).await.unwrap_or_else(|_| panic!("body {n} stops at {read}"))
        {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            read += data.len();
        }
        assert_eq!(read, length, "body {n}");
    }
}

#[tokio::test]
async fn a_request_that_ends_twice_is_answered_once() {
    let (agent, _listener) = scene().await;
    // No body may go, so the stream stays.
    let again = frame(DATA, END, 1, b"").repeat(3);
    let trailers = frame(HEADERS, END | END_HEADERS, 1, &block(&[("x-trailer", "t")]));
    let mut client = Wire::client(&agent, &[(4, 0)], &get(1, "/mock")).await;
    answered(&mut client, 1, "the request").await;
    client.send(&[again, trailers].concat()).await;
    let more: Vec<_> = until_now(&mut client).await.into_iter().filter(|frame| frame.kind == HEADERS).collect();
    assert!(more.is_empty(), "{more:?}");
}

#[tokio::test]
async fn a_client_that_waits_before_it_says_more_is_answered() {
    let (agent, _listener) = scene().await;
    let head_of = |method, more: &[(&str, &str)]| [head(method, "/mock"), block(more)].concat();
    let websocket = block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/mock"),
        (":authority", "h2.example"),
    ]);
    let cases = [
        ("extended CONNECT", websocket),
        ("gRPC", head_of("POST", &[("content-type", "application/grpc+proto"), ("te", "trailers")])),
        ("Expect", head_of("POST", &[("expect", "100-continue"), ("content-length", "4")])),
    ];
    let mut client = Wire::client(&agent, &[], b"").await;
    for ((what, fields), stream) in cases.into_iter().zip([1, 3, 5]) {
        client.send(&frame(HEADERS, END_HEADERS, stream, &fields)).await;
        answered(&mut client, stream, what).await;
        client.send(&frame(DATA, END, stream, b"late")).await;
        let more: Vec<_> = until_now(&mut client).await.into_iter().filter(|frame| frame.kind == HEADERS).collect();
        assert!(more.is_empty(), "{what} is answered twice: {more:?}");
    }
    assert!(agent.exchanges(3).await.iter().all(|exchange| exchange.outcome == Outcome::Responded));
    // Whoever does not wait is read to its end first.
    client.send(&frame(HEADERS, END_HEADERS, 7, &head("POST", "/mock"))).await;
    assert!(until_now(&mut client).await.iter().all(|frame| frame.kind != HEADERS));
    client.send(&frame(DATA, END, 7, b"body")).await;
    answered(&mut client, 7, "POST").await;
}

#[tokio::test]
async fn every_settings_frame_is_answered() {
    let (agent, listener) = scene().await;
    let more = [settings(&[(4, 70_000)]), settings(&[(3, 9)]), get(1, "/a")].concat();
    let mut client = Wire::client(&agent, &[], &more).await;
    let mut origin = Wire(timeout(BOUND, listener.accept()).await.expect("the destination is dialled").unwrap().0);
    origin.expect(PREFACE, "the preface").await;
    let mut asked = Vec::new();
    loop {
        let next = origin.next().await.expect("a request");
        match next.kind {
            HEADERS => break,
            SETTINGS => asked.push(next),
            _ => {}
        }
    }
    let answers = frame(SETTINGS, END, 0, b"").repeat(asked.len());
    origin.send(&[settings(&[]), answers, frame(HEADERS, END | END_HEADERS, 1, &[0x88])].concat()).await;
    let mut agreed = 0;
    loop {
        let next = client.next().await.expect("an answer");
        agreed += usize::from(next.kind == SETTINGS && next.flags & END != 0);
        if next.kind == HEADERS {
            break;
        }
    }
    assert_eq!(agreed, 3);
}

/// A client whose window a rule's body has used up, and the destination that is to answer its stream 1.
async fn full() -> (Agent, Wire, Wire) {
    let (agent, listener) = scene().await;
    agent.rule("h2.example/full", json!({"status_code": 200, "response": "f".repeat(60_000)})).await;
    let mut client = Wire::client(&agent, &[], &get(1, "/a")).await;
    let mut origin = Wire(timeout(BOUND, listener.accept()).await.expect("the destination is dialled").unwrap().0);
    origin.expect(PREFACE, "the preface").await;
    origin.next_of(HEADERS).await;
    origin.send(&[settings(&[]), frame(HEADERS, END_HEADERS, 1, &[0x88])].concat()).await;
    answered(&mut client, 1, "the request").await;
    client.send(&get(3, "/full")).await;
    while client.next_of(DATA).await.flags & END == 0 {}
    (agent, client, origin)
}

#[tokio::test]
async fn what_the_destination_says_goes_on_beside_data_that_waits_and_none_is_lost() {
    let (_agent, mut client, mut origin) = full().await;
    // Nothing is granted, so the first does not fit, and the second may not overtake it.
    let waiting = [frame(DATA, 0, 1, &[b'x'; 16_000]), frame(DATA, 0, 1, b"tail")].concat();
    let trailers = frame(HEADERS, END | END_HEADERS, 1, &block(&[("x-trailer", "t")]));
    origin.send(&[waiting, trailers, frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9])].concat()).await;
    let mut early = Vec::new();
    loop {
        let next = client.next().await.expect("the connection stands");
        if next.kind == WINDOW_UPDATE && next.stream == 1 {
            break;
        }
        early.push((next.kind, next.stream));
    }
    assert!(early.iter().all(|(kind, _)| *kind != DATA && *kind != HEADERS), "{early:?}");
    client.send(&frame(WINDOW_UPDATE, 0, 0, &60_000_u32.to_be_bytes())).await;
    let mut lengths = Vec::new();
    loop {
        let next = client.next().await.expect("the connection stands");
        match next.kind {
            DATA => lengths.push(next.payload.len()),
            HEADERS => break,
            _ => {}
        }
    }
    assert_eq!(lengths.iter().sum::<usize>(), 16_004, "{lengths:?}");
}

#[tokio::test]
async fn data_that_waits_is_not_lost_when_the_client_has_said_its_last() {
    let (_agent, mut client, mut origin) = full().await;
    origin.send(&frame(DATA, 0, 1, &[b'x'; 16_000])).await;
    origin.send(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9])).await;
    client.0.shutdown().await.unwrap();
    // The destination knows of the end, so the agent does.
    while origin.next().await.is_some() {}
    origin.send(&[frame(DATA, END, 1, b"tail"), frame(PING, 0, 0, b"12345678")].concat()).await;
    loop {
        let next = client.next().await.expect("the connection stands");
        assert_ne!(next.kind, DATA, "it has overtaken what waits");
        if next.kind == PING {
            break;
        }
    }
}
