//! The command line against a live agent: what each command does, prints and exits with.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Finished, Place, Running, agent::text, process};
use moxie_tests::programs::PYTHON;
use moxie_tests::{Agent, Difference, Lab, Session, Way, bounds, wait, way};
use serde_json::{Value, json};

const URL: &str = "https://api.customer.io/v1/activities";
const SHORTHAND: &str = r#"GET api.customer.io/v1/activities -> 429 x3 header "Retry-After: 4" body {}"#;

fn exits(mut command: Command, arguments: &[&str], code: i32) -> Result<Finished> {
    command.args(arguments);
    let done = process::run(command)?;
    ensure!(done.code() == Some(code), "{arguments:?}: {done:?}");
    Ok(done)
}

/// Runs `moxie` against the agent; it has to succeed.
fn moxie(agent: &Agent<'_>, arguments: &[&str]) -> Result<String> {
    Ok(exits(agent.moxie()?, arguments, 0)?.stdout)
}

fn moxie_json(agent: &Agent<'_>, arguments: &[&str]) -> Result<Value> {
    let printed = moxie(agent, arguments)?;
    serde_json::from_str(&printed).with_context(|| format!("{arguments:?} printed {printed}"))
}

#[test]
fn rules_are_made_listed_changed_tested_and_removed() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    moxie(&agent, &["rule", "add", SHORTHAND])?;
    let rule = agent.list("/api/v1/rules")?.pop().context("no rule was made")?;
    let id = text(&rule, "id")?;
    assert_eq!((&rule["status_code"], &rule["mock_count"]), (&429.into(), &3.into()), "{rule}");
    let listed = moxie(&agent, &["rule", "ls"])?;
    ensure!(listed.contains("api.customer.io/v1/activities"), "{listed}");
    assert!(moxie_json(&agent, &["rule", "ls", "--json"])?.to_string().contains(&id));
    assert_eq!(moxie_json(&agent, &["rule", "show", &id])?["id"], id.as_str());

    let mut session = agent.session()?;
    assert_eq!(session.get(URL)?.status, Some(429));
    moxie(&agent, &["rule", "set", &id, "status_code=503"])?;
    assert_eq!(session.get(URL)?.status, Some(503));
    moxie(&agent, &["rule", "disable", &id])?;
    assert_eq!(session.get(URL)?.status, Some(200));
    moxie(&agent, &["rule", "enable", &id])?;
    assert!(moxie(&agent, &["rule", "test", &format!("GET {URL}")])?.contains(&id));
    assert_eq!(agent.show(&id)?["hits"], 2, "a test fires nothing");
    moxie(&agent, &["rule", "rm", &id])?;
    assert!(agent.list("/api/v1/rules")?.is_empty());
    Ok(())
}

#[test]
fn an_export_imports_as_the_same_rules() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    for rule in [SHORTHAND, "* api.github.com/.* -> 500", "POST track.customer.io/x -> 503 delay 250ms"] {
        moxie(&agent, &["rule", "add", rule])?;
    }
    let exported = moxie(&agent, &["rule", "export"])?;
    let urls = |rules: &Value| -> Vec<String> {
        let rules = rules["rules"].as_array().cloned().unwrap_or_default();
        rules.iter().map(|rule| format!("{} {} {}", rule["method"], rule["url"], rule["response_delay"])).collect()
    };
    let before = urls(&serde_json::from_str(&exported)?);
    assert_eq!(before.len(), 3, "{exported}");
    for rule in agent.list("/api/v1/rules")? {
        moxie(&agent, &["rule", "rm", &text(&rule, "id")?])?;
    }
    let file = lab.files().join("export.json");
    std::fs::write(&file, exported)?;
    moxie(&agent, &["rule", "import", &file.display().to_string()])?;
    assert_eq!(urls(&moxie_json(&agent, &["rule", "export"])?), before);
    Ok(())
}

#[test]
fn a_running_process_is_opted_in_and_out() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Who)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.rule(&json!({"url": "plain.example/x", "status_code": 429}))?;
    let mut session = Session::start(lab.command(PYTHON, Place::Outside)?, "session.py", &[])?;
    assert_eq!(session.fresh("http://plain.example/x")?.status, Some(200));
    moxie(&agent, &["scope", "add", "--pid", &session.pid().to_string()])?;
    assert_eq!(session.fresh("http://plain.example/x")?.status, Some(429));
    let scope = agent.list("/api/v1/scopes")?.pop().context("no scope")?;
    let id = text(&scope, "id")?;
    assert!(moxie(&agent, &["scope", "ls"])?.contains(&id));
    moxie(&agent, &["scope", "rm", &id])?;
    assert_eq!(session.fresh("http://plain.example/x")?.status, Some(200));
    session.end()
}

