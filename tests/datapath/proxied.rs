//! What a program asks an explicit proxy for in absolute-form: what each end sees, to the byte. The test is both ends.

use std::net::Ipv4Addr;
use std::panic::Location;

use moxie_agent::journal::Outcome;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};

const GET: &str = "GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n";
const NOTHING: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

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

    /// Both see an end.
    async fn expect_ends(&mut self) {
        for side in [&mut self.client, self.origin.as_mut().unwrap()] {
            let end = timeout(BOUND, side.read(&mut [0; 16])).await;
            assert!(matches!(end, Ok(Ok(0))), "{end:?}");
        }
    }

    /// A GET that is answered so, and what the client gets of it.
    #[track_caller]
    fn get(&mut self, answer: &str, expected: &str) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            self.ask(GET).await;
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
        "HTTP/1.1 200 OK\r\ncontent-LENGTH: 0\r\nX: 1\r\n\r\n",
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
    let exchanges = ends.agent.exchanges(6).await;
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
    ends.agent.rule(&format!("{}/real", ends.authority()), json!({"call_backend": true, "response": "no"})).await;
    ends.ask("HEAD http://HOST/real HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    ends.sees("HEAD /real HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    ends.answer("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n").await;
    ends.gets("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n").await;
    let exchange = &ends.agent.exchanges(9).await[8];
    assert_eq!((exchange.outcome, exchange.error), (Outcome::Rewritten, None));
}

