//! Connections to addresses that belong only to names that no rule could name do not come; a rule's name is never missed.

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Dns, Entry, Place, Resolver, process};
use moxie_tests::way::{self, Difference, Way};
use moxie_tests::{Agent, Lab, bounds, wait};
use serde_json::{Value, json};

use super::{counted, diverted};

/// Other ways have no hints: what they divert does not depend on names.
pub(super) const NOT_HERE: &[(Way, Difference)] = &[(Way::Netfilter, Difference::Names), (Way::Proxy, Difference::Who)];

/// Stand-ins that answer in the clear.
pub(super) const FREE: &str = "198.51.100.12";
pub(super) const RULED: &str = "198.51.100.10";

/// What a new process of the service is answered.
pub(super) fn call(lab: &Lab, url: &str) -> Result<String> {
    let mut curl = lab.command("curl", Place::Inside)?;
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", url]);
    Ok(process::run(curl)?.stdout)
}

/// What a client is answered that has looked a name up before: it goes to the address without asking.
pub(super) fn call_at(lab: &Lab, name: &str, address: &str) -> Result<String> {
    let mut curl = lab.command("curl", Place::Inside)?;
    let (resolve, url) = (format!("{name}:80:{address}"), format!("http://{name}/a"));
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", "--resolve", &resolve, &url]);
    Ok(process::run(curl)?.stdout)
}

/// Has a process of the service look a name up, and no more.
pub(super) fn look_up(lab: &Lab, name: &str) -> Result<String> {
    let mut getent = lab.command("getent", Place::Inside)?;
    getent.args(["ahostsv4", name]);
    Ok(process::run(getent)?.stdout)
}

fn first_match(agent: &Agent<'_>) -> Result<Value> {
    let scope = agent.list("/api/v1/scopes")?.pop().context("no scope")?;
    Ok(scope["matches"][0].clone())
}

pub(super) fn await_known(agent: &Agent<'_>, count: u64) -> Result<()> {
    let wanted = json!(count);
    wait::until(&format!("{count} known addresses"), bounds::SOON, || {
        Ok((first_match(agent)?["known_addresses"] == wanted).then_some(()))
    })
    .with_context(|| format!("{:?}", first_match(agent)))
}

/// A scope in mode `rules`, a rule for `ruled.example`, and a name server.
pub(super) fn bench<'lab>(lab: &'lab Lab, resolver: Resolver, settings: &str) -> Result<(Agent<'lab>, Dns)> {
    let dns = lab.dns(resolver)?;
    dns.at("free.example", FREE, 300)?;
    dns.at("ruled.example", RULED, 300)?;
    let agent = lab.agent_with(settings)?;
    agent.opt_in_as("rules")?;
    agent.rule(&json!({"url": "ruled.example/.*", "status_code": 429}))?;
    Ok((agent, dns))
}

