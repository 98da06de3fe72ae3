//! What is inside TLS: whose certificate the client sees, and what becomes of its requests.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use moxie_agent::journal::{ConnectionVerdict, ExchangeError, Outcome, Protocol, Reason};
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::agent::{Agent, BOUND};
use crate::origin::{Origin, Roots, client};

const NAME: &str = "api.example";
const BOTH: &[&str] = &["h2", "http/1.1"];

struct Scene {
    origin: Origin,
    agent: Agent,
    roots: Roots,
    authority: PathBuf,
}

async fn scene(alpn: &[&str]) -> Scene {
    let roots = Roots::new();
    let origin = Origin::http(Some((&roots, NAME, alpn))).await;
    scene_before(origin, roots).await
}

async fn scene_before(origin: Origin, roots: Roots) -> Scene {
    let agent = Agent::start(Some(origin.address), Some(&roots.file())).await;
    let authority = roots.file().with_file_name("moxie.pem");
    std::fs::write(&authority, agent.authority()).unwrap();
    Scene { origin, agent, roots, authority }
}

impl Scene {
    fn url(&self, path: &str) -> String {
        format!("{NAME}:{}{path}", self.origin.address.port())
    }

    async fn shake(&self, trusted: &std::path::Path, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
        let stream = TcpStream::connect(self.agent.door).await?;
        let connector = TlsConnector::from(client(trusted, alpn));
        let name = ServerName::try_from(NAME).unwrap();
        tokio::time::timeout(BOUND, connector.connect(name, stream)).await?
    }

    /// One request on a connection of its own, with the authority trusted.
    async fn get(&self, path: &str, alpn: &[&str]) -> (Version, StatusCode, Bytes) {
        let stream = self.shake(&self.authority, alpn).await.unwrap();
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let request = Request::get(format!("https://{}", self.url(path))).body(Empty::<Bytes>::new()).unwrap();
        let response = if http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let request = Request::get(path).header("host", self.url("")).body(Empty::<Bytes>::new()).unwrap();
            sender.send_request(request).await.unwrap()
        };
        let (version, status) = (response.version(), response.status());
        (version, status, response.into_body().collect().await.unwrap().to_bytes())
    }
}

#[tokio::test]
async fn a_host_that_no_rule_names_shows_its_own_certificate() {
    let scene = scene(BOTH).await;
    scene.agent.rule("other.example/.*", json!({"status_code": 429})).await;
    assert!(scene.shake(&scene.roots.file(), BOTH).await.is_ok());
    let record = &scene.agent.connections(1).await[0];
    assert_eq!((record.protocol, record.verdict), (Protocol::Tls, ConnectionVerdict::Passthrough));
    assert_eq!((record.reason, record.server_name.as_deref()), (Reason::NoRule, Some(NAME)));
}

