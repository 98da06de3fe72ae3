//! More connections come than the agent's listeners have room for while it accepts none.

use anyhow::{Context as _, Result, ensure};
use moxie_tests::lab::{Place, process};
use moxie_tests::programs::PYTHON;
use moxie_tests::{Lab, Session, bounds, wait};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::load::{PLAIN, opt_in};

/// Room at each of the agent's four listeners, and connections that come at once.
const ROOM: u64 = 32;
const COMING: u64 = 200;

#[test]
fn a_full_accept_queue_makes_calls_wait_and_refuses_none() -> Result<()> {
    let lab = Lab::new()?;
    shell(&lab, &format!("echo {ROOM} > /proc/sys/net/core/somaxconn"))?;
    // The whole flood is to come before the heartbeat is too old, on a busy machine too.
    let agent = lab.agent_with("[divert]\nheartbeat = \"5s\"\n")?;
    opt_in(&agent)?;
    let mut flood = Session::start(agent.client(PYTHON)?, "flood.py", &["plain.example", &COMING.to_string()])?;
    ensure!(agent.session()?.fresh(PLAIN)?.status == Some(429), "diverted before");
    let before = overflows(&lab)?;
    agent.signal(Signal::SIGSTOP)?;
    let connected = flood.tell(&json!({"do": "connect"}))?["connected"].as_u64().context("no count")?;
    ensure!(connected < COMING && overflows(&lab)? > before, "no queue was full: {connected} of {COMING} found room");
    // New ones go direct once the agent has not beaten for too long; one that comes before waits like the flood, and gives up.
    let call = format!("curl --silent --output /dev/null --max-time 1 --write-out '%{{http_code}}' {PLAIN} || true");
    wait::until("a direct call", bounds::PROGRAM, || {
        let mut curl = lab.command("sh", Place::Inside)?;
        curl.args(["-c", &call]);
        Ok((process::run(curl)?.stdout == "200").then_some(()))
    })?;
    agent.signal(Signal::SIGCONT)?;
    let report = flood.tell(&json!({"do": "call"}))?;
    eprintln!("{connected} of {COMING} found room: {report}");
    assert_eq!(report, json!({"statuses": {"429": COMING}, "failures": []}));
    ensure!(agent.stop()?.success());
    Ok(())
}

/// What a shell in the clients' namespace prints.
fn shell(lab: &Lab, script: &str) -> Result<String> {
    let mut shell = lab.command("sh", Place::Outside)?;
    shell.args(["-c", script]);
    let done = process::run(shell)?;
    ensure!(done.status.success(), "{script}: {done:?}");
    Ok(done.stdout)
}

/// How often a connection has found the queue of its listener full, in the clients' namespace.
fn overflows(lab: &Lab) -> Result<u64> {
    let text = shell(lab, "cat /proc/self/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
    let (names, values) = lines.next().zip(lines.next()).context("no TcpExt lines")?;
    let (_, value) = names.zip(values).find(|(name, _)| *name == "ListenOverflows").context("no ListenOverflows")?;
    Ok(value.parse()?)
}
