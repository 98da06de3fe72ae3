//! After it all: nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Place, Run, Running, cgroup, process};
use moxie_tests::{Agent, Lab};
use moxie_tests::{bounds, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const RULE: &str = "GET api.customer.io/v1/activities -> 429";

#[test]
fn a_run_leaves_nothing_behind() -> Result<()> {
    let lab = Lab::new()?;
    let before = Traces::now(&lab)?;
    let words = ["sh", "-c", "cat /proc/self/cgroup; curl -s https://api.customer.io/v1/activities"];
    let run = Run::of(lab.moxie()?, &["--rule", RULE], &words.map(str::to_owned))?;
    assert_eq!(run.exchanges().len(), 1, "it did divert: {run:?}");
    let cgroup = v2_cgroup(&run.finished.stdout)?;
    assert!(!cgroup.exists(), "the run's own cgroup is still there: {}", cgroup.display());
    before.compare(&lab)
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() -> Result<()> {
    let lab = Lab::new()?;
    let before = Traces::now(&lab)?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut command = lab.moxie()?;
        command.args(["run", "--rule", RULE, "--", "sh", "-c", "cat /proc/self/cgroup; echo started; exec sleep 1000"]);
        let run = Running::start(command)?;
        wait::until("the command to start", bounds::SOON, || Ok(run.printed().contains("started").then_some(())))?;
        let cgroup = v2_cgroup(&run.printed())?;
        run.signal(signal)?;
        let done = run.finish(bounds::SOON).with_context(|| format!("{signal}"))?;
        assert!(done.code() != Some(0), "{signal}: {done:?}");
        assert!(!cgroup.exists(), "{signal}: {} is still there", cgroup.display());
        before.compare(&lab).with_context(|| format!("{signal}"))?;
    }
    Ok(())
}

#[test]
fn an_agent_that_ends_leaves_nothing_behind() -> Result<()> {
    let lab = Lab::new()?;
    let before = Traces::now(&lab)?;
    let agent = at_work(&lab, &before)?;
    ensure!(agent.stop()?.success(), "the agent ended badly");
    before.compare(&lab)
}

#[test]
fn a_killed_agent_leaves_no_links_and_the_next_one_sweeps_the_rest() -> Result<()> {
    let lab = Lab::new()?;
    let before = Traces::now(&lab)?;
    at_work(&lab, &before)?.kill()?;
    wait::until("the links to be gone", bounds::SOON, || {
        let now = Traces::now(&lab)?;
        Ok((now.links == before.links && now.processes == before.processes).then_some(()))
    })?;
    at_work(&lab, &before)?.stop()?;
    before.compare(&lab)
}

/// An agent that has answered a call by a rule.
fn at_work<'lab>(lab: &'lab Lab, before: &Traces) -> Result<Agent<'lab>> {
    let agent = lab.agent()?;
    agent.opt_in()?;
    agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 429}))?;
    assert_eq!(agent.session()?.get("https://api.customer.io/v1/activities")?.status, Some(429));
    let now = Traces::now(lab)?;
    ensure!(now.links.len() > before.links.len(), "an agent at work has links: {now:?}");
    Ok(agent)
}

#[test]
fn a_scope_by_pid_is_undone_when_it_is_removed() -> Result<()> {
    let lab = Lab::new()?;
    let before = Traces::now(&lab)?;
    let sleeper = sleeper(&lab)?;
    let home = home_of(&sleeper)?;
    let agent = lab.agent()?;
    let id = opt_in(&agent, &sleeper)?;
    assert_ne!(home_of(&sleeper)?, home, "it is in a cgroup of its own");
    assert_eq!(agent.rest().call("DELETE", &format!("/api/v1/scopes/{id}"), &[], None)?.status, 204);
    assert_eq!(home_of(&sleeper)?, home, "it is back where it was");
    drop(sleeper);
    agent.stop()?;
    before.compare(&lab)
}

