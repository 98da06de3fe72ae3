//! Rules in force: exact counts, changes that take hold at once, and rules that change nothing.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use moxie_tests::programs::PYTHON;
use moxie_tests::{Agent, Lab, Session};
use serde_json::{Value, json};

/// Where the counts are taken; a rule can name it and the lab's stand-in answers 200.
const URL: &str = "https://api.customer.io/v1/activities";

fn rule(fields: Value) -> Value {
    let mut rule = json!({"url": "api.customer.io/v1/activities", "status_code": 429, "response": {}});
    if let (Some(rule), Some(fields)) = (rule.as_object_mut(), fields.as_object()) {
        rule.extend(fields.clone());
    }
    rule
}

/// Rounds of the concurrency tests; each starts all its clients anew.
const ROUNDS: usize = 8;

#[test]
fn sixty_four_concurrent_clients_fire_a_rule_of_100_exactly_100_times() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    let id = agent.rule(&rule(json!({"mock_count": 100})))?;
    let plain = agent.rule(&json!({"url": "plain.example/x", "status_code": 429, "mock_count": 100}))?;
    for (id, url) in [(&id, URL), (&plain, "http://plain.example/x")] {
        let mut clients = Session::start(agent.client(PYTHON)?, "volley.py", &["64", "4", url])?;
        for round in 0..ROUNDS {
            agent.patch(id, &json!({"mock_count": 100}))?;
            let counts: BTreeMap<String, u32> = serde_json::from_value(clients.tell(&json!({"do": "round"}))?)?;
            let expected = BTreeMap::from([("429".to_owned(), 100), ("200".to_owned(), 156)]);
            ensure!(counts == expected, "round {round} of {url}: {counts:?}");
            assert_eq!(agent.show(id)?["remaining"], 0);
        }
    }
    assert_eq!(lab.origins().seen("api.customer.io").len(), ROUNDS * 156, "the origin saw the others and no more");
    Ok(())
}

#[test]
fn a_restart_keeps_what_is_remaining() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    let agent = lab.agent_in(&state)?;
    agent.opt_in()?;
    let id = agent.rule(&rule(json!({"mock_count": 5})))?;
    let mut session = agent.session()?;
    for _ in 0..2 {
        assert_eq!(session.get(URL)?.status, Some(429));
    }
    agent.stop()?;

    let agent = lab.agent_in(&state)?;
    agent.opt_in()?;
    assert_eq!(agent.show(&id)?["remaining"], 3);
    let mut session = agent.session()?;
    let statuses = statuses(&mut session, 4)?;
    assert_eq!(statuses, [429, 429, 429, 200]);
    assert_eq!(agent.show(&id)?["status"], "exhausted");
    Ok(())
}

#[test]
fn a_disabled_rule_changes_nothing() -> Result<()> {
    changes_nothing(&rule(json!({"enable": false})), "disabled")
}

#[test]
fn an_exhausted_rule_changes_nothing() -> Result<()> {
    changes_nothing(&rule(json!({"mock_count": 0})), "exhausted")
}

#[test]
fn an_expired_rule_changes_nothing() -> Result<()> {
    changes_nothing(&rule(json!({"expires_at": "2001-09-09T01:46:40Z"})), "expired")
}

fn changes_nothing(rule: &Value, status: &str) -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    let id = agent.rule(rule)?;
    assert_eq!(agent.show(&id)?["status"], status);
    let answer = agent.session()?.get(URL)?;
    ensure!(answer.is_from("api.customer.io"), "{answer:?}");
    assert_eq!(answer.certificate, Some(lab.origins().fingerprint("api.customer.io")), "not even looked into");
    assert_eq!(agent.show(&id)?["hits"], 0);
    Ok(())
}

#[test]
fn a_rule_with_a_lifetime_stops_firing_when_it_is_over() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    let id = agent.rule(&rule(json!({"ttl": "2s"})))?;
    let mut session = agent.session()?;
    assert_eq!(session.get(URL)?.status, Some(429));
    moxie_tests::wait::until("the rule to expire", moxie_tests::bounds::SOON, || {
        Ok((agent.show(&id)?["status"] == "expired").then_some(()))
    })?;
    assert_eq!(session.get(URL)?.status, Some(200));
    Ok(())
}

