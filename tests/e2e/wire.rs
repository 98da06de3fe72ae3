//! What goes over the wire: every kind of peer and conversation, mocked or passed on as it is.

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Place, Run, process};
use moxie_tests::programs::{self, PYTHON, Program, Session};
use moxie_tests::{Agent, Answer, Difference, Lab, Way, way};
use serde_json::{Value, json};

/// An agent that sees everything, with rules that make the named hosts intercepted without answering their other paths.
fn intercepting<'lab>(lab: &'lab Lab, hosts: &[&str]) -> Result<Agent<'lab>> {
    let agent = lab.agent()?;
    agent.opt_in_as("observe")?;
    for host in hosts {
        agent.rule(
            &json!({"url": format!("{host}/mocked"), "status_code": 429, "response_headers": {"Retry-After": "7"}}),
        )?;
    }
    Ok(agent)
}

/// Holds the client's `getpeername` against the destination, where the way under test keeps it.
fn assert_peer(answer: &Answer, peer: &str) -> Result<()> {
    if !way::excludes(&[(Way::Proxy, Difference::Peer)])? {
        assert_eq!(answer.peer.as_deref(), Some(peer));
    }
    Ok(())
}

fn connection_to(agent: &Agent<'_>, host: &str, reason: &str) -> Result<Value> {
    agent.record("/api/v1/connections", |record| record["server_name"] == host && record["reason"] == reason)
}

#[test]
fn http_on_port_80_is_mocked_and_passed_on() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["plain.example"])?;
    let mut session = agent.session()?;
    let mocked = session.get("http://plain.example/mocked")?;
    assert_eq!((mocked.status, mocked.retry_after.as_deref()), (Some(429), Some("7")));
    assert_peer(&mocked, "198.51.100.18:80")?;
    ensure!(session.get("http://plain.example/other")?.is_from("plain.example"));
    assert_eq!(lab.origins().paths("plain.example"), ["/other"]);
    Ok(())
}

#[test]
fn an_answer_carries_what_the_rule_asked_for_and_nothing_else() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    agent.rule(&json!({"url": "plain.example/x", "status_code": 503, "response": {"a": 1}, "response_headers":
        {"X-Many": ["one", "two"]}, "response_media_type": "application/vnd.test+json"}))?;
    let mut session = agent.session()?;
    session.tell(&json!({"do": "tcp", "host": "plain.example", "port": 80, "name": "raw"}))?;
    let request = "GET /x HTTP/1.1\r\nHost: plain.example\r\nConnection: close\r\n\r\n";
    session.tell(&json!({"do": "say", "name": "raw", "text": request}))?;
    let answer = session.tell(&json!({"do": "hear", "name": "raw", "count": -1}))?;
    let (head, body) = answer["text"].as_str().and_then(|text| text.split_once("\r\n\r\n")).context("no answer")?;
    assert_eq!(body, r#"{"a":1}"#);
    let mut lines: Vec<String> = head.split("\r\n").map(str::to_lowercase).collect();
    assert!(lines.remove(0).starts_with("http/1.1 503"), "{head}");
    lines.sort();
    // Content-Length and Connection are how the message is framed, Date is what RFC 9110 asks of an origin.
    lines.retain(|line| !line.starts_with("date:"));
    let expected = [
        "connection: close",
        "content-length: 7",
        "content-type: application/vnd.test+json",
        "x-many: one",
        "x-many: two",
    ];
    assert_eq!(lines, expected);
    Ok(())
}

#[test]
fn a_rule_that_calls_the_backend_changes_the_real_answer() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    let rule = agent.rule(&json!({"url": "api.github.com/zen", "call_backend": true, "status_code": 503,
        "custom_headers": {"X-Test": "yes"}, "response_headers": {"X-Added": "1"}}))?;
    let answer = agent.session()?.tell(&json!({"do": "request", "url": "https://api.github.com/zen"}))?;
    assert_eq!(answer["status"], 503, "{answer}");
    assert!(answer["body"].as_str().is_some_and(|body| body.contains("api.github.com")), "the body is the origin's");
    assert_eq!(
        (&answer["headers"]["X-Added"], &answer["headers"]["x-origin"]),
        (&"1".into(), &"api.github.com".into())
    );
    let seen = lab.origins().seen("api.github.com").pop().context("the origin saw nothing")?;
    assert_eq!(seen.headers.get("x-test").map(|value| value.as_bytes()), Some(&b"yes"[..]));
    let record = agent.record("/api/v1/exchanges", |record| record["outcome"] == "rewritten")?;
    assert_eq!((&record["rule_id"], &record["status"]), (&rule.into(), &503.into()), "{record}");
    Ok(())
}

