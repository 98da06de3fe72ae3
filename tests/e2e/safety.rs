//! What no rule names is not touched, and a dead, hung, switched off or ailing agent costs no call.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Place, Running};
use moxie_tests::programs::PYTHON;
use moxie_tests::{Agent, Difference, Lab, Session, Way, bounds, wait, way};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const URL: &str = "https://api.customer.io/v1/activities";
const PLAIN: &str = "http://plain.example/load";

/// An agent with the lab's clients opted in, and rules that always answer 429 for [`URL`] and [`PLAIN`].
fn always_429(lab: &Lab) -> Result<Agent<'_>> {
    let agent = lab.agent()?;
    agent.opt_in()?;
    agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 429}))?;
    agent.rule(&json!({"url": "plain.example/load", "status_code": 429}))?;
    Ok(agent)
}

#[test]
fn a_process_outside_is_never_touched_also_while_one_inside_is() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let mut inside = agent.session()?;
    let mut outside = Session::start(lab.command(PYTHON, Place::Outside)?, "session.py", &[])?;
    for _ in 0..20 {
        assert_eq!(inside.fresh(URL)?.status, Some(429));
        let answer = outside.fresh(URL)?;
        ensure!(answer.is_from("api.customer.io"), "{answer:?}");
        assert_eq!(answer.certificate, Some(lab.origins().fingerprint("api.customer.io")));
        assert_eq!(outside.fresh(PLAIN)?.status, Some(200));
    }
    let connections = agent.list("/api/v1/connections?limit=1000")?;
    assert_eq!(connections.len(), 20, "only those inside came to the agent");
    assert!(connections.iter().all(|connection| connection["caller"]["pid"] == inside.pid()), "{connections:?}");
    Ok(())
}

#[test]
fn children_of_an_opted_in_cgroup_are_opted_in_and_removal_ends_it() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Who)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let child = lab.cgroup(Place::Inside).join("child");
    std::fs::create_dir(&child)?;
    let mut session = agent.session()?;
    std::fs::write(child.join("cgroup.procs"), session.pid().to_string())?;
    assert_eq!(session.fresh(URL)?.status, Some(429));
    for scope in agent.list("/api/v1/scopes")? {
        let path = format!("/api/v1/scopes/{}", scope["id"].as_str().unwrap_or_default());
        assert_eq!(agent.rest().call("DELETE", &path, &[], None)?.status, 204);
    }
    assert_eq!(session.fresh(URL)?.status, Some(200));
    Ok(())
}

#[test]
fn an_equal_scope_again_is_the_existing_one() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let id = agent.opt_in()?;
    let again =
        agent.rest().post("/api/v1/scopes", &json!({"cgroup": lab.cgroup(Place::Inside), "mode": "observe"}))?;
    assert_eq!((again.status, &again.json()?["id"]), (200, &Value::from(id)), "{again:?}");
    Ok(())
}

#[test]
fn a_scope_that_holds_the_agent_is_refused() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Who)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let reply = agent.rest().post("/api/v1/scopes", &json!({"cgroup": lab.cgroup(Place::Agent)}))?;
    ensure!((400..500).contains(&reply.status), "{reply:?}");
    assert!(agent.list("/api/v1/scopes")?.is_empty());
    Ok(())
}

#[test]
fn a_host_that_no_rule_names_is_never_terminated() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in_as("observe")?;
    agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 429}))?;
    let mut session = agent.session()?;
    for host in ["api.github.com", "track.customer.io", "pinned.example", "old.example"] {
        let answer = session.fresh(&format!("https://{host}/v1/activities"))?;
        ensure!(answer.is_from(host), "{answer:?}");
        assert_eq!(answer.certificate, Some(lab.origins().fingerprint(host)), "{host} shows its own certificate");
        let connection = agent.record("/api/v1/connections", |record| record["server_name"] == host)?;
        assert_eq!((&connection["verdict"], &connection["reason"]), (&"passthrough".into(), &"no_rule".into()));
    }
    Ok(())
}

