//! HTTP/2, relayed: what each end sees of the other's frames, and what a rule may change of them.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use moxie_agent::journal::{ExchangeError, Outcome, Protocol as Spoken};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};
use crate::frames::{
    CONTINUATION, DATA, END, END_HEADERS, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, WITH_PRIORITY, Wire, block, frame, get, settings,
};
use crate::origin::Origin;

const MEGABYTE: usize = 1 << 20;

/// An agent that looks into `h2.example`, and the place where it finds it.
async fn scene() -> (Agent, TcpListener) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let agent = Agent::start(Some(listener.local_addr().unwrap()), None).await;
    agent.rule("h2.example/mock", json!({"status_code": 429, "response": "slow down"})).await;
    (agent, listener)
}

async fn accept(listener: &TcpListener) -> Wire {
    Wire(timeout(BOUND, listener.accept()).await.expect("the destination is dialled").unwrap().0)
}

/// A client with a library of its own.
async fn client(agent: &Agent) -> SendRequest<Bytes> {
    #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
    let stream = TcpStream::connect(agent.door).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Serves every connection with a library; `answer` does what each request asks for.
fn serve<F, A>(listener: TcpListener, answer: F)
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> A + Clone + Send + 'static,
    A: Future<Output = Result<(), h2::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut server = h2::server::Builder::new();
                let mut connection = server.enable_connect_protocol().handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond));
                }
            });
        }
    });
}

fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://h2.example{path}")).body(()).unwrap()
}

/// Sends all of `body`, as fast as it is taken. It is not the end.
async fn send_all(stream: &mut SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap_or(Ok(0))?;
        let now = body.split_to(room.min(body.len()));
        stream.send_data(now, false)?;
    }
    Ok(())
}

fn end(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    stream.send_data(Bytes::new(), true)
}

/// Reads a body to its end, and the trailers.
async fn read_all(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut read = Vec::new();
    while let Some(data) = timeout(BOUND, body.data()).await.expect("data") {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        read.extend_from_slice(&data);
    }
    Ok((read, body.trailers().await?))
}

async fn ask(sender: &mut SendRequest<Bytes>, path: &str) -> Result<(Response<()>, Vec<u8>), h2::Error> {
    let mut sender = timeout(BOUND, sender.clone().ready()).await.expect("room for a stream")?;
    let (response, _) = sender.send_request(request(Method::GET, path), true)?;
    let (head, body) = timeout(BOUND, response).await.expect("an answer")?.into_parts();
    Ok((Response::from_parts(head, ()), read_all(body).await?.0))
}