#[test]
fn ipv6_is_mocked_and_passed_on_and_getpeername_shows_the_origin() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["six.example"])?;
    let mut session = agent.session()?;
    let mocked = session.fresh("https://six.example/mocked")?;
    assert_eq!(mocked.status, Some(429));
    assert_peer(&mocked, "fd00:6d6f:7869::10:443")?;
    ensure!(session.fresh("https://six.example/other")?.is_from("six.example"));
    let connection = connection_to(&agent, "six.example", "rule_can_name")?;
    assert_eq!(connection["original_dst"], "[fd00:6d6f:7869::10]:443");
    Ok(())
}

#[test]
fn both_http_versions_pass_an_intercepted_host() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["api.github.com", "old.example"])?;
    for (host, program, expected) in [
        ("api.github.com", Program::Curl, "HTTP/1.1"),
        ("api.github.com", Program::CurlHttp2, "HTTP/2"),
        ("old.example", Program::CurlHttp2, "HTTP/1.1"),
    ] {
        for path in ["zen", "mocked"] {
            let answer = call(&agent, program, &format!("https://{host}/{path}"))?;
            assert_eq!(answer.protocol.as_deref(), Some(expected), "{host}/{path}: {answer:?}");
            assert_eq!(answer.status, Some(if path == "zen" { 200 } else { 429 }), "{answer:?}");
        }
    }
    let protocols: Vec<_> = lab.origins().seen("api.github.com").into_iter().map(|seen| seen.protocol).collect();
    assert_eq!(protocols, ["HTTP/1.1", "HTTP/2.0"]);
    Ok(())
}

fn call(agent: &Agent<'_>, program: Program, url: &str) -> Result<Answer> {
    let words = program.calls(url, 1);
    let mut command = agent.client(&words[0])?;
    command.args(&words[1..]);
    let done = process::run(command)?;
    programs::answers(&done.stdout)?.pop().with_context(|| format!("{done:?}"))
}

#[test]
fn requests_and_bodies_arrive_as_they_were_sent() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["api.github.com"])?;
    let mut session = agent.session()?;
    let body = "0123456789abcdef".repeat(64 * 1024);
    let order = json!({"do": "request", "method": "POST", "url": "https://api.github.com/echo?a=1&b=%2F", "body": body,
        "headers": {"X-Custom": "kept", "Authorization": "Bearer s3cret", "Content-Type": "text/plain"}});
    let answer = session.request(&order)?;
    assert!(answer.body == body, "the echoed body differs: {} of {} bytes", answer.body.len(), body.len());
    let seen = lab.origins().seen("api.github.com").pop().context("the origin saw nothing")?;
    assert_eq!((seen.method.as_str(), seen.path.as_str(), seen.tls), ("POST", "/echo?a=1&b=%2F", true));
    let header = |name: &str| seen.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    for (name, value) in [("x-custom", "kept"), ("authorization", "Bearer s3cret"), ("host", "api.github.com")] {
        assert_eq!(header(name).as_deref(), Some(value), "{name}");
    }
    assert!(seen.headers.keys().all(|name| !name.as_str().contains("moxie")), "{:?}", seen.headers);
    Ok(())
}

#[test]
fn a_streamed_answer_is_not_buffered() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["api.github.com", "plain.example"])?;
    let mut session = agent.session()?;
    for base in ["https://api.github.com", "http://plain.example"] {
        session.tell(&json!({"do": "stream", "url": format!("{base}/events"), "name": "events"}))?;
        for number in 0..3 {
            // The origin sends the next event only after this one has arrived and was asked on.
            let line = session.tell(&json!({"do": "line", "name": "events"}))?;
            assert_eq!(line["line"], format!("data: {number}"), "{base}: {line}");
            session.fresh(&format!("{base}/next"))?;
        }
        session.tell(&json!({"do": "close", "name": "events"}))?;
    }
    connection_to(&agent, "api.github.com", "rule_can_name")?;
    Ok(())
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["api.github.com", "plain.example"])?;
    let mut session = agent.session()?;
    for base in ["https://api.github.com", "http://plain.example"] {
        let status = session.tell(&json!({"do": "upgrade", "url": format!("{base}/upgrade"), "name": "ws"}))?;
        assert_eq!(status["status"], 101, "{base}: {status}");
        for text in ["one", "two", "three"] {
            session.tell(&json!({"do": "say", "name": "ws", "text": text}))?;
            let heard = session.tell(&json!({"do": "hear", "name": "ws", "count": text.len()}))?;
            assert_eq!(heard["text"], text, "{base}");
        }
    }
    connection_to(&agent, "api.github.com", "rule_can_name")?;
    Ok(())
}

