//! The agent runs short of descriptors or memory, or somebody has its ports.

use anyhow::{Context as _, Result, ensure};
use moxie_tests::lab::{Place, Running, agent};
use moxie_tests::programs::{PYTHON, script};
use moxie_tests::{Lab, bounds, wait};
use serde_json::Value;

use crate::load::{CLIENTS, Load, Moment, always_429, mixed, now, opt_in};
use crate::memory::Group;

/// Connections at once of a crowd.
const CROWD: u64 = 1000;
/// Bytes: whatever the agent allocates from then on is more.
const HARDLY_ANY: u64 = 256 << 10;

#[test]
fn a_thousand_connections_are_served_by_an_agent_with_256_descriptors() -> Result<()> {
    let lab = Lab::new()?;
    let mut command = lab.command("prlimit", Place::Agent)?;
    command.arg("--nofile=256:256").arg(agent::program()?);
    let agent = lab.agent_by(command, &lab.state_directory()?, "")?;
    opt_in(&agent)?;
    for round in 0..3 {
        let report = crowd(&lab, Place::Inside)?;
        ensure!(report["failures"].as_array().is_some_and(Vec::is_empty), "round {round}: {report}");
        let of = |status: &str| report["statuses"][status].as_u64().unwrap_or_default();
        ensure!(of("200") + of("429") == CROWD, "round {round}: {report}");
        ensure!(of("429") > 0, "some were diverted: {report}");
    }
    // It can be talked to, and diverts again.
    let mut session = agent.session()?;
    wait::until("the agent to divert again", bounds::SOON, || {
        Ok((session.fresh("http://plain.example/load")?.status == Some(429)).then_some(()))
    })
}

/// Opens [`CROWD`] connections, makes a call on each once all are open, and tells what came of it.
fn crowd(lab: &Lab, place: Place) -> Result<Value> {
    let mut command = lab.command("prlimit", place)?;
    command.args(["--nofile=4096:4096", PYTHON, &script("crowd.py"), "plain.example", &CROWD.to_string()]);
    let done = Running::start(command)?.finish(bounds::PROGRAM)?;
    serde_json::from_str(&done.stdout).with_context(|| format!("no report: {done:?}"))
}

#[test]
fn an_agent_that_the_kernel_ends_for_want_of_memory_costs_what_was_in_flight() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let mut load = Load::start(&agent, &mixed())?;
    let memory = Group::create("hardly-any")?;
    let began = now()?;
    memory.limit(HARDLY_ANY)?;
    memory.hold(&agent)?;
    wait::until("the agent to be ended", bounds::PROGRAM, || Ok(agent.is_gone().then_some(())))?;
    let ended = Moment { began, over: now()? };
    load.await_status("200", 100)?;
    let report = load.end()?;
    report.ensure_only(&["200", "429"])?;
    // Short of memory, the kernel takes its time: who calls again at once may be cut again before the listeners are gone.
    report.ensure_cut_only_at(&[ended], 2 * CLIENTS)
}

#[test]
fn a_squatter_on_the_agents_ports_costs_nothing_and_stops_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let mut squatter = lab.command(PYTHON, Place::Outside)?;
    squatter.args([
        "-c",
        "import socket, time\ns = socket.socket()\ns.bind((\"127.0.0.1\", 61002))\ns.listen()\nprint(\"there\", flush=True)\ntime.sleep(600)",
    ]);
    let squatter = Running::start(squatter)?;
    wait::until("the squatter", bounds::SOON, || Ok(squatter.printed().contains("there").then_some(())))?;
    let agent = always_429(&lab)?;
    let mut load = Load::start(&agent, &mixed())?;
    load.await_status("429", 100)?;
    load.end()?.ensure_all("429")
}
