//! Somebody else's program is on the service's cgroup first, or another agent: calls are diverted beside it, or not by this agent, and
//! the scope says why.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use moxie_tests::lab::{Place, process};
use moxie_tests::programs::PYTHON;
use moxie_tests::{Agent, Lab, Session, bounds, wait};
use serde_json::{Value, json};

use crate::load::{Load, always_429, mixed, opt_in};

/// A program that was attached the old way, without a link: it stays until it is taken off or its cgroup is gone.
struct Foreign(Session);

impl Foreign {
    fn attach(lab: &Lab, place: &Path, hook: &str, how: &str) -> Result<Self> {
        let arguments = [&*place.to_string_lossy(), hook, how];
        let mut session = Session::start(lab.command(PYTHON, Place::Outside)?, "foreign.py", &arguments)?;
        session.next_reply().with_context(|| format!("{hook}, {how}: not attached"))?;
        Ok(Self(session))
    }

    /// Takes it off.
    fn end(self) -> Result<()> {
        self.0.close()
    }
}

/// What the scope of the lab's clients says is wrong with it.
fn problem(lab: &Lab, agent: &Agent<'_>) -> Result<Value> {
    let scopes = agent.list("/api/v1/scopes")?;
    let scope = scopes.into_iter().find(|scope| scope["cgroup"] == json!(lab.cgroup(Place::Inside)));
    Ok(scope.context("no scope")?["problem"].clone())
}

#[test]
fn one_that_shares_the_cgroup_costs_nothing_and_hides_nothing() -> Result<()> {
    for (hook, how, is_above) in
        [("connect4", "multi", false), ("connect6", "multi", false), ("connect4", "override", true)]
    {
        let lab = Lab::new()?;
        let inside = lab.cgroup(Place::Inside);
        let place = if is_above { inside.parent().context("no cgroup above")? } else { &inside };
        let foreign = Foreign::attach(&lab, place, hook, how)?;
        let agent = always_429(&lab)?;
        let mut load = Load::start(&agent, &mixed())?;
        load.await_status("429", 50)?;
        // It may go while calls are made, too.
        foreign.end()?;
        load.await_status("429", 50)?;
        load.end()?.ensure_all("429").with_context(|| format!("{hook}, {how}, above: {is_above}"))?;
        assert_eq!(problem(&lab, &agent)?, Value::Null);
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

#[test]
fn one_that_wants_the_cgroup_to_itself_costs_nothing_and_is_told_of() -> Result<()> {
    for (hook, how) in [("connect4", "exclusive"), ("connect4", "override"), ("connect6", "exclusive")] {
        let lab = Lab::new()?;
        let state = lab.state_directory()?;
        let agent = lab.agent_in(&state)?;
        opt_in(&agent)?;
        ensure!(agent.stop()?.success());
        // An agent that has the scope in its store meets the program, and so does whoever asks.
        let foreign = Foreign::attach(&lab, &lab.cgroup(Place::Inside), hook, how)?;
        let agent = lab.agent_in(&state)?;
        let mut load = Load::start(&agent, &mixed())?;
        let told = problem(&lab, &agent)?;
        let says = |text: &str| text.contains(hook) && text.contains("bpftool cgroup tree");
        ensure!(told.as_str().is_some_and(says), "{hook}, {how}: {told}");
        // Who asks anew is told so, unless the program leaves room below.
        let below = lab.cgroup(Place::Inside).join("below");
        std::fs::create_dir(&below)?;
        let reply = agent.rest().post("/api/v1/scopes", &json!({"cgroup": below, "mode": "rules"}))?;
        let is_told = if how == "override" { reply.status == 201 } else { reply.status == 503 && says(&reply.body) };
        ensure!(is_told, "{hook}, {how}: {reply:?}");
        load.await_status("200", 50)?;
        ensure!(load.so_far()?.with_status("429") == 0, "{hook}, {how}: diverted");
        // Once it is gone, the scope is on path without anybody's doing.
        foreign.end()?;
        load.await_status("429", 50)?;
        wait::until("no problem", bounds::SOON, || Ok(problem(&lab, &agent)?.is_null().then_some(())))?;
        let report = load.end()?;
        report.ensure_only(&["200", "429"])?;
        ensure!(report.failures.is_empty(), "{hook}, {how}: {:?}", report.failures);
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

/// What the scope of the lab's clients says keeps connections of its match away.
fn obstacles(lab: &Lab, agent: &Agent<'_>) -> Result<String> {
    let scopes = agent.list("/api/v1/scopes")?;
    let scope = scopes.into_iter().find(|scope| scope["cgroup"] == json!(lab.cgroup(Place::Inside)));
    Ok(scope.context("no scope")?["matches"][0]["obstacles"].to_string())
}

/// Waits until something is told as it should be: an agent under load may be late with a beat, and then is none for a moment; and
/// what was found out about others is believed for a second.
fn await_told(told: impl Fn() -> Result<String>, is_right: impl Fn(&str) -> bool) -> Result<()> {
    let mut last = String::new();
    let waited = wait::until("the right thing to be told", bounds::PROGRAM, || {
        last = told()?;
        Ok(is_right(&last).then_some(()))
    });
    waited.with_context(|| format!("told last: {last}"))
}

/// What a command prints to one that asks this agent.
fn moxie(agent: &Agent<'_>, command: &str) -> Result<String> {
    let mut moxie = agent.moxie()?;
    moxie.arg(command);
    Ok(process::run(moxie)?.stdout)
}

#[test]
fn another_agent_that_was_there_first_is_told_of_while_it_diverts() -> Result<()> {
    let lab = Lab::new()?;
    let mut first = lab.agent()?;
    first.opt_in()?;
    let inside = lab.cgroup(Place::Inside);
    let contested = format!("diverts {}", inside.display());
    ensure!(!moxie(&first, "doctor")?.contains(&contested), "one agent");
    let second = lab.agent_beside()?;
    second.opt_in()?;
    let outrun = format!("another agent of Moxie's (process {})", first.pid());
    await_told(|| obstacles(&lab, &second), |told| told.contains(&outrun))?;
    assert_eq!(obstacles(&lab, &first)?, "[]");
    await_told(|| moxie(&first, "doctor"), |told| told.contains(&contested))?;

    moxie(&first, "off")?;
    await_told(|| obstacles(&lab, &second), |told| told == "[]").context("it diverts nothing")?;
    moxie(&first, "on")?;
    // What has handed over is still on the cgroup for a while, and no agent any more.
    first.upgrade()?;
    await_told(|| obstacles(&lab, &second), |told| told == "[]").context("it is the first one now")?;
    let outrun = format!("(process {})", second.pid());
    await_told(
        || obstacles(&lab, &first),
        |told| told.matches("another agent").count() == 1 && told.contains(&outrun),
    )?;
    ensure!(second.stop()?.success());
    await_told(|| obstacles(&lab, &first), |told| told == "[]")?;
    ensure!(first.stop()?.success());
    Ok(())
}
