//! HTTP/1 in the clear on a connection that is looked into: what each end sees, to the byte. The test is both ends.

use std::net::Ipv4Addr;
use std::time::Duration;

use moxie_agent::journal::{ConnectionVerdict, ExchangeError, Outcome, Reason};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};

const HOST: &str = "plain.example";

/// An agent before a destination that is the test itself, and which a rule looks into.
struct Scene {
    agent: Agent,
    origin: TcpListener,
}

impl Scene {
    async fn new() -> Self {
        let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let agent = Agent::start(Some(origin.local_addr().unwrap()), None).await;
        let answer = json!({"status_code": 429, "response": "no", "response_media_type": "text/plain",
            "response_headers": {"RETRY-after": "4", "X-a": ["1", "2"]}});
        agent.rule(&format!("{HOST}/mocked"), answer).await;
        Self { agent, origin }
    }

    async fn client(&self) -> TcpStream {
        #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
        let stream = TcpStream::connect(self.agent.door).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A client that has sent `first`, and the destination's end of it.
    async fn ends(&self, first: &[u8]) -> (TcpStream, TcpStream) {
        let mut client = self.client().await;
        client.write_all(first).await.unwrap();
        let (origin, _) = timeout(BOUND, self.origin.accept()).await.expect("the destination is dialled").unwrap();
        (client, origin)
    }
}

const MOCKED: &str = "HTTP/1.1 429 Too Many Requests\r\nRETRY-after: 4\r\nX-a: 1\r\nX-a: 2\r\nContent-Type: text/plain\r\n\
    Content-Length: 2\r\n\r\nno";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// Reads exactly what is expected, and says what came instead.
#[track_caller]
fn expect<'a>(stream: &'a mut TcpStream, expected: &'a [u8]) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let mut read = vec![0; expected.len()];
        let mut have = 0;
        while have < read.len() {
            let more = timeout(BOUND, stream.read(&mut read[have..])).await;
            match more {
                Ok(Ok(count)) if count > 0 => have += count,
                other => {
                    let so_far = String::from_utf8_lossy(&read[..have]);
                    panic!("{caller}: {other:?} after {so_far:?}")
                }
            }
        }
        assert!(
            read == expected,
            "{caller}: {:?}\n{:?}",
            String::from_utf8_lossy(&read),
            String::from_utf8_lossy(expected)
        );
    }
}

/// Nothing comes but the end.
#[track_caller]
fn expect_end(stream: &mut TcpStream) -> impl Future<Output = ()> + '_ {
    let caller = std::panic::Location::caller();
    async move {
        let read = timeout(BOUND, stream.read(&mut [0; 64])).await;
        assert!(matches!(read, Ok(Ok(0))), "{caller}: {read:?}");
    }
}

