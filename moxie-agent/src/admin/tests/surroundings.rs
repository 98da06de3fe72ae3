//! What all answers have in common, and the small routes around the resources.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use futures_util::StreamExt;
use serde_json::json;
use tower::ServiceExt;

use super::agent;
use crate::admin::Door;
use crate::datapath::learned::Client;
use crate::scope::Caller;

const BOUND: Duration = Duration::from_secs(10);

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_too() {
    let agent = agent().await;
    let nowhere = agent.ask("GET", "/api/v1/nothing", None).await;
    assert_eq!((nowhere.status, nowhere.code().as_str()), (StatusCode::NOT_FOUND, "route_not_found"));
    let method = agent.ask("PUT", "/api/v1/rules", None).await;
    assert_eq!((method.status, method.code().as_str()), (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"));
    assert!(method.header("allow").contains("POST"), "{method:?}");
    assert_eq!(agent.ask("GET", "/docs/nothing.js", None).await.status, StatusCode::NOT_FOUND);
    let bytes = agent.ask("GET", "/api/v1/rules/%ff", None).await;
    assert_eq!((bytes.status, bytes.code().as_str()), (StatusCode::BAD_REQUEST, "bad_request"));
}

#[tokio::test]
async fn answers_say_how_they_may_be_used() {
    let agent = agent().await;
    for path in ["/", "/api/v1/rules", "/api/v1/nothing", "/docs/", "/assets/moxie.js"] {
        let answer = agent.ask("GET", path, None).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'self';"), "{path}");
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{path}");
        assert_eq!(answer.header("x-request-id").len(), 32, "{path}");
    }
    assert_eq!(agent.ask("GET", "/api/v1/rules", None).await.header("cache-control"), "no-store");
    let inline = |answer: super::Answer| answer.header("content-security-policy").contains("unsafe");
    assert!(inline(agent.ask("GET", "/docs/", None).await));
    assert!(!inline(agent.ask("GET", "/", None).await));
}

#[tokio::test]
async fn the_kill_switch_works_and_readiness_says_why_not() {
    let agent = agent().await;
    assert_eq!(agent.ask("GET", "/readyz", None).await.json(), json!({"ready": true, "reasons": []}));
    let off = agent.ask("PUT", "/api/v1/divert", Some(json!({"enabled": false}))).await;
    assert_eq!((off.status, off.json()), (StatusCode::OK, json!({"enabled": false, "allow": [], "deny": []})));
    agent.ready.store(false, Ordering::Release);
    let ready = agent.ask("GET", "/readyz", None).await;
    assert_eq!((ready.status, ready.json()["reasons"].as_array().unwrap().len()), (StatusCode::SERVICE_UNAVAILABLE, 2));
    let status = agent.ask("GET", "/api/v1/status", None).await.json();
    assert_eq!(
        (&status["diverting"], &status["ready"], &status["way"]),
        (&json!(false), &json!(false), &json!("paper"))
    );
    assert_eq!(agent.ask("GET", "/healthz", None).await.status, StatusCode::OK);
    for body in [json!({}), json!({"enabled": "no"}), json!({"enabled": true, "colour": "red"}), json!([])] {
        let answer = agent.ask("PUT", "/api/v1/divert", Some(body)).await;
        assert_eq!(answer.code(), "invalid");
    }
    assert_eq!(agent.ask("GET", "/api/v1/status", None).await.json()["diverting"], false);
}

#[tokio::test]
async fn an_agent_that_has_enough_to_do_says_so() {
    let agent = agent().await;
    let connections = [agent.load.admit(), agent.load.admit()];
    let told = "shedding: 2 connections are open, so new ones go direct; raise limits.connections";
    let ready = agent.ask("GET", "/readyz", None).await;
    assert_eq!((ready.status, &ready.json()["reasons"]), (StatusCode::SERVICE_UNAVAILABLE, &json!([told])));
    let status = agent.ask("GET", "/api/v1/status", None).await.json();
    assert_eq!((&status["shedding"], &status["diverting"]), (&json!(told), &json!(true)));
    drop(connections);
    agent.load.look();
    assert_eq!(agent.ask("GET", "/api/v1/status", None).await.json()["shedding"], json!(null));
}

#[tokio::test]
async fn the_address_lists_are_set_one_by_one_and_what_is_no_network_is_told() {
    let agent = agent().await;
    let set = |body: serde_json::Value| agent.ask("PUT", "/api/v1/divert", Some(body));
    let denied = set(json!({"deny": ["10.0.0.0/8", "2001:db8::7"]})).await;
    assert_eq!(denied.json(), json!({"enabled": true, "allow": [], "deny": ["10.0.0.0/8", "2001:db8::7/128"]}));
    let allowed = set(json!({"allow": ["198.51.100.0/24"], "enabled": false})).await;
    assert_eq!(allowed.json()["deny"].as_array().unwrap().len(), 2, "absent is unchanged");
    assert_eq!(agent.ask("GET", "/api/v1/divert", None).await.json(), allowed.json());
    for (body, fields) in [
        (json!({"deny": ["10.0.0.1/8", "shop", 7]}), vec!["deny[0]", "deny[1]", "deny[2]"]),
        (json!({"deny": "10.0.0.0/8", "allow": ["::/129"]}), vec!["allow[0]", "deny"]),
        (json!({"deny": ["198.51.100.0/24"]}), vec!["deny"]),
    ] {
        let refused = set(body).await;
        let errors = refused.json()["errors"].as_array().unwrap().clone();
        let told: Vec<_> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!((refused.status, told), (StatusCode::UNPROCESSABLE_ENTITY, fields));
        assert!(errors.iter().all(|error| error["message"].as_str().unwrap().contains("write")), "{errors:?}");
    }
    let cleared = set(json!({"allow": null, "deny": []})).await;
    assert_eq!(cleared.json(), json!({"enabled": false, "allow": [], "deny": []}));
}

#[tokio::test]
async fn metrics_and_the_certificate_are_given() {
    let agent = agent().await;
    let metrics = agent.ask("GET", "/metrics", None).await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"), "{}", metrics.text());
    let ca = agent.ask("GET", "/api/v1/ca.pem", None).await;
    assert_eq!(ca.header("content-type"), "application/x-pem-file");
    assert!(ca.text().starts_with("-----BEGIN CERTIFICATE-----"));
}

#[tokio::test]
async fn refusals_are_forgotten_when_asked() {
    let agent = agent().await;
    let client = Client::new(&Caller::default(), "api.customer.io");
    agent.learned.refused.insert(client.clone());
    assert!(agent.learned.refused.contains(&client));
    assert_eq!(agent.ask("DELETE", "/api/v1/refusals", None).await.status, StatusCode::NO_CONTENT);
    assert!(!agent.learned.refused.contains(&client));
}

#[tokio::test]
async fn traffic_is_listed_filtered_and_paged() {
    let agent = agent().await;
    for status in [200, 429, 503] {
        agent.journal.exchange(super::ui::exchange(status));
    }
    let page = agent.ask("GET", "/api/v1/exchanges?limit=2", None).await.json();
    assert_eq!((&page["items"][0]["status"], &page["items"][1]["status"]), (&json!(503), &json!(429)));
    let next = page["next"].as_str().unwrap();
    let rest = agent.ask("GET", &format!("/api/v1/exchanges?limit=2&cursor={next}"), None).await.json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (1, &json!(null)));

    let only = agent.ask("GET", "/api/v1/exchanges?status=429", None).await.json();
    assert_eq!(only["items"].as_array().unwrap().len(), 1);
    let id = only["items"][0]["id"].as_str().unwrap();
    let one = agent.ask("GET", &format!("/api/v1/exchanges/{id}"), None).await;
    assert_eq!(one.json(), only["items"][0]);
    assert_eq!(agent.ask("GET", "/api/v1/exchanges/none", None).await.code(), "exchange_not_found");
    assert_eq!(agent.ask("GET", "/api/v1/exchanges?outcome=odd", None).await.code(), "bad_query");
    assert_eq!(agent.ask("GET", "/api/v1/connections?limit=0", None).await.code(), "bad_query");
    for listing in ["exchanges", "connections", "scopes"] {
        let mangled = agent.ask("GET", &format!("/api/v1/{listing}?cursor=nonsense"), None).await;
        assert_eq!(mangled.code(), "bad_query", "{listing}");
    }
    assert_eq!(agent.ask("GET", "/api/v1/connections", None).await.json(), json!({"items": [], "next": null}));
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_end_with_the_agent() {
    let agent = agent().await;
    let request = Request::get("/api/v1/events").extension(ConnectInfo(Door::Unix)).body(Body::empty()).unwrap();
    let response = agent.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut told = String::new();
    agent.ask("PUT", "/api/v1/divert", Some(json!({"enabled": false}))).await;
    agent.journal.exchange(super::ui::exchange(429));
    agent.journal.settle();
    let reading = async {
        while !told.contains("event: exchange") || !told.ends_with("\n\n") {
            told.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(BOUND, reading).await.unwrap();
    assert!(told.starts_with(": following\n\n"), "{told}");
    assert!(told.contains("event: divert\ndata: {\"enabled\":false,\"allow\":[],\"deny\":[]}\n\n"), "{told}");
    agent.drain.start();
    let rest = tokio::time::timeout(BOUND, stream.next()).await.unwrap();
    assert!(rest.is_none(), "{rest:?}");
}
