//! hyper, in this process.

use std::net::SocketAddr;

use anyhow::Result;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{method, refused, seen};
use crate::cases::Case;
use crate::view::{View, letters};

/// What it makes of each case.
pub(super) async fn ask(cases: &[Case], destination: SocketAddr) -> Vec<View> {
    let mut said = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        said.push(one(number, case, destination).await.unwrap_or_else(|_| refused()));
    }
    said
}

#[expect(clippy::disallowed_methods, reason = "a client of this test's own, on loopback")]
async fn one(number: usize, case: &Case, destination: SocketAddr) -> Result<View> {
    let stream = TcpStream::connect(destination).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method(case)).uri(format!("/{number}")).header("host", "a.example");
    let (head, body) = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(seen(head.status.as_str(), letters(&body)))
}
