//! `moxie run` by the explicit proxy, as a user without root: unmodified clients, stand-ins on loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Loopback, Run, process};
use moxie_tests::programs::{PYTHON, Program, script};
use serde_json::{Value, json};

const URL: &str = "https://api.customer.io/v1/activities";
const RULE: &str = r#"GET api.customer.io/v1/activities -> 429 x3 delay 100ms header "Retry-After: 1""#;

/// One shell that runs `lines`.
fn shell(lines: &[&str]) -> Vec<String> {
    vec!["/bin/sh".into(), "-c".into(), lines.join("\n")]
}

/// `curl`, printing the status and nothing else.
fn status_of(url: &str) -> String {
    format!("curl -s -m 20 -o /dev/null -w '%{{http_code}}\\n' '{url}'")
}

#[test]
fn clients_get_429_three_times_then_their_origin() -> Result<()> {
    let lab = Loopback::new()?;
    for (calls, program) in
        [Program::Curl, Program::CurlHttp2, Program::Requests, Program::Httpx, Program::Urllib].into_iter().enumerate()
    {
        let run = Run::of(lab.moxie()?, &["--rule", RULE], &program.calls(URL, 4))?;
        let answers = run.answers()?;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [Some(429), Some(429), Some(429), Some(200)], "{}: {run:?}", program.name());
        ensure!(answers[3].is_from("api.customer.io"), "{}: {run:?}", program.name());
        assert_eq!(lab.origins().paths("api.customer.io").len(), calls + 1, "the origin saw the fourth call only");
        let exchanges = run.exchanges();
        assert_eq!(exchanges.len(), 4, "{exchanges:?}");
        for exchange in &exchanges {
            assert_eq!((&exchange["url"], &exchange["caller"]["scope"]), (&URL.into(), &"proxy".into()), "{exchange}");
            assert!(exchange["caller"]["pid"].is_u64(), "{exchange}");
        }
    }
    Ok(())
}

#[test]
fn a_host_that_no_rule_names_shows_its_own_certificate() -> Result<()> {
    let lab = Loopback::new()?;
    let order = json!({"do": "request", "url": "https://api.github.com/zen"});
    let words = [PYTHON.to_owned(), "-c".to_owned(), feed(&order)];
    let run = Run::of(lab.moxie()?, &["--rule", RULE], &words)?;
    let answer: Value = serde_json::from_str(&run.finished.stdout).with_context(|| format!("{run:?}"))?;
    assert_eq!(answer["certificate"], lab.origins().fingerprint("api.github.com"), "{run:?}");
    let connections = run.connections();
    assert_eq!(connections.len(), 1, "{connections:?}");
    assert_eq!(
        (&connections[0]["verdict"], &connections[0]["server_name"]),
        (&"passthrough".into(), &"api.github.com".into())
    );
    Ok(())
}

/// Python that gives the session program one order.
fn feed(order: &Value) -> String {
    let session = script("session.py");
    format!(
        "import subprocess, sys; sys.exit(subprocess.run([sys.executable, {session:?}], \
         input={:?}, text=True).returncode)",
        order.to_string() + "\n"
    )
}

#[test]
fn requests_in_the_clear_reach_their_hosts_as_their_clients_meant_them() -> Result<()> {
    let lab = Loopback::new()?;
    let calls = shell(&[
        // One connection to the proxy, two hosts.
        "curl -s -m 20 http://plain.example/one?x=%2F http://api.github.com/two -H 'Proxy-Authorization: Basic eDp5' -H 'X-Own: kept'",
        &status_of("http://plain.example/mocked"),
        "curl -s -m 20 -X POST --data-binary hello http://api.github.com/echo",
    ]);
    let run = Run::of(lab.moxie()?, &["--rule", "GET plain.example/mocked -> 503"], &calls)?;
    ensure!(run.finished.stdout.contains("503\n") && run.finished.stdout.ends_with("hello"), "{run:?}");
    let seen = lab.origins().seen("plain.example");
    assert_eq!(seen.len(), 1, "{seen:?}");
    let header = |name: &str| seen[0].headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(
        (seen[0].path.as_str(), header("host"), header("x-own")),
        ("/one?x=%2F", Some("plain.example"), Some("kept"))
    );
    assert!(!seen[0].headers.keys().any(|name| name.as_str().starts_with("proxy-")), "{:?}", seen[0].headers);
    assert!(!seen[0].headers.contains_key("via") && !seen[0].headers.contains_key("x-forwarded-for"));
    assert_eq!(lab.origins().paths("api.github.com"), ["/two", "/echo"]);
    let exchanges = run.exchanges();
    assert_eq!(exchanges.len(), 4, "{exchanges:?}");
    assert_eq!(exchanges[0]["connection_id"], exchanges[1]["connection_id"], "curl asked twice on one connection");
    Ok(())
}

