//! `moxie run`: unmodified clients get their answers by the rule, exactly as often as asked, and everything else untouched.

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Run, process};
use moxie_tests::programs::Program;
use moxie_tests::{Answer, Difference, Lab, Way, bounds, wait, way};
use serde_json::Value;

const HOST: &str = "api.customer.io";
const URL: &str = "https://api.customer.io/v1/activities";
const RULE: &str = r#"GET api.customer.io/v1/activities -> 429 x3 delay 400ms header "Retry-After: 1""#;

#[test]
fn curl_gets_429_three_times_then_the_origin() -> Result<()> {
    three_times_then_the_origin(Program::Curl)
}

#[test]
fn curl_over_http2_gets_429_three_times_then_the_origin() -> Result<()> {
    three_times_then_the_origin(Program::CurlHttp2)
}

#[test]
fn python_requests_gets_429_three_times_then_the_origin() -> Result<()> {
    three_times_then_the_origin(Program::Requests)
}

#[test]
fn python_httpx_gets_429_three_times_then_the_origin() -> Result<()> {
    three_times_then_the_origin(Program::Httpx)
}

#[test]
fn python_urllib_gets_429_three_times_then_the_origin() -> Result<()> {
    three_times_then_the_origin(Program::Urllib)
}

#[test]
fn node_fetch_gets_429_three_times_then_the_origin() -> Result<()> {
    three_times_then_the_origin(Program::Node)
}