#[tokio::test]
async fn mocked_and_forwarded_over_http_1_and_http_2() {
    for (alpn, version) in [(&["http/1.1"][..], Version::HTTP_11), (BOTH, Version::HTTP_2)] {
        let scene = scene(BOTH).await;
        scene.agent.rule(&scene.url("/a"), json!({"status_code": 429})).await;
        let (spoken, status, _) = scene.get("/a", alpn).await;
        assert_eq!((spoken, status), (version, StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(scene.origin.requests(), 0);
        let (spoken, status, body) = scene.get("/b", alpn).await;
        assert_eq!((spoken, status, &body[..]), (version, StatusCode::OK, &b"origin saw /b"[..]));
        let exchanges = scene.agent.exchanges(2).await;
        assert_eq!(exchanges[0].outcome, Outcome::Responded);
        assert!(exchanges.iter().all(|exchange| exchange.error.is_none()), "{exchanges:?}");
    }
}

#[tokio::test]
async fn the_protocol_offered_is_the_one_the_destination_chose() {
    let scene = scene(&["http/1.1"]).await;
    scene.agent.rule(&scene.url("/a"), json!({"status_code": 429})).await;
    let stream = scene.shake(&scene.authority, BOTH).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_reaches_the_client() {
    let unknown = Roots::new();
    let origin = Origin::http(Some((&unknown, NAME, BOTH))).await;
    let known = Roots::new();
    let agent = Agent::start(Some(origin.address), Some(&known.file())).await;
    let authority = known.file().with_file_name("moxie.pem");
    std::fs::write(&authority, agent.authority()).unwrap();
    let scene = Scene { origin, agent, roots: unknown, authority };
    scene.agent.rule(&scene.url("/a"), json!({"status_code": 429})).await;
    assert!(scene.shake(&scene.authority, BOTH).await.is_err(), "a good leaf hid a bad certificate");
    assert!(scene.shake(&scene.roots.file(), BOTH).await.is_ok());
    let reasons: Vec<_> = scene.agent.connections(2).await.iter().map(|record| record.reason).collect();
    assert_eq!(reasons, [Reason::UpstreamUntrusted, Reason::UpstreamUntrusted]);
}

#[tokio::test]
async fn a_client_that_refuses_the_authority_is_passed_through_next_time() {
    let scene = scene(BOTH).await;
    scene.agent.rule(&scene.url("/a"), json!({"status_code": 429})).await;
    assert!(scene.shake(&scene.roots.file(), BOTH).await.is_err());
    scene.agent.connections(1).await;
    assert!(scene.shake(&scene.roots.file(), BOTH).await.is_ok());
    let reasons: Vec<_> = scene.agent.connections(2).await.iter().map(|record| record.reason).collect();
    assert_eq!(reasons, [Reason::AuthorityRefused, Reason::ClientRefusedAuthority]);
}

#[tokio::test]
async fn a_client_with_a_pin_of_its_own_is_noticed_by_its_silence() {
    let scene = scene(BOTH).await;
    scene.agent.rule(&scene.url("/a"), json!({"status_code": 429})).await;
    let mut stream = scene.shake(&scene.authority, BOTH).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    assert_eq!(scene.agent.connections(1).await[0].reason, Reason::AuthorityRefused);
    assert!(scene.shake(&scene.roots.file(), BOTH).await.is_ok());
}

#[tokio::test]
async fn rules_apply_per_request_on_a_kept_alive_connection() {
    let scene = scene(&["http/1.1"]).await;
    scene.agent.rule(&scene.url("/first"), json!({"status_code": 429})).await;
    let io = TokioIo::new(scene.shake(&scene.authority, &["http/1.1"]).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    for (path, status) in [("/first", 429), ("/second", 200), ("/first", 429), ("/third", 200)] {
        let request = Request::get(path).header("host", scene.url("")).body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        response.into_body().collect().await.unwrap();
        sender.ready().await.unwrap();
    }
    assert_eq!(scene.origin.requests(), 2);
}

#[tokio::test]
async fn a_trusting_client_that_is_ended_during_a_handshake_has_refused_nothing() {
    let scene = scene(&["http/1.1"]).await;
    scene.agent.rule(&scene.url("/a"), json!({"status_code": 429})).await;
    assert_eq!(scene.get("/a", &["http/1.1"]).await.1, 429);
    let name = ServerName::try_from(NAME).unwrap();
    let mut tls = rustls::ClientConnection::new(client(&scene.authority, &["http/1.1"]), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    drop(answered(&scene, &hello, hello.len()).await);
    scene.agent.connections(2).await;
    assert_eq!(scene.get("/a", &["http/1.1"]).await.1, 429);
}

#[tokio::test]
async fn a_client_that_lost_patience_before_it_saw_a_certificate_has_refused_none() {
    // Its queue takes the agent's connection and nobody ever answers.
    let silent = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let scene = scene_before(Origin::at(silent.local_addr().unwrap()), Roots::new()).await;
    scene.agent.rule(&scene.url("/a"), json!({"status_code": 429})).await;
    let impatient = scene.shake(&scene.authority, BOTH);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), impatient).await.is_err());
    assert_eq!(scene.agent.connections(1).await[0].reason, Reason::ClientClosed);
    assert_eq!(scene.get("/a", BOTH).await.1, 429);
}

#[tokio::test]
async fn a_destination_that_wants_a_clients_certificate_gets_the_clients_own() {
    let roots = Roots::new();
    let config = roots.demanding(&roots.config(NAME, BOTH));
    let scene = scene_before(Origin::tls(config, |_| async { Ok(()) }).await, roots).await;
    scene.agent.rule(&scene.url("/a"), json!({"status_code": 429})).await;
    assert!(scene.shake(&scene.roots.file(), BOTH).await.is_ok(), "the client did not meet the destination");
    assert_eq!(scene.agent.connections(1).await[0].reason, Reason::UpstreamUntrusted);
}

/// A scene whose destination reads a request's head and then does as `serve` says; a rule looks into its host.
async fn scene_of<F, S>(serve: F) -> Scene
where
    F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> S + Clone + Send + Sync + 'static,
    S: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let roots = Roots::new();
    let answer = move |mut stream: tokio_rustls::server::TlsStream<TcpStream>| {
        let serve = serve.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            serve(stream).await
        }
    };
    let origin = Origin::tls(roots.config(NAME, &["http/1.1"]), answer).await;
    let scene = scene_before(origin, roots).await;
    scene.agent.rule(&scene.url("/mock"), json!({"status_code": 429})).await;
    scene
}