#[test]
fn a_destination_that_is_not_there_is_what_a_proxys_client_expects_and_a_mock_needs_none() -> Result<()> {
    let lab = Loopback::new()?;
    // A label of more than 63 characters is no name: nobody is asked for it.
    let nowhere = format!("{}.example", "x".repeat(64));
    let calls = shell(&[
        &status_of("http://absent.example/"),
        "curl -s -m 20 -o /dev/null -w '%{http_connect}\\n' https://absent.example/",
        &status_of(&format!("http://{nowhere}/")),
        &format!("curl -s -m 20 -o /dev/null -w '%{{http_connect}}\\n' https://{nowhere}/"),
        &status_of("https://down.example/x"),
        &status_of(&format!("http://mocked.{nowhere}/x")),
    ]);
    let rule = format!("* mocked.{nowhere}/.* -> 429");
    let run = Run::of(lab.moxie()?, &["--rule", &rule, "--rule", "* down.example/x -> 418"], &calls)?;
    assert_eq!(run.finished.stdout, "502\n502\n502\n502\n418\n429\n", "{run:?}");
    let failed = run.exchanges().into_iter().find(|exchange| exchange["url"] == "http://absent.example/");
    let failed = failed.context("no record of the call that failed")?;
    assert_eq!((&failed["status"], &failed["error"]), (&502.into(), &"upstream_unreachable".into()), "{failed}");
    Ok(())
}

#[test]
fn a_rule_with_the_backend_changes_the_real_answer_in_the_clear_too() -> Result<()> {
    let lab = Loopback::new()?;
    let file = lab.files().join("rules.json");
    let rule = json!([{"url": "plain.example/x", "call_backend": true, "status_code": 503, "custom_headers": {"X-Test": "yes"}}]);
    std::fs::write(&file, rule.to_string())?;
    let options = ["--rules", &file.display().to_string()];
    let run = Run::of(lab.moxie()?, &options, &shell(&[&status_of("http://plain.example/x")]))?;
    assert_eq!(run.finished.stdout, "503\n", "{run:?}");
    let seen = lab.origins().seen("plain.example").pop().context("the origin saw nothing")?;
    assert_eq!(seen.headers.get("x-test").map(|value| value.as_bytes()), Some(&b"yes"[..]));
    Ok(())
}

#[test]
fn loopback_is_left_out_and_what_the_environment_left_out_stays_out() -> Result<()> {
    let lab = Loopback::new()?;
    let mut moxie = lab.moxie()?;
    moxie.env("NO_PROXY", "db.internal").env("HTTPS_PROXY", "http://u:p@proxy.corp:3128");
    let run = Run::of(moxie, &[], &shell(&["echo $NO_PROXY", "echo $HTTPS_PROXY"]))?;
    let mut lines = run.finished.stdout.lines();
    assert_eq!(lines.next(), Some("db.internal,localhost,127.0.0.1,127.0.0.0/8,::1"));
    assert!(lines.next().is_some_and(|line| line.starts_with("http://127.0.0.1:")), "{run:?}");
    for said in ["proxy.corp:3128", "db.internal", "on path by proxy"] {
        ensure!(run.finished.stderr.contains(said), "{said} is not said: {}", run.finished.stderr);
    }
    assert!(!run.finished.stderr.contains("u:p@"), "{}", run.finished.stderr);
    Ok(())
}

#[test]
fn what_is_no_request_for_a_proxy_is_told_so_and_costs_nothing_else() -> Result<()> {
    let lab = Loopback::new()?;
    let door = lab.files().join("door");
    let mut moxie = lab.moxie()?;
    moxie.args([
        "run",
        "--",
        "sh",
        "-c",
        &format!("echo $http_proxy > {0}.part; mv {0}.part {0}; exec sleep 60", door.display()),
    ]);
    let running = process::Running::start(moxie)?;
    let door =
        moxie_tests::wait::until("the door", moxie_tests::bounds::SOON, || Ok(std::fs::read_to_string(&door).ok()))?;
    let door = door.trim().trim_start_matches("http://").to_owned();
    let own = format!("CONNECT {door} HTTP/1.1\r\n\r\n");
    let long = format!("GET http://a.example/{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    for (sent, expected) in [
        ("GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n", "HTTP/1.1 400 "),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}hello of a TLS client that was told the wrong port", "HTTP/1.1 400 "),
        ("GET https://api.github.com/ HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        ("CONNECT nowhere HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        (long.as_str(), "HTTP/1.1 431 "),
        (own.as_str(), "HTTP/1.1 403 "),
        ("CONNECT echo.example:443 HTTP/1.1\r\n\r\nat once", "HTTP/1.1 200 Connection established\r\n\r\nat once"),
    ] {
        let answer = say(&door, sent, expected.len())?;
        ensure!(answer == expected, "{:?}: {answer:?}", &sent[..sent.len().min(60)]);
    }
    running.signal(nix::sys::signal::Signal::SIGTERM)?;
    running.finish(moxie_tests::bounds::SOON)?;
    Ok(())
}

/// Sends `text` to the proxy and reads as many bytes as are expected.
fn say(door: &str, text: &str, length: usize) -> Result<String> {
    #[expect(clippy::disallowed_methods, reason = "a client of this test's own, on loopback")]
    let mut client = TcpStream::connect(door)?;
    client.set_read_timeout(Some(Duration::from_secs(20)))?;
    // The proxy may have answered and hung up before everything was sent.
    let _ = client.write_all(text.as_bytes());
    let mut answer = vec![0; length];
    let mut seen = 0;
    while seen < length {
        match client.read(&mut answer[seen..])? {
            0 => break,
            count => seen += count,
        }
    }
    Ok(String::from_utf8_lossy(&answer[..seen]).into_owned())
}
