//! What goes wrong while clients call, one thing at a time, drawn from a seed.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use moxie_tests::lab::{Place, Running};
use moxie_tests::{Agent, Lab, bounds, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use serde::Serialize;
use serde_json::json;

use crate::oracle::{Oddity, now};
use crate::stage::Stage;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// The agent is killed and started again.
    Kill,
    /// The agent is told to end and started again.
    Restart,
    /// The agent gets no processor.
    Hang,
    /// The agent hands over to a new process.
    Upgrade,
    /// Rules come and go that have nothing to do with the clients.
    Churn,
    /// The destination resets every connection.
    Reset,
    /// The destination does nothing for a while.
    Stall,
    /// The agent may have hardly more descriptors than it has.
    Descriptors,
    /// A network namespace with callers in it is deleted.
    Namespace,
    /// Off, and on again.
    Switch,
}

impl Fault {
    /// Those of `only`, or all if that names none, in an order that `dice` chooses.
    pub(crate) fn shuffled(only: &[Self], dice: &mut impl Rng) -> Vec<Self> {
        let mut all = if only.is_empty() { Self::value_variants().to_vec() } else { only.to_vec() };
        for last in (1..all.len()).rev() {
            all.swap(last, dice.random_range(0..=last));
        }
        all
    }

    /// What calls may come to on connections that were open while it lasted; `docs/differences.md` and the guide to upgrades have why.
    pub(crate) fn excuses(self, oddity: Oddity) -> bool {
        match self {
            // Open connections are cut; later ones are direct until the agent is there again.
            Self::Kill | Self::Restart => oddity != Oddity::Wrong,
            // What was diverted waits, which is no failure; what comes later is direct.
            Self::Hang | Self::Switch | Self::Descriptors => oddity == Oddity::Direct,
            // The destination's own doing.
            Self::Reset => oddity == Oddity::Failed,
            Self::Upgrade | Self::Churn | Self::Stall | Self::Namespace => false,
        }
    }
}

/// A fault that was, and when.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Window {
    pub(crate) fault: Fault,
    pub(crate) began: f64,
    pub(crate) over: f64,
}

/// How long a hang, a switch that is off and a lack of descriptors last.
const LASTS: Duration = Duration::from_secs(5);
/// How long the destination does nothing.
const STALLS: Duration = Duration::from_secs(2);
/// Rules that come and go.
const CHURNED: usize = 100;
/// Descriptors beyond those in use that an agent in need has.
const FEW: usize = 12;

/// Lets it happen, and waits until the agent is as before.
pub(crate) fn strike<'lab>(fault: Fault, stage: &mut Stage<'lab>) -> Result<Window> {
    let began = now();
    match fault {
        Fault::Kill => {
            let agent = stage.agent.take().context("an agent")?;
            agent.kill()?;
            stage.start_agent()?;
        }
        Fault::Restart => {
            let agent = stage.agent.take().context("an agent")?;
            // An agent that has handed over before is no child of this process: it is waited for by its id.
            end(agent, stage.lab)?;
            stage.start_agent()?;
        }
        Fault::Hang => {
            stage.agent()?.signal(Signal::SIGSTOP)?;
            rest(LASTS);
            stage.agent()?.signal(Signal::SIGCONT)?;
            stage.await_agent()?;
        }
        Fault::Upgrade => stage.agent.as_mut().context("an agent")?.upgrade()?,
        Fault::Churn => churn(stage.agent()?)?,
        Fault::Reset => signal(&stage.origin, Signal::SIGUSR1)?,
        Fault::Stall => {
            signal(&stage.origin, Signal::SIGSTOP)?;
            rest(STALLS);
            signal(&stage.origin, Signal::SIGCONT)?;
        }
        Fault::Descriptors => descriptors(stage.agent()?)?,
        Fault::Namespace => namespace(stage.lab)?,
        Fault::Switch => {
            switch(stage.agent()?, false)?;
            rest(LASTS);
            switch(stage.agent()?, true)?;
        }
    }
    stage.note_agent();
    Ok(Window { fault, began, over: now() })
}

/// Time that a fault lasts: nothing is waited for.
pub(crate) fn rest(time: Duration) {
    std::thread::sleep(time);
}

fn signal(running: &Running, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(running.id())?), signal)?)
}

/// Asks an agent to end, whosever child it is.
fn end(agent: Agent<'_>, lab: &Lab) -> Result<()> {
    let pid = agent.pid();
    agent.signal(Signal::SIGTERM)?;
    let before = lab.cgroup(Place::Agent);
    wait::until("the agent to end", bounds::SOON, || {
        let procs = std::fs::read_to_string(before.join("cgroup.procs")).unwrap_or_default();
        Ok((!procs.lines().any(|line| line == pid.to_string()) || agent.is_gone()).then_some(()))
    })?;
    agent.kill().or_else(|_| Ok(()))
}

fn churn(agent: &Agent<'_>) -> Result<()> {
    for number in 0..CHURNED {
        let rule = agent.rule(&json!({"url": format!("other{number}.example/.*"), "status_code": 500}))?;
        if number % 2 == 0 {
            agent.patch(&rule, &json!({"enable": false}))?;
        }
        let reply = agent.rest().call("DELETE", &format!("/api/v1/rules/{rule}"), &[], None)?;
        ensure!(reply.status == 204, "{reply:?}");
    }
    Ok(())
}

fn switch(agent: &Agent<'_>, is_on: bool) -> Result<()> {
    let reply = agent.rest().call("PUT", "/api/v1/divert", &[], Some(&json!({"enabled": is_on})))?;
    ensure!(reply.status == 200, "the kill switch: {reply:?}");
    Ok(())
}

fn descriptors(agent: &Agent<'_>) -> Result<()> {
    let pid = u32::try_from(agent.pid().as_raw())?;
    let in_use = moxie_bench::processes::descriptors(pid).context("the agent has ended")?;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit of open files")?;
    let soft = line.split_whitespace().nth(3).context("a soft limit")?;
    limit(pid, &(in_use + FEW).to_string())?;
    rest(LASTS);
    limit(pid, soft)
}

/// The soft limit only.
fn limit(pid: u32, files: &str) -> Result<()> {
    let mut prlimit = Command::new("prlimit");
    let status = prlimit.args(["--pid", &pid.to_string(), &format!("--nofile={files}:")]).status()?;
    ensure!(status.success(), "prlimit ended with {status}");
    Ok(())
}

/// Callers in a namespace of their own, which goes while they call.
fn namespace(lab: &Lab) -> Result<()> {
    let room = lab.room()?;
    let mut calls = lab.command("bash", Place::Inside)?;
    // Until it is killed with its namespace, or a minute is over.
    calls.args(["-c", "for i in $(seq 600); do curl -s -o /dev/null http://plain.example/; sleep 0.1; done"]);
    let calls = Running::start(room.enter(calls)?)?;
    let before = lab.origins().connections("plain.example");
    wait::until("calls from a namespace", bounds::SOON, || {
        Ok((lab.origins().connections("plain.example") >= before + 5).then_some(()))
    })?;
    let is_gone = room.forget()?;
    drop(calls);
    wait::until("the namespace to be gone", bounds::PROGRAM, || Ok(is_gone()?.then_some(())))
}
