//! Stage 3 of 6: a bounded, timed look at the first bytes.
//!
//! In: `Located`. Out: `Sniffed`. Never: consumes a byte; the application's bytes stay in the socket until somebody acts.
//! A server that speaks first is noticed by dialling it when the client stays silent: whoever speaks first decides.

pub mod client_hello;
pub mod http1;
pub mod http2;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Context;
use super::downstream::reset;
use super::original_dst::Located;
use super::record::ConnectionLog;
use crate::divert::Origin;
use crate::journal::{Protocol, Reason};
use crate::peek::{self, Peeked};
use crate::upstream::{Ahead, DialError};
use client_hello::ClientHello;

/// First size of the buffer that bytes are peeked into; it grows to the bound.
const FIRST_BUFFER: usize = 4096;
/// How HTTP/2 with prior knowledge begins (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How far a parser came with the bytes seen so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// Recognised.
    Done(T),
    /// A good beginning; more bytes are needed.
    Partial,
    /// Not this protocol.
    Other,
}

/// Bounds of the look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long a silent client is waited for before the destination is dialled.
    pub first_byte: Duration,
    /// How long a recognisable beginning may take to become complete.
    pub timeout: Duration,
    /// How many bytes are looked at.
    pub max_bytes: usize,
}

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// A complete ClientHello.
    Tls(ClientHello),
    /// A complete HTTP/1 request head.
    Http1(http1::Head),
    /// An HTTP/2 preface and the first request; none where the client waits for the server before it asks.
    Http2(Option<http2::Head>),
    /// None of these, and why that was concluded.
    Opaque(Reason),
}

impl FirstBytes {
    fn protocol(&self) -> Protocol {
        match self {
            Self::Tls(_) => Protocol::Tls,
            Self::Http1(_) => Protocol::Http1,
            Self::Http2(_) => Protocol::Http2,
            Self::Opaque(_) => Protocol::Opaque,
        }
    }

    /// The name the client asked for, as it spelt it.
    fn server_name(&self) -> Option<String> {
        match self {
            Self::Tls(hello) => hello.server_name.clone(),
            Self::Http1(head) => head.authority.clone(),
            Self::Http2(head) => head.as_ref()?.authority.clone(),
            Self::Opaque(_) => None,
        }
    }
}

/// A connection whose first bytes are known. They are still unread.
#[derive(Debug)]
pub struct Sniffed {
    /// The application's side.
    pub stream: TcpStream,
    /// What the kernel remembered.
    pub origin: Origin,
    /// What the first bytes are.
    pub first: FirstBytes,
    /// The destination, where dialling it has begun meanwhile.
    pub dialled: Option<Ahead>,
    /// The record.
    pub log: Arc<ConnectionLog>,
}

/// Why a connection ended in this stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The application's socket failed.
    #[error("cannot read from the application")]
    Read(#[source] io::Error),
    /// The destination of a silent client could not be dialled; the client has been reset.
    #[error("cannot dial the destination of a silent client")]
    Dial(#[source] DialError),
}

impl Error {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Read(_) => Reason::ClientClosed,
            Self::Dial(_) => Reason::UpstreamFailed,
        }
    }
}

