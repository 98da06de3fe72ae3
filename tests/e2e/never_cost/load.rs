//! A service under load, and what its calls came to.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moxie_tests::programs::PYTHON;
use moxie_tests::{Agent, Lab, Session, bounds, wait};
use nix::time::{ClockId, clock_gettime};
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
#[expect(dead_code, reason = "what was done and why it failed is shown where a test fails")]
pub(crate) struct Failure {
    /// When its connection was begun, seconds of CLOCK_MONOTONIC.
    pub(crate) opened: f64,
    /// When it failed.
    pub(crate) ended: f64,
    /// What it was doing: connect, handshake, call.
    pub(crate) step: String,
    /// What the client complained of.
    pub(crate) error: String,
}

/// A number that makes a test longer or shorter, from the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

/// Clients of [`mixed`].
pub(crate) const CLIENTS: usize = 5;

/// Fresh and kept connections, in the clear and inside TLS.
pub(crate) fn mixed() -> Value {
    json!({"calls": [
        {"kind": "fresh", "url": PLAIN, "threads": 2},
        {"kind": "kept", "url": PLAIN},
        {"kind": "fresh", "url": SECURE},
        {"kind": "kept", "url": SECURE},
    ], "pace": 0.004})
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

    /// Waits until `count` more calls got `status`.
    pub(crate) fn await_status(&mut self, status: &str, count: u64) -> Result<()> {
        let before = self.so_far()?.with_status(status);
        wait::until("answers under load", bounds::PROGRAM, || {
            Ok((self.so_far()?.with_status(status) >= before + count).then_some(()))
        })
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

    /// No call failed but on connections that were open (or being opened) at one of `moments`, and each client lost at most one
    /// call at each.
    pub(crate) fn ensure_cut_only_at(&self, moments: &[Moment], clients: usize) -> Result<()> {
        let is_cut = |failure: &&Failure| {
            moments.iter().any(|moment| failure.opened <= moment.over && failure.ended >= moment.began)
        };
        let other: Vec<_> = self.failures.iter().filter(|failure| !is_cut(failure)).collect();
        ensure!(other.is_empty(), "failed for another reason: {other:?}, moments {moments:?}");
        ensure!(self.failures.len() <= clients * moments.len(), "more than were in flight: {:?}", self.failures);
        Ok(())
    }

    /// Every answer was one of these.
    pub(crate) fn ensure_only(&self, statuses: &[&str]) -> Result<()> {
        let all: u64 = statuses.iter().map(|status| self.with_status(status)).sum();
        ensure!(all == self.done, "other than {statuses:?}: {:?}", self.statuses);
        Ok(())
    }
}

/// A time within which something happened, seconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) began: f64,
    pub(crate) over: f64,
}

impl Moment {
    /// That `work` took.
    pub(crate) fn of(work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let began = now()?;
        work()?;
        Ok(Self { began, over: now()? })
    }
}

/// CLOCK_MONOTONIC, as the clients read it.
pub(crate) fn now() -> Result<f64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_secs_f64())
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
