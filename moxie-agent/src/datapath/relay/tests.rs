//! Every script is played on a direct connection and on a relayed one, and both ends must see the same.

mod bulk;
mod ends;
mod holds;
mod streams;

use std::fmt::Debug;
use std::io::{Error as IoError, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Error, Pipes, Urgent, both};
use crate::datapath::downstream::{Bytes, reset};
use crate::socket_options;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two ends of a connection, with a relay between them or not.
struct Line {
    client: TcpStream,
    server: TcpStream,
    relay: Option<Relayed>,
}

/// A relay at work.
struct Relayed {
    task: JoinHandle<Result<(), Error>>,
    bytes: Arc<Bytes>,
    pipes: Arc<Pipes>,
}

impl Line {
    async fn direct() -> Self {
        let (client, server) = connection().await;
        Self { client, server, relay: None }
    }

    async fn relayed(pipes: Arc<Pipes>) -> Self {
        Self::relayed_with(Urgent::Never, pipes).await
    }

    async fn relayed_with(urgent: Urgent, pipes: Arc<Pipes>) -> Self {
        let ((client, downstream), (upstream, server)) = (connection().await, connection().await);
        socket_options::carry(&downstream);
        socket_options::carry(&upstream);
        Self { client, server, relay: Some(Relayed::start(downstream, upstream, urgent, pipes)) }
    }
}

impl Relayed {
    fn start(downstream: TcpStream, upstream: TcpStream, urgent: Urgent, pipes: Arc<Pipes>) -> Self {
        let bytes = Arc::<Bytes>::default();
        let (count, lent) = (Arc::clone(&bytes), Arc::clone(&pipes));
        Self {
            task: tokio::spawn(async move { both(downstream, upstream, urgent, &count, &lent).await }),
            bytes,
            pipes,
        }
    }

    async fn end(self) -> Result<(), Error> {
        soon("the relay to end", self.task).await.unwrap()
    }
}

/// Two ends on loopback.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a client of this test's own, on loopback")]
    let (client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
    let (client, (accepted, _)) = (client.unwrap(), accepted.unwrap());
    client.set_nodelay(true).unwrap();
    accepted.set_nodelay(true).unwrap();
    (client, accepted)
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Plays `script` directly, relayed, and relayed without a pipe; what it saw must be the same.
async fn alike<S, F, T>(script: S)
where
    S: Fn(TcpStream, TcpStream) -> F,
    F: Future<Output = T>,
    T: Debug + PartialEq,
{
    let Line { client, server, .. } = Line::direct().await;
    let directly = soon("the direct script", script(client, server)).await;
    for (urgent, pipes) in [(Urgent::Never, 8), (Urgent::Never, 0), (Urgent::Possible, 8)] {
        let Line { client, server, relay } = Line::relayed_with(urgent, Arc::new(Pipes::new(pipes))).await;
        let seen = soon("the relayed script", script(client, server)).await;
        assert_eq!(seen, directly, "with {pipes} pipes, urgent {urgent:?}; first relayed, then direct");
        // Whatever happened, the relay is over when both ends are.
        drop(relay.unwrap().end().await);
    }
}

/// What is read until the end, and how it ends.
async fn read_out(stream: &mut TcpStream) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).await.map(|_| ()).map_err(|error| error.kind());
    (bytes, ended)
}

/// Reads exactly `count` bytes.
async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// Waits until the kernel says that the connection is broken, and how.
async fn broken(stream: &TcpStream) -> Option<ErrorKind> {
    stream.ready(tokio::io::Interest::ERROR).await.unwrap();
    stream.take_error().unwrap().map(|error: IoError| error.kind())
}

/// Writes until no more is taken, and tells how much was.
async fn stuff(stream: &TcpStream) -> usize {
    let (mut total, chunk) = (0, vec![b'x'; 16 * 1024]);
    // Loopback is at rest when nothing has been taken for this long.
    while timeout(Duration::from_millis(300), stream.writable()).await.is_ok() {
        match stream.try_write(&chunk) {
            Ok(written) => total += written,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    total
}

/// Small buffers on both sides, so that little is on the way.
fn narrow(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(8 * 1024).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
}

/// Bytes that differ from place to place.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
}

fn ends_with_reset(stream: TcpStream) {
    reset(stream);
}
