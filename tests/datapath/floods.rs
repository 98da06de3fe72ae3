//! Floods of HTTP/2 frames, each against a connection that a rule answers on and against one that passes: the agent keeps
//! to its bounds, goes on serving others, and whatever end the connection comes to, it is one that HTTP/2 has.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};
use crate::frames::{
    CONTINUATION, DATA, END, END_HEADERS, Frame, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, Wire, frame, get, head, settings,
};

/// Frames of each flood. With fewer a bound that is missing would not show.
const MANY: u32 = 5_000;
const MARK: &[u8; 8] = b"the last";

/// A name, and what is sent after a first request on stream 1; streams from 3 on are free. `path` is what requests are for.
type Script = (&'static str, fn(path: &str) -> Vec<u8>);

const FLOODS: &[Script] = &[
    ("rapid reset", |path| streams().flat_map(|id| [get(id, path), reset(id, 8)].concat()).collect()),
    ("reset of requests that are not whole", |path| {
        streams().flat_map(|id| [frame(HEADERS, END_HEADERS, id, &head("POST", path)), reset(id, 8)].concat()).collect()
    }),
    ("made you reset by a window of nothing", |path| {
        streams().flat_map(|id| [get(id, path), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()).collect()
    }),
    ("made you reset by a window beyond all", |path| {
        streams().flat_map(|id| [get(id, path), frame(WINDOW_UPDATE, 0, id, &[0x7f, 255, 255, 255])].concat()).collect()
    }),
    ("made you reset by data after the end", |path| {
        streams().flat_map(|id| [get(id, path), frame(DATA, END, id, b"x")].concat()).collect()
    }),
    ("a block without an end", |path| {
        let begin = frame(HEADERS, END, 3, &head("GET", path));
        [begin, (0..MANY).flat_map(|_| frame(CONTINUATION, 0, 3, b"")).collect()].concat()
    }),
    ("a long block without an end", |path| {
        let field = [&[0, 1, b'a', 100][..], &[b'x'; 100]].concat().repeat(100);
        let begin = frame(HEADERS, END, 3, &head("GET", path));
        [begin, (0..200).flat_map(|_| frame(CONTINUATION, 0, 3, &field)).collect()].concat()
    }),
    ("SETTINGS", |_| (0..MANY).flat_map(|n| settings(&[(4, n)])).collect()),
    ("SETTINGS of many values", |_| {
        let values: Vec<(u16, u32)> = (0..2000).map(|n| (n, 1 << 14)).collect();
        (0..100).flat_map(|_| settings(&values)).collect()
    }),
    ("answers to SETTINGS that nobody sent", |_| (0..MANY).flat_map(|_| frame(SETTINGS, END, 0, b"")).collect()),
    ("PING", |_| (0..MANY).flat_map(|_| frame(PING, 0, 0, b"12345678")).collect()),
    ("answers to PINGs that nobody sent", |_| (0..MANY).flat_map(|_| frame(PING, END, 0, b"mx drain")).collect()),
    ("empty DATA", |path| {
        let begin = frame(HEADERS, END_HEADERS, 3, &head("POST", path));
        [begin, (0..MANY).flat_map(|_| frame(DATA, 0, 3, b"")).collect(), frame(DATA, END, 3, b"")].concat()
    }),
    ("padding and nothing else", |path| {
        let begin = frame(HEADERS, END_HEADERS, 3, &head("POST", path));
        let padded = [&[63][..], &[0; 63]].concat();
        [begin, (0..1000).flat_map(|_| frame(DATA, PADDED, 3, &padded)).collect(), frame(DATA, END, 3, b"")].concat()
    }),
    ("DATA of one octet", |path| {
        let begin = frame(HEADERS, END_HEADERS, 3, &head("POST", path));
        [begin, (0..MANY).flat_map(|_| frame(DATA, 0, 3, b"x")).collect(), frame(DATA, END, 3, b"")].concat()
    }),
    ("DATA of streams that nobody opened", |_| streams().flat_map(|id| frame(DATA, 0, id, b"")).collect()),
    ("an HPACK bomb", |path| {
        let entry = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'x'; 4000]].concat();
        let fill = frame(HEADERS, END | END_HEADERS, 3, &[head("GET", path), entry].concat());
        let bomb = [head("GET", path), vec![0xbe; 16_000]].concat();
        [fill, (0..50).flat_map(|n| frame(HEADERS, END | END_HEADERS, 5 + 2 * n, &bomb)).collect()].concat()
    }),
    ("a table that changes its size", |path| {
        let resize = [[0x20, 0x3f, 0xe1, 0x1f].repeat(2000), head("GET", path)].concat();
        (0..50).flat_map(|n| frame(HEADERS, END | END_HEADERS, 3 + 2 * n, &resize)).collect()
    }),
    ("requests whose answers have no window", |path| {
        [settings(&[(4, 0)]), streams().take(2000).flat_map(|id| get(id, path)).collect()].concat()
    }),
    ("PRIORITY", |_| (0..MANY).flat_map(|n| frame(PRIORITY, 0, 2 * n + 3, &[0, 0, 0, 1, 9])).collect()),
    ("PRIORITY of itself", |path| {
        let own = [&[0, 0, 0, 3, 9][..], &head("GET", path)].concat();
        frame(HEADERS, END | END_HEADERS | WITH_PRIORITY, 3, &own)
    }),
    ("WINDOW_UPDATE", |_| (0..MANY).flat_map(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).collect()),
    ("WINDOW_UPDATE beyond all", |_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]).repeat(100)),
    ("GOAWAY", |_| (0..MANY).flat_map(|_| frame(GOAWAY, 0, 0, &[0; 8])).collect()),
    ("frames that HTTP/2 does not know", |_| (0..MANY).flat_map(|n| frame(0x40, 255, n, b"????")).collect()),
    ("a push by a client", |path| frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &head("GET", path)].concat())),
    ("frames of the wrong length", |_| {
        let wrong = [frame(RST_STREAM, 0, 1, b"abc"), frame(PING, 0, 0, b""), frame(WINDOW_UPDATE, 0, 0, b"")];
        [wrong.concat(), frame(SETTINGS, 0, 0, b"abcde"), frame(GOAWAY, 0, 0, b"")].concat()
    }),
    ("padding longer than its frame", |_| frame(DATA, PADDED, 1, &[200, 0, 0])),
    ("a frame longer than any may be", |_| [&[255, 255, 255, 0, 0, 0, 0, 0, 1][..], &[0; 70_000]].concat()),
    ("what is no HTTP/2", |_| b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100)),
    ("nothing more", |_| Vec::new()),
];

