//! Rules over the API: made, listed, changed, removed, tried, carried over.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Agent, Answer, agent};

async fn make(agent: &Agent, rule: Value) -> Answer {
    let answer = agent.ask("POST", "/api/v1/rules", Some(rule)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    answer
}

async fn listed(agent: &Agent) -> Vec<Value> {
    agent.ask("GET", "/api/v1/rules", None).await.json()["items"].as_array().unwrap().clone()
}

/// The fields named in the problems of a refusal.
#[track_caller]
fn fields(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text());
    assert_eq!(answer.code(), "invalid");
    let problem = answer.json();
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_rule_is_made_shown_changed_and_removed() {
    let agent = agent().await;
    let made = make(&agent, json!({"url": "api\\.a\\.test/.*", "status_code": 503, "mock_count": 2})).await;
    let (at, etag) = (made.header("location").to_owned(), made.header("etag").to_owned());
    assert_eq!((&made.json()["status_code"], &made.json()["remaining"]), (&json!(503), &json!(2)));
    assert!(made.json().get("warnings").is_none());

    let shown = agent.ask("GET", &at, None).await;
    assert_eq!((shown.status, shown.json(), shown.header("etag")), (StatusCode::OK, made.json(), etag.as_str()));

    let put = agent.ask("PUT", &at, Some(json!({"url": "api\\.b\\.test/"}))).await;
    assert_eq!((put.status, &put.json()["status_code"]), (StatusCode::OK, &json!(200)), "{}", put.text());
    let patched = agent.ask("PATCH", &at, Some(json!({"status_code": 429}))).await;
    assert_eq!(patched.json()["url"], "api\\.b\\.test/");
    assert_eq!(patched.json()["status_code"], 429);

    assert_eq!(agent.ask("DELETE", &at, None).await.status, StatusCode::NO_CONTENT);
    for method in ["GET", "DELETE"] {
        let gone = agent.ask(method, &at, None).await;
        assert_eq!((gone.status, gone.code().as_str()), (StatusCode::NOT_FOUND, "rule_not_found"));
    }
}

#[tokio::test]
async fn a_change_based_on_an_old_etag_is_refused() {
    let agent = agent().await;
    let made = make(&agent, json!({"url": "a.test/"})).await;
    let (at, old) = (made.header("location").to_owned(), made.header("etag").to_owned());
    let patch = || Some(json!({"status_code": 500}));
    let first = agent.ask_with("PATCH", &at, patch(), &[("if-match", &old)]).await;
    assert_eq!(first.status, StatusCode::OK);
    let new = first.header("etag").to_owned();
    assert_ne!(new, old);

    let put = Some(json!({"url": "b.test/"}));
    for (method, body) in [("PATCH", patch()), ("PUT", put), ("DELETE", None)] {
        let late = agent.ask_with(method, &at, body, &[("if-match", &old)]).await;
        assert_eq!((late.status, late.code().as_str()), (StatusCode::PRECONDITION_FAILED, "rule_changed"), "{method}");
    }
    assert_eq!(agent.ask("GET", &at, None).await.header("etag"), new);
    let either = format!("{old}, {new}");
    assert_eq!(agent.ask_with("PATCH", &at, patch(), &[("if-match", &either)]).await.status, StatusCode::OK);
    assert_eq!(agent.ask_with("DELETE", &at, None, &[("if-match", "*")]).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn what_the_reader_has_already_is_not_sent_again() {
    let agent = agent().await;
    let made = make(&agent, json!({"url": "a.test/"})).await;
    let (at, etag) = (made.header("location"), made.header("etag"));
    let same = agent.ask_with("GET", at, None, &[("if-none-match", etag)]).await;
    assert_eq!((same.status, same.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let other = agent.ask_with("GET", at, None, &[("if-none-match", "\"other\"")]).await;
    assert_eq!(other.status, StatusCode::OK);
}

#[tokio::test]
async fn every_problem_of_a_rule_is_told_at_once_and_nothing_is_stored() {
    let agent = agent().await;
    let bad = json!({"url": "a.test/(", "status_code": 42, "mock_count": -7, "colour": "red"});
    let told = fields(&agent.ask("POST", "/api/v1/rules", Some(bad)).await);
    for field in ["url", "status_code", "mock_count", "colour"] {
        assert!(told.iter().any(|told| told == field), "{field} is missing in {told:?}");
    }
    assert_eq!(listed(&agent).await, Vec::<Value>::new());
}

#[tokio::test]
async fn dubious_rules_are_taken_with_a_warning() {
    let made = make(&agent().await, json!({"url": "a.test/v1?key=1"})).await;
    let warnings = made.json()["warnings"].clone();
    assert!(warnings[0]["message"].as_str().unwrap().contains("\\?"), "{warnings}");
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_where_and_why() {
    let agent = agent().await;
    let send = async |media_type: &str, body: Vec<u8>| {
        let request = axum::http::Request::post("/api/v1/rules").header("content-type", media_type);
        let request = request.extension(axum::extract::ConnectInfo(crate::admin::Door::Unix));
        agent.send(request.body(body.into()).unwrap()).await
    };
    let malformed = send("application/json", b"{\"url\": }".to_vec()).await;
    assert_eq!((malformed.status, malformed.code().as_str()), (StatusCode::BAD_REQUEST, "malformed_json"));
    assert!(malformed.json()["detail"].as_str().unwrap().contains("line 1 column 9"), "{}", malformed.text());
    let nested = send("application/json", vec![b'['; 100_000]).await;
    assert_eq!(nested.code(), "malformed_json");
    let form = send("text/plain", b"{}".to_vec()).await;
    assert_eq!((form.status, form.code().as_str()), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_media_type"));
    let large = send("application/json", vec![b' '; (16 << 20) + 1]).await;
    assert_eq!((large.status, large.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
}

#[tokio::test]
async fn pages_follow_the_order_of_trial_and_survive_a_removal() {
    let agent = agent().await;
    for (name, priority) in [("c", 0), ("a", 5), ("d", 0), ("b", 5), ("e", -1)] {
        make(&agent, json!({"name": name, "url": "a.test/", "priority": priority})).await;
    }
    let mut names = Vec::new();
    let mut path = "/api/v1/rules?limit=2".to_owned();
    loop {
        let page = agent.ask("GET", &path, None).await.json();
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|rule| rule["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        // The rule that the page ended with goes away before the next one is read.
        let last = items.last().unwrap()["id"].as_str().unwrap();
        assert_eq!(agent.ask("DELETE", &format!("/api/v1/rules/{last}"), None).await.status, StatusCode::NO_CONTENT);
        path = format!("/api/v1/rules?limit=2&cursor={next}");
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=nonsense", "colour=red"] {
        let answer = agent.ask("GET", &format!("/api/v1/rules?{query}"), None).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "bad_query"), "{query}");
    }
}

#[tokio::test]
async fn a_refused_import_stores_nothing() {
    let agent = agent().await;
    let rules = json!({"rules": [{"url": "a.test/"}, {"url": "b.test/", "status_code": 7}, {"status_code": 200}]});
    let told = fields(&agent.ask("POST", "/api/v1/rules/import", Some(rules)).await);
    assert!(told.contains(&"rules[1].status_code".to_owned()) && told.contains(&"rules[2].url".to_owned()), "{told:?}");
    assert_eq!(listed(&agent).await, Vec::<Value>::new());
    for body in [json!([]), json!({}), json!({"rules": {}}), json!({"rules": [], "colour": "red"})] {
        assert_eq!(fields(&agent.ask("POST", "/api/v1/rules/import", Some(body)).await).len(), 1);
    }
}

#[tokio::test]
async fn what_was_exported_can_be_imported() {
    let (from, to) = (agent().await, agent().await);
    for url in ["a.test/", "b.test/.*"] {
        make(&from, json!({"url": url, "status_code": 503, "mock_count": 4})).await;
    }
    let exported = from.ask("GET", "/api/v1/rules/export", None).await.json();
    let imported = to.ask("POST", "/api/v1/rules/import", Some(exported.clone())).await;
    assert_eq!(imported.status, StatusCode::CREATED, "{}", imported.text());
    let without_times = |mut rule: Value| {
        for field in ["created_at", "updated_at"] {
            rule.as_object_mut().unwrap().remove(field);
        }
        rule
    };
    let before: Vec<_> = exported["rules"].as_array().unwrap().iter().cloned().map(without_times).collect();
    let after: Vec<_> = listed(&to).await.into_iter().map(without_times).collect();
    assert_eq!(before, after);

    let again = to.ask("POST", "/api/v1/rules/import", Some(exported)).await;
    assert_eq!((again.status, listed(&to).await.len()), (StatusCode::CREATED, 2), "the same ids replace");
    let page = from.ask("GET", "/api/v1/rules", None).await.json();
    assert_eq!(self::agent().await.ask("POST", "/api/v1/rules/import", Some(page)).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_trial_tells_which_rule_and_why_not_the_others_and_counts_nothing() {
    let agent = agent().await;
    let rule = json!({"url": "api.test/v1", "status_code": 429, "mock_count": 1});
    let fires = make(&agent, rule).await.json()["id"].clone();
    let other = make(&agent, json!({"url": "api.test/v1", "method": "POST"})).await.json()["id"].clone();
    for url in ["https://API.test:443/v1", "api.test/v1"] {
        let told =
            agent.ask("POST", "/api/v1/rules/test", Some(json!({"url": url, "headers": {"x-a": ["1", "2"]}}))).await;
        assert_eq!(told.status, StatusCode::OK, "{}", told.text());
        let told = told.json();
        assert_eq!((&told["rule"], &told["verdict"]), (&fires, &json!("respond")), "{told}");
        assert_eq!((&told["others"][0]["rule"], &told["others"][0]["reason"]), (&other, &json!("method")), "{told}");
    }
    assert_eq!(listed(&agent).await[0]["remaining"], 1);
}

#[tokio::test]
async fn a_trial_of_no_request_tells_every_problem() {
    let bad = json!({"method": "G T", "url": "ftp://a.test/", "headers": {"b d": "1", "x-a": 2}, "caller": 3, "colour": "red"});
    let told = fields(&agent().await.ask("POST", "/api/v1/rules/test", Some(bad)).await);
    assert_eq!(told, ["colour", "method", "headers.b d", "headers.x-a", "caller", "url"]);
}

#[tokio::test]
async fn a_second_rule_with_the_same_id_is_refused() {
    let agent = agent().await;
    let rule = json!({"id": "retry-after", "url": "a.test/"});
    make(&agent, rule.clone()).await;
    let second = agent.ask("POST", "/api/v1/rules", Some(rule)).await;
    assert_eq!((second.status, second.code().as_str()), (StatusCode::CONFLICT, "rule_exists"));
}
