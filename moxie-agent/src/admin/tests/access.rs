//! Who gets in, walked over every route of the OpenAPI document.

use axum::http::StatusCode;

use super::{Agent, TOKEN, agent};
use crate::admin::openapi;

const HOST: (&str, &str) = ("host", "localhost:8480");
/// The routes that need no token.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Every (method, path) of the document, with something in the place of parameters.
fn routes() -> Vec<(String, String)> {
    let document = serde_json::to_value(openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, item)| {
        let path = path.replace("{id}", "some-id");
        item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let routes: Vec<_> = routes.collect();
    assert!(routes.len() > 20, "{routes:?}");
    routes
}

#[tokio::test]
async fn every_route_wants_the_token_over_tcp() {
    let agent = agent().await;
    for (method, path) in routes().iter().filter(|(_, path)| !OPEN.contains(&path.as_str())) {
        for authorization in ["", "Bearer wrong", "Bearer ", "Basic YTpi", TOKEN] {
            let answer = agent.ask_tcp(method, path, &[HOST, ("authorization", authorization)], "").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} {authorization}");
            assert_eq!(answer.code(), "unauthorized");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
    }
}

#[tokio::test]
async fn probes_and_documentation_need_no_token() {
    let agent = agent().await;
    for path in
        ["/healthz", "/readyz", "/metrics", "/docs/", "/docs/swagger-ui.css", "/api/openapi.json", "/assets/moxie.css"]
    {
        assert_eq!(agent.ask_tcp("GET", path, &[HOST], "").await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(agent.ask_tcp("GET", "/docs", &[HOST], "").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn unknown_paths_are_not_told_apart_without_the_token() {
    let agent = agent().await;
    let answer = agent.ask_tcp("GET", "/api/v1/nothing", &[HOST], "").await;
    assert_eq!(answer.code(), "unauthorized");
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_refused_on_every_route_even_with_the_token() {
    let agent = agent().await;
    let token = format!("Bearer {TOKEN}");
    let token = ("authorization", token.as_str());
    let others = [("GET", "/"), ("POST", "/login"), ("GET", "/docs/"), ("GET", "/api/openapi.json")];
    let routes = routes().into_iter().chain(others.map(|(method, path)| (method.into(), path.into())));
    for (method, path) in routes {
        let foreign: [(&str, &[(&str, &str)]); 7] = [
            ("host_not_allowed", &[("host", "evil.example:8480"), token]),
            ("host_not_allowed", &[("host", "192.0.2.7:8480"), token]),
            ("host_not_allowed", &[HOST, ("host", "evil.example"), token]),
            ("cross_origin", &[HOST, token, ("origin", "http://evil.example")]),
            ("cross_origin", &[HOST, token, ("origin", "http://localhost:3000")]),
            ("cross_origin", &[HOST, token, ("origin", "null")]),
            ("cross_origin", &[HOST, token, ("sec-fetch-site", "cross-site")]),
        ];
        for (code, headers) in foreign {
            let answer = agent.ask_tcp(&method, &path, headers, "").await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::FORBIDDEN, code),
                "{method} {path} {headers:?}"
            );
        }
    }
}

async fn check_host(agent: &Agent, host: &str, expected: StatusCode) {
    let token = format!("Bearer {TOKEN}");
    let answer = agent.ask_tcp("GET", "/api/v1/exchanges", &[("host", host), ("authorization", &token)], "").await;
    assert_eq!(answer.status, expected, "{host}");
}

#[tokio::test]
async fn the_agents_own_names_are_taken_with_any_port() {
    let agent = agent().await;
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8480", "127.8.9.1", "[::1]:8480", "moxie.test", "Moxie.Test:99"]
    {
        check_host(&agent, host, StatusCode::OK).await;
    }
    for host in
        ["", "localhost.evil.example", "evil.example", "localhost:x@evil", "a.moxie.test", "10.0.0.1", "2130706433"]
    {
        check_host(&agent, host, StatusCode::FORBIDDEN).await;
    }
}

#[tokio::test]
async fn the_refusal_of_a_host_names_the_setting() {
    let answer = agent().await.ask_tcp("GET", "/healthz", &[("host", "dev-7.corp")], "").await;
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("dev-7.corp") && detail.contains("admin.hosts"), "{detail}");
}

#[tokio::test]
async fn the_token_opens_tcp_and_same_origin_calls_pass() {
    let agent = agent().await;
    let token = format!("bearer {TOKEN}");
    let headers = [
        HOST,
        ("authorization", token.as_str()),
        ("origin", "http://localhost:8480"),
        ("sec-fetch-site", "same-origin"),
    ];
    assert_eq!(agent.ask_tcp("GET", "/api/v1/rules", &headers, "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_unix_socket_needs_no_token() {
    assert_eq!(agent().await.ask("GET", "/api/v1/rules", None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_from_no_known_door_is_treated_as_tcp() {
    let agent = agent().await;
    let request =
        axum::http::Request::get("/api/v1/rules").header("host", "localhost").body(axum::body::Body::empty()).unwrap();
    assert_eq!(agent.send(request).await.code(), "unauthorized");
}