fn streams() -> impl Iterator<Item = u32> {
    (0..MANY).map(|n| 3 + 2 * n)
}

fn reset(stream: u32, code: u8) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, code])
}

/// Serves HTTP/2 by a library, which has bounds of its own.
fn origin(listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    // A client that has gone on needs no answer.
                    let _ = respond.send_response(http::Response::new(()), false).map(|mut stream| {
                        let _ = stream.send_data(bytes::Bytes::from_static(b"ok"), true);
                    });
                }
            });
        }
    });
}

/// What the connection answers to a PING after the flood, or how it ended.
async fn outcome(mut wire: Wire, flood: Vec<u8>) -> Option<Frame> {
    let (mut from, mut to) = wire.0.into_split();
    let sent = tokio::spawn(async move {
        // A connection that has ended takes no more.
        let _ = to.write_all(&[flood, frame(PING, 0, 0, MARK)].concat()).await;
        to
    });
    let mut last = None;
    let read = async {
        while let Ok(frame) = Wire::read_from(&mut from).await {
            let is_mark = frame.kind == PING && frame.flags == END && frame.payload == MARK;
            if is_mark || frame.kind == GOAWAY {
                last = Some(frame);
            }
            if is_mark {
                break;
            }
        }
    };
    timeout(3 * BOUND, read).await.expect("an answer, or the end");
    wire = Wire(from.reunite(timeout(BOUND, sent).await.expect("all is taken, or nothing more").unwrap()).unwrap());
    drop(wire);
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_borne() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let agent = Agent::start(Some(listener.local_addr().unwrap()), None).await;
    agent.rule("h2.example/mock", json!({"status_code": 429, "response": "slow down"})).await;
    origin(listener);
    for (name, flood) in FLOODS {
        for path in ["/mock", "/a"] {
            let mut wire = Wire::client(&agent, &[], &get(1, path)).await;
            let first = wire.next_of(HEADERS).await;
            assert_eq!(first.stream, 1);
            let began = tokio::time::Instant::now();
            let end = outcome(wire, flood(path)).await;
            let before = match end {
                Some(frame) if frame.kind == PING => "goes on".to_owned(),
                Some(goaway) => format!("ends with {}", h2::Reason::from(goaway.word(4))),
                None => "ends".to_owned(),
            };
            println!("{name}, {path}: {before} after {} ms", began.elapsed().as_millis());
            let mut other = Wire::client(&agent, &[], &get(1, "/mock")).await;
            assert_eq!(other.next_of(HEADERS).await.stream, 1, "others are served after {name}");
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_can_make_the_agent_keep_only_so_much() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let agent = Agent::start(Some(listener.local_addr().unwrap()), None).await;
    agent.rule("h2.example/mock", json!({"status_code": 429})).await;
    let pings = frame(PING, 0, 0, b"12345678").repeat(4096);
    let mut wire = Wire::client(&agent, &[], &get(1, "/mock")).await;
    wire.next_of(HEADERS).await;
    let mut sent = 0_usize;
    while let Ok(written) = timeout(Duration::from_secs(1), wire.0.write(&pings[sent % pings.len()..])).await {
        sent += written.unwrap();
        assert!(sent < 200 << 20, "answers nobody reads are kept without an end");
    }
    assert!(sent < 64 << 20, "{sent} octets are on the way");
}

#[tokio::test]
async fn what_begins_like_http_2_and_is_not_passes_unread() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let agent = Agent::start(Some(listener.local_addr().unwrap()), None).await;
    agent.rule("h2.example/.*", json!({"status_code": 429})).await;
    let odd = [PREFACE, &[0xff; 100]].concat();
    #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
    let mut wire = Wire(tokio::net::TcpStream::connect(agent.door).await.unwrap());
    wire.send(&odd).await;
    let mut origin = Wire(timeout(BOUND, listener.accept()).await.expect("the destination is dialled").unwrap().0);
    origin.expect(&odd, "what was sent").await;
}
