//! hyper, in this process.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::super::view::{Body, Seen, letters};

/// What it saw, by the address of whoever sent it.
pub(super) type Said = Arc<Mutex<Vec<(String, Seen)>>>;

/// Serves until the runtime ends.
pub(super) async fn start() -> Result<(SocketAddr, Said)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let said = Said::default();
    let heard = Arc::clone(&said);
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            let said = Arc::clone(&heard);
            let service = service_fn(move |request| answer(request, from, Arc::clone(&said)));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok((address, said))
}

async fn answer(request: Request<Incoming>, from: SocketAddr, said: Said) -> hyper::Result<Response<Empty<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let host = head.headers.get(header::HOST).map(|host| letters(host.as_bytes())).unwrap_or_default();
    let target = letters(head.uri.to_string().as_bytes());
    let seen = Seen {
        method: head.method.to_string(),
        target: Seen::path_of(&target),
        host,
        body: Body::Whole(letters(&body)),
    };
    let is_connect = head.method == http::Method::CONNECT;
    said.lock().unwrap_or_else(PoisonError::into_inner).push((from.ip().to_string(), seen));
    let mut response = Response::new(Empty::new());
    *response.status_mut() = if is_connect { StatusCode::METHOD_NOT_ALLOWED } else { StatusCode::NO_CONTENT };
    Ok(response)
}
