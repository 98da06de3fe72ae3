//! What is not inside TLS: opaque bytes, server-first protocols, plain HTTP.

use moxie_agent::journal::{ConnectionVerdict, ExchangeError, Outcome, Protocol, Reason};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::agent::Agent;
use crate::origin::{Origin, read_all};

pub async fn dial(agent: &Agent) -> TcpStream {
    #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
    TcpStream::connect(agent.door).await.unwrap()
}

async fn ask(agent: &Agent, request: &str) -> String {
    let mut stream = dial(agent).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    String::from_utf8(read_all(&mut stream).await.unwrap()).unwrap()
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: plain.example\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn opaque_bytes_pass_both_ways_and_half_close_is_kept() {
    let origin = Origin::greeting(b"").await;
    let agent = Agent::start(Some(origin.address), None).await;
    let mut stream = dial(&agent).await;
    let sent: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    let (mut from, mut to) = stream.split();
    let (read, ()) = tokio::join!(read_all(&mut from), async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    });
    assert!(read.unwrap() == sent, "bytes differ");
    let record = &agent.connections(1).await[0];
    assert_eq!((record.protocol, record.verdict), (Protocol::Opaque, ConnectionVerdict::Passthrough));
    assert_eq!(record.reason, Reason::NotHttp);
    assert_eq!((record.bytes_up, record.bytes_down), (200_000, 200_000));
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_while_the_client_is_silent() {
    let origin = Origin::greeting(b"220 ready\r\n").await;
    let agent = Agent::start(Some(origin.address), None).await;
    let mut stream = dial(&agent).await;
    let mut greeting = [0; 11];
    tokio::time::timeout(crate::agent::BOUND, stream.read_exact(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    stream.write_all(b"QUIT\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"QUIT\r\n");
    assert_eq!(agent.connections(1).await[0].reason, Reason::ServerFirst);
}

#[tokio::test]
async fn a_connection_without_an_original_destination_is_reset_and_counted() {
    let agent = Agent::start(None, None).await;
    let mut stream = dial(&agent).await;
    let error = read_all(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let record = &agent.connections(1).await[0];
    assert_eq!((record.verdict, record.reason), (ConnectionVerdict::Fault, Reason::NoOriginalDst));
    assert_eq!(record.original_dst, None);
}

#[tokio::test]
async fn a_plain_host_that_no_rule_names_passes() {
    let origin = Origin::http(None).await;
    let agent = Agent::start(Some(origin.address), None).await;
    agent.rule("other.example/.*", json!({"status_code": 429})).await;
    let answer = ask(&agent, &get("/a")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("origin saw /a"), "{answer}");
    let record = &agent.connections(1).await[0];
    assert_eq!((record.verdict, record.reason), (ConnectionVerdict::Passthrough, Reason::NoRule));
    assert_eq!(record.server_name.as_deref(), Some("plain.example"));
}

#[tokio::test]
async fn a_plain_call_is_mocked_exactly_as_often_as_asked_and_nothing_is_added() {
    let origin = Origin::http(None).await;
    let agent = Agent::start(Some(origin.address), None).await;
    let rule = agent
        .rule(
            "plain.example/a",
            json!({"method": "GET", "status_code": 429, "mock_count": 2, "response": "slow down",
            "response_media_type": "text/plain", "response_headers": {"Retry-After": "4"}}),
        )
        .await;
    for _ in 0..2 {
        let answer = ask(&agent, &get("/a")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines: Vec<String> = head.lines().map(str::to_ascii_lowercase).collect();
        assert_eq!(lines.remove(0), "http/1.1 429 too many requests");
        lines.sort();
        assert_eq!(lines, ["connection: close", "content-length: 9", "content-type: text/plain", "retry-after: 4"]);
        assert_eq!(body, "slow down");
    }
    assert!(ask(&agent, &get("/a")).await.ends_with("origin saw /a"));
    assert_eq!(origin.requests(), 1);
    // The attempt after the last mock is part of the story: it is recorded, and the origin's own.
    let exchanges = agent.exchanges(3).await;
    let outcomes: Vec<_> = exchanges.iter().map(|exchange| (exchange.outcome, exchange.status)).collect();
    let mocked = (Outcome::Responded, Some(429));
    assert_eq!(outcomes, [mocked, mocked, (Outcome::Forwarded, Some(200))]);
    assert_eq!(exchanges[0].rule_id.as_ref().unwrap().0, rule);
    assert_eq!(exchanges[0].url, "http://plain.example/a");
    assert!(exchanges.iter().all(|exchange| exchange.error.is_none()), "{exchanges:?}");
    assert_eq!(agent.connections(3).await[2].reason, Reason::RuleSpent);
}

#[tokio::test]
async fn a_status_that_ends_no_exchange_is_a_fault_on_record() {
    let agent = Agent::start(Some(Origin::nobody().await), None).await;
    agent.rule("plain.example/a", json!({"status_code": 103})).await;
    let mut stream = dial(&agent).await;
    stream.write_all(get("/a").as_bytes()).await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let exchange = &agent.exchanges(1).await[0];
    assert_eq!((exchange.outcome, exchange.status, exchange.error), (Outcome::Faulted, None, None));
}

#[tokio::test]
async fn a_rule_that_may_not_fire_changes_nothing() {
    let origin = Origin::http(None).await;
    let agent = Agent::start(Some(origin.address), None).await;
    let idle = [json!({"enable": false}), json!({"mock_count": 0}), json!({"expires_at": "2020-01-01T00:00:00Z"})];
    for (count, rule) in idle.into_iter().enumerate() {
        agent.rule("plain.example/.*", rule).await;
        assert!(ask(&agent, &get("/a")).await.ends_with("origin saw /a"));
        let record = &agent.connections(count + 1).await[count];
        assert_eq!((record.verdict, record.reason), (ConnectionVerdict::Passthrough, Reason::NoRule));
    }
}

#[tokio::test]
async fn a_mock_needs_no_destination_and_a_forward_without_one_is_a_reset() {
    let agent = Agent::start(Some(Origin::nobody().await), None).await;
    agent.rule("plain.example/mocked", json!({"status_code": 503})).await;
    assert!(ask(&agent, &get("/mocked")).await.starts_with("HTTP/1.1 503 "));
    let mut stream = dial(&agent).await;
    stream.write_all(get("/forwarded").as_bytes()).await.unwrap();
    let error = read_all(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let exchanges = agent.exchanges(2).await;
    assert_eq!(exchanges[1].error, Some(ExchangeError::UpstreamUnreachable));
    assert_eq!(exchanges[1].status, None);
}

#[tokio::test]
async fn a_real_answer_is_changed_only_in_the_parts_a_rule_gives() {
    let origin = Origin::http(None).await;
    let agent = Agent::start(Some(origin.address), None).await;
    agent.rule("plain.example/status", json!({"call_backend": true, "status_code": 500, "mock_count": 1})).await;
    agent.rule("plain.example/body", json!({"call_backend": true, "response": {"a": 1}})).await;
    let status = ask(&agent, &get("/status")).await;
    assert!(status.starts_with("HTTP/1.1 500 ") && status.ends_with("origin saw /status"), "{status}");
    let body = ask(&agent, &get("/body")).await;
    assert!(
        body.starts_with("HTTP/1.1 200 ") && body.ends_with(r#"{"a":1}"#) && body.contains("x-origin: yes"),
        "{body}"
    );
    let outcomes: Vec<_> = agent.exchanges(2).await.iter().map(|exchange| exchange.outcome).collect();
    assert_eq!(outcomes, [Outcome::Rewritten, Outcome::Rewritten]);
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn a_mock_reads_the_whole_of_a_large_request_and_the_connection_goes_on() {
    const LENGTH: usize = 20 << 20;
    let agent = Agent::start(Some(Origin::nobody().await), None).await;
    agent.rule("plain.example/upload", json!({"status_code": 429})).await;
    let mut stream = dial(&agent).await;
    let head = format!("POST /upload HTTP/1.1\r\nHost: plain.example\r\nContent-Length: {LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; LENGTH]).await.unwrap();
    stream.write_all(get("/upload").as_bytes()).await.unwrap();
    let answers = String::from_utf8(read_all(&mut stream).await.unwrap()).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 429").count(), 2, "{answers}");
}

#[tokio::test]
async fn a_client_that_only_listens_hears_what_the_server_says() {
    let origin = Origin::greeting(b"220 ready\r\n").await;
    let agent = Agent::start(Some(origin.address), None).await;
    let mut stream = dial(&agent).await;
    stream.shutdown().await.unwrap();
    let heard = tokio::time::timeout(crate::agent::BOUND, read_all(&mut stream)).await.unwrap();
    assert_eq!(heard.unwrap(), b"220 ready\r\n");
    assert_eq!(agent.connections(1).await[0].verdict, ConnectionVerdict::Passthrough);
}

#[tokio::test]
async fn a_client_that_loses_patience_with_a_rules_delay_got_no_answer() {
    let origin = Origin::http(None).await;
    let agent = Agent::start(Some(origin.address), None).await;
    agent.rule("plain.example/slow", json!({"status_code": 429, "response_delay": "200ms"})).await;
    let mut stream = dial(&agent).await;
    stream.write_all(get("/slow").as_bytes()).await.unwrap();
    // FIN alone, as from one that ends its direction and waits.
    drop(stream);
    let record = &agent.exchanges(1).await[0];
    assert_eq!((record.status, record.error), (None, Some(ExchangeError::ClientGone)));
    assert!(record.injected_delay_ms >= 200, "{}", record.injected_delay_ms);
    // One that does wait has its answer.
    let mut stream = dial(&agent).await;
    stream.write_all(get("/slow").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(read_all(&mut stream).await.unwrap().starts_with(b"HTTP/1.1 429"));
    assert!(agent.exchanges(2).await.iter().any(|exchange| exchange.status == Some(429) && exchange.error.is_none()));
}