#[tokio::test]
async fn an_unannounced_close_reaches_the_client_as_one_behind_the_whole_body() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it";
    let scene = scene_of(|mut stream| async move {
        stream.write_all(ANSWER).await?;
        stream.flush().await?;
        // Without a close_notify.
        stream.get_mut().0.shutdown().await
    })
    .await;
    let mut stream = scene.shake(&scene.authority, &["http/1.1"]).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", scene.url(""));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let end = tokio::time::timeout(BOUND, stream.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, ANSWER);
    // What a client makes of it is up to the client, as it is directly.
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(scene.agent.exchanges(1).await[0].error, None);
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_is_gone_for_the_destination_too() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let scene = scene_of(move |mut stream| {
        let tell = tell.clone();
        async move {
            tell.send("asked").map_err(std::io::Error::other)?;
            // Nothing more comes, so this ends with the connection, in whatever way.
            let _ = stream.read(&mut [0]).await;
            tell.send("left").map_err(std::io::Error::other)
        }
    })
    .await;
    let mut stream = scene.shake(&scene.authority, &["http/1.1"]).await.unwrap();
    let request = format!("GET /slow HTTP/1.1\r\nHost: {}\r\n\r\n", scene.url(""));
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(tokio::time::timeout(BOUND, told.recv()).await, Ok(Some("asked")));
    stream.shutdown().await.unwrap();
    drop(stream);
    assert_eq!(tokio::time::timeout(BOUND, told.recv()).await, Ok(Some("left")), "the destination still waits");
}

#[tokio::test]
async fn a_switch_of_protocols_is_told_as_the_destination_told_it() {
    let scene = scene_of(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n").await?;
        stream.flush().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(|_| ())
    })
    .await;
    for _ in 0..20 {
        let mut stream = scene.shake(&scene.authority, &["http/1.1"]).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", scene.url(""));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains("Connection: Upgrade\r\n"), "{head}");
    }
}

