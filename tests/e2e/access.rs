//! Who may use the admin API.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use moxie_tests::Lab;
use moxie_tests::lab::agent::ADMIN;
use serde_json::json;

#[test]
fn tcp_without_a_token_is_401_and_probes_and_docs_need_none() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    for (method, path) in [
        ("GET", "/api/v1/rules"),
        ("POST", "/api/v1/rules"),
        ("PUT", "/api/v1/divert"),
        ("GET", "/api/v1/status"),
        ("DELETE", "/api/v1/scopes/x"),
        ("GET", "/api/api_v1/api_management/rules"),
    ] {
        for headers in [vec![], vec![("authorization", "Bearer wrong")], vec![("authorization", "Basic eA==")]] {
            let reply = agent.ask_tcp(method, path, &headers, Some(&json!({})))?;
            ensure!(reply.status == 401, "{method} {path} with {headers:?}: {reply:?}");
            ensure!(reply.header("content-type") == Some("application/problem+json"), "{reply:?}");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics", "/api/openapi.json", "/docs/"] {
        let reply = agent.ask_tcp("GET", path, &[], None)?;
        ensure!(reply.status == 200, "{path}: {reply:?}");
    }
    let bearer = format!("Bearer {}", agent.token()?);
    let reply = agent.ask_tcp("GET", "/api/v1/rules", &[("authorization", &bearer)], None)?;
    assert_eq!(reply.status, 200, "{reply:?}");
    Ok(())
}

#[test]
fn a_foreign_host_or_origin_is_403() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let bearer = format!("Bearer {}", agent.token()?);
    let body = json!({"url": "api.github.com/.*", "status_code": 429});
    for foreign in [
        vec![("host", "evil.example")],
        vec![("host", "evil.example:8480")],
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
    ] {
        let headers: Vec<_> = foreign.iter().copied().chain([("authorization", bearer.as_str())]).collect();
        let reply = agent.ask_tcp("POST", "/api/v1/rules", &headers, Some(&body))?;
        ensure!(reply.status == 403, "{foreign:?}: {reply:?}");
    }
    assert!(agent.list("/api/v1/rules")?.is_empty(), "nothing was stored");
    let own = format!("http://{ADMIN}");
    let headers = [("origin", own.as_str()), ("authorization", bearer.as_str())];
    assert_eq!(agent.ask_tcp("POST", "/api/v1/rules", &headers, Some(&body))?.status, 201);
    Ok(())
}

#[test]
fn the_token_and_the_socket_are_not_for_everybody() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let mode = |file| anyhow::Ok(std::fs::metadata(agent.visible(file))?.permissions().mode() & 0o777);
    assert_eq!((mode("admin.token")?, mode("admin.sock")?), (0o600, 0o660));
    Ok(())
}

#[test]
fn etags_guard_against_lost_changes() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let id = agent.rule(&json!({"url": "api.github.com/.*", "status_code": 429}))?;
    let path = format!("/api/v1/rules/{id}");
    let tag = agent.rest().get(&path)?.header("etag").context("no ETag")?.to_owned();
    let change = |tag: &str, status: u16| {
        agent.rest().call("PATCH", &path, &[("if-match", tag)], Some(&json!({"status_code": status})))
    };
    assert_eq!(change(&tag, 500)?.status, 200);
    assert_eq!(change(&tag, 501)?.status, 412, "the tag is of the rule before");
    assert_eq!(agent.show(&id)?["status_code"], 500);
    Ok(())
}

#[test]
fn the_start_page_lists_rules_and_recent_traffic_and_metrics_count_it() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    let rule = agent.rule(&json!({"url": "plain.example/page", "status_code": 429, "name": "<b>&amp;</b>"}))?;
    agent.session()?.fresh("http://plain.example/page")?;
    agent.record("/api/v1/exchanges", |exchange| exchange["status"] == 429)?;
    let page = agent.rest().get("/")?;
    assert_eq!(page.status, 200, "{page:?}");
    ensure!(page.body.contains("plain.example/page") && page.body.contains("429"), "{}", page.body);
    assert!(!page.body.contains("<b>&amp;</b>"), "text of users is escaped");
    let metrics = agent.rest().get("/metrics")?.body;
    let hits = metrics.lines().find(|line| line.starts_with("moxie_rule_hits_total") && line.contains(&rule));
    ensure!(hits.is_some_and(|line| line.ends_with(" 1")), "{metrics}");
    Ok(())
}
