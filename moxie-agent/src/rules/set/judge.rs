//! Why a rule does not take a request: the one list of conditions, which both decisions and explanations go by.

use std::fmt;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{Naming, Prepared, Request, SPENT_IS_WATCHED};
use crate::rules::spec::{MatchMode, Methods};
use crate::rules::status::Status;
use crate::rules::when::Unmet;
use crate::scope::Caller;

/// The first condition that does not hold. The dice and the race for the last count come after all of these.
#[derive(Debug)]
pub(in crate::rules) enum Failure<'a> {
    Disabled,
    Expired(Timestamp),
    Exhausted,
    BodyUnreadable,
    NotTheirs(&'a Caller),
    Method { wanted: &'a Methods, got: &'a str },
    Url(&'a Text),
    Host(&'a str),
    When(Unmet<'a>),
    NeverDrawn,
}

/// What urls are held against: `authority/path`, and the same with `?query` if there is one.
#[derive(Debug)]
pub(in crate::rules) struct Text {
    whole: String,
    path_end: usize,
}

impl Text {
    pub(super) fn of(request: &Request<'_>) -> Self {
        let query = request.query.unwrap_or_default();
        let mut whole = String::with_capacity(request.authority.len() + request.path.len() + query.len() + 2);
        whole.push_str(request.authority);
        if !request.path.starts_with('/') {
            whole.push('/');
        }
        whole.push_str(request.path);
        let path_end = whole.len();
        if let Some(query) = request.query {
            whole.push('?');
            whole.push_str(query);
        }
        Self { whole, path_end }
    }

    pub(super) fn with_query(&self) -> &str {
        &self.whole
    }

    /// The text up to the query, and the query with its `?`.
    pub(super) fn split(&self) -> (&str, &str) {
        self.whole.split_at(self.path_end)
    }
}

impl Prepared {
    /// Whether it may fire at `now`, as far as that does not depend on a request.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.idle(now).is_none()
    }

    /// What this rule makes of a host that it names.
    pub(super) fn stand(&self, now: Timestamp) -> Naming {
        let has_fired = || self.rule.tally.hits.load(Ordering::Relaxed) > 0;
        match self.idle(now) {
            None => Naming::Armed,
            Some(Failure::Exhausted) if has_fired() => Naming::Spent,
            Some(_) => Naming::Unnamed,
        }
    }

    /// Whether it may fire, or has.
    pub(super) fn is_of_use(&self, now: Timestamp) -> bool {
        self.stand(now) != Naming::Unnamed
    }

    /// Whether it has been spent so lately that what it answered is watched.
    pub(super) fn is_watched(&self, now: Timestamp) -> bool {
        let ago = now.as_millisecond() - self.rule.tally.last_hit_ms.load(Ordering::Acquire);
        self.stand(now) == Naming::Spent && u128::try_from(ago).is_ok_and(|ago| ago < SPENT_IS_WATCHED.as_millis())
    }

    fn idle(&self, now: Timestamp) -> Option<Failure<'static>> {
        let spec = &self.rule.spec;
        match Status::of(&self.rule, now) {
            Status::Disabled => Some(Failure::Disabled),
            Status::Expired => Some(Failure::Expired(spec.expires_at.unwrap_or(now))),
            Status::Exhausted => Some(Failure::Exhausted),
            Status::Armed | Status::Delivered | Status::NoTraffic if self.action.is_none() => {
                Some(Failure::BodyUnreadable)
            }
            Status::Armed | Status::Delivered | Status::NoTraffic => {
                (spec.percentage <= 0.0).then_some(Failure::NeverDrawn)
            }
        }
    }

    /// The first condition that `request` does not meet. `named` tells whether the index found the url to match `text`.
    pub(super) fn failure<'a>(
        &'a self,
        request: &Request<'a>,
        text: &'a Text,
        named: bool,
        now: Timestamp,
    ) -> Option<Failure<'a>> {
        let spec = &self.rule.spec;
        if let Some(idle) = self.idle(now) {
            return Some(idle);
        }
        if !request.caller.meets(&spec.name) {
            return Some(Failure::NotTheirs(request.caller));
        }
        if let Methods::These(methods) = &spec.methods
            && !methods.iter().any(|method| method == request.method)
        {
            return Some(Failure::Method { wanted: &spec.methods, got: request.method });
        }
        if !named || !self.confirms(text) {
            return Some(Failure::Url(text));
        }
        if spec.match_mode == MatchMode::Search && !self.names_host(request.authority) {
            return Some(Failure::Host(request.authority));
        }
        spec.when.unmet(request).map(Failure::When)
    }

    fn confirms(&self, text: &Text) -> bool {
        let (path, query) = text.split();
        let url = &self.rule.spec.url;
        url.confirms(path) || (!query.is_empty() && url.confirms(text.with_query()))
    }
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("the rule is disabled"),
            Self::Expired(at) => write!(f, "the rule expired at {at}"),
            Self::Exhausted => f.write_str("the rule has fired as often as its mock_count allows"),
            Self::BodyUnreadable => f.write_str("the file of the rule's body could not be read"),
            Self::NotTheirs(caller) => {
                let rules = caller.rules.as_deref().unwrap_or_default().join(", ");
                write!(f, "the caller's container meets only rules named {rules:?}, by its label moxie.rules")
            }
            Self::Method { wanted: Methods::These(wanted), got } => {
                write!(f, "the rule wants {}, the request is {got}", wanted.join(" or "))
            }
            Self::Method { wanted: Methods::Any, got } => write!(f, "the rule takes any method, the request is {got}"),
            Self::Url(text) => write!(f, "the url does not match {}", text.with_query()),
            Self::Host(host) => write!(f, "none of the rule's hosts matches {host}"),
            Self::When(unmet) => unmet.fmt(f),
            Self::NeverDrawn => f.write_str("the rule fires for 0 % of such requests"),
        }
    }
}
