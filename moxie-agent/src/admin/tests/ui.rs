//! The start page and the login, as a browser sees them.

use axum::http::StatusCode;
use serde_json::json;

use super::{TOKEN, agent};
use crate::journal::{Exchange, Outcome, Protocol, record_id};
use crate::scope::Caller;

const HOST: (&str, &str) = ("host", "localhost:8480");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// A recorded exchange with this status.
pub(super) fn exchange(status: u16) -> Exchange {
    Exchange {
        id: record_id(),
        connection_id: record_id(),
        started_at: "2026-11-21T10:00:00Z".parse().unwrap(),
        caller: Caller { unit: Some("shop.service".into()), pid: Some(7), ..Caller::default() }.into(),
        method: "GET".into(),
        url: "https://api.test/<script>alert(1)</script>".into(),
        protocol: Protocol::Http1,
        status: Some(status),
        outcome: Outcome::Responded,
        rule_id: None,
        injected_delay_ms: 0,
        duration_ms: 1,
        request_bytes: 0,
        response_bytes: 2,
        error: None,
    }
}

#[tokio::test]
async fn the_page_shows_rules_and_traffic_and_escapes_them() {
    let agent = agent().await;
    agent
        .rules
        .create(&json!({"name": "<b>bold</b>", "url": "api.test/.*", "status_code": 429, "response_delay": 4}))
        .await
        .unwrap();
    agent.journal.exchange(exchange(429));
    let page = agent.ask("GET", "/", None).await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    let text = page.text();
    for shown in ["Diverting", "1 of 1 rule armed", "429 after 4s", "no limit", "shop.service (7)", "responded"] {
        assert!(text.contains(shown), "{shown} is missing in {text}");
    }
    assert!(!text.contains("<script>alert") && !text.contains("<b>bold"), "{text}");
    assert!(!text.contains(" onclick=") && !text.contains("<style") && !text.contains("style="), "{text}");
}

#[tokio::test]
async fn an_empty_page_shows_the_next_command() {
    let agent = agent().await;
    let text = agent.ask("GET", "/", None).await.text();
    assert!(text.contains("moxie run --rule") && text.contains("moxie scope add"), "{text}");
    agent.ask("PUT", "/api/v1/divert", Some(json!({"enabled": false}))).await;
    assert!(agent.ask("GET", "/", None).await.text().contains("<strong>Off</strong>"));
}

#[tokio::test]
async fn a_browser_logs_in_with_the_token_and_out_again() {
    let agent = agent().await;
    let asked = agent.ask_tcp("GET", "/", &[HOST], "").await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert!(asked.text().contains("action=\"/login\""));
    let wrong = agent.ask_tcp("POST", "/login", &[HOST, FORM], "token=wrong").await;
    assert_eq!((wrong.status, wrong.headers.get("set-cookie")), (StatusCode::UNAUTHORIZED, None));

    let right = agent.ask_tcp("POST", "/login", &[HOST, FORM], &format!("token={TOKEN}")).await;
    assert_eq!((right.status, right.header("location")), (StatusCode::SEE_OTHER, "/"));
    let cookie = right.header("set-cookie").to_owned();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let session = ("cookie", cookie.split(';').next().unwrap());
    assert_eq!(agent.ask_tcp("GET", "/", &[HOST, session], "").await.status, StatusCode::OK);
    assert_eq!(agent.ask_tcp("GET", "/api/v1/rules", &[HOST, session], "").await.status, StatusCode::OK);
    let foreign = agent.ask_tcp("GET", "/api/v1/rules", &[HOST, session, ("origin", "http://evil.example")], "").await;
    assert_eq!(foreign.code(), "cross_origin");

    assert_eq!(agent.ask_tcp("POST", "/logout", &[HOST, session], "").await.status, StatusCode::SEE_OTHER);
    assert_eq!(agent.ask_tcp("GET", "/api/v1/rules", &[HOST, session], "").await.status, StatusCode::UNAUTHORIZED);
}
