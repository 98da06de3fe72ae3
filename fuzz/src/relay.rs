//! A client and a destination that say anything, with a whole agent between them that looks into every byte and whose rule never fires.

mod agent;

use std::cell::Cell;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::bytes::piece;
use agent::Agent;

/// A connection that takes longer hangs.
const BOUND: Duration = Duration::from_secs(4);
/// A destination that was dialled shows by then, once the client has been told that nothing more comes.
const LATE: Duration = Duration::from_millis(5);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between what the client says and what the destination says.
const TURN: &[u8] = b"\n----\n";

/// What one end of the connection was sent, in whole.
type Heard = Vec<u8>;

/// One agent for as long as the process lives.
struct Stage {
    runtime: Runtime,
    agent: Agent,
}

fn stage() -> &'static Mutex<Stage> {
    static STAGE: OnceLock<Mutex<Stage>> = OnceLock::new();
    STAGE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let agent = runtime.block_on(Agent::start());
        Mutex::new(Stage { runtime, agent })
    })
}

/// What both sides say arrives to the byte, whatever it is.
pub(crate) fn h1_relay(bytes: &[u8]) {
    let (step, bytes) = piece(bytes);
    let (request, answer) = turns(bytes);
    // TLS is the agent's to end where a rule could name the host, and HTTP/2 has ends of its own.
    if request.first() == Some(&22) || request.starts_with(&PREFACE[..14]) {
        return;
    }
    let (client, destination) = play(request, answer, step);
    match destination {
        Some(heard) => assert!(heard == request, "the destination was sent {}", heard.escape_ascii()),
        None => assert!(request.is_empty(), "nobody was sent {}", request.escape_ascii()),
    }
    assert!(client == answer || request.is_empty(), "the client was sent {}", client.escape_ascii());
}

/// Frames of any kind in any order come to an end, without a panic.
pub(crate) fn h2_relay(bytes: &[u8]) {
    let (step, bytes) = piece(bytes);
    let (request, answer) = turns(bytes);
    play(&[PREFACE, request].concat(), answer, step);
}

fn turns(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.windows(TURN.len()).position(|window| window == TURN) {
        Some(at) => (&bytes[..at], &bytes[at + TURN.len()..]),
        None => (bytes, b""),
    }
}

/// What the client and the destination were sent; `None`: the destination was not asked for.
fn play(request: &[u8], answer: &[u8], step: usize) -> (Heard, Option<Heard>) {
    let stage = stage().lock().unwrap_or_else(PoisonError::into_inner);
    let Stage { runtime, agent } = &*stage;
    let panics = agent::panics();
    let played = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        agent.leads_to(listener.local_addr().expect("bound"));
        let client = client(agent, request, step);
        let is_asked = Cell::new(false);
        let destination = destination(&listener, answer, &is_asked);
        tokio::pin!(client, destination);
        let both = async {
            tokio::select! {
                heard = &mut client => match tokio::time::timeout(LATE, &mut destination).await {
                    Ok(sent) => (heard, Some(sent)),
                    Err(_) if is_asked.get() => (heard, Some(destination.await)),
                    Err(_) => (heard, None),
                },
                sent = &mut destination => (client.await, Some(sent)),
            }
        };
        tokio::time::timeout(BOUND, both).await
    });
    let played =
        played.unwrap_or_else(|_| panic!("hangs after {} and {}", request.escape_ascii(), answer.escape_ascii()));
    assert_eq!(agent::panics(), panics, "a panic in the agent, see above");
    played
}

#[expect(clippy::disallowed_methods, reason = "a client of the target's own, on loopback")]
async fn client(agent: &Agent, request: &[u8], step: usize) -> Heard {
    let stream = TcpStream::connect(agent.door()).await.expect("the agent's door");
    stream.set_nodelay(true).expect("an option");
    let (mut reader, mut writer) = stream.into_split();
    let write = async {
        // Few writes, or long inputs would take long.
        for piece in request.chunks(step.max(request.len() / 16)) {
            if writer.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        // What is gone already needs no end.
        let _ = writer.shutdown().await;
    };
    let (heard, ()) = tokio::join!(all(&mut reader), write);
    heard
}

/// Speaks once it has been spoken to, as destinations of HTTP do.
async fn destination(listener: &TcpListener, answer: &[u8], is_asked: &Cell<bool>) -> Heard {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    is_asked.set(true);
    let (mut reader, mut writer) = stream.split();
    let mut heard = vec![0; 1];
    match reader.read(&mut heard).await {
        Ok(1) => {}
        _ => heard.clear(),
    }
    let write = async {
        if writer.write_all(answer).await.is_ok() {
            let _ = writer.shutdown().await;
        }
    };
    let (rest, ()) = tokio::join!(all(&mut reader), write);
    heard.extend(rest);
    heard
}

async fn all(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> Heard {
    let mut heard = Vec::new();
    // A reset ends it too.
    let _ = reader.read_to_end(&mut heard).await;
    heard
}