#[track_caller]
fn expect_reset(stream: &mut TcpStream) -> impl Future<Output = ()> + '_ {
    let caller = std::panic::Location::caller();
    async move {
        let read = timeout(BOUND, stream.read(&mut [0; 64])).await.expect("an end");
        let kind = read.map_err(|error| error.kind());
        assert_eq!(kind, Err(std::io::ErrorKind::ConnectionReset), "{caller}");
    }
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Each with whether the connection is still read after it.
const MESSAGES: [(&str, &str, bool); 17] = [
    ("GET /a HTTP/1.1\r\nhOsT: plain.example\r\nX-b: 1\r\nx-A:   v  \r\nX-B: 2\r\n\r\n", OK, true),
    ("GET /a<>\"{}|\\^`%zz?\"<>#frag HTTP/1.1\r\nHost: plain.example\r\n\r\n", OK, true),
    ("POST /a HTTP/1.1\r\nHost: plain.example\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", OK, true),
    (
        "POST /a HTTP/1.1\r\nHost: plain.example\r\nTransfer-Encoding: chunked\r\n\r\n02;a=b\r\nab\r\n0\r\nX-T: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n000\r\nX-Trailer: 1\r\n\r\n",
        true,
    ),
    ("HEAD /a HTTP/1.1\r\nHost: plain.example\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n", true),
    ("GET /a HTTP/1.1\r\nHost: plain.example\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", true),
    ("GET /a HTTP/1.1\r\nHost: plain.example\r\n\r\n", "HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n", true),
    (
        "GET /a HTTP/1.1\r\nHost: plain.example\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\nOdd : 1\r\n\r\nok",
        true,
    ),
    (
        "GET /a HTTP/1.1\r\nHost: plain.example\r\n\r\n",
        "HTTP/1.1 200 OK\r\nOdd : 1\r\nContent-Length: 2\r\n\r\nok",
        false,
    ),
    ("GET /a HTTP/1.1\r\nHost: plain.example\r\n\r\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", true),
    (
        "GET /a HTTP/1.1\r\nHost: plain.example\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        true,
    ),
    ("GET http://plain.example/a HTTP/1.1\r\nHost: plain.example\r\n\r\n", OK, true),
    (
        "GET /a HTTP/1.0\r\nHost: plain.example\r\nConnection: keep-alive\r\n\r\n",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        true,
    ),
    (
        "GET /a HTTP/1.1\r\nHost: plain.example\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK,
        false,
    ),
    ("GET /a HTTP/1.1\r\nHost: plain.example\r\nA : 1\r\n\r\n", OK, false),
    ("GET  /a HTTP/1.1\r\nHost: plain.example\r\n\r\n", OK, false),
    ("\x01\x02 no HTTP at all", "nor this", false),
];

