//! The client against a real HTTP server on a Unix socket.

use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::UnixListener;

use super::events::Event;
use super::*;
use crate::cli::Global;
use crate::cli::env::Env;

struct Served {
    client: Client,
    _dir: TempDir,
}

fn client(dir: &TempDir) -> Client {
    let global = Global { url: None, state_dir: Some(dir.path().to_path_buf()) };
    Client::locate(&Context { global, env: Env::from([]) }).unwrap()
}

fn serve(router: Router) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Served { client: client(&dir), _dir: dir }
}

#[tokio::test]
async fn answers_are_read_and_refusals_become_failures() {
    let refused = (
        StatusCode::UNPROCESSABLE_ENTITY,
        Json(json!({"title": "No", "detail": "see", "errors": [{"field": "url", "message": "is required"}]})),
    );
    let router = Router::new()
        .route("/echo", post(|Json(body): Json<Value>| async move { (StatusCode::CREATED, Json(body)) }))
        .route("/gone", delete(|| async { StatusCode::NO_CONTENT }))
        .route("/refused", get(move || async move { refused }));
    let served = serve(router);
    let body = json!({"url": "a/b"});
    let answer = served.client.call(Method::POST, "/echo", Some(&body)).await.unwrap();
    assert_eq!((answer.status, answer.json), (StatusCode::CREATED, body));
    assert_eq!(served.client.call(Method::DELETE, "/gone", None).await.unwrap().json, Value::Null);
    let failure = served.client.get("/refused").await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert_eq!(failure.to_string(), "No: see\n  url: is required");
}

#[tokio::test]
async fn a_listing_is_read_to_its_end() {
    let page = |uri: http::Uri| async move {
        let query = uri.query().unwrap_or_default().to_owned();
        Json(match query.as_str() {
            "scope=a%2Fb&limit=1000" => json!({"items": [1, 2], "next": "n/1"}),
            "scope=a%2Fb&limit=1000&cursor=n%2F1" => json!({"items": [3], "next": null}),
            other => json!({"items": [other], "next": null}),
        })
    };
    let served = serve(Router::new().route("/list", get(page)));
    let items = served.client.items(&format!("/list?scope={}", encode("a/b"))).await.unwrap();
    assert_eq!(items, [json!(1), json!(2), json!(3)]);
}

#[tokio::test]
async fn events_are_followed_until_the_agent_ends_the_stream() {
    let stream = || async { ": hi\n\nevent: rule\ndata: {\"id\":\"r\"}\n\n" };
    let served = serve(Router::new().route("/events", get(stream)));
    let mut events = served.client.follow("/events").await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap(), Event { kind: "rule".into(), data: json!({"id": "r"}) });
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn no_agent_is_its_own_failure() {
    let dir = tempfile::tempdir().unwrap();
    let missing = client(&dir).get("/api/v1/status").await.unwrap_err();
    assert_eq!(missing.exit(), Exit::Unreachable);
    // A socket file whose listener is gone.
    drop(UnixListener::bind(dir.path().join("admin.sock")).unwrap());
    let refused = client(&dir).get("/api/v1/status").await.unwrap_err();
    assert_eq!(refused.exit(), Exit::Unreachable);
    assert!(refused.to_string().contains("next: "), "{refused}");
}

#[tokio::test]
async fn tcp_sends_the_token_and_the_socket_does_not() {
    let who = |headers: http::HeaderMap| async move {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Json(json!([header("authorization"), header("host")]))
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("admin.token"), "s3cret\n").unwrap();
    let router = Router::new().route("/who", get(who));
    let unix = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let of_unix = router.clone();
    tokio::spawn(async move { axum::serve(unix, of_unix).await });
    tokio::spawn(async move { axum::serve(tcp, router).await });
    assert_eq!(client(&dir).get("/who").await.unwrap(), json!([null, "localhost"]));

    let global = Global { url: Some(format!("http://{addr}")), state_dir: Some(dir.path().to_path_buf()) };
    let by_tcp = Client::locate(&Context { global, env: Env::from([]) }).unwrap();
    assert_eq!(by_tcp.get("/who").await.unwrap(), json!(["Bearer s3cret", addr.to_string()]));
}