#[test]
fn a_server_that_speaks_first_is_not_stalled() -> Result<()> {
    let lab = Lab::new()?;
    server_first(&intercepting(&lab, &["api.github.com"])?, 443)
}

#[test]
fn every_port_comes_to_the_agent_if_all_are_asked_for() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent_with("[divert]\nports = \"all\"\n")?;
    agent.opt_in_as("observe")?;
    server_first(&agent, 2525)
}

#[test]
fn other_ports_and_udp_are_left_alone_unless_asked_for() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Ports)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["api.github.com"])?;
    let mut session = agent.session()?;
    session.tell(&json!({"do": "tcp", "host": "banner.example", "port": 2525, "name": "banner"}))?;
    assert_eq!(session.tell(&json!({"do": "hear", "name": "banner", "count": 3}))?["text"], "220");
    let datagram = json!({"do": "datagram", "host": "api.github.com", "port": 443});
    assert_eq!(session.tell(&datagram)?["sent"], 1);
    session.tell(&json!({"do": "close", "name": "banner"}))?;
    session.fresh("https://api.github.com/zen")?;
    connection_to(&agent, "api.github.com", "rule_can_name")?;
    assert_eq!(agent.list("/api/v1/connections")?.len(), 1, "the other one never came");
    Ok(())
}

#[test]
fn quic_is_refused_inside_only_if_asked_for() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Quic)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = lab.agent_with("[divert]\nrefuse_quic = true\n")?;
    agent.opt_in()?;
    let mut inside = agent.session()?;
    let mut outside = Session::start(lab.command(PYTHON, Place::Outside)?, "session.py", &[])?;
    let to = |port: u16| json!({"do": "datagram", "host": "api.github.com", "port": port});
    let refused = inside.tell(&to(443))?;
    ensure!(refused["error"].as_str().is_some_and(|error| error.contains("PermissionError")), "{refused}");
    assert_eq!(inside.tell(&to(53))?["sent"], 1, "other ports pass");
    assert_eq!(outside.tell(&to(443))?["sent"], 1, "outside nothing is refused");
    Ok(())
}

fn server_first(agent: &Agent<'_>, port: u16) -> Result<()> {
    let mut session = agent.session()?;
    session.tell(&json!({"do": "tcp", "host": "banner.example", "port": port, "name": "banner"}))?;
    let greeting = session.tell(&json!({"do": "hear", "name": "banner", "count": 26}))?;
    assert_eq!(greeting["text"], "220 banner.example ready\r\n");
    session.tell(&json!({"do": "say", "name": "banner", "text": "HELO\r\n"}))?;
    assert_eq!(session.tell(&json!({"do": "hear", "name": "banner", "count": 6}))?["text"], "HELO\r\n");
    session.tell(&json!({"do": "close", "name": "banner"}))?;
    let to = format!("198.51.100.19:{port}");
    let record = agent.record("/api/v1/connections", |record| record["original_dst"] == to.as_str())?;
    assert_eq!((&record["verdict"], &record["reason"]), (&"passthrough".into(), &"server_first".into()), "{record}");
    assert_eq!((&record["bytes_up"], &record["bytes_down"]), (&6.into(), &32.into()), "{record}");
    Ok(())
}

#[test]
fn bytes_that_are_no_http_pass_unchanged() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["api.github.com"])?;
    let mut session = agent.session()?;
    session.tell(&json!({"do": "tcp", "host": "echo.example", "port": 443, "name": "echo"}))?;
    let text = "\u{1}\u{2}MQTT\u{7f} neither TLS nor HTTP\r\n\r\n";
    session.tell(&json!({"do": "say", "name": "echo", "text": text}))?;
    assert_eq!(session.tell(&json!({"do": "hear", "name": "echo", "count": text.len()}))?["text"], text);
    session.tell(&json!({"do": "close", "name": "echo"}))?;
    let record = agent.record("/api/v1/connections", |record| record["original_dst"] == "198.51.100.20:443")?;
    assert_eq!((&record["protocol"], &record["verdict"]), (&"opaque".into(), &"passthrough".into()), "{record}");
    Ok(())
}

#[test]
fn a_mock_works_while_its_origin_is_down() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["absent.example"])?;
    let mut session = agent.session()?;
    for base in ["https://absent.example", "http://absent.example"] {
        assert_eq!(session.get(&format!("{base}/mocked"))?.status, Some(429), "{base}");
    }
    Ok(())
}

