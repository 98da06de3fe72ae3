//! The unmodified clients: each is told a URL and a number of calls, and reports what it got as lines of JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lab::process;
use crate::{bounds, wait};

/// The Python of the distribution, whose modules setup installs; another one may come first in the path.
pub const PYTHON: &str = "/usr/bin/python3";

/// A client, and the protocol it is asked to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// curl with HTTP/1.1.
    Curl,
    /// curl with HTTP/2.
    CurlHttp2,
    /// Python requests.
    Requests,
    /// Python httpx.
    Httpx,
    /// Python urllib.
    Urllib,
    /// Node's fetch.
    Node,
}

/// What a client got for one call.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// Status; none if the call failed.
    pub status: Option<u16>,
    /// `Retry-After`, if the answer had one.
    #[serde(default)]
    pub retry_after: Option<String>,
    /// `HTTP/1.1` or `HTTP/2`, where the client tells.
    #[serde(default)]
    pub protocol: Option<String>,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// What the client's getpeername says, where the client tells.
    #[serde(default)]
    pub peer: Option<String>,
    /// Seconds that the call took, by the client's clock.
    #[serde(default)]
    pub seconds: f64,
    /// What the client complained of.
    #[serde(default)]
    pub error: Option<String>,
    /// SHA-256 of the server's certificate, where the client tells.
    #[serde(default)]
    pub certificate: Option<String>,
}

impl Answer {
    /// Whether the stand-in `host` gave it.
    #[must_use]
    pub fn is_from(&self, host: &str) -> bool {
        let origin = serde_json::from_str(&self.body).ok().and_then(|body: Value| body.get("origin").cloned());
        self.status == Some(200) && origin == Some(json!(host))
    }
}

impl Program {
    /// Every client.
    pub const ALL: [Self; 6] = [Self::Curl, Self::CurlHttp2, Self::Requests, Self::Httpx, Self::Urllib, Self::Node];

    /// As people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::CurlHttp2 => "curl --http2",
            Self::Requests => "Python requests",
            Self::Httpx => "Python httpx",
            Self::Urllib => "Python urllib",
            Self::Node => "Node fetch",
        }
    }

    /// The command line that makes `count` calls to `url`, one after the other, in one process (curl: one process a call).
    #[must_use]
    pub fn calls(self, url: &str, count: u32) -> Vec<String> {
        let words: Vec<String> = match self {
            Self::Curl => vec!["/bin/sh".into(), script("curl.sh"), "--http1.1".into()],
            Self::CurlHttp2 => vec!["/bin/sh".into(), script("curl.sh"), "--http2".into()],
            Self::Requests => vec![PYTHON.into(), script("calls.py"), "requests".into()],
            Self::Httpx => vec![PYTHON.into(), script("calls.py"), "httpx".into()],
            Self::Urllib => vec![PYTHON.into(), script("calls.py"), "urllib".into()],
            Self::Node => vec!["node".into(), script("calls.mjs")],
        };
        words.into_iter().chain([url.to_owned(), count.to_string()]).collect()
    }
}

/// Reads the lines that a client reported.
///
/// # Errors
/// A line is not a report.
pub fn answers(stdout: &str) -> Result<Vec<Answer>> {
    let parse = |line| serde_json::from_str(line).with_context(|| format!("no report of a client: {line:?}"));
    stdout.lines().map(parse).collect()
}

/// Path of a client program of this crate.
#[must_use]
pub fn script(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("programs").join(name).display().to_string()
}

/// A client that keeps running and keeps its connections, and does one thing after the other as it is told.
#[derive(Debug)]
pub struct Session {
    child: Child,
    /// `None` once it is closed.
    input: Option<ChildStdin>,
    replies: Receiver<String>,
}

impl Session {
    /// Makes `command`, which names [`PYTHON`] and has no arguments yet, run the program `script`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command, program: &str, arguments: &[&str]) -> Result<Self> {
        command.arg(script(program)).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = process::spawn(&mut command)?;
        let input = Some(child.stdin.take().context("no pipe to the session")?);
        let output = BufReader::new(child.stdout.take().context("no pipe from the session")?);
        let (sender, replies) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, input, replies })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to do something, and waits for what came of it.
    ///
    /// # Errors
    /// It does not answer.
    pub fn tell(&mut self, order: &Value) -> Result<Value> {
        self.begin(order)?;
        self.next_reply().with_context(|| format!("{order}"))
    }

    /// Tells it to do something; the reply is for later.
    ///
    /// # Errors
    /// It is gone.
    pub fn begin(&mut self, order: &Value) -> Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        Ok(writeln!(input, "{order}")?)
    }

    /// Its next reply.
    ///
    /// # Errors
    /// None comes.
    pub fn next_reply(&mut self) -> Result<Value> {
        let line = self.replies.recv_timeout(wait::patient(bounds::PROGRAM)).context("a session says nothing")?;
        serde_json::from_str(&line).with_context(|| format!("no reply of a session: {line:?}"))
    }

    /// A GET on a kept connection, or on a new one if there is none.
    ///
    /// # Errors
    /// It does not answer. A call that fails is an answer.
    pub fn get(&mut self, url: &str) -> Result<Answer> {
        self.request(&json!({"do": "request", "url": url}))
    }

    /// A GET on a new connection.
    ///
    /// # Errors
    /// As [`Session::get`].
    pub fn fresh(&mut self, url: &str) -> Result<Answer> {
        self.request(&json!({"do": "request", "url": url, "fresh": true}))
    }

    /// Any request.
    ///
    /// # Errors
    /// As [`Session::get`].
    pub fn request(&mut self, order: &Value) -> Result<Answer> {
        Ok(serde_json::from_value(self.tell(order)?)?)
    }

    /// Ends it by an order and checks that it ended well.
    ///
    /// # Errors
    /// It did not.
    pub fn end(mut self) -> Result<()> {
        self.begin(&json!({"do": "end"}))?;
        self.close()
    }

    /// Ends its input, for a program that ends then, and checks that it ended well.
    ///
    /// # Errors
    /// It did not.
    pub fn close(mut self) -> Result<()> {
        drop(self.input.take());
        let status = wait::until("a session to end", bounds::SOON, || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "a session ended with {status}");
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