#[tokio::test]
async fn what_no_rule_answers_passes_octet_for_octet() {
    let (agent, listener) = scene().await;
    // Huffman, the tables, a name twice, crumbs of a cookie, a field that is never to be indexed.
    let literal = |pattern: u8, name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![pattern], text(name), text(value)].concat()
    };
    let fields = [
        vec![0x82, 0x86, 0x44, 2, b'/', b'a', 0x41, 10],
        b"h2.example".to_vec(),
        literal(0x40, "x-a", "1"),
        literal(0x00, "x-b", "2"),
        literal(0x40, "x-a", "3"),
        literal(0x10, "authorization", "secret"),
        literal(0x40, "cookie", "a=1"),
        literal(0x40, "cookie", "b=2"),
        // The newest entry of the table.
        vec![0xbe],
    ]
    .concat();
    let (begin, rest) = fields.split_at(20);
    let request = [
        frame(HEADERS, WITH_PRIORITY | PADDED, 7, &[&[3, 0, 0, 0, 0, 200], begin, &[0, 0, 0]].concat()),
        frame(CONTINUATION, 0, 7, &[]),
        frame(CONTINUATION, END_HEADERS, 7, rest),
        frame(DATA, PADDED, 7, b"\x04body\0\0\0\0"),
    ]
    .concat();
    let window = frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]);
    let values = [(1, 1 << 20), (3, 10), (4, 100_000), (5, (1 << 24) - 1), (0xabcd, 5)];
    let mut client = Wire::client(&agent, &values, &[&window[..], &request].concat()).await;
    let mut origin = accept(&listener).await;
    // But for what the agent itself could not hold.
    let cut = settings(&[(1, 65_536), (3, 10), (4, 100_000), (5, 1 << 20), (0xabcd, 5)]);
    origin.expect(&[PREFACE, &cut, &window, &request].concat(), "the request").await;

    let answer = [
        settings(&[(3, 100), (8, 1)]),
        frame(SETTINGS, END, 0, &[]),
        frame(WINDOW_UPDATE, 0, 7, &[0, 0, 4, 0]),
        frame(HEADERS, END_HEADERS, 7, &block(&[(":status", "103"), ("link", "</a>")])),
        frame(HEADERS, END_HEADERS, 7, &[vec![0x88], literal(0x40, "x-c", "1"), vec![0xbe]].concat()),
        frame(DATA, PADDED, 7, b"\x02answer\0\0"),
        frame(DATA, 0, 7, b""),
        frame(HEADERS, END | END_HEADERS, 7, &literal(0x40, "grpc-status", "0")),
        frame(10, 0, 0, b"\0\x02h3ALTSVC"),
        frame(PING, 0, 0, b"12345678"),
        frame(GOAWAY, 0, 0, &[&[0, 0, 0, 7, 0, 0, 0x5e, 0xed][..], b"why"].concat()),
    ]
    .concat();
    origin.send(&answer).await;
    client.expect(&answer, "the answer").await;

    let more = [
        frame(SETTINGS, END, 0, &[]),
        frame(PING, END, 0, b"12345678"),
        frame(PRIORITY, 0, 9, &[0, 0, 0, 7, 10]),
        frame(0xbe, 0x55, 7, b"what is this"),
        frame(HEADERS, END | END_HEADERS, 7, &literal(0x40, "x-trailer", "t")),
        settings(&[(4, 70_000)]),
        frame(RST_STREAM, 0, 7, &[0, 0, 0x12, 0x34]),
    ]
    .concat();
    client.send(&more).await;
    origin.expect(&more, "the rest").await;
    origin.send(&frame(SETTINGS, END, 0, &[])).await;
    client.expect(&frame(SETTINGS, END, 0, &[]), "the answer to SETTINGS").await;
    let record = &agent.exchanges(1).await[0];
    assert_eq!((record.method.as_str(), record.url.as_str()), ("GET", "http://h2.example/a"));
    assert_eq!((record.protocol, record.status, record.outcome), (Spoken::Http2, Some(200), Outcome::Forwarded));
    assert_eq!((record.request_bytes, record.response_bytes, record.error), (4, 6, None));

    client.0.shutdown().await.unwrap();
    assert_eq!(origin.next().await, None, "the client's end reaches the destination");
    drop(origin);
    assert_eq!(client.next().await, None);
}

/// Answers with the request's fields as the body, then its body, and its trailers as trailers.
async fn mirror(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let mut stream = respond.send_response(Response::builder().header("x-origin", "1").body(()).unwrap(), false)?;
    let (read, trailers) = read_all(body).await?;
    stream.send_data(text.into(), false)?;
    send_all(&mut stream, read.into()).await?;
    stream.send_trailers(trailers.unwrap_or_default())
}

