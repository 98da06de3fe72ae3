//! Who speaks on a connection that is looked into: what every exchange on it goes by, whichever version of HTTP it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use crate::datapath::Context;
use crate::datapath::learned::Client;
use crate::datapath::record::{ConnectionLog, ExchangeLog};
use crate::divert::Asked;
use crate::journal::{Outcome, Protocol, Reason};
use crate::rules::set::{self, Action, Hit};
use crate::scope::Caller;

/// Octets of a request that its record keeps at most: records outlive their requests, and a header table makes long ones cheap to
/// send.
const MAX_METHOD: usize = 64;
const MAX_AUTHORITY: usize = 1024;
const MAX_TARGET: usize = 8 * 1024;

/// The client of a connection that is looked into, and what is known of it.
#[derive(Debug)]
pub struct Party {
    pub(in crate::datapath) cx: Arc<Context>,
    /// `https` or `http`.
    pub(in crate::datapath) scheme: &'static str,
    pub(in crate::datapath) caller: Arc<Caller>,
    pub(in crate::datapath) log: Arc<ConnectionLog>,
    pub(in crate::datapath) client: Client,
    /// What it told an explicit proxy.
    pub(in crate::datapath) told_proxy: Option<Asked>,
    asked: AtomicBool,
    began: Instant,
    /// The second, since it began, in which a rule has last answered it; the first one is 1.
    answered: AtomicU64,
}

impl Party {
    /// A client that is about to ask for something.
    #[must_use]
    pub fn new(
        scheme: &'static str,
        told_proxy: Option<Asked>,
        log: Arc<ConnectionLog>,
        client: Client,
        cx: &Arc<Context>,
    ) -> Self {
        let (cx, caller) = (Arc::clone(cx), log.caller());
        let (began, answered) = (Instant::now(), AtomicU64::new(0));
        Self { cx, scheme, caller, log, client, told_proxy, asked: false.into(), began, answered }
    }

    /// Called with each request: a client that asks trusts us.
    pub(in crate::datapath) fn has_asked(&self) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.cx.learned.trusting.insert(self.client.clone());
        }
    }

    /// Called when the connection has ended: a client that never asked for anything has refused us.
    pub fn learn_refusal(&self) {
        if !self.asked.load(Ordering::Relaxed) && !self.cx.learned.trusting.contains(&self.client) {
            self.cx.learned.refused.insert(self.client.clone());
            self.log.failed(Some(Reason::AuthorityRefused));
        }
    }

    /// Begins the record of a request for `target` (path and query, as sent) of `authority`.
    pub(in crate::datapath) fn open_log(
        &self,
        protocol: Protocol,
        method: &str,
        authority: &str,
        target: &str,
    ) -> ExchangeLog {
        // Another name than the client's would come of a target that does not begin as one.
        let slash = if target.is_empty() || target.starts_with(['/', '?']) { "" } else { "/" };
        let url = format!("{}://{}{slash}{}", self.scheme, cut(authority, MAX_AUTHORITY), cut(target, MAX_TARGET));
        ExchangeLog::open(&self.log, protocol, cut(method, MAX_METHOD), url, self.cx.clock.now())
    }

    /// The rule that fires for a request: counted, and noted in its record. None: the request is the destination's.
    pub(in crate::datapath) async fn decide(&self, request: &set::Request<'_>, log: &mut ExchangeLog) -> Option<Hit> {
        let hit = loop {
            let hit = self.first(request)?;
            // Another agent may keep the counts by now: its last firing may be gone, and then the next rule is due.
            if self.cx.rules.confirm(&hit).await {
                break hit;
            }
        };
        self.cx.rules.fired(&hit.rule);
        self.learn_answer();
        let outcome = match hit.action {
            // Asked for, so it is a fault and not an error: the client is reset without an answer.
            Action::Respond { status, .. } if status.is_informational() => Outcome::Faulted,
            Action::Rewrite(ref rewrite) if rewrite.status.is_some_and(|status| status.is_informational()) => {
                Outcome::Faulted
            }
            Action::Respond { .. } => Outcome::Responded,
            Action::Rewrite(ref rewrite) if !rewrite.request_headers.is_empty() => Outcome::Rewritten,
            // Until it has had its part in the answer.
            Action::Rewrite(_) => Outcome::Forwarded,
        };
        log.fired(&hit.rule, outcome);
        Some(hit)
    }

    /// It is looked into for minutes, so once a second is often enough.
    fn learn_answer(&self) {
        let second = self.began.elapsed().as_secs() + 1;
        if self.answered.swap(second, Ordering::Relaxed) != second {
            self.cx.learned.answered.insert(self.client.clone());
        }
    }

    fn first(&self, request: &set::Request<'_>) -> Option<Hit> {
        // A client that was told of an explicit proxy has no other way while Moxie is switched off.
        if self.told_proxy.is_some() && !self.cx.divert.is_enabled() {
            return None;
        }
        self.cx.rules.current().decide(request, self.cx.clock.now())
    }
}

/// The beginning of `text`, so many octets at most.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_the_beginning() {
        assert_eq!(cut("/a", 8), "/a");
        assert_eq!(cut("/abcdefg", 4), "/abc");
        assert_eq!(cut("/ab\u{e4}", 4), "/ab", "no character is halved");
        assert_eq!(cut(&"x".repeat(60_000), MAX_TARGET).len(), 8192);
    }
}