#[test]
fn an_exhausted_rule_gives_way_to_the_next() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    agent.rule(&rule(json!({"mock_count": 2, "priority": 1})))?;
    agent.rule(&rule(json!({"mock_count": 1, "status_code": 500})))?;
    assert_eq!(statuses(&mut agent.session()?, 4)?, [429, 429, 500, 200]);
    Ok(())
}

#[test]
fn patch_takes_effect_for_the_next_request_on_a_kept_alive_connection() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    let id = agent.rule(&rule(json!({})))?;
    let mut session = agent.session()?;
    let first = session.get(URL)?;
    for (change, expected) in [
        (json!({"status_code": 503}), 503),
        (json!({"enable": false}), 200),
        (json!({"enable": true, "status_code": 418, "mock_count": 1}), 418),
    ] {
        agent.patch(&id, &change)?;
        let answer = session.get(URL)?;
        ensure!(answer.status == Some(expected), "after {change}: {answer:?}");
        ensure!(answer.certificate == first.certificate, "the connection was not kept");
    }
    assert_eq!(session.get(URL)?.status, Some(200), "the new count is one");
    let connections = agent.list("/api/v1/exchanges")?;
    let ids: Vec<_> = connections.iter().map(|exchange| &exchange["connection_id"]).collect();
    assert_eq!(ids.len(), 5);
    assert!(ids.iter().all(|id| *id == ids[0]), "five exchanges on one connection: {ids:?}");
    Ok(())
}

#[test]
fn ten_thousand_rules_load_and_decide() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    let mut rules: Vec<Value> =
        (0..9_999).map(|number| json!({"url": format!("api{number}.example/v1/.*"), "status_code": 503})).collect();
    rules.push(rule(json!({})));
    let reply = agent.rest().post("/api/v1/rules/import", &json!({"rules": rules}))?;
    ensure!(
        reply.status == 200 || reply.status == 201,
        "{} {}",
        reply.status,
        &reply.body[..reply.body.len().min(500)]
    );
    let mut session = agent.session()?;
    assert_eq!(session.get(URL)?.status, Some(429));
    let other = session.get("https://api.github.com/zen")?;
    assert_eq!(other.certificate, Some(lab.origins().fingerprint("api.github.com")));
    let exported = agent.rest().get("/api/v1/rules/export")?.json()?;
    assert_eq!(exported["rules"].as_array().map(Vec::len), Some(10_000));
    Ok(())
}

#[test]
fn an_import_is_all_or_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let rules = json!({"rules": [rule(json!({})), rule(json!({"status_code": 99})), rule(json!({"url": "("}))]});
    let reply = agent.rest().post("/api/v1/rules/import", &rules)?;
    assert_eq!(reply.status, 422, "{reply:?}");
    for place in ["1", "2"] {
        ensure!(reply.body.contains(place), "rule {place} is not named: {reply:?}");
    }
    assert!(agent.list("/api/v1/rules")?.is_empty());
    Ok(())
}