#[tokio::test]
async fn rules_answer_and_edit_between_what_passes() {
    let (agent, listener) = scene().await;
    serve(listener, mirror);
    let edit = json!({"call_backend": true, "status_code": 418, "custom_headers": {"x-sent": "yes"},
        "response_headers": {"x-origin": ["2", "3"], "x-new": "n"}, "response_delay": "50ms"});
    agent.rule("h2.example/edit", edit).await;
    agent.rule("h2.example/body", json!({"call_backend": true, "response": "mine"})).await;
    let mut sender = client(&agent).await;
    for round in 0..3 {
        let (head, body) = ask(&mut sender, "/mock").await.unwrap();
        assert_eq!((head.status(), &body[..]), (StatusCode::TOO_MANY_REQUESTS, &b"slow down"[..]), "round {round}");
        assert_eq!(head.headers().get("content-length").unwrap(), "9");
        let (head, body) = ask(&mut sender, "/a?b=c").await.unwrap();
        assert_eq!((head.status(), &body[..]), (StatusCode::OK, &b"GET http://h2.example/a?b=c\n"[..]));
        assert_eq!(head.headers().len(), 1, "{head:?}");
        let (head, body) = ask(&mut sender, "/edit").await.unwrap();
        let values: Vec<_> = head.headers().get_all("x-origin").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!((head.status(), values), (StatusCode::IM_A_TEAPOT, vec!["2", "3"]));
        assert_eq!(body, b"GET http://h2.example/edit\nx-sent: yes\n");
        let (head, body) = ask(&mut sender, "/body").await.unwrap();
        assert_eq!((head.status(), &body[..]), (StatusCode::OK, &b"mine"[..]));
    }
    let exchanges = agent.exchanges(12).await;
    assert!(exchanges.iter().all(|exchange| exchange.error.is_none()), "{exchanges:?}");
    assert!(exchanges[2].injected_delay_ms >= 50 && exchanges[2].outcome == Outcome::Rewritten, "{:?}", exchanges[2]);
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways_at_once() {
    let (agent, listener) = scene().await;
    serve(listener, mirror);
    let mut sender = client(&agent).await;
    // So that header blocks are written anew.
    ask(&mut sender, "/mock").await.unwrap();
    let (response, mut stream) = sender.send_request(request(Method::POST, "/a"), false).unwrap();
    let sent: Vec<u8> = (0..3 * MEGABYTE).map(|n| (n % 251) as u8).collect();
    let body = Bytes::from(sent.clone());
    tokio::spawn(async move {
        send_all(&mut stream, body).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    });
    let (read, trailers) = read_all(timeout(BOUND, response).await.unwrap().unwrap().into_body()).await.unwrap();
    let text = b"POST http://h2.example/a\n";
    assert_eq!(&read[..text.len()], text);
    assert!(read[text.len()..] == sent[..], "bodies differ: {} octets of {}", read.len() - text.len(), sent.len());
    assert_eq!(trailers.unwrap().get("x-sum").unwrap(), "42");
    let record = &agent.exchanges(2).await[1];
    assert_eq!((record.request_bytes, record.error), (sent.len() as u64, None));
}

#[tokio::test]
async fn resets_keep_their_codes_both_ways() {
    let (agent, listener) = scene().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    serve(listener, move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
        let tell = tell.clone();
        async move {
            let path = request.uri().path().to_owned();
            if let Some(code) = path.strip_prefix("/reset/") {
                respond.send_reset(Reason::from(code.parse::<u32>().unwrap()));
                return Ok(());
            }
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(Bytes::from_static(b"half"), false)?;
            let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await?;
            tell.send(reason).map_err(|_| Reason::CANCEL.into())
        }
    });
    let mut sender = client(&agent).await;
    let codes =
        [Reason::NO_ERROR, Reason::INTERNAL_ERROR, Reason::REFUSED_STREAM, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM];
    for code in codes.into_iter().chain([Reason::from(0xbeef)]) {
        let error = ask(&mut sender, &format!("/reset/{}", u32::from(code))).await.unwrap_err();
        assert_eq!(error.reason(), Some(code), "{error}");
        let (response, mut stream) = sender.send_request(request(Method::POST, "/hang"), false).unwrap();
        let mut body = timeout(BOUND, response).await.unwrap().unwrap().into_body();
        assert_eq!(timeout(BOUND, body.data()).await.unwrap().unwrap().unwrap(), "half");
        stream.send_reset(code);
        assert_eq!(timeout(BOUND, told.recv()).await.unwrap(), Some(code));
    }
    let exchanges = agent.exchanges(12).await;
    let errors: Vec<_> = exchanges.iter().map(|exchange| exchange.error).collect();
    let both = [Some(ExchangeError::UpstreamBroke), Some(ExchangeError::ClientGone)];
    assert_eq!(errors, [both; 6].concat());
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_sender() {
    let (agent, listener) = scene().await;
    let window = frame(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes());
    let mut client = Wire::client(&agent, &[(4, 0x7fff_ffff)], &[window, get(1, "/a")].concat()).await;
    let mut origin = accept(&listener).await;
    origin.send(&[settings(&[]), frame(HEADERS, END_HEADERS, 1, &[0x88])].concat()).await;
    let chunk = frame(DATA, 0, 1, &[b'x'; 16_000]);
    let mut sent = 0;
    // Nothing is read, so this goes on until every buffer on the way is full.
    while let Ok(written) =
        timeout(std::time::Duration::from_secs(1), origin.0.write(&chunk[sent % chunk.len()..])).await
    {
        sent += written.unwrap();
        assert!(sent < 300 * MEGABYTE, "the sender is never held back");
    }
    assert!(sent < 64 * MEGABYTE, "{sent} octets are on the way");
    let mut left = sent.next_multiple_of(chunk.len()) - sent;
    let rest = tokio::spawn(async move {
        while left > 0 {
            left -= origin.0.write(&chunk[chunk.len() - left..]).await.unwrap();
        }
        origin.send(&frame(DATA, END, 1, b"end")).await;
        origin
    });
    let mut read = 0;
    loop {
        let data = client.next_of(DATA).await;
        if data.flags & END != 0 {
            break;
        }
        read += data.payload.len() + 9;
    }
    assert_eq!(read, sent.next_multiple_of(16_009));
    drop(rest.await.unwrap());
}

#[tokio::test]
async fn a_rules_long_body_keeps_to_the_windows_and_leaves_the_others_theirs() {
    let (agent, listener) = scene().await;
    serve(listener, |_, mut respond: SendResponse<Bytes>| async move {
        let mut stream = respond.send_response(Response::new(()), false)?;
        send_all(&mut stream, vec![b'o'; MEGABYTE].into()).await?;
        end(&mut stream)
    });
    agent.rule("h2.example/long", json!({"status_code": 200, "response": "r".repeat(MEGABYTE)})).await;
    agent.rule("h2.example/replaced", json!({"call_backend": true, "response": "s".repeat(MEGABYTE)})).await;
    // The library's windows are the smallest that are usual.
    let sender = client(&agent).await;
    let asked = (0..12).map(|n| {
        let mut sender = sender.clone();
        async move {
            let (path, octet) = [("/long", b'r'), ("/origin", b'o'), ("/replaced", b's')][n % 3];
            let (head, body) = ask(&mut sender, path).await.unwrap();
            assert_eq!(head.status(), 200);
            assert!(body.len() == MEGABYTE && body.iter().all(|each| *each == octet), "{path}: {} octets", body.len());
        }
    });
    let asked: Vec<_> = asked.map(tokio::spawn).collect();
    for each in asked {
        each.await.unwrap();
    }
}

#[tokio::test]
async fn a_request_body_for_a_rule_is_read_whatever_its_length() {
    let (agent, _listener) = scene().await;
    let mut sender = client(&agent).await;
    for _ in 0..2 {
        let (response, mut stream) = sender.send_request(request(Method::POST, "/mock"), false).unwrap();
        timeout(BOUND, send_all(&mut stream, vec![b'x'; 2 * MEGABYTE].into())).await.expect("it is taken").unwrap();
        end(&mut stream).unwrap();
        assert_eq!(timeout(BOUND, response).await.unwrap().unwrap().status(), 429);
    }
    assert!(agent.exchanges(2).await.iter().all(|exchange| exchange.request_bytes == 2 * MEGABYTE as u64));
}

#[tokio::test]
async fn a_destination_that_leaves_is_heard_and_rules_answers_are_not_lost() {
    let (agent, listener) = scene().await;
    agent.rule("h2.example/slow", json!({"status_code": 503, "response_delay": "300ms"})).await;
    let requests = [get(1, "/a"), get(3, "/b"), get(5, "/slow")].concat();
    let mut client = Wire::client(&agent, &[], &requests).await;
    let mut origin = accept(&listener).await;
    origin.expect(PREFACE, "the preface").await;
    assert_eq!(origin.next_of(HEADERS).await.stream, 1);
    assert_eq!(origin.next_of(HEADERS).await.stream, 3);
    let left =
        [settings(&[]), frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\x0bcalm"), frame(HEADERS, 5, 1, &[0x88])].concat();
    origin.send(&left).await;
    let goaway = client.next_of(GOAWAY).await;
    assert_eq!((goaway.word(0), goaway.word(4), &goaway.payload[8..]), (5, 11, &b"calm"[..]));
    let refused = client.next_of(RST_STREAM).await;
    assert_eq!((refused.stream, refused.word(0)), (3, u32::from(Reason::REFUSED_STREAM)));
    assert_eq!(client.next_of(HEADERS).await.stream, 1);
    origin.0.shutdown().await.unwrap();
    assert_eq!(client.next_of(HEADERS).await.stream, 5, "the rule's answer");
    while client.next().await.is_some() {}
}

#[tokio::test]
async fn a_reset_connection_is_reset_on_the_other_side() {
    let (agent, listener) = scene().await;
    for client_breaks in [true, false] {
        let mut client = Wire::client(&agent, &[], &get(1, "/a")).await;
        let mut origin = accept(&listener).await;
        origin.next_of_first().await;
        origin.send(&settings(&[])).await;
        client.next_of(SETTINGS).await;
        let (breaking, mut other) = if client_breaks { (client, origin) } else { (origin, client) };
        // What was not read would make the kernel send a reset of its own.
        breaking.0.set_zero_linger().unwrap();
        drop(breaking);
        let mut read = Vec::new();
        let error = timeout(BOUND, other.0.read_to_end(&mut read)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    let errors: Vec<_> = agent.exchanges(2).await.iter().map(|exchange| exchange.error).collect();
    assert_eq!(errors, [Some(ExchangeError::ClientGone), Some(ExchangeError::UpstreamBroke)]);
}

#[tokio::test]
async fn nobody_there_ends_a_stream_and_not_what_rules_answer() {
    let agent = Agent::start(Some(Origin::nobody().await), None).await;
    agent.rule("h2.example/mock", json!({"status_code": 429})).await;
    let mut sender = client(&agent).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut sender, "/mock").await.unwrap().0.status(), 429);
        assert_eq!(ask(&mut sender, "/a").await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    }
    let exchanges = agent.exchanges(6).await;
    assert_eq!(exchanges[1].error, Some(ExchangeError::UpstreamUnreachable));
}

#[tokio::test]
async fn connect_and_its_extended_form_carry_octets() {
    let (agent, listener) = scene().await;
    serve(listener, |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
        assert_eq!(request.method(), Method::CONNECT);
        let mut body = request.into_body();
        let mut stream = respond.send_response(Response::new(()), false)?;
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            stream.send_data(data, false)?;
        }
        end(&mut stream)
    });
    let mut sender = client(&agent).await;
    for extended in [false, true] {
        let mut request = Request::builder().method(Method::CONNECT).uri("h2.example:80").body(()).unwrap();
        if extended {
            // The destination's word that it knows the form comes through.
            let enabled = async {
                while !sender.is_extended_connect_protocol_enabled() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(BOUND, enabled).await.expect("its SETTINGS");
            *request.uri_mut() = "http://h2.example/chat".parse().unwrap();
            request.extensions_mut().insert(Protocol::from_static("websocket"));
        }
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        let mut body = timeout(BOUND, response).await.unwrap().unwrap().into_body();
        for word in ["one", "two"] {
            stream.send_data(Bytes::from_static(word.as_bytes()), false).unwrap();
            assert_eq!(timeout(BOUND, body.data()).await.unwrap().unwrap().unwrap(), word);
        }
        end(&mut stream).unwrap();
        assert!(read_all(body).await.unwrap().0.is_empty());
    }
    let exchanges = agent.exchanges(2).await;
    assert_eq!(exchanges[1].url, "http://h2.example/chat");
}

#[tokio::test]
async fn what_a_rule_cannot_answer_with_resets_one_stream() {
    let (agent, listener) = scene().await;
    serve(listener, mirror);
    agent.rule("h2.example/early", json!({"status_code": 103})).await;
    agent.rule("h2.example/real", json!({"status_code": 103, "call_backend": true})).await;
    let mut sender = client(&agent).await;
    for path in ["/early", "/real"] {
        assert_eq!(ask(&mut sender, path).await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR), "{path}");
    }
    assert_eq!(ask(&mut sender, "/a").await.unwrap().0.status(), 200);
    let outcomes: Vec<_> = agent.exchanges(3).await.into_iter().map(|exchange| exchange.outcome).collect();
    assert_eq!(outcomes, [Outcome::Faulted, Outcome::Faulted, Outcome::Forwarded]);
}