#[tokio::test]
async fn of_two_framings_the_one_that_counts_stays() {
    let mut ends = Ends::new().await;
    let answer = |length: &str| {
        format!("HTTP/1.1 200 OK\r\nA: 1\r\n{length}Transfer-Encoding: chunked\r\nB: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    };
    ends.get(&answer("Content-Length: 9\r\n"), &answer("")).await;
    let request = |first: &str, length: &str| {
        format!(
            "POST {first}/ HTTP/1.1\r\nHost: HOST\r\n{length}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        )
    };
    ends.ask(&request("http://HOST", "Content-Length: 9\r\n")).await;
    ends.sees(&request("", "")).await;
    ends.answer(NOTHING).await;
    ends.gets("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
}

#[tokio::test]
async fn interim_answers_are_the_proxys_own() {
    let mut ends = Ends::new().await;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
    ends.get(&format!("{hints}{NOTHING}"), NOTHING).await;
    let post = "POST http://HOST/ HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    ends.ask(post).await;
    ends.gets("HTTP/1.1 100 Continue\r\n\r\n").await;
    ends.ask("hi").await;
    ends.sees(&format!("{}hi", post.replace("http://HOST", ""))).await;
    ends.answer(&format!("HTTP/1.1 100 Continue\r\n\r\n{NOTHING}")).await;
    ends.gets(NOTHING).await;
}

#[tokio::test]
async fn of_chunks_the_data_passes_and_of_trailers_what_was_announced() {
    let mut ends = Ends::new().await;
    let head = "POST http://HOST/ HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTrailer: Z\r\n\r\n";
    ends.ask(&format!("{head}005;a=b\r\nhello\r\n0\r\nz: 1\r\ny: 2\r\n\r\n")).await;
    ends.sees(&format!("{}5\r\nhello\r\n0\r\nZ: 1\r\n\r\n", head.replace("http://HOST", ""))).await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    ends.answer(&format!("{head}5;a=b\r\nhello\r\n0\r\nz: 1\r\n\r\n")).await;
    ends.gets(&format!("{head}5\r\nhello\r\n0\r\n\r\n")).await;
}

#[tokio::test]
async fn an_answer_that_its_end_delimits_is_chunked() {
    let mut ends = Ends::new().await;
    ends.ask(GET).await;
    ends.sees("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    ends.answer("HTTP/1.1 200 OK\r\n\r\nhello").await;
    ends.gets("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    ends.origin = None;
    ends.gets("0\r\n\r\n").await;
}

#[tokio::test]
async fn heads_are_written_anew() {
    let mut ends = Ends::new().await;
    ends.ask("GET http://u:p@HOST?q#fragment HTTP/1.1\nHost: other\nA: 1\nB:2\nA:   3 \nProxy-Connection: x\n\n").await;
    ends.sees("GET /?q HTTP/1.1\r\nHost: HOST\r\nA: 1\r\nA: 3\r\nB: 2\r\n\r\n").await;
    ends.answer(
        "HTTP/1.1 299\nA: 1\nConnection: x\nB:2\nA:  3\nConnection: y\nContent-Length: 0\nContent-Length: 0\n\n",
    )
    .await;
    ends.gets("HTTP/1.1 299 \r\nA: 1\r\nA: 3\r\nConnection: x, y\r\nB: 2\r\nContent-Length: 0\r\n\r\n").await;
    ends.ask("GET http://HOST HTTP/1.1\r\nA: 1\r\n\r\n").await;
    ends.sees("GET / HTTP/1.1\r\nA: 1\r\nHost: HOST\r\n\r\n").await;
    ends.answer("HTTP/1.1 200 \u{e4}\r\nContent-Length: 0\r\n\r\n").await;
    ends.gets("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n").await;
}

#[tokio::test]
async fn an_answer_without_a_body_tells_no_framing() {
    let mut ends = Ends::new().await;
    let answer = "HTTP/1.1 304 Not Modified\r\nTrailer: Z\r\nTransfer-Encoding: chunked\r\n\r\n";
    ends.get(answer, "HTTP/1.1 304 Not Modified\r\n\r\n").await;
}

#[tokio::test]
async fn what_speaks_http_1_0_is_spoken_to_so() {
    let mut ends = Ends::new().await;
    let old = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    ends.get(old, old).await;
    ends.ask(GET).await;
    ends.sees("GET / HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\n\r\n").await;
    ends.answer(NOTHING).await;
    ends.gets(NOTHING).await;
    ends.ask(&GET.replace("1.1", "1.0")).await;
    ends.sees("GET / HTTP/1.0\r\nHost: HOST\r\n\r\n").await;
    ends.answer(NOTHING).await;
    ends.gets("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").await;
}

#[tokio::test]
async fn requests_go_one_at_a_time() {
    let mut ends = Ends::new().await;
    ends.ask(&format!("{GET}{}", GET.replace("/ ", "/2 "))).await;
    ends.sees("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    let more = ends.origin.as_ref().unwrap().try_read(&mut [0; 16]);
    assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    ends.answer(NOTHING).await;
    ends.gets(NOTHING).await;
    ends.sees("GET /2 HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    ends.answer(NOTHING).await;
    ends.gets(NOTHING).await;
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_refused_and_said() {
    let no_request = "moxie: this is an HTTP proxy, and these bytes are no HTTP/1 request; \
        send CONNECT host:port for anything else\n";
    for (request, told) in [
        (
            "GET http://HOST/<\"` HTTP/1.1\r\n\r\n",
            "moxie: '<' cannot stand in a target that goes through this proxy: write it percent-encoded, %3C\n",
        ),
        ("GET http://HOST/ HTTP/1.1\r\nA: 1\r\n 2\r\n\r\n", no_request),
        ("GET http://HOST/ HTTP/1.1\r\nA : 1\r\n\r\n", no_request),
        ("GET http://HOST/ HTTP/1.1\r\nno field\r\n\r\n", no_request),
    ] {
        let mut ends = Ends::new().await;
        ends.ask(request).await;
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n",
            told.len()
        );
        ends.gets(&format!("{head}Connection: close\r\n\r\n{told}")).await;
        let mut ends = Ends::new().await;
        ends.get(NOTHING, NOTHING).await;
        ends.ask(request).await;
        ends.gets("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    }
    let mut ends = Ends::new().await;
    let told = "moxie: the answer of 127.0.0.1 is no HTTP/1 that can be passed on\n";
    let head = format!(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        told.len()
    );
    ends.get("hello\n", &format!("{head}{told}")).await;
    let mut ends = Ends::new().await;
    let long = NOTHING.replace("Content", &format!("{}Content", "A: 1\r\n".repeat(1024)));
    ends.get(&long, &format!("{head}{told}")).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_resets_and_one_that_does_not_begin_is_a_502() {
    let mut ends = Ends::new().await;
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    ends.get(begun, begun).await;
    ends.origin = None;
    let end = timeout(BOUND, ends.client.read(&mut [0; 16])).await.expect("an end");
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let mut ends = Ends::new().await;
    ends.ask(GET).await;
    ends.sees("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    ends.origin = None;
    ends.gets("HTTP/1.1 502 Bad Gateway\r\n").await;
}

#[tokio::test]
async fn a_status_that_ends_no_exchange_cuts_the_client_off() {
    for rule in [json!({"status_code": 103}), json!({"status_code": 103, "call_backend": true})] {
        let mut ends = Ends::new().await;
        ends.agent.rule(&format!("{}/", ends.authority()), rule).await;
        ends.ask(GET).await;
        let told = timeout(BOUND, ends.client.read(&mut [0; 16])).await.expect("it is cut off");
        assert!(told.is_err(), "{told:?}");
        assert_eq!(ends.agent.exchanges(1).await[0].outcome, Outcome::Faulted);
    }
}

#[tokio::test]
async fn a_rules_headers_come_in_title_case() {
    let mut ends = Ends::new().await;
    let rule = json!({"status_code": 429, "response": "no", "response_media_type": "text/plain",
        "response_headers": {"RETRY-after": "4", "x-a": ["1", "2"]}});
    ends.agent.rule(&format!("{}/", ends.authority()), rule).await;
    ends.ask(GET).await;
    ends.gets(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 4\r\nX-A: 1\r\nX-A: 2\r\nContent-Type: text/plain\r\n\
        Content-Length: 2\r\n\r\nno",
    )
    .await;
}

#[tokio::test]
async fn an_end_comes_after_what_is_under_way() {
    let mut ends = Ends::new().await;
    ends.ask(GET).await;
    ends.client.shutdown().await.unwrap();
    ends.sees("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    let end = ends.origin.as_ref().unwrap().try_read(&mut [0; 16]);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    ends.answer(NOTHING).await;
    ends.gets(NOTHING).await;
    ends.expect_ends().await;
    let mut ends = Ends::new().await;
    ends.get(NOTHING, NOTHING).await;
    ends.origin.as_mut().unwrap().shutdown().await.unwrap();
    ends.expect_ends().await;
}

#[tokio::test]
async fn a_client_that_is_refused_before_its_body_need_not_send_it() {
    let mut ends = Ends::new().await;
    let post = "POST http://HOST/ HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let refused = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno";
    ends.ask(post).await;
    ends.sees(&post.replace("http://HOST", "")).await;
    ends.answer(refused).await;
    ends.gets(&format!("HTTP/1.1 100 Continue\r\n\r\n{refused}")).await;
    let Ends { agent, client, .. } = ends;
    drop(client);
    let exchange = agent.exchanges(1).await.remove(0);
    assert_eq!((exchange.status, exchange.error), (Some(417), None));
}
