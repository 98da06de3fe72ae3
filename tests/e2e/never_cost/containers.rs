//! Containers start as fast as this host can, and the daemon restarts, under load.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use moxie_tests::lab::origins;
use moxie_tests::runtimes::{Docker, IMAGE};
use moxie_tests::{Agent, Lab, bounds, wait};
use serde_json::json;

use crate::descriptors;
use crate::load::{Load, mixed, now, opt_in};

/// Containers that start, this many at a time.
const STARTS: u32 = 40;
const AT_A_TIME: u32 = 4;

#[test]
fn containers_that_come_and_go_fast_and_a_daemon_that_restarts_cost_nothing_and_leak_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let mut docker = Docker::start(&lab)?;
    let agent = lab.agent_with(&docker.settings())?;
    opt_in(&agent)?;
    let address = origins::place("plain.example")?.address;
    agent.rule(&json!({"url": format!("{address}/load"), "status_code": 429}))?;
    let ask =
        format!("(echo -ne 'GET /load HTTP/1.1\\r\\nHost: {address}\\r\\n\\r\\n'; sleep 0.3) | nc -w 5 {address} 80");
    docker.done(&[&LABELLED[..], &["--detach", "--name", "stays", IMAGE, "sleep", "1000"]].concat())?;
    first_calls(&docker, &agent, &ask, AT_A_TIME)?;
    let before = traces(&agent)?;
    let mut load = Load::start(&agent, &mixed())?;
    let began = now()?;
    first_calls(&docker, &agent, &ask, STARTS / 2)?;
    eprintln!("{:.0} containers a minute", 30.0 * f64::from(STARTS) / (now()? - began));
    docker.down()?;
    load.await_status("429", 50)?;
    docker.up()?;
    let stays = docker.run(&["exec", "stays", "sh", "-c", &ask])?;
    ensure!(stays.stdout.contains("HTTP/1.1 429"), "not on path after the daemon's restart: {stays:?}");
    wait::until("the agent to hear the daemon again", bounds::PROGRAM, || {
        Ok((agent.rest().get("/api/v1/status")?.json()?["warnings"] == json!([])).then_some(()))
    })?;
    first_calls(&docker, &agent, &ask, STARTS / 2)?;
    load.end()?.ensure_all("429")?;
    wait::until("no more traces than before", bounds::PROGRAM, || {
        let now = traces(&agent)?;
        Ok(now.iter().all(|(kind, count)| before.get(kind).is_some_and(|before| count <= before)).then_some(()))
    })
    .with_context(|| format!("before: {before:?}, now: {:?}", traces(&agent)))?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// A container that is opted in, in a network namespace of its own.
const LABELLED: [&str; 5] = ["run", "--network", "none", "--label", "moxie.intercept=true"];

/// Starts containers whose first act is a call, which a rule has to answer.
fn first_calls(docker: &Docker<'_>, agent: &Agent<'_>, ask: &str, count: u32) -> Result<()> {
    let some = || -> Result<()> {
        for _ in 0..count / AT_A_TIME {
            let done = docker.run_watched(&[&LABELLED[..], &["--rm", IMAGE, "sh", "-c", ask]].concat(), agent)?;
            ensure!(done.stdout.contains("HTTP/1.1 429"), "{done:?}\n{}", docker.evidence(agent));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let starters: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(some)).collect();
        starters.into_iter().try_for_each(|starter| match starter.join() {
            Ok(done) => done,
            Err(_) => bail!("a thread that starts containers panicked"),
        })
    })
}

/// What the agent holds: its descriptors, links and namespaces among them, and its threads; but for those of its runtime, of which
/// there may be one more for as long as there is work twice a second.
fn traces(agent: &Agent<'_>) -> Result<BTreeMap<String, usize>> {
    let mut traces = descriptors::of(agent)?;
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid()))?.flatten();
    // A thread may end between the two looks.
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    for name in names.filter(|name| !name.starts_with("tokio-r")) {
        // A namespace's number is not the next one's.
        let kind = name.trim().split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().to_owned();
        *traces.entry(format!("thread {kind}")).or_default() += 1;
    }
    Ok(traces)
}