#[tokio::test]
async fn a_hello_of_16_kib_in_many_segments_is_understood() {
    let scene = scene(&["http/1.1"]).await;
    scene.agent.rule(&scene.url("/a"), json!({"status_code": 429})).await;
    // Longer than one record may be, and longer than the first look.
    let padding: Vec<String> = (0..90).map(|n| format!("{n:0>200}")).collect();
    let offered: Vec<&str> = ["http/1.1"].into_iter().chain(padding.iter().map(String::as_str)).collect();
    let name = ServerName::try_from(NAME).unwrap();
    let mut tls = rustls::ClientConnection::new(client(&scene.authority, &offered), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    assert!(hello.len() > 16 * 1024, "{} bytes", hello.len());

    drop(answered(&scene, &hello, 1000).await);
    let record = &scene.agent.connections(1).await[0];
    assert_eq!((record.verdict, record.server_name.as_deref()), (ConnectionVerdict::Intercept, Some(NAME)));
}

/// A connection on which `hello` was sent in segments of so many bytes, and the answer to it has begun.
async fn answered(scene: &Scene, hello: &[u8], segment: usize) -> TcpStream {
    #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
    let mut stream = TcpStream::connect(scene.agent.door).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for segment in hello.chunks(segment) {
        stream.write_all(segment).await.unwrap();
    }
    let mut answer = [0; 6];
    tokio::time::timeout(BOUND, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello in a handshake record");
    stream
}

#[tokio::test]
async fn a_destination_that_ends_before_it_is_asked_is_dialled_anew() {
    let roots = Roots::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let agent = Agent::start(Some(address), Some(&roots.file())).await;
    let authority = roots.file().with_file_name("moxie.pem");
    std::fs::write(&authority, agent.authority()).unwrap();
    agent.rule(&format!("{NAME}:{}/mock", address.port()), json!({"status_code": 429})).await;
    let acceptor = TlsAcceptor::from(Arc::new(roots.config(NAME, &["h2"])));
    let (end, ends) = tokio::sync::oneshot::channel();
    let (gone, is_gone) = tokio::sync::oneshot::channel();
    let destination = tokio::spawn(async move {
        let mut first = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        first.write_all(&crate::frames::settings(&[(3, 77)])).await.unwrap();
        ends.await.unwrap();
        first.shutdown().await.unwrap();
        // The agent lets go of it.
        let said = first.read(&mut [0]).await;
        assert!(!said.is_ok_and(|octets| octets > 0), "it is asked after its end");
        gone.send(()).unwrap();
        let second = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut connection = h2::server::handshake(second).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_response(http::Response::new(()), true).unwrap();
        }
    });
    #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
    let stream = TcpStream::connect(agent.door).await.unwrap();
    let connector = TlsConnector::from(client(&authority, BOTH));
    let stream = connector.connect(ServerName::try_from(NAME).unwrap(), stream).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    // Its SETTINGS have come once the client keeps to them.
    let introduced = async {
        while sender.current_max_send_streams() != 77 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, introduced).await.expect("the destination's SETTINGS");
    end.send(()).unwrap();
    tokio::time::timeout(BOUND, is_gone).await.expect("the agent lets go of it").unwrap();
    let request = Request::get(format!("https://{NAME}:{}/a", address.port())).body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let response = tokio::time::timeout(BOUND, response).await.expect("an answer").unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    drop(sender);
    connection.abort();
    destination.abort();
}

#[tokio::test]
async fn a_client_that_ends_its_direction_at_once_is_answered_all_the_same() {
    let scene = scene_of(|mut stream| async move {
        // To its end: what the client has said is all that comes.
        stream.read_to_end(&mut Vec::new()).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
        stream.shutdown().await
    })
    .await;
    // The destination is known after the first, and dialled for the request from then on.
    for _ in 0..3 {
        let mut stream = scene.shake(&scene.authority, &["http/1.1"]).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", scene.url(""));
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut read = Vec::new();
        tokio::time::timeout(BOUND, stream.read_to_end(&mut read)).await.unwrap().unwrap();
        assert!(read.ends_with(b"ok"), "{}", read.escape_ascii());
    }
    assert!(scene.agent.exchanges(3).await.iter().all(|exchange| exchange.error.is_none()));
}

#[tokio::test]
async fn a_client_that_ends_while_a_rules_delay_runs_has_lost_patience() {
    let scene = scene(&["http/1.1"]).await;
    scene.agent.rule(&scene.url("/slow"), json!({"status_code": 429, "response_delay": 60})).await;
    let mut stream = scene.shake(&scene.authority, &["http/1.1"]).await.unwrap();
    let request = format!("GET /slow HTTP/1.1\r\nHost: {}\r\n\r\n", scene.url(""));
    stream.write_all(request.as_bytes()).await.unwrap();
    // What ends with its request waits for its answer.
    scene.agent.await_hit().await;
    stream.shutdown().await.unwrap();
    let mut read = Vec::new();
    let _ = tokio::time::timeout(BOUND, stream.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"");
    let record = &scene.agent.exchanges(1).await[0];
    assert_eq!((record.status, record.error), (None, Some(ExchangeError::ClientGone)));
}
