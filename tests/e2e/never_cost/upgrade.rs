//! A new version takes over under load: no call fails, none goes by undiverted, no count is exceeded; one that cannot start changes
//! nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use moxie_tests::lab::Place;
use moxie_tests::{Lab, bounds, wait};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::load::{Load, mixed, opt_in, setting};

/// Upgrades of the long test.
fn upgrades() -> u64 {
    setting("MOXIE_UPGRADES").unwrap_or(100)
}

#[test]
fn a_hundred_upgrades_under_load_cost_no_call_and_let_none_by() -> Result<()> {
    let lab = Lab::new()?;
    // Few records: each new agent reads them all before it is ready, which is not what is looked at here.
    let mut agent = lab.agent_with("[records]\nbytes = \"256KiB\"\n")?;
    let secure =
        agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 429, "mock_count": 1_000_000}))?;
    let plain = agent.rule(&json!({"url": "plain.example/load", "status_code": 429}))?;
    agent.opt_in()?;
    let mut load = Load::start(&agent, &mixed())?;
    for number in 0..upgrades() {
        agent.upgrade()?;
        let so_far = load.so_far()?;
        ensure!(so_far.with_status("429") == so_far.done, "after upgrade {number}: {so_far:?}");
    }
    load.await_calls(100)?;
    let report = load.end()?;
    eprintln!("{} calls: {:?}", report.done, report.statuses);
    report.ensure_all("429")?;
    let count = |url: &str| {
        report.statuses.iter().filter(|(name, _)| name.contains(url)).flat_map(|(_, of)| of.values()).sum::<u64>()
    };
    // What the last predecessors have fired is told behind the answers.
    wait::until("every call to be counted", bounds::SOON, || {
        let (secure, plain) = (agent.show(&secure)?, agent.show(&plain)?);
        Ok((secure["hits"] == count("https:") && plain["hits"] == count("http:")).then_some(()))
    })
    .with_context(|| format!("{:?} {:?}", agent.show(&secure), agent.show(&plain)))?;
    assert_eq!(agent.show(&secure)?["remaining"], 1_000_000 - count("https:"), "counted once each");
    Ok(())
}

#[test]
fn a_new_version_that_cannot_start_changes_nothing_and_the_old_one_says_so() -> Result<()> {
    let lab = Lab::new()?;
    // The agent's program, in a place where a package manager would replace it.
    let program = lab.files().join("moxie");
    std::fs::copy(moxie_tests::lab::agent::program()?, &program)?;
    let mut command = lab.command(&program, Place::Agent)?;
    command.env("MOXIE_STATE_DIR", lab.files().join("no-agent"));
    let mut agent = lab.agent_by(command, &lab.state_directory()?, "")?;
    opt_in(&agent)?;
    let mut load = Load::start(&agent, &mixed())?;
    let broken = [
        ("crashes at start", "#!/bin/sh\nexit 1\n", "ended with exit status 1"),
        ("speaks nonsense", "#!/bin/sh\necho nonsense >&0\nsleep 1\n", "does not understand"),
        ("is killed", "#!/bin/sh\nkill -9 $$\n", "ended by signal 9 (SIGKILL)"),
        ("is no program", "nonsense", "cannot start"),
        ("does not know how", "#!/bin/sh\necho 'error: unexpected argument' >&2\nexit 2\n", "ended with exit status 2"),
    ];
    for (what, text, expected) in broken {
        replace(&program, text.as_bytes())?;
        agent.signal(Signal::SIGHUP)?;
        wait::until(&format!("the agent to say that the new one {what}"), bounds::SOON, || {
            let status = agent.rest().get("/api/v1/status")?.json()?;
            ensure!(status["pid"] == agent.pid().as_raw(), "{what}: {status}");
            let trouble = status["upgrade_trouble"].as_str().unwrap_or_default();
            Ok(trouble.contains(expected).then_some(()))
        })
        .with_context(|| agent.logged())?;
        load.await_calls(20)?;
    }
    // A configuration that the new process refuses is no better than a program that crashes.
    replace(&program, &std::fs::read(moxie_tests::lab::agent::program()?)?)?;
    let configuration = lab.files().join("moxie.toml");
    let good = std::fs::read_to_string(&configuration)?;
    std::fs::write(&configuration, format!("{good}\n[nonsense]\n"))?;
    let failures = || agent.logged().matches("the upgrade failed").count();
    let before = failures();
    agent.signal(Signal::SIGHUP)?;
    wait::until("the agent to go on", bounds::SOON, || Ok((failures() > before).then_some(())))?;
    load.await_calls(20)?;
    std::fs::write(&configuration, good)?;
    agent.upgrade()?;
    load.await_calls(20)?;
    load.end()?.ensure_all("429")?;
    Ok(())
}

/// As a package manager does it: the new file is complete before it has the name.
fn replace(program: &Path, content: &[u8]) -> Result<()> {
    let new = program.with_extension("new");
    std::fs::write(&new, content)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
    Ok(std::fs::rename(&new, program)?)
}
