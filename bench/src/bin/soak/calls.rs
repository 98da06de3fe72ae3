//! One call: what is asked, and what has to come of it.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, timeout};

use crate::oracle::{LATE, LATE_BY, MOCKED, Oddity, QUIET, RULED, body};

/// How long a call may take; longer than a hang of the agent.
const WITHIN: Duration = Duration::from_secs(15);
/// How long a client waits for a body that stalls.
const STALLED: Duration = Duration::from_millis(500);

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Known bytes at once.
    Bytes,
    /// Known bytes in pieces.
    Pieces,
    /// What the client sent.
    Echo,
    /// What a rule answers.
    Mocked,
    /// What a rule answers late.
    Late,
    /// A body that the destination cuts.
    Cut,
    /// A body that never ends.
    Stall,
}

/// Whom a call asks for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) host: &'static str,
    seed: u64,
    length: usize,
}

/// Something that sends requests.
pub(crate) trait Sender {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<http::Response<hyper::body::Incoming>>;
}

/// What a call came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// What had to come.
    Right,
    /// That, and the connection is of no further use.
    RightAndOver,
    /// The request never left: the connection was closed first, as any may be.
    Unsent,
    /// Something else.
    Odd(Oddity, String),
}

impl Call {
    pub(crate) fn new(kind: Kind, is_ruled: bool, seed: u64) -> Self {
        let host = if is_ruled || matches!(kind, Kind::Mocked | Kind::Late) { RULED } else { QUIET };
        // From nothing to some hundred kilobytes, most of them small.
        let length = match seed % 16 {
            0 => 0,
            1 => 200_000,
            other => usize::try_from(other * 700).unwrap_or_default(),
        };
        Self { kind, host, seed, length: if matches!(kind, Kind::Cut | Kind::Stall) { 8_000 } else { length } }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>> {
        let named = |name: &str| format!("/{name}/{}/{}", self.seed, self.length);
        let (method, path) = match self.kind {
            Kind::Bytes => ("GET", named("bytes")),
            Kind::Pieces => ("GET", named("pieces")),
            Kind::Cut => ("GET", named("cut")),
            Kind::Stall => ("GET", named("stall")),
            Kind::Echo => ("POST", named("echo")),
            Kind::Mocked => ("GET", MOCKED.0.to_owned()),
            Kind::Late => ("GET", LATE.0.to_owned()),
        };
        let sent = if self.kind == Kind::Echo { body(self.seed, self.length) } else { Bytes::new() };
        Ok(Request::builder().method(method).uri(path).header("host", self.host).body(Full::new(sent))?)
    }

    /// Makes the call, as `version` has it.
    pub(crate) async fn make(&self, sender: &mut impl Sender, version: http::Version) -> Came {
        let within = if self.kind == Kind::Stall { STALLED } else { WITHIN };
        let began = Instant::now();
        match timeout(within, self.exchange(sender, version)).await {
            Err(_) if self.kind == Kind::Stall => Came::RightAndOver,
            Err(_) => Came::Odd(Oddity::Failed, format!("no answer in {within:?}")),
            Ok(Err(error)) if is_unsent(&error) => Came::Unsent,
            Ok(Err(_)) if self.kind == Kind::Cut => Came::RightAndOver,
            Ok(Err(error)) => Came::Odd(Oddity::Failed, format!("{error:#}")),
            Ok(Ok((status, bytes))) => self.judge(status, &bytes, began.elapsed()),
        }
    }

    async fn exchange(&self, sender: &mut impl Sender, version: http::Version) -> Result<(u16, Bytes)> {
        let mut request = self.request()?;
        if version == http::Version::HTTP_2 {
            let uri = format!("https://{}{}", self.host, request.uri().path());
            *request.uri_mut() = uri.parse()?;
            request.headers_mut().remove("host");
            *request.version_mut() = version;
        }
        let (head, body) = sender.send(request).await?.into_parts();
        Ok((head.status.as_u16(), body.collect().await?.to_bytes()))
    }

    fn judge(&self, status: u16, bytes: &Bytes, took: Duration) -> Came {
        let wrong =
            |why: &str| Came::Odd(Oddity::Wrong, format!("{why}: {status}, {} bytes, asked for {self:?}", bytes.len()));
        match self.kind {
            Kind::Cut | Kind::Stall => wrong("a whole body"),
            Kind::Bytes | Kind::Pieces | Kind::Echo => {
                let is_right = status == 200 && *bytes == body(self.seed, self.length);
                if is_right { Came::Right } else { wrong("not what the destination sent") }
            }
            Kind::Mocked | Kind::Late => {
                let (_, mock, text) = if self.kind == Kind::Mocked { MOCKED } else { LATE };
                let is_mock = status == mock && bytes == text;
                match (is_mock, self.kind) {
                    (true, Kind::Late) if took < LATE_BY => wrong("early"),
                    (true, _) => Came::Right,
                    (false, _) if status == 200 && bytes == "origin" => {
                        Came::Odd(Oddity::Direct, "the destination's own answer".into())
                    }
                    (false, _) => wrong("neither the rule's answer nor the destination's"),
                }
            }
        }
    }
}

fn is_unsent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
}
