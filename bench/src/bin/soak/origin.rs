//! The destination: known bytes whole or in pieces, an echo, a body that is cut, one that stalls; all of it over HTTP/1 and HTTP/2, in
//! the clear and inside TLS.

use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

use crate::oracle;

/// Pieces of a body that comes in pieces, and the pause between them.
const PIECES: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);

type Reply = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// Serves until it is ended; SIGUSR1 resets every connection.
pub(crate) async fn serve(address: IpAddr, directory: &Path) -> Result<()> {
    let tls = acceptor(directory)?;
    let reset = Arc::new(Notify::new());
    for (port, tls) in [(80, None), (443, Some(tls))] {
        let address = SocketAddr::new(address, port);
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(accept(listener, tls, Arc::clone(&reset)));
    }
    let mut signals = signal(SignalKind::user_defined1())?;
    println!("ready");
    while signals.recv().await.is_some() {
        reset.notify_waiters();
    }
    Ok(())
}

fn acceptor(directory: &Path) -> Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_slice(&fs::read(directory.join("soak.pem"))?)?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(directory.join("soak.key"))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, reset: Arc<Notify>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, reset) = (tls.clone(), Arc::clone(&reset));
        tokio::spawn(async move {
            // A second descriptor of the same socket: what is done with the first is dropped on a reset, and this one then resets.
            let Ok((stream, handle)) = twice(stream) else { return };
            tokio::select! {
                () = connection(stream, tls) => {}
                () = reset.notified() => {
                    // A socket that lingers for no time is reset when its last descriptor closes.
                    let _ = nix::sys::socket::setsockopt(
                        &handle,
                        nix::sys::socket::sockopt::Linger,
                        &libc::linger { l_onoff: 1, l_linger: 0 },
                    );
                }
            }
        });
    }
}

fn twice(stream: TcpStream) -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    let stream = stream.into_std()?;
    let handle = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, handle))
}

/// What a client does to its own connection is the client's to report.
async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>) {
    let Some(tls) = tls else { return speak(stream, Version::One).await };
    let Ok(stream) = tls.accept(stream).await else { return };
    let version = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Version::Two } else { Version::One };
    speak(stream, version).await;
}

#[derive(Clone, Copy, Debug)]
enum Version {
    One,
    Two,
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, version: Version) {
    let (io, service) = (TokioIo::new(stream), service_fn(answer));
    let _ = match version {
        Version::One => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
        Version::Two => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        }
    };
}

/// `/bytes/SEED/LENGTH` and so on; [`crate::calls`] asks for nothing else.
async fn answer(request: Request<Incoming>) -> Result<Reply, hyper::Error> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    let kind = parts.next().unwrap_or_default();
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).unwrap_or_default();
    let (seed, length) = (number(), usize::try_from(number()).unwrap_or_default());
    Ok(match kind {
        "bytes" => full(StatusCode::OK, oracle::body(seed, length)),
        "pieces" => pieces(oracle::body(seed, length), End::Whole),
        "cut" => pieces(oracle::body(seed, length), End::Cut),
        "stall" => pieces(oracle::body(seed, length), End::Stalled),
        "echo" => full(StatusCode::OK, request.into_body().collect().await?.to_bytes()),
        // What a rule should have answered.
        _ => full(StatusCode::OK, Bytes::from_static(b"origin")),
    })
}

fn full(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync());
    *reply.status_mut() = status;
    reply
}

/// How a body that comes in pieces goes on after half of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
    Stalled,
}

fn pieces(body: Bytes, end: End) -> Reply {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for (number, piece) in body.chunks(body.len().div_ceil(PIECES).max(1)).enumerate() {
            if number == PIECES / 2 && end == End::Cut {
                let _ = sender.send(Err(std::io::Error::other("cut on purpose"))).await;
                return;
            }
            if number == PIECES / 2 && end == End::Stalled {
                sender.closed().await;
                return;
            }
            if sender.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Response::new(Sent(receiver).boxed_unsync())
}

/// A body of unknown length, fed through a channel; an error in it ends the connection or stream.
struct Sent(mpsc::Receiver<std::io::Result<Bytes>>);

impl Body for Sent {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|sent| sent.map(|bytes| bytes.map(Frame::data)))
    }
}