/// Looks at the first bytes of a connection.
///
/// # Errors
/// The connection ended before anything could be seen.
pub async fn look(conn: Located, cx: &Arc<Context>) -> Result<Sniffed, Error> {
    let Located { stream, origin, dialled, log } = conn;
    let speaker = match dialled {
        Some(dialled) => whoever_is_first(&stream, dialled, &origin, cx).await,
        None => first_speaker(&stream, &origin, &log, cx).await,
    };
    let (dialled, first) = match speaker {
        Ok(Speaker::Client(dialled)) => (dialled, recognise(&stream, &cx.sniff).await?),
        Ok(Speaker::Server(dialled)) => (Some(dialled.into()), FirstBytes::Opaque(Reason::ServerFirst)),
        Err(error @ Error::Dial(_)) => {
            reset(stream);
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    log.sniffed(first.protocol(), first.server_name());
    if let FirstBytes::Http1(http1::Head { doubt: Some(doubt), .. }) = &first {
        log.doubted(*doubt);
    }
    Ok(Sniffed { stream, origin, first, dialled, log })
}

/// Who spoke first, and the destination where dialling it has begun to find out.
enum Speaker {
    Client(Option<Ahead>),
    Server(TcpStream),
}

async fn first_speaker(
    stream: &TcpStream,
    origin: &Origin,
    log: &ConnectionLog,
    cx: &Arc<Context>,
) -> Result<Speaker, Error> {
    let is_server_first = cx.learned.server_first.contains(&origin.destination);
    let wait = if is_server_first { Duration::ZERO } else { cx.sniff.first_byte };
    if let Ok(seen) = timeout(wait, has_bytes(stream)).await {
        return seen.map(|()| Speaker::Client(None));
    }
    let mut ahead = ahead(origin, cx);
    let failure = tokio::select! {
        biased;
        // Whatever becomes of the destination: a client that speaks late is served like any other.
        seen = has_bytes(stream) => return seen.map(|()| Speaker::Client(Some(ahead))),
        stands = ahead.stands() => stands.err(),
    };
    match failure {
        None => whoever_is_first(stream, ahead.stream().await.map_err(Error::Dial)?, origin, cx).await,
        Some(error) if is_server_first || !cx.rules.current().is_armed(&log.caller(), cx.clock.now()) => {
            Err(Error::Dial(error))
        }
        Some(error) => heard_late(stream, error, cx).await,
    }
}

fn ahead(origin: &Origin, cx: &Arc<Context>) -> Ahead {
    let (origin, cx) = (origin.clone(), Arc::clone(cx));
    Ahead::by(async move { cx.upstream.dial(&origin).await })
}

/// A rule's answer needs no destination: who may be answered by one is waited for as long as for the rest of a beginning.
async fn heard_late(stream: &TcpStream, failure: DialError, cx: &Context) -> Result<Speaker, Error> {
    match timeout(cx.sniff.timeout, has_bytes(stream)).await {
        Ok(seen) => seen.map(|()| Speaker::Client(None)),
        Err(_) => Err(Error::Dial(failure)),
    }
}

async fn whoever_is_first(
    stream: &TcpStream,
    dialled: TcpStream,
    origin: &Origin,
    cx: &Context,
) -> Result<Speaker, Error> {
    tokio::select! {
        biased;
        seen = has_bytes(stream) => seen.map(|()| Speaker::Client(Some(dialled.into()))),
        has_spoken = has_spoken(&dialled) => {
            if has_spoken {
                cx.learned.server_first.insert(origin.destination);
            }
            Ok(Speaker::Server(dialled))
        }
    }
}

/// Completes when the destination has sent a byte, or will send none: one that merely hangs up may do so only now.
async fn has_spoken(dialled: &TcpStream) -> bool {
    // A look at a socket that was reset would take the reset from whoever is to pass it on.
    let ready = dialled.ready(Interest::READABLE | Interest::ERROR).await;
    if !ready.is_ok_and(|ready| ready.is_readable() && !ready.is_error()) {
        return false;
    }
    matches!(peek::beyond(dialled, &mut [0], 0).await, Ok(Peeked::Bytes(_)))
}

/// Completes when the application has sent a byte, or has ended its direction: it may still listen, and its destination hears of it.
async fn has_bytes(stream: &TcpStream) -> Result<(), Error> {
    peek::beyond(stream, &mut [0], 0).await.map(|_| ()).map_err(Error::Read)
}

async fn recognise(stream: &TcpStream, bounds: &Bounds) -> Result<FirstBytes, Error> {
    let mut deadline = Instant::now() + bounds.timeout;
    let mut buffer = vec![0; FIRST_BUFFER.min(bounds.max_bytes)];
    let mut seen = 0;
    loop {
        let peeked = timeout_at(deadline, peek::beyond(stream, &mut buffer, seen)).await;
        match peeked {
            Ok(Ok(Peeked::Bytes(count))) => seen = count,
            Ok(Err(error)) => return Err(Error::Read(error)),
            Ok(Ok(Peeked::Closed)) | Err(_) => return Ok(unfinished(buffer.get(..seen).unwrap_or_default())),
        }
        if let Some(first) = parse(buffer.get(..seen).unwrap_or_default()) {
            return Ok(first);
        }
        if buffer.starts_with(HTTP2_PREFACE) {
            // A client that waits for the server's SETTINGS before it asks must not wait for us.
            deadline = deadline.min(Instant::now() + bounds.first_byte);
        }
        if seen == buffer.len() {
            if seen >= bounds.max_bytes {
                return Ok(unfinished(&buffer));
            }
            buffer.resize((seen * 4).min(bounds.max_bytes), 0);
        }
    }
}

/// What the bytes are, once that is certain.
fn parse(bytes: &[u8]) -> Option<FirstBytes> {
    let candidates = [
        client_hello::parse(bytes).map(FirstBytes::Tls),
        http2::parse(bytes).map(|head| FirstBytes::Http2(Some(head))),
        http1::parse(bytes).map(FirstBytes::Http1),
    ];
    let open = candidates.contains(&Progress::Partial);
    let done = candidates.into_iter().find_map(|candidate| match candidate {
        Progress::Done(first) => Some(first),
        Progress::Partial | Progress::Other => None,
    });
    done.or((!open).then_some(FirstBytes::Opaque(Reason::NotHttp)))
}

/// What to make of a beginning that does not go on: an HTTP/2 client may rightly wait for the server's preface.
fn unfinished(bytes: &[u8]) -> FirstBytes {
    if bytes.starts_with(HTTP2_PREFACE) {
        return FirstBytes::Http2(None);
    }
    FirstBytes::Opaque(Reason::SniffBound)
}

impl<T> Progress<T> {
    fn map<U>(self, make: impl FnOnce(T) -> U) -> Progress<U> {
        match self {
            Self::Done(value) => Progress::Done(make(value)),
            Self::Partial => Progress::Partial,
            Self::Other => Progress::Other,
        }
    }
}
