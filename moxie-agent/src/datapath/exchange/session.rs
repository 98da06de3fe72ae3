//! What the exchanges of one connection share, and why one of them may have no answer.

use std::sync::Arc;

use http::Version;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::body::OnBreak;
use super::party::Party;
use crate::datapath::downstream::Abort;
use crate::datapath::record::ExchangeLog;
use crate::datapath::tunnel::undialled;
use crate::divert::Form;
use crate::divert::proxy::Refusal;
use crate::journal::Protocol;
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
    pub(super) version: Version,
    /// Ends an HTTP/1 connection of a draining agent.
    pub(super) last: Last,
}

/// The last request of an HTTP/1 connection: its handler waits until the connection has been told that there will be no other,
/// since only then the answer says so.
#[derive(Debug, Default)]
pub(super) struct Last {
    came: Notify,
    told: CancellationToken,
}

impl Last {
    /// The handler has a request.
    pub(super) async fn request(&self) {
        self.came.notify_one();
        self.told.cancelled().await;
    }

    /// The connection waits for one.
    pub(super) async fn awaited(&self) {
        self.came.notified().await;
    }

    /// The connection knows.
    pub(super) fn told(&self) {
        self.told.cancel();
    }
}

impl Session {
    /// A connection about to serve exchanges of `party`.
    #[must_use]
    pub fn new(party: Party, version: Version, abort: Abort, link: Link) -> Arc<Self> {
        Arc::new(Self { party, link, abort, version, last: Last::default() })
    }

    /// What to do when an answer breaks off midway: HTTP/1 has no other way to say so than a reset.
    #[must_use]
    pub fn abort_on_break(&self) -> OnBreak {
        if self.version == Version::HTTP_2 {
            OnBreak::ResetStream
        } else {
            OnBreak::ResetConnection(self.abort.clone())
        }
    }

    /// What an explicit proxy's client is told of an exchange that failed; `None` where the client is reset instead.
    pub(in crate::datapath) fn refusal(&self, failure: &Failure) -> Option<Refusal> {
        let asked = self.party.told_proxy.as_ref().filter(|asked| asked.form == Form::Requests)?;
        let host = asked.host.clone();
        match failure {
            Failure::Upstream(LinkError::Dial(error)) => Some(undialled(&host, error)),
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

    pub(super) fn protocol(&self) -> Protocol {
        if self.version == Version::HTTP_2 { Protocol::Http2 } else { Protocol::Http1 }
    }
}