#[tokio::test]
async fn what_cannot_be_read_is_the_other_sides_to_judge() {
    let (agent, listener) = scene().await;
    let mut client = Wire::client(&agent, &[], &get(1, "/a")).await;
    let mut origin = accept(&listener).await;
    origin.next_of_first().await;
    origin.send(&settings(&[])).await;
    client.next_of(SETTINGS).await;
    // No table has such an entry, and no frame is so long.
    let odd = [frame(HEADERS, END | END_HEADERS, 3, &[0xff, 0xff, 0xff, 0x7f]), vec![0xff; 40]].concat();
    client.send(&odd).await;
    origin.expect(&odd, "what cannot be read").await;
    origin.send(b"and no HTTP/2 at all").await;
    client.expect(b"and no HTTP/2 at all", "what is said to it").await;
    drop(client);
    assert_eq!(origin.next().await, None);
}

#[tokio::test]
async fn what_cannot_be_read_after_a_rule_has_acted_ends_with_its_code() {
    let (agent, _listener) = scene().await;
    let odd = frame(HEADERS, END | END_HEADERS, 3, &[0xff, 0xff, 0xff, 0x7f]);
    let mut client = Wire::client(&agent, &[], &get(1, "/mock")).await;
    assert_eq!(client.next_of(HEADERS).await.stream, 1);
    client.send(&odd).await;
    let goaway = client.next_of(GOAWAY).await;
    assert_eq!((goaway.word(0), goaway.word(4)), (1, u32::from(Reason::COMPRESSION_ERROR)));
    assert_eq!(client.next().await, None);
    let mut client = Wire::client(&agent, &[], &get(1, "/mock")).await;
    client.next_of(HEADERS).await;
    client.send(&[0xff; 40]).await;
    assert_eq!(client.next_of(GOAWAY).await.word(4), u32::from(Reason::FRAME_SIZE_ERROR));
}

