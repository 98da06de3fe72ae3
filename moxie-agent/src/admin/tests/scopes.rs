//! Scopes over the API.

use std::path::PathBuf;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{agent, agent_with};
use crate::admin::scopes::{read, restore};
use crate::scope::cgroup::Hierarchy;
use crate::store::faulty::Faulty;

/// A cgroup of the test's own; gone with it.
struct Cgroup(PathBuf);

impl Cgroup {
    /// `None` where cgroups cannot be made; says so, and fails where nothing may be skipped.
    fn make(name: &str) -> Option<Self> {
        let path = Hierarchy::find().ok()?.root().join(format!("moxie-admin-{name}-{}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "cannot make {}: {error}", path.display());
                println!("skipped: cannot make {}: {error}", path.display());
                None
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).unwrap();
    }
}

/// The fields that `read` complains of.
fn wrong(body: &Value) -> Vec<String> {
    read(body).unwrap_err().into_iter().map(|problem| problem.field).collect()
}

#[test]
fn a_scope_has_exactly_one_target() {
    assert!(read(&json!({"cgroup": "/sys/fs/cgroup/a"})).is_ok());
    assert!(read(&json!({"pid": 7, "mode": "observe"})).is_ok());
    assert!(read(&json!({"unit": "shop", "refuse_quic": true})).is_ok());
    assert!(read(&json!({"container": "shop", "refuse_quic": null})).is_ok());
    assert!(read(&json!({"label": "team=pay"})).is_ok());
    assert!(read(&json!({"pid": 7, "mode": "inspect", "inspect": ["a", "b"]})).is_ok());
    for (body, fields) in [
        (json!({}), vec![""]),
        (json!([]), vec![""]),
        (json!({"cgroup": "/a", "pid": 7}), vec![""]),
        (json!({"cgroup": "/a", "pid": 7, "mode": "odd"}), vec!["mode", ""]),
        (json!({"pid": 0}), vec!["pid"]),
        (json!({"pid": -1, "cgroup": 3, "mode": 4}), vec!["pid", "cgroup", "mode"]),
        (json!({"unit": "a.timer"}), vec!["unit"]),
        (json!({"unit": ""}), vec!["unit"]),
        (json!({"container": "/a/b"}), vec!["container"]),
        (json!({"container": 3}), vec!["container"]),
        (json!({"label": "=b"}), vec!["label"]),
        (json!({"unit": "a", "label": "b"}), vec![""]),
        (json!({"unit": "a", "refuse_quic": "yes"}), vec!["refuse_quic"]),
        (json!({"cgroup": "/a", "colour": "red"}), vec!["colour"]),
        (json!({"pid": 7, "mode": "inspect"}), vec!["inspect"]),
        (json!({"pid": 7, "mode": "inspect", "inspect": []}), vec!["inspect"]),
        (json!({"pid": 7, "mode": "inspect", "inspect": "a"}), vec!["inspect"]),
        (json!({"pid": 7, "mode": "inspect", "inspect": ["a", "b(", ""]}), vec!["inspect[1]", "inspect[2]"]),
        (json!({"pid": 7, "mode": "observe", "inspect": ["a"]}), vec!["inspect"]),
        (json!({"pid": 7, "mode": 4, "inspect": ["a"]}), vec!["mode"]),
        (json!({"mode": "inspect", "inspect": ["a("]}), vec!["inspect[0]", ""]),
    ] {
        assert_eq!(wrong(&body), fields, "{body}");
    }
}

#[tokio::test]
async fn what_is_not_there_yet_is_opted_in_and_restored() {
    let before = agent().await;
    let bodies = [
        json!({"unit": "no-such-shop"}),
        json!({"container": "no-such-shop", "mode": "observe"}),
        json!({"label": "no.such=shop", "refuse_quic": true}),
    ];
    for body in &bodies {
        let made = before.ask("POST", "/api/v1/scopes", Some(body.clone())).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        assert_eq!((&made.json()["path"], &made.json()["matches"]), (&Value::Null, &json!([])));
        let again = before.ask("POST", "/api/v1/scopes", Some(body.clone())).await;
        assert_eq!((again.status, &again.json()["id"]), (StatusCode::OK, &made.json()["id"]));
    }
    let other = before.ask("POST", "/api/v1/scopes", Some(json!({"label": "no.such=shop"}))).await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::CONFLICT, "scope_exists"));

    let after = agent_with(before.store.clone()).await;
    restore(&after.scopes, &*after.store).await.unwrap();
    let listed = after.ask("GET", "/api/v1/scopes", None).await.json();
    let ids =
        |list: &Value| list["items"].as_array().unwrap().iter().map(|scope| scope["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&before.ask("GET", "/api/v1/scopes", None).await.json()));
    let of = |at: usize| &listed["items"][at];
    assert_eq!(
        (&of(0)["unit"], &of(1)["mode"], &of(2)["refuse_quic"]),
        (&json!("no-such-shop.service"), &json!("observe"), &json!(true))
    );
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

#[tokio::test]
async fn a_cgroup_is_opted_in_once_restored_and_opted_out() {
    let Some(cgroup) = Cgroup::make("restored") else { return };
    let before = agent().await;
    let body = |mode: &str| Some(json!({"cgroup": cgroup.0, "mode": mode}));
    let made = before.ask("POST", "/api/v1/scopes", body("rules")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    assert_eq!(made.header("location"), format!("/api/v1/scopes/{}", made.json()["id"].as_str().unwrap()));
    let again = before.ask("POST", "/api/v1/scopes", body("rules")).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, made.json()));
    let other = before.ask("POST", "/api/v1/scopes", body("observe")).await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::CONFLICT, "scope_exists"));
    assert!(other.text().contains("with mode rules;"), "{}", other.text());

    let after = agent_with(before.store.clone()).await;
    restore(&after.scopes, &*after.store).await.unwrap();
    let listed = after.ask("GET", "/api/v1/scopes", None).await.json();
    assert_eq!(listed["items"][0]["id"], made.json()["id"], "records and clients go by the id");
    assert_eq!(listed["items"][0]["cgroup"], json!(cgroup.0));
    let path = format!("/api/v1/scopes/{}", listed["items"][0]["id"].as_str().unwrap());
    assert_eq!(after.ask("DELETE", &path, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(after.store.scopes().await.unwrap(), []);
    assert_eq!(after.ask("DELETE", &path, None).await.code(), "scope_not_found");
}

#[tokio::test]
async fn a_scope_that_cannot_be_written_down_is_taken_back_and_opting_out_always_works() {
    let Some(cgroup) = Cgroup::make("faulty") else { return };
    let store = Faulty::new().await;
    let agent = agent_with(store.clone()).await;
    let body = || Some(json!({"cgroup": cgroup.0}));
    store.fail(true);
    let refused = agent.ask("POST", "/api/v1/scopes", body()).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"));
    assert!(!refused.text().contains("crashed"), "the cause stays in the log: {}", refused.text());
    assert!(agent.scopes.list().is_empty());

    store.fail(false);
    let made = agent.ask("POST", "/api/v1/scopes", body()).await;
    store.fail(true);
    let path = made.header("location");
    let half = agent.ask("DELETE", path, None).await;
    assert_eq!(half.code(), "store_unavailable");
    assert!(agent.scopes.list().is_empty());
    store.fail(false);
    assert_eq!(agent.ask("DELETE", path, None).await.status, StatusCode::NO_CONTENT);
}
