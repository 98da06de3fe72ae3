//! `moxie status`: what the agent is doing, and what it changed.

use clap::Args;
use serde_json::{Value, json};

use super::Context;
use super::client::Client;
use super::exit::{Exit, Failure};
use super::output::{self, Form, field, shown};

/// Gaps in coverage that are told in words.
const GAPS: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let client = Client::locate(context)?;
    let mut status = client.get("/api/v1/status").await?;
    let rules = client.items("/api/v1/rules").await?;
    let changed = changed_calls(&rules);
    let coverage = client.items("/api/v1/coverage").await?;
    if arguments.form.json {
        if let Some(fields) = status.as_object_mut() {
            fields.insert("calls_changed".to_owned(), json!(changed));
            fields.insert("coverage".to_owned(), json!(coverage));
        }
        output::print_json(&status)?;
    } else {
        output::print(&tell(&status, changed))?;
        if let Some(gaps) = gaps(&coverage) {
            output::print(&gaps)?;
        }
    }
    Ok(Exit::Done)
}

/// How many calls the rules that exist have changed.
fn changed_calls(rules: &[Value]) -> u64 {
    rules.iter().filter_map(|rule| rule.get("hits")?.as_u64()).sum()
}

fn tell(status: &Value, changed: u64) -> String {
    let of = |pointer| field(status, pointer);
    let yes = |pointer: &str| status.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
    let mut lines = Vec::new();
    let switch = if yes("/diverting") { "on" } else { "OFF: every new connection goes direct; `moxie on` undoes this" };
    lines.push(format!(
        "agent {} in {}, process {}, since {}",
        of("/version"),
        of("/environment"),
        of("/pid"),
        of("/started_at")
    ));
    lines.push(format!("diverting by {}: {switch}", of("/way")));
    lines.push(format!(
        "{} armed, {} changed",
        count(&status["rules"]["armed"], "rule"),
        count(&json!(changed), "call")
    ));
    lines.push(format!(
        "{} opted in, {} open",
        count(&status["scopes"], "scope"),
        count(&status["active_connections"], "connection")
    ));
    if let Some(direct) = status.get("scopes_direct").and_then(Value::as_u64).filter(|direct| *direct > 0) {
        lines.push(format!(
            "{direct} of the scopes direct: no rule could act on what they do; mode observe would record it"
        ));
    }
    if !yes("/ready") {
        let reasons = status.get("reasons").and_then(Value::as_array).into_iter().flatten();
        lines.extend(reasons.filter_map(Value::as_str).map(|reason| format!("not ready: {reason}")));
    }
    if let Some(trouble) = status.get("upgrade_trouble").and_then(Value::as_str) {
        lines.push(format!("the last upgrade failed, this agent goes on: {trouble}"));
    }
    if let Some(trouble) = status.get("store_trouble").and_then(Value::as_str) {
        lines.push(format!("store: {trouble}"));
    }
    let warnings = status.get("warnings").and_then(Value::as_array).into_iter().flatten();
    lines.extend(warnings.filter_map(Value::as_str).map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}

/// What is not seen, and why; `None` where everything is.
fn gaps(coverage: &[Value]) -> Option<String> {
    let lines: Vec<String> = coverage.iter().filter_map(gap).collect();
    let more = lines.len().saturating_sub(GAPS);
    let mut shown: Vec<String> = lines.into_iter().take(GAPS).collect();
    if more > 0 {
        shown.push(format!("  and {more} more: `moxie status --json` lists them"));
    }
    (!shown.is_empty()).then(|| format!("not looked into:\n{}", shown.join("\n")))
}

fn gap(entry: &Value) -> Option<String> {
    let why = match entry.get("bypass")?.as_str()? {
        // As it should be: that is what a rule is for.
        "not_nameable" => return None,
        "pinned" => match entry.get("until").and_then(Value::as_str) {
            Some(until) => format!("refuses the authority (pinned?), left alone until {}", shown(until)),
            None => "refused the authority (pinned?), asked again at its next connection".to_owned(),
        },
        "destination_refuses" => "the destination's certificate does not verify, or it wants the caller's".to_owned(),
        "udp" => "UDP was refused, so that it falls back to TCP".to_owned(),
        "opened_before" => {
            format!("opened before it could be diverted, at least {} s ago", field(entry, "/open_for_s"))
        }
        "not_http" => "no HTTP".to_owned(),
        _ => "failed before it could be looked into".to_owned(),
    };
    let text = |name| entry.get(name).and_then(Value::as_str);
    let who = text("container").or(text("unit")).or(text("comm")).unwrap_or("somebody");
    Some(format!("  {} -> {}: {why}", shown(who), shown(&field(entry, "/destination"))))
}

/// `1 rule`, `2 rules`.
fn count(number: &Value, noun: &str) -> String {
    let number = number.as_u64().unwrap_or(0);
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_with_its_reason_and_many_are_summed_up() {
        let pinned = json!({"bypass": "pinned", "comm": "app", "destination": "a.example", "until": "T"});
        let told = gaps(std::slice::from_ref(&pinned)).unwrap();
        assert_eq!(told, "not looked into:\n  app -> a.example: refuses the authority (pinned?), left alone until T");
        let no_longer = gaps(&[json!({"bypass": "pinned", "comm": "app", "destination": "a.example", "until": null})]);
        assert!(no_longer.is_some_and(|told| told.ends_with("asked again at its next connection")));
        assert_eq!(gaps(&[json!({"bypass": null}), json!({"bypass": "not_nameable"})]), None);
        assert!(gaps(&vec![pinned; GAPS + 2]).unwrap().ends_with("and 2 more: `moxie status --json` lists them"));
    }

    #[test]
    fn the_state_is_told_in_words() {
        let mut status = json!({"version": "1", "environment": "dev", "way": "ebpf", "diverting": true, "ready": true, "reasons": [],
            "pid": 7, "started_at": "T", "rules": {"total": 3, "armed": 2}, "scopes": 1, "active_connections": 0, "store_trouble": null});
        let changed = changed_calls(&[json!({"hits": 30}), json!({"hits": 7}), json!({})]);
        let told = "agent 1 in dev, process 7, since T\ndiverting by ebpf: on\n2 rules armed, 37 calls changed\n1 scope opted in, 0 connections open";
        assert_eq!(tell(&status, changed), told);
        status["diverting"] = json!(false);
        status["ready"] = json!(false);
        status["reasons"] = json!(["diversion is switched off"]);
        let told = tell(&status, 1);
        assert!(told.contains("ebpf: OFF") && told.contains("1 call changed"), "{told}");
        assert!(told.ends_with("not ready: diversion is switched off"), "{told}");
    }
}
