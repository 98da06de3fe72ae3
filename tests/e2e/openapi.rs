//! The admin API answers as its OpenAPI description says, whatever it is sent.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use moxie_tests::lab::{Place, Running, agent, agent::ADMIN, process};
use moxie_tests::{Lab, bounds};
use serde_json::Value;

/// The real schemathesis: requests made from the API's own description, valid and broken, against a live agent.
#[test]
fn the_api_answers_as_its_description_says_whatever_it_is_sent() -> Result<()> {
    let Some(schemathesis) = schemathesis()? else { return Ok(()) };
    let lab = Lab::new()?;
    // In a process id namespace of its own, an invented `{"pid": 1}` names nobody outside the lab.
    let mut command = lab.command("unshare", Place::Agent)?;
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(agent::program()?);
    let running = lab.agent_by(command, &lab.state_directory()?, "")?;
    let mut command = lab.command(schemathesis, Place::Outside)?;
    command.env("HOME", lab.files()).current_dir(lab.files());
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/schemathesis.toml");
    command.args(["--config-file", settings, "run", &format!("http://{ADMIN}/api/openapi.json"), "--no-color"]);
    command.args(["--header", &format!("Authorization: Bearer {}", running.token()?)]);
    let done = Running::start(command)?.finish(2 * bounds::PROGRAM)?;
    ensure!(done.code() == Some(0), "{}\n{}", done.stdout, done.stderr);
    ensure!(done.stdout.contains("passed"), "nothing was tested: {}", done.stdout);
    Ok(())
}

/// `SCHEMATHESIS`, else the one that `cargo xtask setup` installed. Without one: a failure where nobody would see a note.
fn schemathesis() -> Result<Option<PathBuf>> {
    let given = std::env::var_os("SCHEMATHESIS").map(PathBuf::from);
    let installed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/schemathesis/bin/schemathesis");
    let path = given.unwrap_or(installed);
    if path.exists() {
        return Ok(Some(path.canonicalize()?));
    }
    let why = format!("{} is not there: cargo xtask setup installs it", path.display());
    if std::env::var_os("CI").is_some() {
        bail!(why);
    }
    println!("skipped: {why}");
    Ok(None)
}

#[test]
fn the_description_is_the_one_in_the_documentation() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let live: Value = agent.rest().get("/api/openapi.json")?.json()?;
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    assert!(live == kept, "refresh docs/openapi.json: cargo xtask openapi");
    let mut command = agent.moxie()?;
    command.arg("openapi");
    let printed: Value = serde_json::from_str(&process::run(command)?.stdout)?;
    assert!(live == printed, "`moxie openapi` prints another one");
    assert_eq!(live["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
    Ok(())
}