#[tokio::test]
async fn an_agent_that_ends_says_so_and_serves_what_is_under_way() {
    let (agent, listener) = scene().await;
    let mut client = Wire::client(&agent, &[], &get(1, "/a")).await;
    let mut origin = accept(&listener).await;
    origin.next_of_first().await;
    origin.send(&settings(&[])).await;
    client.next_of(SETTINGS).await;
    let ended = agent.stop();
    let talked = async {
        let goaway = client.next_of(GOAWAY).await;
        assert_eq!((goaway.word(0), goaway.word(4)), (0x7fff_ffff, 0), "none is refused yet");
        let ping = client.next_of(PING).await;
        // A request that was on its way is served.
        client.send(&[get(3, "/b"), frame(PING, END, 0, &ping.payload)].concat()).await;
        assert_eq!(client.next_of(GOAWAY).await.word(0), 3);
        client.send(&get(5, "/late")).await;
        let refused = client.next_of(RST_STREAM).await;
        assert_eq!((refused.stream, refused.word(0)), (5, u32::from(Reason::REFUSED_STREAM)));
        assert_eq!(origin.next_of(HEADERS).await.stream, 3);
        for stream in [3, 1] {
            origin.send(&frame(HEADERS, END | END_HEADERS, stream, &[0x88])).await;
            assert_eq!(client.next_of(HEADERS).await.stream, stream);
        }
        assert_eq!(client.next().await, None);
    };
    let ((), ()) = timeout(2 * BOUND, async { tokio::join!(ended, talked) }).await.expect("it ends");
}

impl Wire {
    /// Reads past a client's preface to its first request.
    async fn next_of_first(&mut self) {
        self.expect(PREFACE, "the preface").await;
        self.next_of(HEADERS).await;
    }
}

#[tokio::test]
async fn what_was_waited_of_a_delay_is_on_record_though_the_client_left() {
    let (agent, _listener) = scene().await;
    agent.rule("h2.example/slow", json!({"status_code": 429, "response_delay": 60})).await;
    let mut client = Wire::client(&agent, &[], &get(1, "/slow")).await;
    agent.await_hit().await;
    // Some of the delay is to be over; how much does not matter.
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    client.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
    let record = &agent.exchanges(1).await[0];
    assert_eq!((record.status, record.error), (None, Some(ExchangeError::ClientGone)));
    assert!((1..60_000).contains(&record.injected_delay_ms), "{}", record.injected_delay_ms);
}
