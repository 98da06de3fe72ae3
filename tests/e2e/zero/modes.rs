//! Modes: `observe` has everything come, `inspect` also ends TLS for the hosts on its list.

use anyhow::{Result, ensure};
use moxie_tests::lab::Place;
use moxie_tests::way::{self, Difference, Way};
use moxie_tests::{Agent, Lab};
use serde_json::{Value, json};

use super::{SECURE, diverted};

fn inspecting<'lab>(lab: &'lab Lab, hosts: &[&str]) -> Result<Agent<'lab>> {
    let agent = lab.agent()?;
    let scope = json!({"cgroup": lab.cgroup(Place::Inside), "mode": "inspect", "inspect": hosts});
    let reply = agent.rest().post("/api/v1/scopes", &scope)?;
    ensure!(reply.status == 201, "{reply:?}");
    assert_eq!(reply.json()?["inspect"], json!(hosts));
    Ok(agent)
}

#[test]
fn observe_records_everything_and_ends_no_tls() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in_as("observe")?;
    if Way::under_test()? != Way::Proxy {
        assert_eq!(diverted(&agent)?, "all");
    }
    let answer = agent.session()?.fresh(SECURE)?;
    assert_eq!(answer.certificate, Some(lab.origins().fingerprint("api.customer.io")));
    let record = agent.record("/api/v1/connections", |record| record["server_name"] == "api.customer.io")?;
    assert_eq!((&record["verdict"], &record["reason"]), (&json!("passthrough"), &json!("no_rule")));
    assert!(agent.list("/api/v1/exchanges")?.is_empty());
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn inspect_ends_tls_for_its_hosts_and_no_others() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Who)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = inspecting(&lab, &[r"api\.(github|cloudflare)\.com", r"plain\.example"])?;
    let mut session = agent.session()?;
    let seen = session.fresh("https://api.github.com/zen")?;
    ensure!(seen.is_from("api.github.com"), "{seen:?}");
    assert_ne!(seen.certificate, Some(lab.origins().fingerprint("api.github.com")));
    let exchange = agent.record("/api/v1/exchanges", |record| record["url"] == "https://api.github.com/zen")?;
    assert_eq!((&exchange["outcome"], &exchange["rule_id"]), (&json!("forwarded"), &Value::Null));
    let connection = agent.record("/api/v1/connections", |record| record["server_name"] == "api.github.com")?;
    assert_eq!((&connection["verdict"], &connection["reason"]), (&json!("intercept"), &json!("inspected")));

    session.fresh("http://plain.example/load")?;
    agent.record("/api/v1/exchanges", |record| record["url"] == "http://plain.example/load")?;

    let untouched = session.fresh(SECURE)?;
    assert_eq!(untouched.certificate, Some(lab.origins().fingerprint("api.customer.io")));
    let connection = agent.record("/api/v1/connections", |record| record["server_name"] == "api.customer.io")?;
    assert_eq!((&connection["verdict"], &connection["reason"]), (&json!("passthrough"), &json!("no_rule")));

    agent.rule(&json!({"url": "api.github.com/zen", "status_code": 429}))?;
    agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 503}))?;
    assert_eq!(session.fresh("https://api.github.com/zen")?.status, Some(429), "rules hold all the same");
    assert_eq!(session.fresh(SECURE)?.status, Some(503));
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn inspect_outlives_a_restart_and_an_upgrade() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Who)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let mut agent = inspecting(&lab, &[r"api\.github\.com"])?;
    let is_inspected = |agent: &Agent<'_>, path: &str| -> Result<()> {
        let url = format!("https://api.github.com/{path}");
        ensure!(agent.session()?.fresh(&url)?.is_from("api.github.com"));
        agent.record("/api/v1/exchanges", |record| record["url"] == json!(url)).map(drop)
    };
    is_inspected(&agent, "before")?;
    if Way::under_test()? == Way::Ebpf {
        agent.upgrade()?;
        is_inspected(&agent, "upgraded")?;
    }
    ensure!(agent.list("/api/v1/scopes")?[0]["inspect"] == json!([r"api\.github\.com"]));
    drop(agent);
    let agent = lab.agent()?;
    is_inspected(&agent, "restarted")?;
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn the_list_goes_with_the_mode_and_says_so() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let cgroup = lab.cgroup(Place::Inside);
    for (scope, says) in [
        (json!({"cgroup": cgroup, "mode": "inspect"}), "needs the hosts"),
        (json!({"cgroup": cgroup, "mode": "inspect", "inspect": []}), "needs the hosts"),
        (json!({"cgroup": cgroup, "inspect": ["a"]}), "goes with mode"),
        (json!({"cgroup": cgroup, "mode": "inspect", "inspect": ["a("]}), "inspect[0]"),
        (json!({"cgroup": cgroup, "mode": "inspect", "inspect": "a"}), "list of host regexes"),
        (json!({"cgroup": cgroup, "mode": "watch"}), r#"\"inspect\""#),
    ] {
        let reply = agent.rest().post("/api/v1/scopes", &scope)?;
        ensure!(reply.status == 422 && reply.body.contains(says), "{scope}: {reply:?}");
    }
    let mut moxie = agent.moxie()?;
    moxie
        .args(["scope", "add", "--mode", "inspect", "--host", r"api\.github\.com", "--host", "b", "--cgroup"])
        .arg(&cgroup);
    let done = moxie_tests::lab::process::run(moxie)?;
    ensure!(done.code() == Some(0), "{done:?}");
    assert_eq!(agent.list("/api/v1/scopes")?[0]["inspect"], json!([r"api\.github\.com", "b"]));
    ensure!(agent.stop()?.success());
    Ok(())
}
