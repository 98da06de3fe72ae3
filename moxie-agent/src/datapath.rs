//! The spine: one connection through the stages, in order, and nothing else.

pub mod accept;
pub mod act;
pub mod decide;
pub mod downstream;
mod http1;
pub mod http2;
pub mod learned;
pub mod load;
pub mod original_dst;
pub mod party;
pub mod record;
pub mod relay;
pub mod sniff;
pub mod tunnel;

use std::sync::Arc;

use crate::chain::Chain;
use crate::clock::Clock;
use crate::divert::Divert;
use crate::drain::Drain;
use crate::journal::{Journal, Reason};
use crate::rulebook::RuleBook;
use crate::scope::Scopes;
use crate::switchboard::Switchboard;
use crate::telemetry::Metrics;
use crate::tls::leaf_cache::LeafCache;
use crate::upstream::Upstream;

use accept::Accepted;
use decide::Verdict;
use learned::Learned;
use load::Load;
use relay::Pipes;
use sniff::Sniffed;

/// What every connection may use.
#[derive(Debug)]
pub struct Context {
    /// How connections reach the agent.
    pub divert: Arc<dyn Divert>,
    /// The rules in force.
    pub rules: Arc<RuleBook>,
    /// Who is opted in.
    pub scopes: Arc<Scopes>,
    /// The address lists, where the way on path has none.
    pub switchboard: Arc<Switchboard>,
    /// Where records go.
    pub journal: Arc<Journal>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Certificates toward the application.
    pub leaves: LeafCache,
    /// The destination's side.
    pub upstream: Upstream,
    /// How much there is to do, and whether more is taken.
    pub load: Arc<Load>,
    /// What bytes in bulk pass through.
    pub pipes: Pipes,
    /// What earlier connections have taught.
    pub learned: Arc<Learned>,
    /// Bounds of the sniffing stage.
    pub sniff: sniff::Bounds,
    /// Wall-clock time.
    pub clock: Clock,
    /// Ends the connections in good order.
    pub drain: Drain,
}

/// Why a connection ended before its stages were through. The client is reset; the reason is recorded.
#[derive(Debug, thiserror::Error)]
pub enum ConnError {
    /// See [`original_dst::Error`].
    #[error("the original destination is not known")]
    OriginalDst(#[source] original_dst::Error),
    /// See [`tunnel::Error`].
    #[error("the tunnel does not stand")]
    Tunnel(#[source] tunnel::Error),
    /// See [`sniff::Error`].
    #[error("the first bytes could not be looked at")]
    Sniff(#[source] sniff::Error),
    /// See [`act::Error`].
    #[error("the connection broke off")]
    Act(#[source] act::Error),
}

impl ConnError {
    /// What the record says, where the stage that failed knows better than the verdict.
    fn reason(&self) -> Option<Reason> {
        match self {
            Self::OriginalDst(error) => Some(error.reason()),
            Self::Tunnel(error) => Some(error.reason()),
            Self::Sniff(error) => Some(error.reason()),
            Self::Act(error) => error.reason(),
        }
    }
}

/// Serves one accepted connection to its end and leaves exactly one record of it.
pub async fn connection(conn: Accepted, cx: Arc<Context>) {
    let log = Arc::clone(&conn.log);
    if let Err(error) = stages(conn, &cx).await {
        tracing::debug!(connection = log.id(), error = %Chain(&error), "connection ended early");
        log.failed(error.reason());
    }
}

async fn stages(conn: Accepted, cx: &Arc<Context>) -> Result<(), ConnError> {
    // Each on the heap for as long as it takes: a connection at rest that passes through needs a tenth of it.
    let (conn, verdict) = Box::pin(decided(conn, cx)).await?;
    match verdict {
        Verdict::Passthrough(reason) => act::passthrough::relay(conn, reason, cx).await,
        Verdict::Intercept(_) => Box::pin(act::intercept::serve(*conn, cx)).await,
    }
    .map_err(ConnError::Act)
}

async fn decided(conn: Accepted, cx: &Arc<Context>) -> Result<(Box<Sniffed>, Verdict), ConnError> {
    let conn = original_dst::resolve(conn, cx).await.map_err(ConnError::OriginalDst)?;
    let conn = tunnel::open(conn, cx).await.map_err(ConnError::Tunnel)?;
    let conn = sniff::look(conn, cx).await.map_err(ConnError::Sniff)?;
    let verdict = decide::connection(&conn, cx);
    Ok((Box::new(conn), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_takes_little_memory_of_its_own() {
        let bytes = size(connection);
        assert!(bytes <= 1024, "{bytes} bytes for each, also for one at rest that passes through");
    }
}