#[test]
fn the_three_rules_of_the_first_moxie_work() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    let legacy = "/api/api_v1/api_management/rule";
    for rule in [
        json!({"method": "POST", "url": "track.customer.io/api/v1/customers/.*/unsuppress", "call_backend": false,
            "custom_headers": {}, "status_code": 429, "response": "{}", "enable": true, "mock_count": 5,
            "response_delay": 0, "response_media_type": "application/json"}),
        json!({"method": "GET", "url": "api.cloudflare.com/client/v4/zones/.*/ssl/universal/settings",
            "call_backend": false, "custom_headers": {}, "status_code": 200, "response": "{\"success\": true}",
            "enable": true, "mock_count": -1, "response_delay": 1, "response_media_type": "application/json"}),
        json!({"method": "GET", "url": "test_url.com/xml_reponse", "call_backend": false, "custom_headers": {},
            "status_code": 200, "response": "<xml/>", "enable": true, "mock_count": -1, "response_delay": 0,
            "response_media_type": "application/xml"}),
    ] {
        let reply = agent.rest().post(legacy, &rule)?;
        ensure!(reply.status == 201, "{reply:?}");
    }
    let mut session = agent.session()?;
    let unsuppress = "https://track.customer.io/api/v1/customers/42/unsuppress";
    let calls: Vec<_> = (0..6)
        .map(|_| anyhow::Ok(session.request(&json!({"do": "request", "method": "POST", "url": unsuppress}))?.status))
        .collect::<Result<_>>()?;
    assert_eq!(calls, [Some(429), Some(429), Some(429), Some(429), Some(429), Some(200)]);
    let settings = session.get("https://api.cloudflare.com/client/v4/zones/z/ssl/universal/settings")?;
    assert_eq!(settings.body, r#"{"success": true}"#);
    assert!(settings.seconds >= 1.0, "{settings:?}");
    let order = json!({"do": "request", "url": "https://test_url.com/xml_reponse"});
    let xml = session.tell(&order)?;
    assert_eq!((&xml["body"], &xml["status"]), (&"<xml/>".into(), &200.into()), "{xml}");
    let kind = xml["headers"].as_object().and_then(|headers| {
        headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type")).map(|(_, value)| value)
    });
    assert_eq!(kind, Some(&"application/xml".into()), "{xml}");
    Ok(())
}

#[test]
fn bad_rules_are_refused_with_every_problem_at_once_and_nothing_is_stored() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    for (bad, fields) in [
        (rule(json!({"url": "api.customer.io/("})), vec!["url"]),
        (rule(json!({"colour": "red"})), vec!["colour"]),
        (rule(json!({"status_code": 99})), vec!["status_code"]),
        (rule(json!({"mock_count": -2})), vec!["mock_count"]),
        (rule(json!({"match": "search"})), vec!["hosts"]),
        (rule(json!({"percentage": 101})), vec!["percentage"]),
        (rule(json!({"response_delay": "soon"})), vec!["response_delay"]),
        (
            rule(json!({"url": "(", "colour": 1, "status_code": 600, "mock_count": -7, "response_delay": -1})),
            vec!["url", "colour", "status_code", "mock_count", "response_delay"],
        ),
        (json!({"status_code": 429}), vec!["url"]),
    ] {
        refused(&agent, &bad, &fields).with_context(|| bad.to_string())?;
    }
    assert!(agent.list("/api/v1/rules")?.is_empty());
    Ok(())
}

fn refused(agent: &Agent<'_>, bad: &Value, fields: &[&str]) -> Result<()> {
    let reply = agent.rest().post("/api/v1/rules", bad)?;
    ensure!(reply.status == 422, "{reply:?}");
    ensure!(reply.header("content-type") == Some("application/problem+json"), "{reply:?}");
    for field in fields {
        ensure!(reply.json()?["errors"].to_string().contains(field), "{field} is not named: {reply:?}");
    }
    Ok(())
}

#[test]
fn an_unescaped_question_mark_is_warned_of() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let reply = agent.rest().post("/api/v1/rules", &json!({"url": "api.github.com/search?q=x", "status_code": 429}))?;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert!(reply.json()?["warnings"].to_string().contains(r"\\?"), "{reply:?}");
    Ok(())
}

#[test]
fn a_test_of_a_request_explains_and_fires_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let id = agent.rule(&rule(json!({"mock_count": 1})))?;
    let other = agent.rule(&json!({"method": "POST", "url": "api.customer.io/v1/activities", "status_code": 500}))?;
    let reply = agent.rest().post("/api/v1/rules/test", &json!({"method": "GET", "url": URL}))?;
    ensure!(reply.status == 200 && reply.body.contains(&id) && reply.body.contains(&other), "{reply:?}");
    ensure!(reply.body.contains("method"), "why the other does not match: {reply:?}");
    assert_eq!(agent.show(&id)?["remaining"], 1);
    Ok(())
}

fn statuses(session: &mut Session, calls: usize) -> Result<Vec<u16>> {
    (0..calls).map(|_| session.get(URL)?.status.context("a call failed")).collect()
}
