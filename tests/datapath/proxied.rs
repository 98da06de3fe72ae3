//! What a program asks an explicit proxy for in absolute-form: what each end sees, to the byte. The test is both ends.

use std::net::Ipv4Addr;
use std::panic::Location;

use moxie_agent::journal::Outcome;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};

/// A proxy's client and the destination that it asks.
struct Ends {
    agent: Agent,
    client: TcpStream,
    listener: TcpListener,
    origin: Option<TcpStream>,
}

impl Ends {
    async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let agent = Agent::proxy().await;
        let client = dial(&agent).await;
        Self { agent, client, listener, origin: None }
    }

    fn authority(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Sends a request, of which `HOST` is the destination.
    async fn ask(&mut self, request: &str) {
        let request = request.replace("HOST", &self.authority());
        self.client.write_all(request.as_bytes()).await.unwrap();
    }

    /// What the destination sees next.
    #[track_caller]
    fn sees(&mut self, expected: &str) -> impl Future<Output = ()> {
        let (caller, expected) = (Location::caller(), expected.replace("HOST", &self.authority()));
        async move {
            if self.origin.is_none() {
                let dialled = timeout(BOUND, self.listener.accept()).await;
                self.origin = Some(dialled.expect("the destination is dialled").unwrap().0);
            }
            read(self.origin.as_mut().unwrap(), &expected, caller).await;
        }
    }

    async fn answer(&mut self, answer: &str) {
        self.origin.as_mut().unwrap().write_all(answer.as_bytes()).await.unwrap();
    }

    /// What the client sees next.
    #[track_caller]
    fn gets(&mut self, expected: &str) -> impl Future<Output = ()> {
        let (caller, expected) = (Location::caller(), expected.to_owned());
        async move { read(&mut self.client, &expected, caller).await }
    }

    /// A GET that is answered so, and what the client gets of it.
    #[track_caller]
    fn get(&mut self, answer: &str, expected: &str) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            self.ask("GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
            self.sees("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
            self.answer(answer).await;
            read(&mut self.client, expected, caller).await;
        }
    }
}

async fn dial(agent: &Agent) -> TcpStream {
    #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
    TcpStream::connect(agent.door).await.unwrap()
}

/// Reads exactly what is expected, and says what came instead.
async fn read(stream: &mut TcpStream, expected: &str, caller: &Location<'_>) {
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let mut buffer = vec![0; expected.len() - seen.len()];
        let Ok(count) = timeout(BOUND, stream.read(&mut buffer)).await else {
            panic!("{caller}: nothing more after {:?}", String::from_utf8_lossy(&seen));
        };
        let count = count.unwrap();
        seen.extend_from_slice(&buffer[..count]);
        if count == 0 {
            break;
        }
    }
    assert_eq!(String::from_utf8_lossy(&seen), expected, "{caller}");
}

#[tokio::test]
async fn trailers_end_an_answer_and_not_its_connection() {
    let mut ends = Ends::new().await;
    let answer =
        "HTTP/1.1 200 OK\r\nTrailer: Z\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nZ: 1\r\nY: 2\r\n\r\n";
    let head_and_data = "HTTP/1.1 200 OK\r\nTrailer: Z\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    ends.get(answer, &format!("{head_and_data}0\r\n\r\n")).await;
    ends.get(
        &answer.replace("Trailer: Z\r\n", ""),
        &format!("{}0\r\n\r\n", head_and_data.replace("Trailer: Z\r\n", "")),
    )
    .await;
    ends.ask("GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\nTE: trailers\r\n\r\n").await;
    ends.sees("GET / HTTP/1.1\r\nHost: HOST\r\nTE: trailers\r\n\r\n").await;
    ends.answer(answer).await;
    ends.gets(&format!("{head_and_data}0\r\nZ: 1\r\n\r\n")).await;
    ends.get("HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n").await;
    let exchanges = ends.agent.exchanges(4).await;
    assert!(exchanges.iter().all(|exchange| exchange.outcome == Outcome::Forwarded && exchange.error.is_none()));
    assert_eq!(exchanges[0].response_bytes, 5);
}

#[tokio::test]
async fn a_head_that_is_not_strict_is_passed_on_as_its_sender_spelt_it() {
    let mut ends = Ends::new().await;
    ends.ask("GET http://HOST/?a=\u{e4}|b HTTP/1.1\r\nhOsT: HOST\r\nX-oDD: 1\r\nx-Odd: 2\r\n\r\n").await;
    ends.sees("GET /?a=\u{e4}|b HTTP/1.1\r\nhOsT: HOST\r\nX-oDD: 1\r\nx-Odd: 2\r\n\r\n").await;
    ends.answer("HTTP/1.1 200 Fine\r\nA: 1,\r\n\t2\r\nb : 3\r\nno field\r\nX-oDD: 4\r\ncontent-LENGTH: 2\r\n\r\nok")
        .await;
    ends.gets("HTTP/1.1 200 Fine\r\nA: 1, 2\r\nb: 3\r\nX-oDD: 4\r\ncontent-LENGTH: 2\r\n\r\nok").await;
}

#[tokio::test]
async fn an_answer_without_a_body_tells_its_length() {
    let mut ends = Ends::new().await;
    for answer in [
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nX: 1\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nX: 1\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    ] {
        ends.get(answer, answer).await;
    }
    ends.get(
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
    )
    .await;
    ends.ask("HEAD http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    ends.sees("HEAD / HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    ends.answer("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n").await;
    ends.gets("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n").await;
    let exchanges = ends.agent.exchanges(5).await;
    assert!(exchanges.iter().all(|exchange| exchange.error.is_none() && exchange.response_bytes == 0), "{exchanges:?}");
    for (url, answer) in
        [("empty", json!({"status_code": 429})), ("full", json!({"status_code": 429, "response": "no"}))]
    {
        ends.agent.rule(&format!("{}/{url}", ends.authority()), answer).await;
    }
    ends.ask("HEAD http://HOST/empty HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    ends.gets("HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n").await;
    ends.ask("HEAD http://HOST/full HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    ends.gets("HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n").await;
}
