//! gRPC of all four kinds, between two peers of the common library.

use std::process::Stdio;

use moxie_tests::programs::{PYTHON, script};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};

fn python(words: &[&str]) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg(script("grpc_calls.py")).args(words).env_clear().kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_all_kinds_are_as_without_the_agent() {
    let mut server = python(&["serve"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    let mut said = BufReader::new(server.stdout.take().unwrap());
    timeout(3 * BOUND, said.read_line(&mut port)).await.expect("its port").unwrap();
    let address = format!("127.0.0.1:{}", port.trim()).parse().expect("a port (is python3-grpcio installed?)");
    let agent = Agent::start(Some(address), None).await;
    // An answer that ends with its head is the library's own way to refuse.
    let refused = json!({"status_code": 200, "response_media_type": "application/grpc",
        "response_headers": {"grpc-status": "8", "grpc-message": "no room"}});
    agent.rule("h2.example/test.Echo/Mocked", refused).await;
    agent.rule("h2.example/test.Echo/Busy", json!({"status_code": 503})).await;

    let called = python(&["call", &agent.door.to_string()]).stderr(Stdio::piped()).output();
    let called = timeout(6 * BOUND, called).await.expect("the calls end").unwrap();
    let answers: Value = serde_json::from_slice(&called.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&called.stderr)));
    let expected = json!({
        "unary": ["one x", "unary"],
        "server stream": [100, "99 x"],
        "client stream": "a+b+c",
        "bidi": ["echo 0", "echo 1", "echo 2"],
        "missing": "NOT_FOUND: there is none",
        "unknown": "UNIMPLEMENTED",
        "begun": "begun",
        "has left": "yes",
        "large": true,
        "mocked": "RESOURCE_EXHAUSTED: no room",
        "busy": "UNAVAILABLE",
        "unary again": "one x",
    });
    assert_eq!(answers, expected);
    let exchanges = agent.exchanges(12).await;
    assert_eq!(exchanges[0].url, "http://h2.example/test.Echo/Unary");
    assert!(exchanges.iter().all(|exchange| exchange.connection_id == exchanges[0].connection_id), "one connection");
}