#[test]
fn kill_9_under_load_fails_no_connect_afterwards() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Dead)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let mut load = Session::start(agent.client(PYTHON)?, "load.py", &["4", "plain.example"])?;
    await_calls(&mut load, 200)?;
    assert!(lab.origins().seen("plain.example").is_empty(), "the rule answers all of them");
    agent.kill()?;
    let dead = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from)?;
    let before = await_calls(&mut load, 1)?;
    await_calls(&mut load, before + 500)?;
    load.begin(&json!({"do": "end"}))?;
    let report = load.next_reply()?;
    let failures = report["failures"].as_array().context("no failures in the report")?;
    let late: Vec<_> = failures.iter().filter(|failure| failure["began"].as_f64() > Some(dead.as_secs_f64())).collect();
    assert!(late.is_empty(), "after the kill: {late:?}");
    ensure!(failures.iter().all(|failure| failure["step"] == "call"), "a connect failed: {failures:?}");
    assert!(lab.origins().seen("plain.example").len() >= 500, "calls go direct");
    Ok(())
}

fn await_calls(load: &mut Session, count: u64) -> Result<u64> {
    wait::until("calls under load", bounds::PROGRAM, || {
        let done = load.tell(&json!({"do": "count"}))?["done"].as_u64().unwrap_or_default();
        Ok((done >= count).then_some(done))
    })
}

#[test]
fn a_stopped_agent_is_bypassed_once_its_heartbeat_is_stale() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Hung)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let mut session = agent.session()?;
    assert_eq!(session.fresh(PLAIN)?.status, Some(429));
    agent.signal(Signal::SIGSTOP)?;
    // Tries of half a second: one that begins before the heartbeat is stale hangs, which is what the bound is for.
    let mut tries = 0;
    wait::until("calls to go direct", bounds::SOON, || {
        tries += 1;
        let mut curl = lab.command("curl", Place::Inside)?;
        curl.args(["-s", "-m", "0.5", "-o", "/dev/null", "-w", "%{http_code}", PLAIN]);
        Ok((Running::start(curl)?.finish(bounds::SOON)?.stdout == "200").then_some(()))
    })?;
    for _ in 0..20 {
        assert_eq!(session.fresh(PLAIN)?.status, Some(200), "direct for as long as the agent hangs");
    }
    agent.signal(Signal::SIGCONT)?;
    wait::until("the agent to be back", bounds::SOON, || Ok((session.fresh(PLAIN)?.status == Some(429)).then_some(())))
}

#[test]
fn off_sends_every_new_connection_direct_at_once_and_on_brings_it_back() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let mut session = agent.session()?;
    for (word, status) in [("on", 429), ("off", 200), ("on", 429), ("off", 200)] {
        let mut command = agent.moxie()?;
        command.arg(word);
        let done = moxie_tests::lab::process::run(command)?;
        assert_eq!(done.code(), Some(0), "{done:?}");
        for url in [URL, PLAIN] {
            assert_eq!(session.fresh(url)?.status, Some(status), "{url} after `moxie {word}`");
        }
    }
    let certificate = session.fresh(URL)?.certificate;
    assert_eq!(certificate, Some(lab.origins().fingerprint("api.customer.io")));
    assert_eq!(agent.rest().get("/api/v1/status")?.json()?["diverting"], false);
    Ok(())
}

#[test]
fn an_orderly_end_under_load_fails_no_connect() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Dead)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let mut load = Session::start(agent.client(PYTHON)?, "load.py", &["4", "plain.example"])?;
    let done = await_calls(&mut load, 200)?;
    let status = agent.stop()?;
    assert!(status.success(), "{status}");
    await_calls(&mut load, done + 300)?;
    load.begin(&json!({"do": "end"}))?;
    let report = load.next_reply()?;
    let failed = report["failures"].as_array().context("no failures in the report")?;
    ensure!(failed.iter().all(|failure| failure["step"] == "call"), "a connect failed: {failed:?}");
    Ok(())
}

#[test]
fn the_daemon_refuses_production_and_no_environment() -> Result<()> {
    let lab = Lab::new()?;
    for environment in [None, Some("prod"), Some("production"), Some("live"), Some("PROD")] {
        let mut command = lab.moxie()?;
        command.args(["agent", "--state-dir"]).arg(lab.state_directory()?);
        environment.map(|name| command.env("MOXIE_ENVIRONMENT", name));
        let done = Running::start(command)?.finish(bounds::SOON).with_context(|| format!("{environment:?}"))?;
        assert!(done.code().is_some_and(|code| code != 0), "{environment:?}: {done:?}");
        assert!(done.stderr.to_lowercase().contains("environment"), "{environment:?}: {done:?}");
    }
    Ok(())
}
