//! The doors themselves: real sockets.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::admin::{Door, Doors, ServeError};
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

async fn open(path: &std::path::Path) -> Result<Doors, ServeError> {
    Doors::open(path, "127.0.0.1:0".parse().unwrap()).await
}

fn address(doors: &Doors) -> std::net::SocketAddr {
    let [_, tcp] = doors.sockets();
    std::net::TcpListener::from(tcp.try_clone_to_owned().unwrap()).local_addr().unwrap()
}

#[tokio::test]
async fn the_unix_socket_is_made_served_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/admin.sock");
    let drain = Drain::new();
    let doors = open(&path).await.unwrap();
    doors.serve(&which_door(), &drain).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(fetch(UnixStream::connect(&path).await.unwrap()).await.ends_with("Unix"));
    assert!(drain.finish(BOUND).await);
    doors.close();
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
    let doors = open(&path).await.unwrap();
    doors.serve(&which_door(), &drain).unwrap();
    let second = open(&path).await;
    assert!(matches!(second, Err(ServeError::InUse(_))), "{second:?}");
    assert!(fetch(UnixStream::connect(&path).await.unwrap()).await.ends_with("Unix"));
    assert!(drain.finish(BOUND).await);
}

#[tokio::test]
async fn a_file_in_the_sockets_place_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    std::fs::write(&path, "precious").unwrap();
    let refused = open(&path).await;
    assert!(matches!(refused, Err(ServeError::NotASocket(_))), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test is the client")]
async fn tcp_tells_the_address_it_was_reached_at() {
    let dir = tempfile::tempdir().unwrap();
    let doors = open(&dir.path().join("admin.sock")).await.unwrap();
    let (address, drain) = (address(&doors), Drain::new());
    doors.serve(&which_door(), &drain).unwrap();
    let answer = fetch(tokio::net::TcpStream::connect(address).await.unwrap()).await;
    assert!(answer.ends_with(&format!("Tcp({address})")), "{answer}");
    assert!(drain.finish(BOUND).await);
}

#[tokio::test]
async fn a_call_that_comes_between_two_who_serve_waits_for_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let (first, second) = (Drain::new(), Drain::new());
    let doors = open(&path).await.unwrap();
    doors.serve(&which_door(), &first).unwrap();
    assert!(first.finish(BOUND).await);
    let waiting = tokio::spawn(fetch(UnixStream::connect(&path).await.unwrap()));
    let [unix, tcp] = doors.sockets().map(|socket| socket.try_clone_to_owned().unwrap());
    let address = address(&doors);
    drop(doors);
    let handed = Doors::receive(unix, tcp, &path, address).await.unwrap();
    handed.serve(&which_door(), &second).unwrap();
    assert!(waiting.await.unwrap().ends_with("Unix"));
    assert!(second.finish(BOUND).await);
}
