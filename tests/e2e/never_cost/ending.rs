//! The agent dies, hangs, ends and starts under load.

use std::time::Duration;

use anyhow::{Result, ensure};
use moxie_tests::{Agent, Lab};
use nix::sys::signal::Signal;

use crate::load::{CLIENTS, Load, Moment, always_429, mixed, now, opt_in, setting};

/// Kills of the long test.
const KILLS: u64 = 20;
/// Where the moments of the kills come from, so that a run can be repeated.
const SEED: u64 = 7;
/// A heartbeat older than this diverts nothing (`divert.heartbeat`'s default).
const MAX_AGE: f64 = 1.0;

/// Pseudo-random numbers below `bound` (Knuth, MMIX).
fn draw(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % bound
}

#[test]
fn kill_9_at_twenty_random_moments_costs_what_was_in_flight_and_a_start_costs_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    let agent = lab.agent_in(&state)?;
    opt_in(&agent)?;
    let mut load = Load::start(&agent, &mixed())?;
    let (mut agent, mut seed, mut kills) = (Some(agent), SEED, Vec::new());
    for _ in 0..KILLS {
        // The scope and the rules are in the store.
        let running: Agent<'_> = match agent.take() {
            Some(agent) => agent,
            None => lab.agent_in(&state)?,
        };
        load.await_status("429", 1 + draw(&mut seed, 100))?;
        kills.push(Moment::of(|| running.kill())?);
        load.await_status("200", 50)?;
    }
    let report = load.end()?;
    eprintln!("{} calls, {} cut by {KILLS} kills: {:?}", report.done, report.failures.len(), report.statuses);
    report.ensure_only(&["200", "429"])?;
    report.ensure_cut_only_at(&kills, CLIENTS)
}

#[test]
fn an_agent_that_hangs_costs_no_call_made_after_its_heartbeat_is_too_old() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let mut load = Load::start(&agent, &mixed())?;
    agent.signal(Signal::SIGSTOP)?;
    let stopped = now()?;
    let long = setting("MOXIE_LONG").map(Duration::from_secs);
    load.await_status("200", 300)?;
    while now()? < stopped + long.unwrap_or_default().as_secs_f64() {
        load.await_status("200", 50)?;
    }
    agent.signal(Signal::SIGCONT)?;
    load.await_status("429", 50)?;
    let report = load.end()?;
    report.ensure_only(&["200", "429"])?;
    report.ensure_cut_only_at(&[Moment { began: stopped, over: stopped + MAX_AGE }], 2 * CLIENTS)
}

#[test]
fn an_orderly_end_and_a_start_cost_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    let agent = lab.agent_in(&state)?;
    opt_in(&agent)?;
    let mut load = Load::start(&agent, &mixed())?;
    let status = agent.stop()?;
    ensure!(status.success(), "{status}");
    load.await_status("200", 100)?;
    let agent = lab.agent_in(&state)?;
    load.await_status("429", 100)?;
    let report = load.end()?;
    report.ensure_only(&["200", "429"])?;
    ensure!(report.failures.is_empty(), "{:?}", report.failures);
    ensure!(agent.stop()?.success());
    Ok(())
}
