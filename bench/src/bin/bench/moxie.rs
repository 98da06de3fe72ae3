//! Moxie as a target: one agent, whose scope and rules are set before each run.

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Lab, Place};
use moxie_tests::{Agent, bounds, wait};
use serde_json::{Value, json};

use crate::Options;
use crate::room::{HOST, Processor};

/// What the agent is told before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Opted in, and no rule that could want anything.
    Idle,
    /// Everything comes to the agent, which names nothing.
    Observing,
    /// A rule may want the host, but none of the requests.
    Intercepting,
    /// A rule answers every request.
    Mocking,
    /// A rule answers every request after 50 ms.
    Delaying,
}

/// An agent on the proxy's processor.
pub(crate) fn start<'lab>(lab: &'lab Lab, options: &Options) -> Result<Agent<'lab>> {
    let program = moxie_tests::lab::agent::program()?;
    let mut command = options.pinned(lab, &program, Place::Agent, Processor::Proxy)?;
    command.env("MOXIE_STATE_DIR", lab.files().join("no-agent"));
    let authority = lab.files().join("authority.pem");
    let settings = format!("[tls]\nupstream_ca = [\"{}\"]\n[log]\nfilter = \"warn\"\n", authority.display());
    lab.agent_by(command, &lab.state_directory()?, &settings)
}

/// Brings the agent into `state`, whatever it was in.
pub(crate) fn bring(agent: &Agent<'_>, state: State) -> Result<()> {
    for kind in ["scopes", "rules"] {
        for item in agent.list(&format!("/api/v1/{kind}"))? {
            // What came with the host, such as the label of containers, stays.
            let Some(id) = item["id"].as_str() else { continue };
            let reply = agent.rest().call("DELETE", &format!("/api/v1/{kind}/{id}"), &[], None)?;
            ensure!(reply.status == 204 || kind == "scopes", "removing {id} of {kind}: {reply:?}");
        }
    }
    let answer = |url: &str| {
        json!({"url": format!("{HOST}{url}"), "status_code": 429, "response": {},
        "response_headers": {"Retry-After": "4"}})
    };
    match state {
        State::Idle | State::Observing => {}
        State::Intercepting => drop(agent.rule(&answer("/never"))?),
        State::Mocking => drop(agent.rule(&answer("/.*"))?),
        State::Delaying => {
            let mut rule = answer("/.*");
            rule["response_delay"] = json!("50ms");
            agent.rule(&rule)?;
        }
    }
    agent.opt_in_as(if state == State::Observing { "observe" } else { "rules" })?;
    Ok(())
}

/// The id of the connection that was accepted last, of those that have ended lately. They sort by time.
pub(crate) fn newest(agent: &Agent<'_>) -> Result<String> {
    let records = agent.list("/api/v1/connections?limit=1000")?;
    Ok(records.iter().filter_map(|record| record["id"].as_str()).max().unwrap_or_default().to_owned())
}

/// What became of a connection that was accepted after `newest` and has said something; they are recorded as they end.
pub(crate) fn came(agent: &Agent<'_>, newest: &str) -> Result<Option<Value>> {
    let newer = wait::until("a record", bounds::SOON / 20, || {
        let records = agent.list("/api/v1/connections?limit=100")?;
        // One that a run has opened and not used before its end says nothing of the others.
        let told = |record: &Value| record["id"].as_str() > Some(newest) && record["bytes_up"] != 0;
        Ok(records.into_iter().find(told))
    });
    Ok(newer.ok())
}

/// The agent's process.
pub(crate) fn process(agent: &Agent<'_>) -> Result<u32> {
    u32::try_from(agent.pid().as_raw()).context("a process id")
}
