//! The doors themselves: real sockets.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::admin::{Door, ServeError, serve_tcp, serve_unix};
use crate::drain::Drain;

const BOUND: Duration = Duration::from_secs(10);

fn which_door() -> Router {
    Router::new().route("/", get(|ConnectInfo(door): ConnectInfo<Door>| async move { format!("{door:?}") }))
}

async fn fetch(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_unix_socket_is_made_served_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/admin.sock");
    let drain = Drain::new();
    serve_unix(&path, which_door(), &drain).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(fetch(UnixStream::connect(&path).await.unwrap()).await.ends_with("Unix"));
    assert!(drain.finish(BOUND).await);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_dead_agents_socket_is_replaced_and_a_live_ones_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    // Closing a listener leaves its file behind, as a killed agent does.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let drain = Drain::new();
    serve_unix(&path, which_door(), &drain).await.unwrap();
    let second = serve_unix(&path, which_door(), &Drain::new()).await;
    assert!(matches!(second, Err(ServeError::InUse(_))), "{second:?}");
    assert!(fetch(UnixStream::connect(&path).await.unwrap()).await.ends_with("Unix"));
    assert!(drain.finish(BOUND).await);
}

#[tokio::test]
async fn a_file_in_the_sockets_place_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    std::fs::write(&path, "precious").unwrap();
    let refused = serve_unix(&path, which_door(), &Drain::new()).await;
    assert!(matches!(refused, Err(ServeError::NotASocket(_))), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test is the client")]
async fn tcp_tells_the_address_it_was_reached_at() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::new();
    serve_tcp(listener, which_door(), &drain);
    let answer = fetch(tokio::net::TcpStream::connect(address).await.unwrap()).await;
    assert!(answer.ends_with(&format!("Tcp({address})")), "{answer}");
    assert!(drain.finish(BOUND).await);
}
