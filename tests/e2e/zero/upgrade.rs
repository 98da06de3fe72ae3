//! What was seen of names goes along with an upgrade: nothing that counted before is forgotten, and nothing in between is missed.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use moxie_tests::lab::Resolver;
use moxie_tests::{Lab, way};
use serde_json::json;

use super::counted;
use super::hints::{FREE, NOT_HERE, RULED, await_known, bench, call, call_at, look_up};

#[test]
fn a_rules_name_is_diverted_after_an_upgrade_though_a_name_of_no_rule_is_there_too() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (mut agent, dns) = bench(&lab, Resolver::Remote, "")?;
    dns.at("shared.example", RULED, 300)?;
    look_up(&lab, "ruled.example")?;
    // Twice: the second agent has it from the first, and hands it on.
    for upgrade in 1..=2 {
        agent.upgrade()?;
        look_up(&lab, "shared.example")?;
        look_up(&lab, "free.example")?;
        await_known(&agent, 1)?;
        assert_eq!(call_at(&lab, "ruled.example", RULED)?, "429", "upgrade {upgrade}");
    }
    Ok(())
}

#[test]
fn what_was_seen_before_there_were_no_rules_is_remembered_after_an_upgrade() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (mut agent, dns) = bench(&lab, Resolver::Remote, "")?;
    dns.at("shared.example", RULED, 300)?;
    look_up(&lab, "ruled.example")?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    let rule = agent.list("/api/v1/rules")?.pop().context("no rule")?;
    let rule = rule["id"].as_str().context("no id")?;
    agent.patch(rule, &json!({"enable": false}))?;
    agent.upgrade()?;
    agent.patch(rule, &json!({"enable": true}))?;
    look_up(&lab, "shared.example")?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    assert_eq!(call_at(&lab, "ruled.example", RULED)?, "429");
    Ok(())
}

#[test]
fn an_address_that_was_known_is_known_after_an_upgrade() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (mut agent, _dns) = bench(&lab, Resolver::Remote, "")?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    agent.upgrade()?;
    await_known(&agent, 1)?;
    let diverted = counted(&agent, "diverted")?;
    assert_eq!(call_at(&lab, "free.example", FREE)?, "200");
    assert_eq!(counted(&agent, "diverted")?, diverted, "without another answer");
    assert_eq!(call(&lab, "http://ruled.example/a")?, "429");
    Ok(())
}

#[test]
fn a_rules_name_that_is_looked_up_during_an_upgrade_is_not_missed() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (mut agent, dns) = bench(&lab, Resolver::Remote, "")?;
    agent.rule(&json!({"url": r"shared-\d+\.example/.*", "status_code": 429}))?;
    // Nobody answers there: what is let by fails.
    let addresses: Vec<String> = (100..250).map(|last| format!("198.51.100.{last}")).collect();
    for (number, address) in addresses.iter().enumerate() {
        dns.at(&format!("shared-{number}.example"), address, 300)?;
        dns.at(&format!("free-{number}.example"), address, 300)?;
    }
    let mut seen = 0;
    thread::scope(|scope| -> Result<()> {
        let upgrade = scope.spawn(|| agent.upgrade());
        while seen < addresses.len() && !upgrade.is_finished() {
            look_up(&lab, &format!("shared-{seen}.example"))?;
            seen += 1;
        }
        upgrade.join().map_err(|_| anyhow::anyhow!("the upgrade panicked"))?
    })?;
    ensure!(seen > 5, "{seen} look-ups are too few to tell");
    for number in 0..seen {
        look_up(&lab, &format!("free-{number}.example"))?;
    }
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    for (number, address) in addresses.iter().enumerate().take(seen) {
        assert_eq!(call_at(&lab, &format!("shared-{number}.example"), address)?, "429", "{number} of {seen}");
    }
    Ok(())
}