fn three_times_then_the_origin(program: Program) -> Result<()> {
    if program == Program::Node && way::excludes(&[(Way::Proxy, Difference::Who)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let run = Run::of(lab.moxie()?, &["--rule", RULE], &program.calls(URL, 4))?;
    let answers = run.answers()?;
    let [mocked @ .., last] = answers.as_slice() else { anyhow::bail!("no answers: {run:?}") };
    ensure!(mocked.len() == 3, "{run:?}");
    for answer in mocked {
        assert_mocked(answer, program).with_context(|| format!("{run:?}"))?;
    }
    ensure!(last.is_from(HOST), "{last:?}");
    let peers = answers.iter().filter_map(|answer| answer.peer.as_deref());
    if !way::excludes(&[(Way::Proxy, Difference::Peer)])? {
        peers.for_each(|peer| assert_eq!(peer, "198.51.100.10:443", "getpeername"));
    }
    assert_eq!(lab.origins().paths(HOST), ["/v1/activities"], "the origin saw the fourth call and no other");
    if program == Program::CurlHttp2 {
        assert!(answers.iter().all(|answer| answer.protocol.as_deref() == Some("HTTP/2")), "{answers:?}");
        assert_eq!(lab.origins().seen(HOST)[0].protocol, "HTTP/2.0");
    }
    assert_report(&run)
}

fn assert_mocked(answer: &Answer, program: Program) -> Result<()> {
    ensure!(answer.status == Some(429), "{}: {answer:?}", program.name());
    ensure!(answer.retry_after.as_deref() == Some("1"), "{}: {answer:?}", program.name());
    ensure!(answer.seconds >= 0.4, "{} waited less than the delay: {answer:?}", program.name());
    Ok(())
}

fn assert_report(run: &Run) -> Result<()> {
    assert_eq!(run.report["exit_code"], 0);
    let exchanges = run.exchanges();
    let [mocked @ .., last] = exchanges.as_slice() else { anyhow::bail!("no exchanges: {run:?}") };
    ensure!(mocked.len() == 3, "{exchanges:?}");
    for exchange in mocked {
        assert_eq!((&exchange["outcome"], &exchange["status"]), (&"responded".into(), &429.into()), "{exchange}");
        assert!(exchange["injected_delay_ms"].as_u64() >= Some(400), "{exchange}");
        assert!(exchange["rule_id"].is_string(), "{exchange}");
    }
    assert_eq!((&last["outcome"], &last["status"]), (&"forwarded".into(), &200.into()), "{last}");
    assert_eq!(last["rule_id"], Value::Null, "{last}");
    assert!(exchanges.iter().all(|exchange| exchange["url"] == URL && exchange["method"] == "GET"));
    for connection in run.connections() {
        assert_eq!(connection["original_dst"], "198.51.100.10:443", "{connection}");
        assert_eq!(connection["server_name"], HOST, "{connection}");
        assert!(connection["caller"]["pid"].is_u64(), "{connection}");
        assert!(exchanges.iter().any(|exchange| exchange["connection_id"] == connection["id"]), "{connection}");
    }
    for part in ["3 mocked", HOST] {
        ensure!(run.finished.stderr.contains(part), "the summary does not say {part}: {}", run.finished.stderr);
    }
    Ok(())
}

#[test]
fn other_paths_and_hosts_are_always_the_origins() -> Result<()> {
    let lab = Lab::new()?;
    let calls = shell(&[
        r"curl -s -w '\n' https://api.customer.io/v1/activities/7",
        r"curl -s -w '\n' https://api.customer.io/v1/activitiesx",
        r"curl -s -w '\n' -X POST https://api.customer.io/v1/activities",
        r"curl -s -w '\n' https://track.customer.io/v1/activities",
        r"curl -s -w '\n' http://plain.example/v1/activities",
    ]);
    let run = Run::of(lab.moxie()?, &["--rule", RULE], &calls)?;
    let origins: Vec<String> = run
        .finished
        .stdout
        .lines()
        .map(|line| anyhow::Ok(serde_json::from_str::<Value>(line)?["origin"].as_str().unwrap_or_default().to_owned()))
        .collect::<Result<_>>()
        .with_context(|| format!("{run:?}"))?;
    assert_eq!(origins, [HOST, HOST, HOST, "track.customer.io", "plain.example"]);
    assert_eq!(lab.origins().paths(HOST), ["/v1/activities/7", "/v1/activitiesx", "/v1/activities"]);
    assert_eq!(lab.origins().paths("track.customer.io"), ["/v1/activities"]);
    Ok(())
}

#[test]
fn many_rules_and_a_rule_file_hold_together() -> Result<()> {
    let lab = Lab::new()?;
    let file = lab.files().join("rules.json");
    std::fs::write(&file, r#"{"rules": [{"url": "api.github.com/zen", "status_code": 503, "response": "file"}]}"#)?;
    let calls = shell(&[
        "curl -s -o /dev/null -w '%{http_code}\\n' https://api.github.com/zen",
        "curl -s -o /dev/null -w '%{http_code}\\n' https://api.cloudflare.com/client/v4/zones",
        "curl -s -o /dev/null -w '%{http_code}\\n' http://plain.example/",
    ]);
    let file = file.display().to_string();
    let options = ["--rules", &file, "--rule", "* api.cloudflare.com/.* -> 500", "--rule", "GET plain.example/ -> 404"];
    let run = Run::of(lab.moxie()?, &options, &calls)?;
    assert_eq!(run.finished.stdout, "503\n500\n404\n", "{run:?}");
    Ok(())
}

#[test]
fn the_exit_code_is_the_commands_own() -> Result<()> {
    let lab = Lab::new()?;
    let not_executable = lab.files().join("trusted.pem").display().to_string();
    for (words, code) in [
        (vec!["true"], 0),
        (vec!["sh", "-c", "exit 7"], 7),
        (vec!["sh", "-c", "kill -TERM $$"], 143),
        (vec!["/no/such/program"], 127),
        (vec![not_executable.as_str()], 126),
    ] {
        let mut command = lab.moxie()?;
        command.args(["run", "--"]).args(&words);
        let done = process::run(command)?;
        assert_eq!(done.code(), Some(code), "{words:?}: {done:?}");
    }
    Ok(())
}

#[test]
fn wrong_use_and_wrong_rules_run_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let trace = lab.files().join("trace");
    for options in [vec!["--no-such-option"], vec!["--rule", "GET api.customer.io/( -> 429"], vec!["--rules", "/none"]]
    {
        let mut command = lab.moxie()?;
        command.arg("run").args(&options).args(["--", "touch"]).arg(&trace);
        let done = process::run(command)?;
        assert!(done.code().is_some_and(|code| code != 0), "{options:?}: {done:?}");
        assert!(!done.stderr.is_empty(), "{options:?}");
        assert!(!trace.exists(), "{options:?} ran the command");
    }
    Ok(())
}

#[test]
fn output_and_input_are_the_commands_own() -> Result<()> {
    let lab = Lab::new()?;
    let mut command = lab.command("/bin/sh", moxie_tests::lab::Place::Agent)?;
    let moxie = moxie_tests::lab::agent::program()?;
    command.env("MOXIE_STATE_DIR", lab.files().join("no-agent")).arg("-c");
    command.arg(format!("printf 'one\\ntwo\\n' | {} run -- cat", moxie.display()));
    let done = process::run(command)?;
    assert_eq!((done.code(), done.stdout.as_str()), (Some(0), "one\ntwo\n"), "{}", done.stderr);
    Ok(())
}

#[test]
fn the_command_keeps_the_limit_of_descriptors_it_would_have_had() -> Result<()> {
    let lab = Lab::new()?;
    let mut command = lab.command("/bin/sh", moxie_tests::lab::Place::Agent)?;
    let moxie = moxie_tests::lab::agent::program()?;
    command.env("MOXIE_STATE_DIR", lab.files().join("no-agent")).arg("-c");
    command.arg(format!("ulimit -Sn 777 && {} run -- sh -c 'ulimit -Sn'", moxie.display()));
    let done = process::run(command)?;
    assert_eq!((done.code(), done.stdout.as_str()), (Some(0), "777\n"), "{}", done.stderr);
    Ok(())
}

#[test]
fn a_running_agent_is_used_and_keeps_its_own_rules() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::SharedAgent)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let standing = agent.rule(&serde_json::json!({"url": "api.github.com/.*", "status_code": 503}))?;
    let calls = shell(&[
        "curl -s -o /dev/null -w '%{http_code}\\n' https://api.github.com/zen",
        "curl -s -o /dev/null -w '%{http_code}\\n' https://api.customer.io/v1/activities",
    ]);
    let run = Run::of(agent.moxie()?, &["--rule", RULE], &calls)?;
    assert_eq!(run.finished.stdout, "503\n429\n", "{run:?}");
    assert_eq!(run.exchanges().len(), 2, "{run:?}");
    assert_eq!(agent.show(&standing)?["hits"], 1, "the agent itself decided");
    let left: Vec<_> = agent.list("/api/v1/rules")?.into_iter().map(|rule| rule["id"].clone()).collect();
    assert_eq!(left, [Value::from(standing)], "rules of a run die with it");
    assert!(agent.list("/api/v1/scopes")?.is_empty(), "scopes of a run die with it");
    Ok(())
}

