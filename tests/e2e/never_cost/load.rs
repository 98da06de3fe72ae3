//! A service under load, and what its calls came to.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moxie_tests::programs::PYTHON;
use moxie_tests::{Agent, Lab, Session, bounds, wait};
use serde::Deserialize;
use serde_json::{Value, json};

/// In the clear.
pub(crate) const PLAIN: &str = "http://plain.example/load";
/// Inside TLS.
pub(crate) const SECURE: &str = "https://api.customer.io/v1/activities";

/// Whose calls these are.
#[derive(Debug)]
pub(crate) struct Load {
    session: Session,
}

/// What calls came to.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    /// Calls that were answered.
    pub(crate) done: u64,
    /// How many calls got which status, by kind of connection and URL.
    pub(crate) statuses: BTreeMap<String, BTreeMap<String, u64>>,
    /// Calls that were not.
    #[serde(default)]
    pub(crate) failures: Vec<Failure>,
}

/// A call that was not answered.
#[derive(Debug, Deserialize)]
pub(crate) struct Failure {
    /// When it began, seconds of CLOCK_MONOTONIC.
    pub(crate) began: f64,
    /// When it failed.
    pub(crate) ended: f64,
    /// What it was doing: connect, handshake, call.
    pub(crate) step: String,
    /// What the client complained of.
    pub(crate) error: String,
}

/// Fresh and kept connections, in the clear and inside TLS.
pub(crate) fn mixed() -> Value {
    json!({"calls": [
        {"kind": "fresh", "url": PLAIN, "threads": 2},
        {"kind": "kept", "url": PLAIN},
        {"kind": "fresh", "url": SECURE},
        {"kind": "kept", "url": SECURE},
    ]})
}

impl Load {
    /// Of the opted-in service.
    pub(crate) fn start(agent: &Agent<'_>, calls: &Value) -> Result<Self> {
        let mut load = Self::start_in(agent.client(PYTHON)?, calls)?;
        load.await_calls(50)?;
        Ok(load)
    }

    /// Of any program's place.
    pub(crate) fn start_in(command: std::process::Command, calls: &Value) -> Result<Self> {
        Ok(Self { session: Session::start(command, "burden.py", &[&calls.to_string()])? })
    }

    /// Waits until `count` more calls were answered.
    pub(crate) fn await_calls(&mut self, count: u64) -> Result<()> {
        let before = self.so_far()?.done;
        wait::until("calls under load", bounds::PROGRAM, || Ok((self.so_far()?.done >= before + count).then_some(())))
    }

    /// What its calls have come to.
    pub(crate) fn so_far(&mut self) -> Result<Report> {
        Ok(serde_json::from_value(self.session.tell(&json!({"do": "count"}))?)?)
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Result<Report> {
        self.session.begin(&json!({"do": "end"}))?;
        serde_json::from_value(self.session.next_reply()?).context("no report")
    }
}

impl Report {
    /// How many calls got `status`.
    pub(crate) fn with_status(&self, status: &str) -> u64 {
        self.statuses.values().filter_map(|of| of.get(status)).sum()
    }

    /// Every call was answered, and by `status`.
    pub(crate) fn ensure_all(&self, status: &str) -> Result<()> {
        ensure!(self.failures.is_empty(), "{} calls failed: {:?}", self.failures.len(), self.failures);
        ensure!(self.with_status(status) == self.done, "not all {status}: {:?}", self.statuses);
        Ok(())
    }

    /// No call failed that began after `moment`, and none but those in flight then failed at all.
    pub(crate) fn ensure_cut_only_at(&self, moment: Duration) -> Result<()> {
        let late: Vec<_> = self.failures.iter().filter(|failure| failure.began > moment.as_secs_f64()).collect();
        ensure!(late.is_empty(), "failed though they began afterwards: {late:?}");
        Ok(())
    }
}

/// An agent with the lab's clients opted in, and rules that always answer 429 for [`PLAIN`] and [`SECURE`].
pub(crate) fn always_429(lab: &Lab) -> Result<Agent<'_>> {
    let agent = lab.agent()?;
    opt_in(&agent)?;
    Ok(agent)
}

/// Opts the lab's clients in, with rules that always answer 429 for [`PLAIN`] and [`SECURE`].
pub(crate) fn opt_in(agent: &Agent<'_>) -> Result<()> {
    agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 429}))?;
    agent.rule(&json!({"url": "plain.example/load", "status_code": 429}))?;
    agent.opt_in()?;
    Ok(())
}