#[test]
fn a_refusing_origin_is_a_reset_and_not_an_invented_status() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Refused)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["api.github.com"])?;
    let mut session = agent.session()?;
    for url in ["https://absent.example/", "http://absent.example/"] {
        let answer = session.fresh(url)?;
        ensure!(answer.status.is_none(), "{url}: {answer:?}");
        let error = answer.error.as_deref().unwrap_or_default();
        ensure!(error.contains("ConnectionReset"), "{url}: {answer:?}");
    }
    let record = agent.record("/api/v1/connections", |record| record["original_dst"] == "198.51.100.21:443")?;
    assert_eq!(record["reason"], "upstream_failed", "{record}");
    Ok(())
}

#[test]
fn a_client_that_refuses_the_authority_is_recorded_and_passes_on_its_next_try() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["api.github.com"])?;
    let curl = || {
        // The lab's trust without the agent's authority.
        let mut curl = lab.command("curl", Place::Inside)?;
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "https://api.github.com/zen"]);
        process::run(curl)
    };
    let first = curl()?;
    assert_eq!(first.code(), Some(60), "curl sees an unknown authority: {first:?}");
    connection_to(&agent, "api.github.com", "authority_refused")?;
    let second = curl()?;
    assert_eq!((second.code(), second.stdout.as_str()), (Some(0), "200"), "{second:?}");
    connection_to(&agent, "api.github.com", "client_refused_authority")?;
    assert_eq!(lab.origins().paths("api.github.com"), ["/zen"]);
    Ok(())
}

#[test]
fn a_client_that_pins_its_certificate_passes_on_its_next_try() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["pinned.example"])?;
    let mut probe = Session::start(lab.command(PYTHON, Place::Outside)?, "session.py", &[])?;
    let pin = probe.tell(&json!({"do": "pin", "host": "pinned.example"}))?["pin"].clone();
    let pin = pin.as_str().context("no pin")?;
    let curl = || {
        let mut curl = agent.client("curl")?;
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--pinnedpubkey", pin, "https://pinned.example/"]);
        process::run(curl)
    };
    let first = curl()?;
    assert_eq!(first.code(), Some(90), "curl sees another key than the one it pins: {first:?}");
    connection_to(&agent, "pinned.example", "authority_refused")?;
    let second = curl()?;
    assert_eq!((second.code(), second.stdout.as_str()), (Some(0), "200"), "{second:?}");
    Ok(())
}

#[test]
fn an_untrusted_certificate_of_the_origin_is_seen_by_the_client() -> Result<()> {
    let lab = Lab::new()?;
    let agent = intercepting(&lab, &["untrusted.example"])?;
    let mut curl = agent.client("curl")?;
    curl.args(["-s", "https://untrusted.example/other"]);
    let done = process::run(curl)?;
    assert_eq!(done.code(), Some(60), "{done:?}");
    connection_to(&agent, "untrusted.example", "upstream_untrusted")?;

    let mut command = lab.command(PYTHON, Place::Inside)?;
    command.env("SSL_CERT_FILE", lab.unknown());
    let answer = Session::start(command, "session.py", &[])?.get("https://untrusted.example/other")?;
    ensure!(answer.is_from("untrusted.example"), "{answer:?}");
    assert_eq!(answer.certificate, Some(lab.origins().fingerprint("untrusted.example")));
    Ok(())
}

#[test]
fn the_authority_stays_the_same_over_restarts_and_its_key_is_private() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    let agent = lab.agent_in(&state)?;
    let first = agent.rest().get("/api/v1/ca.pem")?.body;
    agent.stop()?;
    let mode = std::fs::metadata(state.join("ca/ca.key"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let agent = lab.agent_in(&state)?;
    assert_eq!(agent.rest().get("/api/v1/ca.pem")?.body, first);
    assert!(!first.contains("PRIVATE"), "the key is never given out");
    Ok(())
}

#[test]
fn a_run_with_no_rule_reports_everything_and_touches_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let run = Run::of(lab.moxie()?, &[], &Program::Requests.calls("https://api.github.com/zen", 2))?;
    for answer in run.answers()? {
        ensure!(answer.is_from("api.github.com"), "{answer:?}");
    }
    assert!(run.exchanges().is_empty(), "TLS was not looked into: {:?}", run.report);
    let connections = run.connections();
    assert_eq!(connections.len(), 1, "{connections:?}");
    assert_eq!((&connections[0]["verdict"], &connections[0]["protocol"]), (&"passthrough".into(), &"tls".into()));
    Ok(())
}
