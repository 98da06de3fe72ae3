//! The demonstration: unmodified programs call their API, get 429 three times by a rule, and get their API again.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use moxie_tests::lab::{self, Loopback, Run, agent};
use moxie_tests::programs::Program;
use moxie_tests::{Agent, Answer, Lab};
use serde_json::{Value, json};

const HOST: &str = "api.customer.io";
const URL: &str = "https://api.customer.io/v1/activities";
const CLIENTS: [Program; 3] = [Program::Curl, Program::Requests, Program::Node];
/// Those of them, and like them, that read the proxy variables; Node does from 22.21 on.
const PROXY_CLIENTS: [Program; 3] = [Program::Curl, Program::Requests, Program::Httpx];
/// How often the rule fires.
const TIMES: u32 = 3;

/// Shows unmodified programs under a rule, in a lab with no way out.
#[derive(Debug, Parser)]
struct Options {
    /// Seconds that each mocked answer is delayed
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = delay)]
    delay: f64,
    /// By the explicit proxy, with stand-ins on loopback: needs no root, no kernel half, no namespaces
    #[arg(long)]
    without_root: bool,
}

fn delay(text: &str) -> Result<f64> {
    let seconds: f64 = text.parse()?;
    ensure!((0.0..=10.0).contains(&seconds), "give 0 to 10 seconds");
    Ok(seconds)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.without_root { show_without_root(&options) } else { show(&options) };
    lab::settled();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(options: &Options) -> Result<()> {
    let lab = Lab::new()?;
    println!("Lab     two network namespaces with no way out; {HOST} and its like are stand-ins, found by name");
    let agent = lab.agent()?;
    let status = agent.rest().get("/api/v1/status")?.json()?;
    println!("Agent   moxie {}, diverting by {}", agent::text(&status, "version")?, agent::text(&status, "way")?);
    let rule = agent.rule(&json!({
        "method": "GET", "url": "api.customer.io/v1/activities", "call_backend": false, "custom_headers": {},
        "status_code": 429, "response": "{}", "enable": false, "mock_count": TIMES, "response_delay": options.delay,
        "response_media_type": "application/json", "response_headers": {"Retry-After": "4"}
    }))?;
    println!("Rule    {rule}, over REST: GET {HOST}/v1/activities -> 429 x{TIMES} delay {} s", options.delay);
    println!("Calls   each client calls {URL}; the rule is enabled after the first call\n");
    println!("{}", row(["client", "call", "status", "took", "answered by", "rule"]));
    for client in CLIENTS {
        under_the_rule(&agent, client, &rule, options).with_context(|| client.name())?;
    }
    agent.stop()?;
    drop(lab);
    println!("\nEvery client passed, met 429 exactly {TIMES} times, and passed again. Nothing is left behind.");
    Ok(())
}

/// One call before the rule, the calls that it answers, and one after it is exhausted.
fn under_the_rule(agent: &Agent<'_>, client: Program, rule: &str, options: &Options) -> Result<()> {
    agent.patch(rule, &json!({"enable": false}))?;
    let before = Run::of(agent.moxie()?, &[], &client.calls(URL, 1))?;
    agent.patch(rule, &json!({"enable": true, "mock_count": TIMES}))?;
    let during = Run::of(agent.moxie()?, &[], &client.calls(URL, TIMES + 1))?;

    compare(client, &before, &during, Some(rule), options)
}

/// The same without root: each client in a `moxie run` of its own, by the explicit proxy, with the rule from the command line.
fn show_without_root(options: &Options) -> Result<()> {
    let lab = Loopback::new()?;
    println!("Lab     stand-ins on free ports of loopback, which the proxy finds by name; nothing leaves this host");
    println!(
        "Run     moxie run --via proxy: no agent, no root, no eBPF; clients are told of the proxy by their environment"
    );
    let rule = format!("GET {HOST}/v1/activities -> 429 x{TIMES} delay {}s header \"Retry-After: 4\"", options.delay);
    println!("Rule    {rule}");
    println!("Calls   each client calls {URL}; the rule is there from the second run on\n");
    println!("{}", row(["client", "call", "status", "took", "answered by", "rule"]));
    for client in PROXY_CLIENTS {
        let before = Run::of(lab.moxie()?, &[], &client.calls(URL, 1))?;
        let during = Run::of(lab.moxie()?, &["--rule", &rule], &client.calls(URL, TIMES + 1))?;
        compare(client, &before, &during, None, options).with_context(|| client.name())?;
    }
    println!(
        "\nEvery client passed, met 429 exactly {TIMES} times, and passed again. As root the same goes without a proxy, by eBPF."
    );
    Ok(())
}

/// Tells what a client met without and with the rule, and holds it against what the rule says; `None`: its id is the run's own.
fn compare(client: Program, before: &Run, during: &Run, rule: Option<&str>, options: &Options) -> Result<()> {
    let answers: Vec<Answer> = before.answers()?.into_iter().chain(during.answers()?).collect();
    // No rule could answer the first call, so nobody looked into it.
    let fired = during.exchanges().into_iter().map(|exchange| exchange["rule_id"].clone());
    let rules: Vec<Value> = std::iter::once(Value::Null).chain(fired).collect();
    ensure!(answers.len() == rules.len(), "{} answers, {} records: {during:?}", answers.len(), rules.len());
    for (number, (answer, fired)) in answers.iter().zip(&rules).enumerate() {
        println!("{}", line(client, number + 1, answer, fired));
    }
    for (number, (answer, fired)) in answers.iter().zip(&rules).enumerate() {
        let mocked = (1..=TIMES as usize).contains(&number);
        let rule = rule.or(fired.as_str()).unwrap_or_default();
        check(answer, fired, mocked.then_some((rule, options.delay)))
            .with_context(|| format!("call {}", number + 1))?;
    }
    Ok(())
}

/// Holds an answer against what the rule (its id and its delay) says, or against the stand-in's own.
fn check(answer: &Answer, fired: &Value, mocked: Option<(&str, f64)>) -> Result<()> {
    let Some((rule, delay)) = mocked else {
        ensure!(answer.is_from(HOST) && fired.is_null(), "not the API's own answer: {answer:?}");
        return Ok(());
    };
    ensure!(answer.status == Some(429) && fired == rule, "not the rule's answer: {answer:?}, {fired}");
    if answer.seconds < delay {
        bail!("{:?} is less than the delay", Duration::from_secs_f64(answer.seconds));
    }
    Ok(())
}

fn line(client: Program, number: usize, answer: &Answer, fired: &Value) -> String {
    let status = answer.status.map_or_else(|| "failed".into(), |status| status.to_string());
    let took = format!("{:.2} s", answer.seconds);
    let by = if fired.is_null() { HOST } else { "Moxie" };
    row([client.name(), &number.to_string(), &status, &took, by, fired.as_str().unwrap_or("-")])
}

fn row(cells: [&str; 6]) -> String {
    let [client, call, status, took, by, rule] = cells;
    format!("{client:<17}{call:<6}{status:<8}{took:<9}{by:<17}{rule}")
}
