//! The compiled rule set: immutable, swapped as a whole, asked on the data path.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::Rule;
use crate::scope::Caller;

/// The facts of one request that rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// HTTP method, as sent.
    pub method: &'a str,
    /// `https` or `http`.
    pub scheme: &'a str,
    /// What the client asked for: lower-cased, default port of the scheme dropped (see [`normal_authority`]).
    pub authority: &'a str,
    /// Path as sent, with its leading `/`.
    pub path: &'a str,
    /// Query as sent, without the `?`.
    pub query: Option<&'a str>,
    /// Request headers.
    pub headers: &'a HeaderMap,
    /// Who made the request.
    pub caller: &'a Caller,
}

/// What a rule that fired wants done.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The rule; its tally has been counted.
    pub rule: Arc<Rule>,
    /// Wait before the first byte of the answer.
    pub delay: Duration,
    /// What to do after the wait.
    pub action: Action,
}

/// What to do with a request that a rule fired for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answer in the backend's place.
    Respond {
        /// Status of the answer.
        status: StatusCode,
        /// Exactly the headers of the answer, `content-type` among them; framing headers are the sender's business.
        headers: HeaderMap,
        /// Body of the answer.
        body: Bytes,
    },
    /// Let the call through and replace parts of the real answer.
    Rewrite(Arc<Rewrite>),
}

/// The parts that a `call_backend` rule changes.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// Headers set on the request (`custom_headers`).
    pub request_headers: HeaderMap,
    /// Status to show instead, if given.
    pub status: Option<StatusCode>,
    /// Headers to set on the answer: each replaces all headers of its name. `content-type` is among them if the rule gives a body.
    pub response_headers: HeaderMap,
    /// Body to show instead, if given.
    pub body: Option<Bytes>,
}

/// An immutable set of rules, ready to be asked from many tasks at once.
#[derive(Debug, Default)]
pub struct RuleSet {}

impl RuleSet {
    /// Compiles `rules`, in any order. `seed` drives `percentage`. May take a while: never call it on the data path.
    #[must_use]
    pub fn compile(rules: Vec<Arc<Rule>>, seed: u64) -> Self {
        let _ = (rules, seed);
        todo!()
    }

    /// Whether some rule that could fire at `now` can name a request to `authority` (the connection-level question).
    #[must_use]
    pub fn can_name(&self, authority: &str, now: Timestamp) -> bool {
        let _ = (authority, now);
        todo!()
    }

    /// Whether some rule could fire at `now` at all.
    #[must_use]
    pub fn is_armed(&self, now: Timestamp) -> bool {
        let _ = now;
        todo!()
    }

    /// The first rule in order that matches and could be taken; its count is taken with it.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>, now: Timestamp) -> Option<Hit> {
        let _ = (request, now);
        todo!()
    }
}

/// Lower-cases a Host or `:authority` value and drops a trailing dot of the name and the default port of `scheme`.
#[must_use]
pub fn normal_authority(authority: &str, scheme: &str) -> String {
    let _ = (authority, scheme);
    todo!()
}