#[tokio::test]
async fn what_no_rule_names_passes_to_the_byte_and_is_read_only_beyond_doubt() {
    let scene = Scene::new().await;
    for segment in [usize::MAX, 7, 1] {
        for (request, answer, is_read) in MESSAGES {
            // The connection is looked into because of its first request; the message is its second.
            let first = get("/first");
            let (mut client, mut origin) = scene.ends(first.as_bytes()).await;
            origin.set_nodelay(true).unwrap();
            expect(&mut origin, first.as_bytes()).await;
            origin.write_all(OK.as_bytes()).await.unwrap();
            expect(&mut client, OK.as_bytes()).await;
            for part in request.as_bytes().chunks(segment) {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            expect(&mut origin, request.as_bytes()).await;
            for part in answer.as_bytes().chunks(segment) {
                origin.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            expect(&mut client, answer.as_bytes()).await;
            let mocked = get("/mocked");
            client.write_all(mocked.as_bytes()).await.unwrap();
            if is_read {
                expect(&mut client, MOCKED.as_bytes()).await;
            } else {
                expect(&mut origin, mocked.as_bytes()).await;
            }
            client.shutdown().await.unwrap();
            expect_end(&mut origin).await;
        }
    }
}

#[tokio::test]
async fn doubt_is_on_record_with_its_reason() {
    let scene = Scene::new().await;
    let both =
        "GET /a HTTP/1.1\r\nHost: plain.example\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let (mut client, mut origin) = scene.ends(both.as_bytes()).await;
    expect(&mut origin, both.as_bytes()).await;
    drop((client.shutdown().await, origin));
    drop(client);
    let record = &scene.agent.connections(1).await[0];
    assert_eq!((record.verdict, record.reason), (ConnectionVerdict::Passthrough, Reason::Uninterpreted));
    assert_eq!(record.doubt.as_deref(), Some("length_and_coding"));
}

#[tokio::test]
async fn a_pipeline_keeps_its_order_and_only_a_rules_request_waits() {
    let scene = Scene::new().await;
    let all = [get("/1"), get("/2"), get("/mocked"), get("/3"), get("/mocked"), get("/mocked")].concat();
    let (mut client, mut origin) = scene.ends(all.as_bytes()).await;
    // Both come before the first is answered.
    expect(&mut origin, [get("/1"), get("/2")].concat().as_bytes()).await;
    origin.write_all(OK.as_bytes()).await.unwrap();
    origin.write_all(OK.as_bytes()).await.unwrap();
    expect(&mut origin, get("/3").as_bytes()).await;
    expect(&mut client, [OK, OK, MOCKED].concat().as_bytes()).await;
    origin.write_all(OK.as_bytes()).await.unwrap();
    expect(&mut client, [OK, MOCKED, MOCKED].concat().as_bytes()).await;
    let outcomes: Vec<_> = scene.agent.exchanges(6).await.iter().map(|exchange| exchange.outcome).collect();
    let (passed, mocked) = (Outcome::Forwarded, Outcome::Responded);
    assert_eq!(outcomes, [passed, passed, mocked, passed, mocked, mocked]);
}

#[tokio::test]
async fn a_switch_of_protocols_ends_http_and_nothing_is_read_before_it_is_known() {
    let scene = Scene::new().await;
    let ask = "GET /ws HTTP/1.1\r\nHost: plain.example\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    let mocked = get("/mocked");
    let early = [ask, &mocked].concat();
    let (mut client, mut origin) = scene.ends(early.as_bytes()).await;
    expect(&mut origin, early.as_bytes()).await;
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello";
    origin.write_all(switched.as_bytes()).await.unwrap();
    expect(&mut client, switched.as_bytes()).await;
    client.write_all(mocked.as_bytes()).await.unwrap();
    expect(&mut origin, mocked.as_bytes()).await;
    origin.shutdown().await.unwrap();
    expect_end(&mut client).await;
    client.write_all(b"still").await.unwrap();
    expect(&mut origin, b"still").await;
    drop(client);
    expect_end(&mut origin).await;
    let exchange = &scene.agent.exchanges(1).await[0];
    assert_eq!((exchange.status, exchange.error), (Some(101), None));

    // Declined, and nothing came meanwhile: HTTP goes on.
    let (mut client, mut origin) = scene.ends(ask.as_bytes()).await;
    expect(&mut origin, ask.as_bytes()).await;
    origin.write_all(OK.as_bytes()).await.unwrap();
    expect(&mut client, OK.as_bytes()).await;
    client.write_all(mocked.as_bytes()).await.unwrap();
    expect(&mut client, MOCKED.as_bytes()).await;
}

#[tokio::test]
async fn an_end_is_passed_on_as_it_came() {
    let scene = Scene::new().await;
    let request = get("/a");
    // The destination closes between two requests: at once, and nobody dials it again.
    let (mut client, mut origin) = scene.ends(request.as_bytes()).await;
    expect(&mut origin, request.as_bytes()).await;
    origin.write_all(OK.as_bytes()).await.unwrap();
    drop(origin);
    expect(&mut client, OK.as_bytes()).await;
    expect_end(&mut client).await;

    // In the middle of an answer.
    let (mut client, mut origin) = scene.ends(request.as_bytes()).await;
    expect(&mut origin, request.as_bytes()).await;
    origin.write_all(&OK.as_bytes()[..OK.len() - 1]).await.unwrap();
    origin.shutdown().await.unwrap();
    expect(&mut client, &OK.as_bytes()[..OK.len() - 1]).await;
    expect_end(&mut client).await;
    drop((client, origin));

    // A body that the close ends, and a request whose other half stays open.
    let (mut client, mut origin) = scene.ends(request.as_bytes()).await;
    client.shutdown().await.unwrap();
    expect(&mut origin, request.as_bytes()).await;
    expect_end(&mut origin).await;
    let answer = "HTTP/1.1 200 OK\r\n\r\nuntil the end";
    origin.write_all(answer.as_bytes()).await.unwrap();
    drop(origin);
    expect(&mut client, answer.as_bytes()).await;
    expect_end(&mut client).await;

    let errors: Vec<_> = scene.agent.exchanges(3).await.iter().map(|exchange| exchange.error).collect();
    assert_eq!(errors, [None, Some(ExchangeError::UpstreamBroke), None]);
}

#[tokio::test]
async fn a_reset_is_a_reset_on_the_other_side() {
    let scene = Scene::new().await;
    let request = get("/a");
    let (mut client, mut origin) = scene.ends(request.as_bytes()).await;
    expect(&mut origin, request.as_bytes()).await;
    reset(origin);
    expect_reset(&mut client).await;

    let (mut client, mut origin) = scene.ends(request.as_bytes()).await;
    expect(&mut origin, request.as_bytes()).await;
    origin.write_all(&OK.as_bytes()[..20]).await.unwrap();
    expect(&mut client, &OK.as_bytes()[..20]).await;
    reset(origin);
    expect_reset(&mut client).await;

    let (client, mut origin) = scene.ends(request.as_bytes()).await;
    expect(&mut origin, request.as_bytes()).await;
    reset(client);
    expect_reset(&mut origin).await;
    let errors: Vec<_> = scene.agent.exchanges(3).await.iter().map(|exchange| exchange.error).collect();
    let broke = Some(ExchangeError::UpstreamBroke);
    assert_eq!(errors, [broke, broke, Some(ExchangeError::ClientGone)]);
}

#[tokio::test]
async fn an_answer_may_come_before_its_requests_end() {
    let scene = Scene::new().await;
    let head = "POST /a HTTP/1.1\r\nHost: plain.example\r\nContent-Length: 6\r\n\r\n";
    let (mut client, mut origin) = scene.ends(head.as_bytes()).await;
    expect(&mut origin, head.as_bytes()).await;
    origin.write_all(OK.as_bytes()).await.unwrap();
    expect(&mut client, OK.as_bytes()).await;
    client.write_all(b"abcdef").await.unwrap();
    expect(&mut origin, b"abcdef").await;
    client.write_all(get("/mocked").as_bytes()).await.unwrap();
    expect(&mut client, MOCKED.as_bytes()).await;
    let exchanges = scene.agent.exchanges(2).await;
    assert_eq!((exchanges[0].request_bytes, exchanges[0].response_bytes, exchanges[0].error), (6, 2, None));
}

#[tokio::test]
async fn leave_to_go_on_is_the_destinations_to_give_and_a_rules_where_it_answers() {
    let scene = Scene::new().await;
    let head = "POST /a HTTP/1.1\r\nHost: plain.example\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (mut client, mut origin) = scene.ends(head.as_bytes()).await;
    expect(&mut origin, head.as_bytes()).await;
    origin.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    expect(&mut client, b"HTTP/1.1 100 Continue\r\n\r\n").await;
    client.write_all(b"hi").await.unwrap();
    expect(&mut origin, b"hi").await;
    origin.write_all(OK.as_bytes()).await.unwrap();
    expect(&mut client, OK.as_bytes()).await;
    client.write_all(head.replace("/a", "/mocked").as_bytes()).await.unwrap();
    expect(&mut client, b"HTTP/1.1 100 Continue\r\n\r\n").await;
    client.write_all(b"hi").await.unwrap();
    expect(&mut client, MOCKED.as_bytes()).await;
}

#[tokio::test]
async fn what_follows_a_body_that_was_refused_is_not_read() {
    let scene = Scene::new().await;
    let head = "POST /a HTTP/1.1\r\nHost: plain.example\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (mut client, mut origin) = scene.ends(head.as_bytes()).await;
    expect(&mut origin, head.as_bytes()).await;
    let refusal = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    origin.write_all(refusal.as_bytes()).await.unwrap();
    expect(&mut client, refusal.as_bytes()).await;
    client.write_all(get("/mocked").as_bytes()).await.unwrap();
    expect(&mut origin, get("/mocked").as_bytes()).await;
    drop((client, origin));
    assert_eq!(scene.agent.exchanges(1).await[0].error, None);
    assert_eq!(scene.agent.connections(1).await[0].doubt.as_deref(), Some("body_refused"));
}

#[tokio::test]
async fn a_head_that_does_not_become_whole_goes_on_as_it_is() {
    let scene = Scene::new().await;
    let (mut client, mut origin) = scene.ends(get("/a").as_bytes()).await;
    expect(&mut origin, get("/a").as_bytes()).await;
    origin.write_all(OK.as_bytes()).await.unwrap();
    expect(&mut client, OK.as_bytes()).await;
    // Empty lines are no beginning; what follows them is.
    let half = "\r\n\r\nGET /mocked HTTP/1.1\r\nHo";
    client.write_all(half.as_bytes()).await.unwrap();
    expect(&mut origin, half.as_bytes()).await;
    client.write_all(b"st: plain.example\r\n\r\n").await.unwrap();
    expect(&mut origin, b"st: plain.example\r\n\r\n").await;
    drop((client, origin));
    assert_eq!(scene.agent.connections(1).await[0].doubt.as_deref(), Some("head_too_slow"));
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_delay() {
    let scene = Scene::new().await;
    scene.agent.rule(&format!("{HOST}/late"), json!({"status_code": 503, "response_delay": 3600})).await;
    let mut client = scene.client().await;
    client.write_all(get("/late").as_bytes()).await.unwrap();
    tokio::task::yield_now().await;
    reset(client);
    let exchange = &scene.agent.exchanges(1).await[0];
    assert_eq!((exchange.status, exchange.error), (None, Some(ExchangeError::ClientGone)));
}

#[tokio::test]
async fn a_client_in_the_clear_may_close_its_half_and_wait() {
    let scene = Scene::new().await;
    scene.agent.rule(&format!("{HOST}/late"), json!({"status_code": 503, "response_delay": 0.2})).await;
    let mut client = scene.client().await;
    client.write_all(get("/late").as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    expect(&mut client, b"HTTP/1.1 503 Service Unavailable\r\n").await;
    let mut rest = Vec::new();
    timeout(BOUND, client.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_a_rule_changes_is_changed_in_its_place() {
    let scene = Scene::new().await;
    let rule = json!({"call_backend": true, "status_code": 503, "custom_headers": {"X-Test": "yes", "accept": "b"},
        "response_headers": {"x-Added": "1"}});
    scene.agent.rule(&format!("{HOST}/status"), rule).await;
    scene.agent.rule(&format!("{HOST}/body"), json!({"call_backend": true, "response": {"a": 1}})).await;
    let ask = "GET /status HTTP/1.1\r\nHOST: plain.example\r\nAccept:  a\r\nX-B: 1\r\n\r\n";
    let (mut client, mut origin) = scene.ends(ask.as_bytes()).await;
    let asked = ask.replace("Accept:  a", "accept: b").replace("X-B: 1\r\n", "X-B: 1\r\nX-Test: yes\r\n");
    expect(&mut origin, asked.as_bytes()).await;
    let answer = "HTTP/1.1 200 Fine\r\nserver: o\r\ncontent-LENGTH: 2\r\n\r\nok";
    origin.write_all(answer.as_bytes()).await.unwrap();
    let changed = answer.replace("200 Fine", "503 Service Unavailable").replace("2\r\n\r\n", "2\r\nx-Added: 1\r\n\r\n");
    expect(&mut client, changed.as_bytes()).await;

    client.write_all(get("/body").as_bytes()).await.unwrap();
    expect(&mut origin, get("/body").as_bytes()).await;
    // Slowly, and the client has its answer with the head already.
    origin
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nETag: x\r\nTransfer-Encoding: ch")
        .await
        .unwrap();
    expect(&mut client, b"HTTP/1.1 100 Continue\r\n\r\n").await;
    origin.write_all(b"unked\r\nServer: o\r\n\r\n5\r\nhel").await.unwrap();
    let changed =
        "HTTP/1.1 200 OK\r\nServer: o\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
    expect(&mut client, changed.as_bytes()).await;
    origin.write_all(b"lo\r\n0\r\n\r\n").await.unwrap();
    client.write_all(get("/next").as_bytes()).await.unwrap();
    expect(&mut origin, get("/next").as_bytes()).await;
    origin.write_all(OK.as_bytes()).await.unwrap();
    expect(&mut client, OK.as_bytes()).await;
    let exchanges = scene.agent.exchanges(3).await;
    assert_eq!((exchanges[0].outcome, exchanges[0].status), (Outcome::Rewritten, Some(503)));
    assert_eq!((exchanges[1].outcome, exchanges[1].response_bytes), (Outcome::Rewritten, 7));
}

#[tokio::test]
async fn what_a_rule_could_not_change_is_not_told_to_be_changed() {
    let scene = Scene::new().await;
    scene.agent.rule(&format!("{HOST}/edit"), json!({"call_backend": true, "status_code": 204})).await;
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n";
    for odd in [switched, "220 smtp hello\r\n", ""] {
        let (mut client, mut origin) = scene.ends(get("/edit").as_bytes()).await;
        expect(&mut origin, get("/edit").as_bytes()).await;
        origin.write_all(odd.as_bytes()).await.unwrap();
        drop(origin);
        expect(&mut client, odd.as_bytes()).await;
        expect_end(&mut client).await;
    }
    let (mut client, mut origin) = scene.ends(get("/edit").as_bytes()).await;
    expect(&mut origin, get("/edit").as_bytes()).await;
    origin.write_all(b"HTTP/1.1 304 Not Modified\r\nServer: o\r\nContent-Length: 10\r\n\r\n").await.unwrap();
    expect(&mut client, b"HTTP/1.1 204 No Content\r\nServer: o\r\n\r\n").await;
    let told: Vec<_> =
        scene.agent.exchanges(4).await.into_iter().map(|record| (record.outcome, record.status)).collect();
    let unchanged = |status| (Outcome::Forwarded, status);
    assert_eq!(told, [unchanged(Some(101)), unchanged(None), unchanged(None), (Outcome::Rewritten, Some(204))]);
}

#[tokio::test]
async fn a_large_body_passes_both_ways_at_once_and_is_counted() {
    const LENGTH: usize = 8 << 20;
    let scene = Scene::new().await;
    let head = format!("POST /a HTTP/1.1\r\nHost: plain.example\r\nContent-Length: {LENGTH}\r\n\r\n");
    let (client, mut origin) = scene.ends(head.as_bytes()).await;
    expect(&mut origin, head.as_bytes()).await;
    let answer_head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
    let body: Vec<u8> = (0..LENGTH).map(|n| (n % 251) as u8).collect();
    let (mut from_client, mut to_client) = origin.into_split();
    let (mut from_origin, mut to_origin) = client.into_split();
    let (asked, answered) = (body.clone(), body.clone());
    let sends = tokio::spawn(async move { to_origin.write_all(&asked).await.map(|()| to_origin) });
    let answers = tokio::spawn(async move {
        to_client.write_all(answer_head.as_bytes()).await?;
        to_client.write_all(&answered).await.map(|()| (to_client, answer_head.len()))
    });
    let mut seen = vec![0; LENGTH];
    let mut got = vec![0; LENGTH + format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").len()];
    let both = async { tokio::join!(from_client.read_exact(&mut seen), from_origin.read_exact(&mut got)) };
    let (seen_all, got_all) = timeout(BOUND, both).await.expect("both bodies");
    seen_all.unwrap();
    got_all.unwrap();
    let ((_, head_length), _) = (answers.await.unwrap().unwrap(), sends.await.unwrap().unwrap());
    assert!(seen == body && got[head_length..] == body, "the bodies differ");
    let exchange = &scene.agent.exchanges(1).await[0];
    assert_eq!((exchange.request_bytes, exchange.response_bytes), (LENGTH as u64, LENGTH as u64));
}

#[tokio::test]
async fn a_rules_answer_waits_for_the_rest_of_the_request_before_it() {
    let scene = Scene::new().await;
    for length in (0..8).map(|turn| (6 << 20) + turn * 50_000) {
        let head = format!("POST /a HTTP/1.1\r\nHost: plain.example\r\nContent-Length: {length}\r\n\r\n");
        let (mut client, mut origin) = scene.ends(head.as_bytes()).await;
        expect(&mut origin, head.as_bytes()).await;
        origin.write_all(OK.as_bytes()).await.unwrap();
        expect(&mut client, OK.as_bytes()).await;
        let (mut answers, mut requests) = client.into_split();
        let sends = tokio::spawn(async move {
            requests.write_all(&vec![b'a'; length]).await?;
            requests.write_all(get("/mocked").as_bytes()).await.map(|()| requests)
        });
        let mut body = vec![0; length];
        timeout(BOUND, origin.read_exact(&mut body)).await.expect("the whole body").unwrap();
        let mut answer = vec![0; MOCKED.len()];
        timeout(BOUND, answers.read_exact(&mut answer)).await.expect("an answer").unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), MOCKED);
        sends.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_a_rule_replaced_does_not_come_after_all_when_the_client_is_in_doubt() {
    let scene = Scene::new().await;
    scene.agent.rule(&format!("{HOST}/body"), json!({"call_backend": true, "response": {"a": 1}})).await;
    let (mut client, mut origin) = scene.ends(get("/body").as_bytes()).await;
    expect(&mut origin, get("/body").as_bytes()).await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel").await.unwrap();
    let changed = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
    expect(&mut client, changed.as_bytes()).await;
    client.write_all(b"\x01 no HTTP").await.unwrap();
    expect(&mut origin, b"\x01 no HTTP").await;
    origin.write_all(b"lo\r\n0\r\n\r\nno HTTP either").await.unwrap();
    expect(&mut client, b"no HTTP either").await;
}

#[tokio::test]
async fn a_pipeline_that_is_longer_than_what_is_kept_in_mind_is_answered_to_its_end() {
    /// More than are asked at a time.
    const MANY: usize = 4000;
    let scene = Scene::new().await;
    let (mut client, mut origin) = scene.ends(get("/a").as_bytes()).await;
    let (mut answers, mut requests) = client.split();
    let asks = async { requests.write_all(get("/a").repeat(MANY - 1).as_bytes()).await.unwrap() };
    let serves = async {
        // Many before the first has its answer.
        let mut seen = vec![0; get("/a").len() * 1024];
        origin.read_exact(&mut seen).await.unwrap();
        origin.write_all(OK.repeat(1024).as_bytes()).await.unwrap();
        let mut next = vec![0; get("/a").len()];
        for _ in 1024..MANY {
            origin.read_exact(&mut next).await.unwrap();
            origin.write_all(OK.as_bytes()).await.unwrap();
        }
    };
    let mut answered = vec![0; OK.len() * MANY];
    let all = async { tokio::join!(asks, serves, answers.read_exact(&mut answered)) };
    timeout(BOUND, all).await.expect("an answer to each").2.unwrap();
    assert!(answered == OK.repeat(MANY).as_bytes());
}

#[tokio::test]
async fn a_client_that_goes_away_while_the_destination_takes_nothing_is_missed() {
    let scene = Scene::new().await;
    let head = "POST /a HTTP/1.1\r\nHost: plain.example\r\nContent-Length: 1000000000\r\n\r\n";
    let (mut client, mut origin) = scene.ends(head.as_bytes()).await;
    expect(&mut origin, head.as_bytes()).await;
    // Until nobody takes any more.
    let part = vec![b'a'; 1 << 20];
    while timeout(Duration::from_millis(200), client.write_all(&part)).await.is_ok() {}
    reset(client);
    assert_eq!(scene.agent.exchanges(1).await[0].error, Some(ExchangeError::ClientGone));
    let mut rest = Vec::new();
    let read = timeout(BOUND, origin.read_to_end(&mut rest)).await.expect("an end");
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}