#[test]
fn traffic_tells_who_called_what_and_which_rule_answered() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    let rule = agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 429}))?;
    let mut session = agent.session()?;
    session.get(URL)?;
    session.get("https://api.customer.io/other")?;
    let exchange = agent.record("/api/v1/exchanges", |exchange| exchange["status"] == 429)?;
    assert_eq!((&exchange["rule_id"], &exchange["url"]), (&rule.as_str().into(), &URL.into()), "{exchange}");
    assert_eq!(exchange["caller"]["pid"], session.pid(), "{exchange}");
    assert!(exchange["caller"]["comm"].as_str().is_some_and(|comm| comm.starts_with("python3")), "{exchange}");
    let id = text(&exchange, "id")?;
    assert!(moxie(&agent, &["traffic", "ls"])?.contains("429"));
    assert_eq!(moxie_json(&agent, &["traffic", "show", &id])?["id"], id.as_str());
    wait::until("both calls in the export", bounds::SOON, || {
        Ok((moxie(&agent, &["traffic", "export"])?.lines().count() >= 2).then_some(()))
    })
}

#[test]
fn a_tail_tells_of_calls_as_they_happen() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    agent.rule(&json!({"url": "plain.example/x", "status_code": 429}))?;
    let mut command = agent.moxie()?;
    command.args(["traffic", "tail", "--json"]);
    let tail = Running::start(command)?;
    let mut session = agent.session()?;
    // The tail may connect after the first calls; it sees one of them as soon as it has.
    wait::until("the tail to tell of a call", bounds::SOON, || {
        session.get("http://plain.example/x")?;
        Ok(tail.printed().contains("plain.example/x").then_some(()))
    })
}

#[test]
fn the_authority_can_be_shown_and_put_into_an_environment() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 429}))?;
    let pem = agent.rest().get("/api/v1/ca.pem")?.body;
    assert_eq!(moxie(&agent, &["ca", "show"])?.trim(), pem.trim());
    // A shell evaluates what `ca env --shell` prints, and its curl then trusts the agent and still the lab.
    let mut shell = lab.command("/bin/sh", Place::Inside)?;
    let program = moxie_tests::lab::agent::program()?;
    let state = agent.visible("");
    shell.env("MOXIE_STATE_DIR", &state).arg("-c").arg(format!(
        "eval \"$({} ca env --shell)\"; for url in {URL} https://api.github.com/zen; \
         do curl -s -o /dev/null -w '%{{http_code}} ' $url; done",
        program.display()
    ));
    let done = process::run(shell)?;
    assert_eq!(done.stdout, "429 200 ", "{done:?}");
    Ok(())
}

#[test]
fn exit_codes_say_what_went_wrong() -> Result<()> {
    let lab = Lab::new()?;
    for arguments in [vec!["status"], vec!["rule", "ls"], vec!["off"]] {
        let done = exits(lab.moxie()?, &arguments, 3)?;
        assert!(!done.stderr.is_empty(), "{arguments:?} says nothing");
    }
    exits(lab.moxie()?, &["no-such-command"], 2)?;
    let agent = lab.agent()?;
    let unknown = exits(agent.moxie()?, &["rule", "show", "no-such-rule"], 1)?;
    assert!(unknown.stderr.contains("no-such-rule"), "{unknown:?}");
    Ok(())
}

#[test]
fn status_doctor_completions_and_man_print() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    assert_eq!(moxie_json(&agent, &["status", "--json"])?["diverting"], true);
    assert!(moxie(&agent, &["status"])?.contains(Way::under_test()?.name()));
    let told = moxie(&agent, &["doctor"])?;
    assert!(told.contains("cgroup") && told.contains("dns hints"), "{told}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(moxie(&agent, &["completions", shell])?.contains("moxie"));
    }
    assert!(moxie(&agent, &["man"])?.starts_with(".ie"));
    Ok(())
}

#[test]
fn the_status_tells_what_is_not_looked_into_and_why() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 429}))?;
    // It trusts the lab's authority and not the agent's, as a client that pins does; its connection is older than the opt-in.
    let mut session = Session::start(lab.command(PYTHON, Place::Inside)?, "session.py", &[])?;
    session.tell(&json!({"do": "tcp", "host": "plain.example", "port": 80, "name": "old"}))?;
    agent.opt_in()?;
    ensure!(session.fresh(URL)?.status.is_none(), "it was shown what it does not trust");
    ensure!(session.fresh(URL)?.is_from("api.customer.io"), "it is left alone then");
    let of = |destination: &'static str, bypass: &'static str| {
        wait::until("an entry of the coverage", bounds::SOON, || {
            let status = moxie_json(&agent, &["status", "--json"])?;
            let entries = status["coverage"].as_array().cloned().unwrap_or_default();
            let is_it = |entry: &Value| entry["destination"] == destination && entry["bypass"] == bypass;
            Ok(entries.into_iter().find(is_it))
        })
        .with_context(|| format!("{:?}", agent.list("/api/v1/coverage")))
    };
    let pinned = of("api.customer.io", "pinned")?;
    assert_eq!((&pinned["on_path"], &pinned["authority_trusted"]), (&json!(true), &json!(false)), "{pinned}");
    ensure!(pinned["until"].is_string(), "{pinned}");
    if !way::excludes(&[(Way::Proxy, Difference::Who)])? {
        let old = of("198.51.100.18:80", "opened_before")?;
        assert_eq!((&old["on_path"], old["open_for_s"].is_i64()), (&json!(false), true), "{old}");
    }
    let told = moxie(&agent, &["status"])?;
    ensure!(told.contains("api.customer.io: refuses the authority"), "{told}");
    session.end()
}