#[test]
fn a_name_of_no_rule_goes_direct_and_a_rules_name_never() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    for resolver in [Resolver::Remote, Resolver::Loopback] {
        let lab = Lab::new()?;
        let (agent, _dns) = bench(&lab, resolver, "")?;
        // The first connect may come before what is known is said: that costs a diversion and no more.
        assert_eq!(call(&lab, "http://free.example/a")?, "200");
        await_known(&agent, 1)?;
        let (diverted, known) = (counted(&agent, "diverted")?, counted(&agent, "known_name")?);
        for _ in 0..20 {
            assert_eq!(call(&lab, "http://free.example/a")?, "200");
        }
        assert_eq!(counted(&agent, "diverted")?, diverted, "{resolver:?}: none came");
        assert_eq!(counted(&agent, "known_name")?, known + 20, "{resolver:?}");
        for _ in 0..20 {
            assert_eq!(call(&lab, "http://ruled.example/a")?, "429", "{resolver:?}");
        }
        assert_eq!(counted(&agent, "answer_lost")?, 0);
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

#[test]
fn an_address_that_nobody_has_looked_up_is_diverted() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, _dns) = bench(&lab, Resolver::Remote, "")?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    let diverted = counted(&agent, "diverted")?;
    assert_eq!(call(&lab, "http://198.51.100.13/a")?, "200", "a literal address");
    assert_eq!(call(&lab, "http://plain.example/load")?, "200", "by the hosts file");
    assert_eq!(counted(&agent, "diverted")?, diverted + 2);
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_rules_name_at_an_address_that_was_learned_elsewhere_may_go_direct() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, _dns) = bench(&lab, Resolver::Remote, "")?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    assert_eq!(call_at(&lab, "ruled.example", FREE)?, "200", "nothing said that it is there");
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_rules_name_at_a_known_address_is_diverted_from_its_first_connect() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, dns) = bench(&lab, Resolver::Loopback, "")?;
    agent.rule(&json!({"url": r"shared-\d+\.example/.*", "status_code": 429}))?;
    for round in 0..40_u64 {
        // Nobody answers there: what is let by fails.
        let address = format!("198.51.100.{}", 100 + round);
        let (free, shared) = (format!("free-{round}.example"), format!("shared-{round}.example"));
        dns.at(&free, &address, 300)?;
        dns.at(&shared, &address, 300)?;
        look_up(&lab, &free)?;
        await_known(&agent, 1)?;
        assert_eq!(call(&lab, &format!("http://{shared}/a"))?, "429", "round {round}");
        await_known(&agent, 0)?;
        look_up(&lab, &free)?;
        await_known(&agent, 0)?;
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_rule_of_an_address_holds_where_a_name_of_no_rule_is_too() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, _dns) = bench(&lab, Resolver::Remote, "")?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    agent.rule(&json!({"url": r"198\.51\.100\.12/.*", "status_code": 429}))?;
    assert_eq!(call(&lab, &format!("http://{FREE}/a"))?, "429", "judged anew");
    look_up(&lab, "free.example")?;
    await_known(&agent, 0)?;
    assert_eq!(call(&lab, &format!("http://{FREE}/a"))?, "429", "learned anew");
    assert_eq!(call(&lab, "http://free.example/a")?, "200");
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_new_rule_holds_for_names_that_were_known() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, _dns) = bench(&lab, Resolver::Remote, "")?;
    look_up(&lab, "free.example")?;
    for round in 0..20 {
        // Judged anew from what was seen, without another look-up.
        await_known(&agent, 1)?;
        let rule = agent.rule(&json!({"url": "free.example/.*", "status_code": 503}))?;
        assert_eq!(call_at(&lab, "free.example", FREE)?, "503", "round {round}");
        let reply = agent.rest().call("DELETE", &format!("/api/v1/rules/{rule}"), &[], None)?;
        assert_eq!(reply.status, 204);
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn where_a_rules_name_was_is_remembered_while_there_are_no_rules() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, dns) = bench(&lab, Resolver::Remote, "")?;
    dns.at("shared.example", RULED, 300)?;
    look_up(&lab, "ruled.example")?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    let rule = agent.list("/api/v1/rules")?.pop().context("no rule")?["id"].as_str().context("no id")?.to_owned();
    assert_eq!(agent.rest().call("DELETE", &format!("/api/v1/rules/{rule}"), &[], None)?.status, 204);
    wait::until("a scope left alone", bounds::SOON, || Ok((diverted(&agent)? == "none").then_some(())))?;
    agent.rule(&json!({"url": "ruled.example/.*", "status_code": 429}))?;
    look_up(&lab, "shared.example")?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    assert_eq!(call_at(&lab, "ruled.example", RULED)?, "429");
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn what_is_known_ends_with_its_answer() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, dns) = bench(&lab, Resolver::Remote, "")?;
    dns.at("free.example", FREE, 2)?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    await_known(&agent, 0)?;
    let diverted = counted(&agent, "diverted")?;
    assert_eq!(call(&lab, &format!("http://{FREE}/a"))?, "200");
    assert_eq!(counted(&agent, "diverted")?, diverted + 1);
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn aliases_and_short_names_of_rules_are_theirs() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, dns) = bench(&lab, Resolver::Remote, "")?;
    agent.rule(&json!({"url": "billing/.*", "status_code": 429}))?;
    agent.rule(&json!({"url": "odd.example:8080/.*", "status_code": 429}))?;
    dns.set("alias.example", Entry { alias_of: Some("ruled.example".into()), ttl: 60, ..Entry::default() });
    // As a resolver makes of `billing` with a search domain.
    dns.at("billing.corp.example", "198.51.100.13", 60)?;
    dns.at("odd.example", "198.51.100.11", 60)?;
    for name in ["alias.example", "billing.corp.example", "odd.example", "free.example"] {
        ensure!(look_up(&lab, name)?.contains("198.51.100."), "{name} does not resolve");
    }
    await_known(&agent, 1)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn an_answer_about_a_rule_that_does_not_say_all_makes_everything_unknown() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, dns) = bench(&lab, Resolver::Remote, "")?;
    look_up(&lab, "free.example")?;
    await_known(&agent, 1)?;
    dns.set("ruled.example", Entry { is_cut: true, ..Entry::default() });
    look_up(&lab, "ruled.example")?;
    await_known(&agent, 0)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn only_rules_in_mode_rules_leave_anything_direct() -> Result<()> {
    if way::excludes(NOT_HERE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (agent, _dns) = bench(&lab, Resolver::Remote, "[divert]\ndns_hints = false\n")?;
    assert_eq!(call(&lab, "http://free.example/a")?, "200");
    let shown = first_match(&agent)?;
    ensure!(shown["hints_obstacle"].as_str().is_some_and(|why| why.contains("dns_hints")), "{shown}");
    assert_eq!((counted(&agent, "diverted")?, counted(&agent, "known_name")?), (1, 0));
    ensure!(agent.stop()?.success());

    let lab = Lab::new()?;
    let dns = lab.dns(Resolver::Remote)?;
    dns.at("free.example", FREE, 300)?;
    let agent = lab.agent()?;
    agent.rule(&json!({"url": "ruled.example/.*", "status_code": 429}))?;
    agent.opt_in_as("observe")?;
    for _ in 0..5 {
        assert_eq!(call(&lab, "http://free.example/a")?, "200");
    }
    assert_eq!((counted(&agent, "diverted")?, counted(&agent, "known_name")?), (5, 0));
    ensure!(agent.stop()?.success());
    Ok(())
}
