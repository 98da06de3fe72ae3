//! What no rule could act on does not come to the agent at all; what a mode asks for does.

mod hints;
mod modes;
mod nothing;
mod upgrade;

use anyhow::{Context, Result};
use moxie_tests::Agent;
use serde_json::Value;

/// In the clear, a rule's.
const PLAIN: &str = "http://plain.example/load";
/// Inside TLS.
const SECURE: &str = "https://api.customer.io/v1/activities";

/// What the kernel half has counted under a name.
fn counted(agent: &Agent<'_>, name: &str) -> Result<u64> {
    let metrics = agent.rest().get("/metrics")?.body;
    let line = format!("moxie_kernel_{name}_total ");
    let count =
        metrics.lines().find_map(|text| text.strip_prefix(&line)).with_context(|| format!("no {name}: {metrics}"))?;
    Ok(count.trim().parse()?)
}

/// What of the lab's clients' connections is diverted.
fn diverted(agent: &Agent<'_>) -> Result<Value> {
    let scope = agent.list("/api/v1/scopes")?.pop().context("no scope")?;
    Ok(scope["matches"][0]["diverted"].clone())
}
