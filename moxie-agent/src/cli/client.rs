//! The command line's side of the admin API: JSON over one HTTP connection a call, by the Unix socket or TCP.

mod door;
pub mod events;
mod refusal;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Context;
use super::exit::{Exit, Failure, chain};
use door::Door;
pub(super) use door::StateFiles;
pub(super) use events::Events;
pub(super) use refusal::line;

/// How long an agent may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long `DELETE`, `PUT` and such bodies may be in the end; listings are pages well below it.
const LONGEST_ANSWER: usize = 256 << 20;

/// A way to the agent.
#[derive(Debug)]
pub(super) struct Client {
    doors: Vec<Door>,
    token: Option<String>,
}

/// An answer that was not refused.
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its JSON; null for an empty body.
    pub(super) json: Value,
}

impl Client {
    /// The agent that `--url` names, else the one of the state directory.
    pub(super) fn locate(context: &Context) -> Result<Self, Failure> {
        let files = StateFiles::locate(context);
        let doors = Door::candidates(context.global.url.as_deref(), context.global.state_dir.is_some(), &files)?;
        // The token in the state directory is this host's: it is not shown to other hosts.
        let is_here = doors.iter().all(Door::is_on_this_host);
        let token = context.env.text("MOXIE_TOKEN").or_else(|| files.token().filter(|_| is_here));
        Ok(Self { doors, token })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.call(Method::GET, path, None).await?.json)
    }

    /// Sends a request, with a JSON body if there is one, and reads the whole answer.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let (status, text) = self.exchange(method, path, body).await?;
        if text.is_empty() {
            return Ok(Answer { status, json: Value::Null });
        }
        let json = serde_json::from_slice(&text).map_err(|error| self.not_an_agent(&error.to_string()))?;
        Ok(Answer { status, json })
    }

    /// A body that is no JSON, such as a certificate.
    pub(super) async fn text(&self, path: &str) -> Result<String, Failure> {
        let (_, text) = self.exchange(Method::GET, path, None).await?;
        String::from_utf8(text.to_vec()).map_err(|error| self.not_an_agent(&error.to_string()))
    }

    /// Every item of a listing, page by page, in the listing's order.
    pub(super) async fn items(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.page(path, 1000, cursor.as_deref()).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// One page of a listing.
    pub(super) async fn page(
        &self,
        path: &str,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<crate::journal::Page<Value>, Failure> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let cursor = cursor.map(|cursor| format!("&cursor={}", encode(cursor))).unwrap_or_default();
        let page = self.get(&format!("{path}{separator}limit={limit}{cursor}")).await?;
        serde_json::from_value(page).map_err(|error| self.not_an_agent(&error.to_string()))
    }

    /// Follows a stream of server-sent events.
    pub(super) async fn follow(&self, path: &str) -> Result<Events, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        if response.status().is_success() {
            return Ok(Events::new(response.into_body()));
        }
        let status = response.status();
        let body = self.body(response).await?;
        Err(refusal::failure(status, &body))
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Bytes), Failure> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let body = self.body(response).await?;
        if status.is_success() { Ok((status, body)) } else { Err(refusal::failure(status, &body)) }
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let body = http_body_util::Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| Failure::failed(format!("{} broke off its answer: {error}", self.name())))?;
        Ok(body.to_bytes())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, Failure> {
        let (door, mut sender) = self.connect().await?;
        let request = self.request(door, method, path, body)?;
        let answered = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let response = answered.map_err(|_| {
            Failure::new(Exit::Unreachable, format!("{door} did not answer within {} s", PATIENCE.as_secs()))
                .next("systemctl status moxie")
        })?;
        response
            .map_err(|error| Failure::because(format_args!("{door} broke off"), &error).with_exit(Exit::Unreachable))
    }

    fn request(
        &self,
        door: &Door,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, door.authority());
        request = request.header(ACCEPT, "application/json, */*");
        if let (Door::Tcp(_), Some(token)) = (door, &self.token) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        request.body(Full::new(body)).map_err(|error| Failure::because("cannot form the request", &error))
    }

    /// The first door that opens; where none does, the one that tells most: not permitted before not there.
    async fn connect(&self) -> Result<(&Door, SendRequest<Full<Bytes>>), Failure> {
        let mut told: Option<Failure> = None;
        for door in &self.doors {
            match open(door).await {
                Ok(sender) => return Ok((door, sender)),
                Err(failure) => told = Some(told.filter(|first| first.exit() == Exit::Denied).unwrap_or(failure)),
            }
        }
        Err(told.unwrap_or_else(|| Failure::new(Exit::Unreachable, "there is no agent to talk to")))
    }

    fn name(&self) -> String {
        self.doors.first().map(ToString::to_string).unwrap_or_default()
    }

    fn not_an_agent(&self, why: &str) -> Failure {
        Failure::failed(format!("what answers at {} is no agent of Moxie's: {why}", self.name()))
    }
}

async fn open(door: &Door) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let opened = tokio::time::timeout(PATIENCE, async {
        match door {
            Door::Unix(path) => UnixStream::connect(path).await.map(|stream| Box::new(stream) as Box<dyn Stream>),
            Door::Tcp(authority) => dial(authority).await.map(|stream| Box::new(stream) as Box<dyn Stream>),
        }
    });
    let stream = match opened.await {
        Ok(stream) => stream.map_err(|error| door.closed(&error))?,
        Err(_) => return Err(door.closed(&std::io::ErrorKind::TimedOut.into())),
    };
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::new(Exit::Unreachable, format!("{door} does not speak HTTP: {}", chain(&error))))?;
    // It ends with the call; what went wrong on it is told by the call.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line talks to the agent's own socket; nothing of the data path dials here"
)]
async fn dial(authority: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect(authority).await
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A text as part of a path or query.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests;