#[test]
fn a_scope_by_pid_of_a_killed_agent_is_undone_by_the_next_one() -> Result<()> {
    let lab = Lab::new()?;
    let before = Traces::now(&lab)?;
    let [stays, ends] = [sleeper(&lab)?, sleeper(&lab)?];
    let home = home_of(&stays)?;
    let agent = lab.agent()?;
    for sleeper in [&stays, &ends] {
        opt_in(&agent, sleeper)?;
    }
    assert_ne!(home_of(&stays)?, home, "it is in a cgroup of its own");
    agent.kill()?;
    drop(ends);
    // Another test's agent, which starts at the same moment, may be at it already.
    let next = lab.agent()?;
    wait::until("it to be back where it was", bounds::SOON, || Ok((home_of(&stays)? == home).then_some(())))?;
    drop(stays);
    next.stop()?;
    before.compare(&lab)
}

fn sleeper(lab: &Lab) -> Result<Running> {
    let mut sleeper = lab.command("sleep", Place::Outside)?;
    sleeper.arg("1000");
    Running::start(sleeper)
}

fn home_of(process: &Running) -> Result<String> {
    Ok(fs::read_to_string(format!("/proc/{}/cgroup", process.id()))?)
}

/// The scope's id.
fn opt_in(agent: &Agent<'_>, process: &Running) -> Result<String> {
    let reply = agent.rest().post("/api/v1/scopes", &json!({"pid": process.id()}))?;
    ensure!(reply.status == 201, "{reply:?}");
    Ok(reply.json()?["id"].as_str().context("no id")?.to_owned())
}

#[test]
fn the_demo_leaves_nothing_behind_also_when_interrupted() -> Result<()> {
    let demo = PathBuf::from(env!("CARGO_BIN_EXE_demo"));
    let mut command = Command::new(demo);
    command.env("MOXIE_BIN", moxie_tests::lab::agent::program()?);
    let run = Running::start(command)?;
    let ours = format!("moxie-lab-{}-", run.id());
    wait::until("the demo to make its lab", bounds::SOON, || Ok((!named(&ours)?.is_empty()).then_some(())))?;
    run.signal(Signal::SIGINT)?;
    let done = run.finish(bounds::PROGRAM)?;
    assert_eq!(done.code(), Some(130), "{done:?}");
    assert_eq!(named(&ours)?, Vec::<PathBuf>::new());
    Ok(())
}

/// Namespaces and cgroups whose name starts with `prefix`.
fn named(prefix: &str) -> Result<Vec<PathBuf>> {
    let directories = [PathBuf::from("/run/netns"), cgroup::hierarchy()?];
    let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).collect())
}

/// What of an agent the system can show, as far as it belongs to one lab.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    links: BTreeSet<u64>,
    cgroups: BTreeSet<PathBuf>,
    processes: usize,
}

impl Traces {
    fn now(lab: &Lab) -> Result<Self> {
        let cgroups = lab.all_cgroups().into_iter().collect();
        Ok(Self { links: links_of(&cgroups)?, cgroups, processes: lab.processes()? })
    }

    /// The kernel lets go of links and cgroups a moment after the process that held them is gone.
    fn compare(&self, lab: &Lab) -> Result<()> {
        let gone = wait::until("all traces to be gone", bounds::SOON, || Ok((Self::now(lab)? == *self).then_some(())));
        gone.with_context(|| format!("before: {self:?}, now: {:?}", Self::now(lab)))
    }
}

/// Ids of the links whose cgroup is one of these.
fn links_of(cgroups: &BTreeSet<PathBuf>) -> Result<BTreeSet<u64>> {
    use std::os::unix::fs::MetadataExt;
    // The id of a cgroup is the inode number of its directory.
    let ids: BTreeSet<u64> =
        cgroups.iter().filter_map(|path| fs::metadata(path).ok()).map(|found| found.ino()).collect();
    let mut command = Command::new("bpftool");
    command.args(["--json", "link", "show"]);
    let shown: Value = serde_json::from_str(&process::run(command)?.stdout).context("bpftool shows no links")?;
    let links = shown.as_array().context("bpftool shows no list")?;
    let ours = links.iter().filter(|link| link["cgroup_id"].as_u64().is_some_and(|id| ids.contains(&id)));
    Ok(ours.filter_map(|link| link["id"].as_u64()).collect())
}

/// The cgroup v2 directory that the first such line of /proc/PID/cgroup names.
fn v2_cgroup(text: &str) -> Result<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).context("no cgroup v2 line")?;
    Ok(cgroup::hierarchy()?.join(path))
}
