//! What the proxy takes of a connection, and what it leaves.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a client of this test's own, on loopback")]
    let (client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

fn proxy() -> Proxy {
    Proxy::open("127.0.0.1:0".parse().unwrap(), StandIns::default()).unwrap()
}

async fn asked(bytes: &[u8]) -> (Result<Origin, DivertError>, Vec<u8>) {
    let (mut client, mut accepted) = pair().await;
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let origin = proxy().ask(&accepted, &Namespace::own().unwrap()).await;
    let mut rest = Vec::new();
    accepted.read_to_end(&mut rest).await.unwrap();
    (origin, rest)
}

#[tokio::test]
async fn of_a_tunnel_the_head_is_taken_to_the_byte() {
    let (origin, rest) = asked(b"CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01rest").await;
    let origin = origin.unwrap();
    assert_eq!(origin.destination, "127.0.0.1:443".parse().unwrap());
    assert_eq!(origin.asked.unwrap().form, Form::Tunnel);
    assert_eq!(rest, b"\x16\x03\x01rest");
}

#[tokio::test]
async fn of_requests_nothing_is_taken() {
    let request = b"GET http://127.0.0.1:81/x HTTP/1.1\r\nHost: y\r\n\r\nGET";
    let (origin, rest) = asked(request).await;
    let asked = origin.unwrap().asked.unwrap();
    assert_eq!((asked.form, asked.host.as_str(), asked.port), (Form::Requests, "127.0.0.1", 81));
    assert_eq!(rest, request);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused_and_an_unfinished_one_is_the_clients_end() {
    let mut endless = b"CONNECT a:1 HTTP/1.1\r\nx: ".to_vec();
    endless.resize(MAX_HEAD + 1, b'a');
    assert!(matches!(asked(&endless).await.0, Err(DivertError::NotServed(Refusal::TooLarge))));
    assert!(matches!(asked(b"CONNECT a:1 HT").await.0, Err(DivertError::Client { .. })));
    assert!(matches!(asked(b"").await.0, Err(DivertError::Client { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_not_waited_for_without_end() {
    let (client, accepted) = pair().await;
    let silent = first_head(&accepted).await;
    assert!(matches!(silent, Err(DivertError::NotServed(Refusal::Silent))), "{silent:?}");
    drop(client);
}

#[test]
fn a_door_that_is_taken_says_how_to_choose_another() {
    let first = proxy();
    let error = Proxy::open(first.door, StandIns::default()).unwrap_err().to_string();
    assert!(error.contains("divert.proxy"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = runtime.block_on(asked(&bytes));
    }
}
