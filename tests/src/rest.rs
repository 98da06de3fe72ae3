//! A small client of the admin API, over a unix socket or a connection that the lab opened.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::wait;

/// How long an answer may take, the import of many rules included.
const ANSWER: Duration = Duration::from_secs(60);

/// Where an admin API is.
#[derive(Clone, Debug)]
pub struct Rest {
    socket: Option<PathBuf>,
    host: String,
}

/// An answer of the admin API.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {self:?}"))
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Rest {
    /// The API on a unix socket.
    #[must_use]
    pub fn unix(socket: PathBuf) -> Self {
        Self { socket: Some(socket), host: "localhost".into() }
    }

    /// The API on connections that the caller opens to `host`.
    #[must_use]
    pub fn tcp(host: &str) -> Self {
        Self { socket: None, host: host.into() }
    }

    /// GET.
    ///
    /// # Errors
    /// No answer.
    pub fn get(&self, path: &str) -> Result<Reply> {
        self.call("GET", path, &[], None)
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// No answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.call("POST", path, &[], Some(body))
    }

    /// Any request over the unix socket.
    ///
    /// # Errors
    /// No answer.
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Result<Reply> {
        let socket = self.socket.as_ref().context("this API has no unix socket")?;
        let request = self.request(method, path, headers, body)?;
        exchange(request, async || Ok(UnixStream::connect(socket).await?))
    }

    /// Any request over a connection that is open already.
    ///
    /// # Errors
    /// No answer.
    pub fn over(
        &self,
        stream: std::net::TcpStream,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Reply> {
        let request = self.request(method, path, headers, body)?;
        stream.set_nonblocking(true)?;
        exchange(request, async || Ok(TcpStream::from_std(stream)?))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header(header::HOST, &self.host);
        }
        if body.is_some() {
            let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            request = request.header(header::CONTENT_TYPE, kind);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }
}

fn exchange<S>(request: Request<Full<Bytes>>, dial: impl AsyncFnOnce() -> Result<S>) -> Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let what = format!("{} {}", request.method(), request.uri());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match tokio::time::timeout(wait::patient(ANSWER), send(request, dial)).await {
            Ok(reply) => reply.with_context(|| what),
            Err(_) => bail!("{what}: no answer in {ANSWER:?}"),
        }
    })
}

async fn send<S>(request: Request<Full<Bytes>>, dial: impl AsyncFnOnce() -> Result<S>) -> Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(dial().await?)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
}
