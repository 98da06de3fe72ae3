//! Scopes over the API.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::agent;
use crate::admin::scopes::read;

/// The fields that `read` complains of.
fn wrong(body: &Value) -> Vec<String> {
    read(body).unwrap_err().into_iter().map(|problem| problem.field).collect()
}

#[test]
fn a_scope_has_exactly_one_target_that_this_version_takes() {
    assert!(read(&json!({"cgroup": "/sys/fs/cgroup/a"})).is_ok());
    assert!(read(&json!({"pid": 7, "mode": "observe"})).is_ok());
    for (body, fields) in [
        (json!({}), vec![""]),
        (json!([]), vec![""]),
        (json!({"cgroup": "/a", "pid": 7}), vec![""]),
        (json!({"cgroup": "/a", "pid": 7, "mode": "odd"}), vec!["mode", ""]),
        (json!({"pid": 0}), vec!["pid"]),
        (json!({"pid": -1, "cgroup": 3, "mode": 4}), vec!["pid", "cgroup", "mode"]),
        (json!({"unit": "a.service"}), vec!["unit"]),
        (json!({"container": "a"}), vec!["container"]),
        (json!({"label": "a=b"}), vec!["label"]),
        (json!({"cgroup": "/a", "colour": "red"}), vec!["colour"]),
    ] {
        assert_eq!(wrong(&body), fields, "{body}");
    }
}

#[tokio::test]
async fn a_target_of_a_later_version_is_refused_with_the_way_to_its_cgroup() {
    let agent = agent().await;
    let answer = agent.ask("POST", "/api/v1/scopes", Some(json!({"unit": "shop.service"}))).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid"));
    let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("systemctl show -p ControlGroup shop.service"), "{message}");
    assert_eq!(agent.ask("GET", "/api/v1/scopes", None).await.json(), json!({"items": [], "next": null}));
}

#[tokio::test]
async fn what_cannot_be_opted_in_says_why() {
    let agent = agent().await;
    let answer = agent.ask("POST", "/api/v1/scopes", Some(json!({"cgroup": "/nowhere/at/all"}))).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "scope_refused"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("/nowhere/at/all"), "{}", answer.text());
    let unknown = agent.ask("DELETE", "/api/v1/scopes/nobody", None).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (StatusCode::NOT_FOUND, "scope_not_found"));
}
