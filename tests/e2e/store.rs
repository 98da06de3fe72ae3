//! A store in trouble never stops traffic, is told of, and loses nothing.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::Run;
use moxie_tests::{Agent, Lab, bounds, wait};
use serde_json::json;

const URL: &str = "https://api.customer.io/v1/activities";
const OTHER: &str = "https://api.github.com/zen";

fn rule() -> serde_json::Value {
    json!({"url": "api.customer.io/v1/activities", "status_code": 429})
}

/// What no rule names passes, and what the agent can still do it does.
fn traffic_flows(lab: &Lab, agent: &Agent<'_>, expected: u16) -> Result<()> {
    let mut session = agent.session()?;
    for _ in 0..3 {
        let answer = session.fresh(URL)?;
        ensure!(answer.status == Some(expected), "{answer:?}");
        let other = session.fresh(OTHER)?;
        ensure!(other.certificate == Some(lab.origins().fingerprint("api.github.com")), "{other:?}");
    }
    Ok(())
}

/// Waits until the API says that the store is in trouble.
fn said(agent: &Agent<'_>) -> Result<()> {
    wait::until("the API to say what is wrong with the store", bounds::SOON, || {
        let status = agent.rest().get("/api/v1/status")?.json()?;
        Ok(status["store_trouble"].is_string().then_some(()))
    })
    .with_context(|| format!("{:?}", agent.rest().get("/api/v1/status")))
}

#[test]
fn a_full_disk_never_stops_traffic() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    lab.small_disk(&state, 2 * 1024 * 1024)?;
    let agent = lab.agent_in(&state)?;
    agent.opt_in()?;
    let id = agent.rule(&rule())?;
    fill(&agent)?;

    let refused = wait::until("a write to fail", bounds::SOON, || {
        let reply = agent
            .rest()
            .post("/api/v1/rules", &json!({"url": "api.cloudflare.com/.*", "response": "x".repeat(200_000)}))?;
        Ok((reply.status != 201).then_some(reply))
    })?;
    ensure!((500..600).contains(&refused.status), "{refused:?}");
    ensure!(refused.header("content-type") == Some("application/problem+json"), "{refused:?}");
    traffic_flows(&lab, &agent, 429)?;
    said(&agent)?;
    assert_eq!(agent.show(&id)?["hits"], 3, "it counts on in memory");
    Ok(())
}

/// Writes zeroes beside the database until nothing more fits.
fn fill(agent: &Agent<'_>) -> Result<()> {
    let mut file = fs::File::create(agent.visible("filler"))?;
    let block = [0; 4096];
    while file.write_all(&block).is_ok() {}
    Ok(())
}

#[test]
fn a_read_only_database_never_stops_traffic() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    let agent = lab.agent_in(&state)?;
    agent.opt_in()?;
    agent.rule(&rule())?;
    agent.stop()?;
    let database = state.join("moxie.db");
    let before = fs::read(&database)?;
    lab.freeze(&database)?;

    let agent = lab.agent_in(&state)?;
    assert_eq!(agent.list("/api/v1/scopes")?.len(), 1, "what can be read is in force");
    traffic_flows(&lab, &agent, 429)?;
    let refused = agent.rest().post("/api/v1/rules", &json!({"url": "api.cloudflare.com/.*"}))?;
    ensure!((500..600).contains(&refused.status), "{refused:?}");
    said(&agent)?;
    agent.stop()?;
    assert!(fs::read(&database)? == before, "the file was changed");
    Ok(())
}

#[test]
fn a_corrupt_database_never_stops_traffic_and_is_kept_as_it_is() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    let database = state.join("moxie.db");
    let garbage: Vec<u8> = (0..64 * 1024_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&database, &garbage)?;

    let agent = lab.agent_in(&state)?;
    said(&agent)?;
    traffic_flows(&lab, &agent, 200)?;
    let refused = agent.rest().post("/api/v1/rules", &rule())?;
    ensure!((500..600).contains(&refused.status), "{refused:?}");
    agent.stop()?;
    assert!(fs::read(&database)? == garbage, "the file was changed");
    Ok(())
}

#[test]
fn a_database_damaged_under_the_agent_never_stops_traffic() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    let agent = lab.agent_in(&state)?;
    agent.opt_in()?;
    agent.rule(&rule())?;
    for name in ["moxie.db", "moxie.db-wal"] {
        if let Ok(file) = fs::OpenOptions::new().write(true).open(state.join(name)) {
            file.set_len(100)?;
        }
    }
    traffic_flows(&lab, &agent, 429)
}

#[test]
fn a_run_works_while_the_agents_store_is_down() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    fs::write(state.join("moxie.db"), [0xff; 4096])?;
    let agent = lab.agent_in(&state)?;
    said(&agent)?;
    let words = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", URL].map(str::to_owned);
    let run = Run::of(agent.moxie()?, &["--rule", "GET api.customer.io/v1/activities -> 429"], &words)?;
    assert_eq!(run.finished.stdout, "429", "{run:?}");
    Ok(())
}
