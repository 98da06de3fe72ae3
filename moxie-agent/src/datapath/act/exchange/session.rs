//! What the exchanges of one connection share, and why one of them may have no answer.

use std::sync::Arc;

use crate::datapath::downstream::Abort;
use crate::datapath::party::Party;
use crate::datapath::record::ExchangeLog;
use crate::datapath::tunnel::undialled;
use crate::divert::Form;
use crate::divert::proxy::Refusal;
use crate::upstream::{Link, LinkError};

/// Why an exchange has no answer: its client is reset, since nothing is invented in the destination's place.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The destination gave none.
    #[error("no answer from the destination")]
    Upstream(#[source] LinkError),
    /// The client broke off in the middle of its request.
    #[error("the client broke off")]
    Client(#[source] hyper::Error),
    /// A rule asked for a status that cannot end an exchange.
    #[error("{0} is not a final status")]
    NotFinal(http::StatusCode),
}

/// What the exchanges of one connection share.
#[derive(Debug)]
pub struct Session {
    pub(in crate::datapath) party: Party,
    pub(in crate::datapath) link: Link,
    pub(in crate::datapath) abort: Abort,
}

impl Session {
    /// A connection about to serve exchanges of `party`.
    #[must_use]
    pub fn new(party: Party, abort: Abort, link: Link) -> Arc<Self> {
        Arc::new(Self { party, link, abort })
    }

    /// What an explicit proxy's client is told of an exchange that failed; `None` where the client is reset instead.
    pub(in crate::datapath) fn refusal(&self, failure: &Failure) -> Option<Refusal> {
        let asked = self.party.told_proxy.as_ref().filter(|asked| asked.form == Form::Requests)?;
        let host = asked.host.clone();
        match failure {
            Failure::Upstream(LinkError::Dial(error)) => Some(undialled(&host, error)),
            Failure::Upstream(LinkError::Http(error)) if error.is_parse() => Some(Refusal::Unreadable { host }),
            Failure::Upstream(LinkError::Tls(_) | LinkError::Http(_) | LinkError::NotHttp2) => {
                Some(Refusal::NoAnswer { host })
            }
            Failure::Client(_) | Failure::NotFinal(_) => None,
        }
    }

    /// Notes a failure in the exchange's record, and what the client is told of it.
    pub(in crate::datapath) fn note(&self, failure: &Failure, log: &mut ExchangeLog) {
        if let Failure::Upstream(error) = failure {
            log.broke(error.in_record());
        }
        if let Some(refusal) = self.refusal(failure) {
            log.answered(refusal.status());
        }
    }
}
