//! The client: sends a case's bytes and waits for how the server takes them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use super::super::cases::Case;
use super::super::view::End;

/// Connections at a time.
const AT_ONCE: usize = 32;
/// A server that says nothing for so long waits for more.
const SILENCE: Duration = Duration::from_millis(1500);

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) struct Replied {
    pub(super) end: End,
    /// Answers that are no refusal.
    pub(super) answered: usize,
}

/// The address that a case's connections come from.
pub(super) fn source(case: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(case + 1).unwrap_or(u16::MAX).to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

/// Sends every case.
pub(super) async fn all(cases: &[Case], server: SocketAddr) -> Result<Vec<Replied>> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let (permits, bytes) = (Arc::clone(&permits), case.bytes.clone());
        tasks.push(tokio::spawn(async move {
            let _permit = permits.acquire().await?;
            one(source(number), server, &bytes).await
        }));
    }
    let mut replies = Vec::new();
    for task in tasks {
        replies.push(task.await??);
    }
    Ok(replies)
}

async fn one(source: Ipv4Addr, server: SocketAddr, bytes: &[u8]) -> Result<Replied> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let mut stream = socket.connect(server).await.with_context(|| format!("no server at {server}"))?;
    // A server that refuses early may have closed already.
    let _ = stream.write_all(bytes).await;
    let (reply, closed) = read(&mut stream).await;
    let statuses = statuses(&reply);
    let answered = statuses.iter().filter(|status| (200..400).contains(*status)).count();
    let refused = statuses.iter().any(|status| *status >= 400);
    let end = match closed {
        _ if refused => End::Refused,
        true if answered == 0 => End::Refused,
        true if says_close(&reply) => End::Done,
        true => End::Dropped,
        false => End::Waits,
    };
    Ok(Replied { end, answered })
}

/// What came, and whether it ended with a close.
async fn read(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await {
            Err(_silent) => return (reply, false),
            Ok(Ok(0) | Err(_)) => return (reply, true),
            Ok(Ok(len)) => reply.extend_from_slice(buffer.get(..len).unwrap_or_default()),
        }
    }
}

/// Whether the last answer says that the connection ends with it.
fn says_close(reply: &[u8]) -> bool {
    let text = String::from_utf8_lossy(reply).to_ascii_lowercase();
    text.rsplit("http/1.").next().is_some_and(|last| last.contains("connection: close") || last.starts_with('0'))
}

fn statuses(reply: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(reply);
    let after = text.split("HTTP/1.").skip(1);
    after.filter_map(|rest| rest.get(2..5)?.parse().ok()).collect()
}
