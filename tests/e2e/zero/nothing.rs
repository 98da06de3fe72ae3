//! Without a rule that could act, nothing is diverted; and a rule that comes holds for the next connect.

use anyhow::{Result, ensure};
use moxie_tests::way::{self, Difference, Way};
use moxie_tests::{Agent, Lab, bounds, wait};
use serde_json::{Value, json};

use super::{PLAIN, SECURE, counted, diverted};

/// Whoever uses the explicit proxy has opted in by that.
const NOT_HERE: &[(Way, Difference)] = &[(Way::Proxy, Difference::Who)];

fn agent(lab: &Lab) -> Result<Agent<'_>> {
    let agent = lab.agent()?;
    agent.opt_in_as("rules")?;
    Ok(agent)
}

#[test]
fn without_a_rule_not_one_connection_comes() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = agent(&lab)?;
    // Rules that cannot fire: one is off, one is over, one has no firing.
    agent.rule(&json!({"url": "plain.example/.*", "status_code": 429, "enable": false}))?;
    agent.rule(&json!({"url": "plain.example/.*", "status_code": 429, "mock_count": 0}))?;
    let mut session = agent.session()?;
    for url in [PLAIN, SECURE, "https://api.github.com/zen"] {
        for _ in 0..20 {
            let answer = session.fresh(url)?;
            assert_eq!(answer.status, Some(200), "{answer:?}");
        }
    }
    assert_eq!(counted(&agent, "diverted")?, 0);
    assert_eq!(diverted(&agent)?, "none");
    assert!(agent.list("/api/v1/connections")?.is_empty());
    let status = agent.rest().get("/api/v1/status")?.json()?;
    assert_eq!((&status["scopes"], &status["scopes_direct"]), (&json!(1), &json!(1)));
    if Way::under_test()? == Way::Ebpf {
        assert_eq!(counted(&agent, "no_rule")?, 60, "seen by the hook, and let go");
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_rule_holds_for_the_first_connect_after_it_was_answered_and_no_longer_than_it_is_there() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = agent(&lab)?;
    let mut session = agent.session()?;
    for round in 0..100 {
        let rule = agent.rule(&json!({"url": "plain.example/load", "status_code": 429}))?;
        assert_eq!(session.fresh(PLAIN)?.status, Some(429), "round {round}: a rule that was added");
        let before = counted(&agent, "diverted")?;
        let reply = agent.rest().call("DELETE", &format!("/api/v1/rules/{rule}"), &[], None)?;
        assert_eq!(reply.status, 204);
        assert_eq!(session.fresh(PLAIN)?.status, Some(200), "round {round}: a rule that was removed");
        assert_eq!(counted(&agent, "diverted")?, before, "round {round}: it did not come");
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_rule_that_is_armed_again_holds_for_the_next_connect_however_it_is_armed() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = agent(&lab)?;
    let mut session = agent.session()?;
    let rule = agent.rule(&json!({"url": "plain.example/load", "status_code": 429, "enable": false}))?;
    let path = format!("/api/v1/rules/{rule}");
    let legacy = format!("/api/api_v1/api_management/rule/{rule}");
    let full = json!({"url": "plain.example/load", "status_code": 429, "enable": true});
    let off = json!({"enable": false});
    let arms: [(&str, String, Value); 4] = [
        ("PATCH", path.clone(), json!({"enable": true})),
        ("PUT", path.clone(), full.clone()),
        ("PATCH", format!("{legacy}/status"), json!({"enable": true})),
        (
            "POST",
            "/api/v1/rules/import".into(),
            json!({"rules": [{"id": rule, "url": "plain.example/load", "status_code": 429}]}),
        ),
    ];
    for (method, target, body) in &arms {
        for _ in 0..5 {
            assert_eq!(session.fresh(PLAIN)?.status, Some(200), "before {method} {target}");
            let reply = agent.rest().call(method, target, &[], Some(body))?;
            ensure!(reply.status < 300, "{method} {target}: {reply:?}");
            assert_eq!(session.fresh(PLAIN)?.status, Some(429), "after {method} {target}");
            agent.patch(&rule, &off)?;
        }
    }
    agent.patch(&rule, &json!({"enable": true, "mock_count": 0}))?;
    assert_eq!(session.fresh(PLAIN)?.status, Some(200));
    let reply = agent.rest().call("PATCH", &format!("{legacy}/mock_count"), &[], Some(&json!({"mock_count": 1})))?;
    ensure!(reply.status < 300, "{reply:?}");
    assert_eq!(session.fresh(PLAIN)?.status, Some(429));
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn what_follows_the_last_mock_is_still_on_record() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = agent(&lab)?;
    agent.rule(&json!({"url": "api.customer.io/v1/activities", "status_code": 429, "mock_count": 2}))?;
    let mut session = agent.session()?;
    let statuses: Vec<_> = (0..4).map(|_| Ok(session.fresh(SECURE)?.status)).collect::<Result<_>>()?;
    assert_eq!(statuses, [Some(429), Some(429), Some(200), Some(200)]);
    assert_eq!(diverted(&agent)?, "named");
    agent.record("/api/v1/connections", |record| record["reason"] == "rule_spent")?;
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_rule_that_has_expired_leaves_the_scope_direct() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = agent(&lab)?;
    agent.rule(&json!({"url": "plain.example/load", "status_code": 429, "ttl": "2s"}))?;
    let mut session = agent.session()?;
    assert_eq!(session.fresh(PLAIN)?.status, Some(429));
    wait::until("the scope to be direct", bounds::SOON, || Ok((diverted(&agent)? == "none").then_some(())))?;
    let before = counted(&agent, "diverted")?;
    assert_eq!(session.fresh(PLAIN)?.status, Some(200));
    assert_eq!(counted(&agent, "diverted")?, before);
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn quic_is_not_refused_where_nothing_is_diverted() -> Result<()> {
    if way::excludes(&[(Way::Proxy, Difference::Quic)])? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let scope = json!({"cgroup": lab.cgroup(moxie_tests::lab::Place::Inside), "refuse_quic": true});
    assert_eq!(agent.rest().post("/api/v1/scopes", &scope)?.status, 201);
    let mut session = agent.session()?;
    let datagram = json!({"do": "datagram", "host": "198.51.100.10", "port": 443});
    let reply = session.tell(&datagram)?;
    ensure!(reply["sent"] == 1, "{reply}");
    agent.rule(&json!({"url": "plain.example/load", "status_code": 429}))?;
    let reply = session.tell(&datagram)?;
    ensure!(reply["error"].as_str().is_some_and(|error| error.contains("not permitted")), "{reply}");
    ensure!(agent.stop()?.success());
    Ok(())
}
