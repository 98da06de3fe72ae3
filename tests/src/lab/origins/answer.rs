//! What an HTTP stand-in answers: who it is, an echo, events sent one by one, and an upgraded connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::{Place, Seen, Shared, raw};

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// How many events `/events` sends.
const EVENTS: u32 = 3;

/// Ends TLS, then speaks what the client chose.
pub(super) async fn tls(stream: TcpStream, tls: TlsAcceptor, place: &'static Place, shared: Arc<Shared>) -> Result<()> {
    let stream = tls.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return http1(stream, place, true, shared).await;
    }
    let service = service_fn(move |request| answer(request, place, true, Arc::clone(&shared)));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    Ok(connection.serve_connection(TokioIo::new(stream), service).await?)
}

/// Speaks HTTP/1, with upgrades.
pub(super) async fn http1<S>(stream: S, place: &'static Place, tls: bool, shared: Arc<Shared>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(request, place, tls, Arc::clone(&shared)));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    Ok(connection.with_upgrades().await?)
}

async fn answer(
    request: Request<Incoming>,
    place: &'static Place,
    tls: bool,
    shared: Arc<Shared>,
) -> Result<Reply, hyper::Error> {
    note(&request, place, tls, &shared);
    Ok(match request.uri().path() {
        "/echo" => full(StatusCode::OK, request.into_body().collect().await?.to_bytes()),
        "/events" => events(&shared),
        "/next" => {
            shared.events.add_permits(1);
            full(StatusCode::OK, Bytes::new())
        }
        "/upgrade" => upgrade(request),
        _ => identity(&request, place),
    })
}

fn note(request: &Request<Incoming>, place: &'static Place, tls: bool, shared: &Shared) {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let seen = Seen {
        host: place.host,
        method: request.method().to_string(),
        path: path.to_owned(),
        protocol: format!("{:?}", request.version()),
        headers: request.headers().clone(),
        tls,
    };
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
}

/// `{"origin": …}` tells a test that this answer is nobody else's.
fn identity(request: &Request<Incoming>, place: &Place) -> Reply {
    let body = json!({"origin": place.host, "path": request.uri().path(), "method": request.method().as_str()});
    let mut reply = full(StatusCode::OK, Bytes::from(body.to_string()));
    reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    reply.headers_mut().insert("x-origin", header::HeaderValue::from_static(place.host));
    reply
}

fn full(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body).boxed_unsync());
    *reply.status_mut() = status;
    reply
}

/// The first event at once, each further one only after a request for `/next`: who buffers sees no second one.
fn events(shared: &Arc<Shared>) -> Reply {
    let (sender, receiver) = mpsc::channel(1);
    let permits = Arc::clone(&shared.events);
    tokio::spawn(async move {
        for number in 0..EVENTS {
            if number > 0 {
                match permits.acquire().await {
                    Ok(permit) => permit.forget(),
                    Err(_) => return,
                }
            }
            if sender.send(Bytes::from(format!("data: {number}\n\n"))).await.is_err() {
                return;
            }
        }
    });
    let mut reply = Response::new(Sent(receiver).boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    reply
}

/// A body of unknown length, fed through a channel.
struct Sent(mpsc::Receiver<Bytes>);

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.0.poll_recv(cx).map(|sent| sent.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// RFC 9110 section 7.8, as WebSocket uses it; afterwards each byte comes back.
fn upgrade(request: Request<Incoming>) -> Reply {
    let Some(protocol) = request.headers().get(header::UPGRADE).cloned() else {
        return full(StatusCode::UPGRADE_REQUIRED, Bytes::new());
    };
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            // The client ends it by closing.
            let _ = raw::echo(TokioIo::new(upgraded)).await;
        }
    });
    let mut reply = full(StatusCode::SWITCHING_PROTOCOLS, Bytes::new());
    reply.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    reply.headers_mut().insert(header::UPGRADE, protocol);
    reply
}
