//! Units, containers, labels and processes are opted in while they run, before they run, and each time they run again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Place, agent, process};
use moxie_tests::{Agent, Lab, bounds, wait};
use serde_json::{Value, json};

const PLAIN: &str = "http://plain.example/load";

/// An agent with a rule that always answers 429 for [`PLAIN`], and nobody opted in.
fn always_429(lab: &Lab) -> Result<Agent<'_>> {
    let agent = lab.agent()?;
    agent.rule(&json!({"url": "plain.example/load", "status_code": 429, "name": "busy"}))?;
    Ok(agent)
}

fn add(agent: &Agent<'_>, scope: &Value) -> Result<Value> {
    let reply = agent.rest().post("/api/v1/scopes", scope)?;
    ensure!(reply.status == 201, "{scope}: {reply:?}");
    reply.json()
}

fn await_matches(agent: &Agent<'_>, id: &Value, count: usize) -> Result<Value> {
    wait::until(&format!("{count} matches"), bounds::SOON, || {
        let scopes = agent.list("/api/v1/scopes")?;
        let scope = scopes.into_iter().find(|scope| scope["id"] == *id).context("the scope is gone")?;
        Ok((scope["matches"].as_array().map(Vec::len) == Some(count)).then_some(scope))
    })
}

/// A unit's cgroup as systemd makes and removes it: by hand, since tests have no systemd.
struct Unit {
    path: PathBuf,
}

impl Unit {
    fn start(lab: &Lab, path: &str) -> Result<Self> {
        let root = lab.cgroup(Place::Outside);
        let path = root.parent().context("no root")?.join(path);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// What a process of this unit is answered at [`PLAIN`].
    fn call(&self, lab: &Lab) -> Result<String> {
        let script = format!(
            "echo 0 > {}/cgroup.procs && exec curl -s -o /dev/null -w '%{{http_code}}' {PLAIN}",
            self.path.display()
        );
        let mut shell = lab.command("sh", Place::Outside)?;
        shell.args(["-c", &script]);
        Ok(process::run(shell)?.stdout)
    }

    fn stop(self) -> Result<()> {
        wait::until("an empty cgroup", bounds::SOON, || Ok(fs::remove_dir(&self.path).is_ok().then_some(())))
    }
}

#[test]
fn a_unit_is_opted_in_by_name_before_it_starts_and_after_each_restart() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let scope = add(&agent, &json!({"unit": "moxie-lab-shop"}))?;
    assert_eq!((&scope["unit"], &scope["path"]), (&json!("moxie-lab-shop.service"), &Value::Null));
    let mut inode = 0;
    for _ in 0..5 {
        let unit = Unit::start(&lab, "system.slice/moxie-lab-shop.service")?;
        let shown = await_matches(&agent, &scope["id"], 1)?;
        assert_eq!(shown["matches"][0]["unit"], "moxie-lab-shop.service");
        assert_eq!(Path::new(shown["path"].as_str().unwrap_or_default()), unit.path);
        assert_eq!(unit.call(&lab)?, "429");
        let before = std::mem::replace(&mut inode, ino(&unit.path)?);
        assert_ne!(before, inode, "a restart makes another directory");
        unit.stop()?;
        await_matches(&agent, &scope["id"], 0)?;
    }
    let record = agent.record("/api/v1/exchanges", |record| record["status"] == 429)?;
    let caller = &record["caller"];
    assert_eq!((&caller["unit"], &caller["comm"]), (&json!("moxie-lab-shop.service"), &json!("curl")));
    assert_eq!((&caller["scope"], &caller["container"]), (&scope["id"], &Value::Null));
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

fn ino(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(path)?.ino())
}

#[test]
fn a_slice_opts_in_its_units_and_nobody_else() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let scope = add(&agent, &json!({"unit": "moxielab.slice"}))?;
    let inside = Unit::start(&lab, "moxielab.slice/moxielab-a.slice/a.service")?;
    let outside = Unit::start(&lab, "system.slice/a.service")?;
    await_matches(&agent, &scope["id"], 1)?;
    assert_eq!(inside.call(&lab)?, "429");
    assert_eq!(outside.call(&lab)?, "200");
    let path = format!("/api/v1/scopes/{}", agent::text(&scope, "id")?);
    assert_eq!(agent.rest().call("DELETE", &path, &[], None)?.status, 204);
    assert_eq!(inside.call(&lab)?, "200", "opted out");
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

#[test]
fn scopes_outlive_the_agent_also_those_that_match_nothing_yet() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    let agent = lab.agent_in(&state)?;
    agent.rule(&json!({"url": "plain.example/load", "status_code": 429}))?;
    let sleeper = moxie_tests::lab::Running::start({
        let mut sleep = lab.command("sleep", Place::Outside)?;
        sleep.arg("1000");
        sleep
    })?;
    let asked = [
        json!({"unit": "moxie-lab-later"}),
        json!({"container": "no-such-container"}),
        json!({"label": "no.such=label", "mode": "observe", "refuse_quic": true}),
        json!({"pid": sleeper.id()}),
    ];
    for scope in &asked {
        add(&agent, scope)?;
    }
    let before = agent.list("/api/v1/scopes")?;
    ensure!(agent.stop()?.success(), "the agent ended badly");

    let agent = lab.agent_in(&state)?;
    let after = agent.list("/api/v1/scopes")?;
    assert_eq!(after.len(), 3, "a process is not restored: {after:?}");
    for (before, after) in before.iter().zip(&after) {
        for field in ["id", "unit", "container", "label", "mode", "refuse_quic", "path"] {
            assert_eq!(before[field], after[field], "{field}");
        }
    }
    let unit = Unit::start(&lab, "system.slice/moxie-lab-later.service")?;
    await_matches(&agent, &after[0]["id"], 1)?;
    assert_eq!(unit.call(&lab)?, "429");
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

#[test]
fn the_command_line_opts_in_by_unit_and_says_what_it_matches() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let moxie = |words: &[&str]| {
        let mut command = agent.moxie()?;
        command.args(words);
        process::run(command)
    };
    let done = moxie(&["scope", "add", "--unit", "moxie-lab-cli", "--refuse-quic"])?;
    ensure!(done.code() == Some(0) && done.stdout.contains("is in: nothing now"), "{done:?}");
    let unit = Unit::start(&lab, "system.slice/moxie-lab-cli.service")?;
    let id = agent.list("/api/v1/scopes")?.remove(0)["id"].clone();
    let shown = await_matches(&agent, &id, 1)?;
    assert_eq!(shown["matches"][0]["refuse_quic"], true);
    let done = moxie(&["scope", "ls"])?;
    let line = done.stdout.lines().find(|line| line.contains("moxie-lab-cli")).context("not listed")?;
    ensure!(line.contains("unit moxie-lab-cli.service") && line.contains(&*unit.path.to_string_lossy()), "{done:?}");
    let refused = moxie(&["scope", "add", "--unit", "a.timer"])?;
    ensure!(refused.code() == Some(2) && refused.stderr.contains("no processes"), "{refused:?}");
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}
