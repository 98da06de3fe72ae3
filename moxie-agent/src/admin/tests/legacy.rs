//! The first Moxie's routes, as its tools call them.

use axum::http::StatusCode;
use serde_json::json;

use super::agent;

const BASE: &str = "/api/api_v1/api_management";

#[tokio::test]
async fn the_first_moxies_five_routes_work_with_its_bodies() {
    let agent = agent().await;
    let rule = json!({"description": "slow down", "method": "GET", "url": "api.customer.io/v1/activities", "call_backend": false, "custom_headers": {},
        "status_code": 429, "response": "{}", "enable": true, "mock_count": 3, "response_delay": 4,
        "response_media_type": "application/json"});
    let made = agent.ask("POST", &format!("{BASE}/rule"), Some(rule.clone())).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let id = made.json()["id"].as_str().unwrap().to_owned();

    let listed = agent.ask("GET", &format!("{BASE}/rules"), None).await.json();
    let mut expected = rule;
    expected["id"] = json!(id);
    assert_eq!(listed, json!([expected]));

    let off = agent.ask("PATCH", &format!("{BASE}/rule/{id}/status"), Some(json!({}))).await;
    assert_eq!((off.status, &off.json()["enable"]), (StatusCode::OK, &json!(false)));
    let on = agent.ask("PATCH", &format!("{BASE}/rule/{id}/status"), Some(json!({"enable": true}))).await;
    assert_eq!(on.json()["enable"], true);
    let count = agent.ask("PATCH", &format!("{BASE}/rule/{id}/mock_count"), Some(json!({"mock_count": 7}))).await;
    assert_eq!((count.status, &count.json()["mock_count"]), (StatusCode::OK, &json!(7)));

    for _ in 0..2 {
        let gone = agent.ask("DELETE", &format!("{BASE}/rule/{id}"), None).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(agent.ask("GET", &format!("{BASE}/rules"), None).await.json(), json!([]));
}

#[tokio::test]
async fn unknown_ids_and_wrong_values_are_refused() {
    let agent = agent().await;
    for (end, body) in [("status", json!({"enable": true})), ("mock_count", json!({"mock_count": 1}))] {
        let answer = agent.ask("PATCH", &format!("{BASE}/rule/nobody/{end}"), Some(body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "rule_not_found"));
    }
    for (end, body) in
        [("status", json!({"enable": "yes"})), ("mock_count", json!({})), ("mock_count", json!({"mock_count": 1.5}))]
    {
        let answer = agent.ask("PATCH", &format!("{BASE}/rule/nobody/{end}"), Some(body)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{end}");
    }
}
