//! Clients that are silent for so long that their destination is dialled, and then speak after all.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use moxie_agent::journal::{ConnectionVerdict, ExchangeError, Reason};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};
use crate::clear::{dial, get};
use crate::origin::{Origin, read_all};

/// A destination that answers no SYN: one connection waits to be accepted, and there is room for no other.
struct Deaf {
    listener: TcpListener,
    _waits: TcpStream,
}

impl Deaf {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        #[expect(clippy::disallowed_methods, reason = "fills the destination's queue")]
        let waits = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        Self { listener, _waits: waits }
    }

    async fn agent(&self) -> Agent {
        Agent::start(Some(self.listener.local_addr().unwrap()), None).await
    }

    /// Hears again: the next connection, which the kernel tries to make every now and then.
    async fn hear(&self) -> TcpStream {
        self.listener.accept().await.unwrap();
        self.listener.accept().await.unwrap().0
    }
}

async fn read(mut stream: TcpStream) -> std::io::Result<String> {
    let read = timeout(BOUND, read_all(&mut stream)).await.unwrap();
    read.map(|read| String::from_utf8(read).unwrap())
}

#[tokio::test]
async fn a_rule_answers_while_the_destination_does_not() {
    let deaf = Deaf::new().await;
    let agent = deaf.agent().await;
    agent.rule("plain.example/mocked", json!({"status_code": 503})).await;
    let mut stream = dial(&agent).await;
    agent.await_dial().await;
    stream.write_all(get("/mocked").as_bytes()).await.unwrap();
    assert!(read(stream).await.unwrap().starts_with("HTTP/1.1 503 "));
    assert_eq!(agent.connections(1).await[0].verdict, ConnectionVerdict::Intercept);
}

#[tokio::test]
async fn a_rule_answers_where_the_destination_refuses() {
    let agent = Agent::start(Some(Origin::nobody().await), None).await;
    agent.rule("plain.example/mocked", json!({"status_code": 503})).await;
    let mut stream = dial(&agent).await;
    agent.await_dial().await;
    stream.write_all(get("/mocked").as_bytes()).await.unwrap();
    assert!(read(stream).await.unwrap().starts_with("HTTP/1.1 503 "));
    let mut other = dial(&agent).await;
    other.write_all(get("/other").as_bytes()).await.unwrap();
    assert_eq!(read(other).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(agent.exchanges(2).await[1].error, Some(ExchangeError::UpstreamUnreachable));
}

#[tokio::test]
async fn a_silent_client_that_no_rule_could_answer_is_reset_as_soon_as_the_destination_refuses() {
    let agent = Agent::start(Some(Origin::nobody().await), None).await;
    let stream = dial(&agent).await;
    assert_eq!(read(stream).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(agent.connections(1).await[0].reason, Reason::UpstreamFailed);
}

#[tokio::test]
async fn what_passes_through_uses_the_connection_that_was_begun() {
    let deaf = Deaf::new().await;
    let agent = deaf.agent().await;
    let mut stream = dial(&agent).await;
    agent.await_dial().await;
    stream.write_all(b"late").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut passed = timeout(BOUND, deaf.hear()).await.unwrap();
    let mut bytes = String::new();
    passed.read_to_string(&mut bytes).await.unwrap();
    assert_eq!((bytes.as_str(), agent.dials()), ("late", 1));
}

#[tokio::test]
async fn a_destination_that_hangs_up_without_a_word_does_not_speak_first() {
    for is_reset in [false, true] {
        let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let agent = Agent::start(Some(origin.local_addr().unwrap()), None).await;
        agent.rule("plain.example/mocked", json!({"status_code": 503})).await;
        let silent = dial(&agent).await;
        let (accepted, _) = timeout(BOUND, origin.accept()).await.unwrap().unwrap();
        if is_reset {
            SockRef::from(&accepted).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop((accepted, origin));
        assert_eq!(read(silent).await.map_err(|error| error.kind()).is_err(), is_reset);
        // Nobody listens there now; a rule's answer needs nobody.
        let mut stream = dial(&agent).await;
        while agent.dials() < 2 {
            tokio::task::yield_now().await;
        }
        stream.write_all(get("/mocked").as_bytes()).await.unwrap();
        assert!(read(stream).await.unwrap().starts_with("HTTP/1.1 503 "));
    }
}