#[test]
fn roots_that_only_the_environment_names_are_verified_with_beside_an_agent_that_lacks_them() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::SharedAgent)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let private = lab.files().join("private.pem");
    std::fs::copy(lab.trusted(), &private)?;
    let mut moxie = agent.moxie()?;
    moxie_tests::lab::trust(&mut moxie, &private);
    let calls = shell(&["curl -s -o /dev/null -w '%{http_code}\\n' https://api.customer.io/v1/activities"]);
    let run = Run::of(moxie, &["--rule", RULE], &calls)?;
    assert_eq!(run.finished.stdout, "429\n", "{run:?}");
    ensure!(run.finished.stderr.contains("does not verify with"), "{run:?}");
    Ok(())
}

#[test]
fn the_clients_own_trust_is_merged_not_replaced() -> Result<()> {
    let lab = Lab::new()?;
    // Only through the lab's bundle, which the client's environment names, can either side be trusted.
    let calls =
        shell(&[r"curl -s -w '\n' https://api.github.com/zen", "curl -s https://untrusted.example/", "echo $?"]);
    let run = Run::of(lab.moxie()?, &["--rule", "* api.github.com/other -> 500"], &calls)?;
    assert!(run.finished.stdout.starts_with(r#"{"origin":"api.github.com""#), "{run:?}");
    assert!(run.finished.stdout.ends_with("60\n"), "{run:?}");
    Ok(())
}

#[test]
fn programs_that_read_the_hosts_own_bundle_trust_it_too_and_the_host_is_untouched() -> Result<()> {
    let lab = Lab::new()?;
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let before = std::fs::read(bundle)?;
    // Nothing in curl's environment tells it what to trust.
    let bare =
        "env -i https_proxy=$https_proxy curl -s -o /dev/null -w '%{http_code}' https://api.customer.io/v1/activities";
    let run = Run::of(lab.moxie()?, &["--rule", RULE], &shell(&[bare]))?;
    assert_eq!(run.finished.stdout, "429", "{run:?}");
    assert!(std::fs::read(bundle)? == before, "the host's bundle was changed");
    Ok(())
}

#[test]
fn what_the_command_leaves_running_keeps_its_roots_and_goes_direct() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Dead)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (temporary, gate, answer) = (lab.files().join("tmp"), lab.files().join("gate"), lab.files().join("answer"));
    std::fs::create_dir(&temporary)?;
    let left = || anyhow::Ok(std::fs::read_dir(&temporary)?.count());
    let later = format!(
        "while [ ! -e {} ]; do sleep 0.05; done; curl -s {URL} > {answer}.draft; mv {answer}.draft {answer}",
        gate.display(),
        answer = answer.display()
    );
    let moxie = || {
        let mut moxie = lab.moxie()?;
        moxie.env("TMPDIR", &temporary);
        anyhow::Ok(moxie)
    };
    let run = Run::of(moxie()?, &["--rule", RULE], &shell(&[&format!("setsid sh -c '{later}' >&- 2>&- &")]))?;
    ensure!(run.finished.stderr.contains("that CMD started still run"), "{run:?}");
    assert_eq!(left()?, 1, "{run:?}");
    std::fs::write(&gate, "")?;
    let answer = wait::until("the call after the run", bounds::PROGRAM, || Ok(std::fs::read_to_string(&answer).ok()))?;
    ensure!(answer.starts_with(&format!(r#"{{"origin":"{HOST}""#)), "{answer:?}");
    wait::until("a later run that sweeps", bounds::PROGRAM, || {
        Run::of(moxie()?, &[], &["true".to_owned()])?;
        Ok((left()? == 0).then_some(()))
    })
}

#[test]
fn trust_none_leaves_trust_to_the_command() -> Result<()> {
    let lab = Lab::new()?;
    let calls = shell(&["curl -s https://api.customer.io/v1/activities", "echo $?", "env"]);
    let run = Run::of(lab.moxie()?, &["--trust", "none", "--rule", RULE], &calls)?;
    assert!(run.finished.stdout.starts_with("60\n"), "curl does not know the authority: {run:?}");
    let own = format!("SSL_CERT_FILE={}\n", lab.trusted().display());
    assert!(run.finished.stdout.contains(&own), "the environment is the command's own: {run:?}");
    Ok(())
}

#[test]
fn who_is_not_root_goes_by_proxy_and_is_told_so() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new()?;
    // Somewhere that anybody may read.
    let copy = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir()?;
    let program = copy.path().join("moxie");
    std::fs::copy(moxie_tests::lab::agent::program()?, &program)?;
    let state = copy.path().join("state");
    std::fs::create_dir(&state)?;
    std::os::unix::fs::chown(&state, Some(65534), Some(65534))?;
    for (via, code, said) in [("ebpf", 4, "root"), ("netfilter", 4, "root"), ("auto", 7, "by proxy (not ebpf")] {
        let mut command = lab.command("setpriv", moxie_tests::lab::Place::Agent)?;
        command.env("MOXIE_STATE_DIR", &state);
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        command.args(["run", "--via", via, "--trust", "none", "--", "sh", "-c", "exit 7"]);
        let done = process::run(command)?;
        assert_eq!(done.code(), Some(code), "{via}: {done:?}");
        assert!(done.stderr.contains(said), "{via}: {done:?}");
    }
    Ok(())
}

/// One shell that runs `lines`.
fn shell(lines: &[&str]) -> Vec<String> {
    vec!["/bin/sh".into(), "-c".into(), lines.join("\n")]
}
