//! One request and its answer while they pass.

use std::sync::Arc;

use crate::datapath::record::ExchangeLog;
use crate::http1::{Awaited, Body, Doubt};
use crate::rules::set::{Hit, Rewrite};

/// A request that has been let go, and its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) log: ExchangeLog,
    /// How its answer is to be read.
    pub(super) awaited: Awaited,
    /// What a rule replaces in the answer.
    pub(super) rewrite: Option<Arc<Rewrite>>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) awaits_leave: bool,
    /// Whether the request has been read to its end.
    pub(super) is_asked: bool,
    /// Whether the final answer has been read to its end.
    pub(super) is_answered: bool,
}

/// What the client's next bytes are.
#[derive(Debug)]
pub(super) enum Asking {
    /// A request's head.
    Head,
    /// The held head is whole, and it has to be decided what becomes of it.
    Whole,
    /// A rule fires for the held request, once the answers before it are through.
    Ruled(Box<Ruled>),
    /// The body of the newest exchange.
    Body(Body, After),
    /// Whatever the answer to the newest exchange says: perhaps another protocol.
    Switch(More),
    /// Nothing; what comes nevertheless is in doubt.
    Nothing(Doubt),
    /// Not looked at.
    Unread,
}

/// A request that a rule fires for.
#[derive(Debug)]
pub(super) struct Ruled {
    pub(super) hit: Hit,
    pub(super) log: ExchangeLog,
}

/// What follows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Another request.
    Head,
    /// See [`Asking::Switch`].
    Switch,
    /// See [`Asking::Nothing`].
    Last,
}

/// Whether anything came before it was known whether the protocol changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    /// Nothing.
    Nothing,
    /// Something did, and has been passed on.
    Came,
}

impl After {
    pub(super) fn asking(self) -> Asking {
        match self {
            Self::Head => Asking::Head,
            Self::Switch => Asking::Switch(More::Nothing),
            Self::Last => Asking::Nothing(Doubt::AfterLast),
        }
    }
}

/// What the destination's next bytes are.
#[derive(Debug)]
pub(super) enum Answering {
    /// The head of an answer.
    Head,
    /// The body of the oldest exchange that is not answered.
    Body(Body, Fate),
    /// Not looked at.
    Unread,
}

/// What becomes of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes to the client.
    Passed,
    /// A rule's is in its place.
    Replaced,
}
