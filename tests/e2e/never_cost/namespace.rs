//! A service's network namespace is deleted under load.

use anyhow::{Context as _, Result, ensure};
use moxie_tests::lab::Room;
use moxie_tests::programs::PYTHON;
use moxie_tests::{Agent, Lab, bounds, wait};
use serde_json::{Value, json};

use crate::descriptors;
use crate::load::{Load, PLAIN, SECURE, always_429, mixed};

/// Namespaces that come and go.
const ROOMS: usize = 3;

/// Answered by a rule, forwarded, and passed through, on fresh connections and on kept ones.
fn every_way() -> Value {
    json!({"calls": [
        {"kind": "fresh", "url": PLAIN},
        {"kind": "kept", "url": SECURE},
        {"kind": "kept", "url": "http://plain.example/other"},
        {"kind": "kept", "url": "https://api.customer.io/v1/other"},
        {"kind": "kept", "url": "https://api.github.com/"},
    ], "pace": 0.004})
}

#[test]
fn namespaces_that_are_deleted_under_load_cost_others_nothing_and_are_not_kept() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let before = descriptors::of(&agent)?;
    let mut load = Load::start(&agent, &mixed())?;
    for _ in 0..ROOMS {
        let room = lab.room()?;
        let mut service = service_in(&room, &agent)?;
        // The name goes first, the processes last, in the middle of their calls.
        let is_gone = room.forget()?;
        service.await_status("429", 20)?;
        service.await_status("200", 20)?;
        ensure!(service.so_far()?.failed == 0, "{:?}", service.end()?.failures);
        drop(service);
        wait::until("the namespace to be gone", bounds::PROGRAM, || Ok(is_gone()?.then_some(())))?;
        load.await_status("429", 20)?;
    }
    load.end()?.ensure_all("429")?;
    wait::until("no more descriptors than before", bounds::SOON, || {
        let is_more = |(kind, count): (&String, &usize)| before.get(kind).is_none_or(|before| before < count);
        Ok((!descriptors::of(&agent)?.iter().any(is_more)).then_some(()))
    })
    .with_context(|| format!("before: {before:?}, now: {:?}", descriptors::of(&agent)))?;
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_namespace_whose_cable_goes_under_load_costs_others_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let mut load = Load::start(&agent, &mixed())?;
    let room = lab.room()?;
    let mut service = service_in(&room, &agent)?;
    room.cut()?;
    // What rules answer needs no cable.
    service.await_status("429", 20)?;
    let _ = room.forget()?;
    drop(service);
    load.await_status("429", 50)?;
    // Another one, with the addresses of its own, is served as the first was.
    drop(service_in(&lab.room()?, &agent)?);
    load.end()?.ensure_all("429")?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// A service in the namespace, whose calls go every way.
fn service_in(room: &Room<'_>, agent: &Agent<'_>) -> Result<Load> {
    let mut service = Load::start_in(room.enter(agent.client(PYTHON)?)?, &every_way())?;
    service.await_status("429", 20)?;
    service.await_status("200", 20)?;
    ensure!(service.so_far()?.failed == 0, "{:?}", service.end()?.failures);
    Ok(service)
}
