//! What the agent tells of itself: log lines and Prometheus metrics.

use std::time::Duration;

use crate::journal::{Connection, Exchange};
use crate::rules::RuleId;

/// Every metric of the agent (names and units: docs/guide/metrics.md).
#[derive(Debug)]
pub struct Metrics {}

impl Default for Metrics {
    fn default() -> Self {
        todo!()
    }
}

impl Metrics {
    /// An exchange was recorded: requests by outcome and status class, duration, injected delay, hits by rule.
    pub fn exchange(&self, record: &Exchange) {
        let _ = record;
        todo!()
    }

    /// A connection was accepted; pairs with [`Metrics::connection`].
    pub fn connection_opened(&self) {
        todo!()
    }

    /// A connection was recorded: connections by protocol, verdict and reason.
    pub fn connection(&self, record: &Connection) {
        let _ = record;
        todo!()
    }

    /// A certificate was minted.
    pub fn minted(&self, took: Duration) {
        let _ = took;
        todo!()
    }

    /// A rule is gone: its series go with it.
    pub fn forget_rule(&self, rule: &RuleId) {
        let _ = rule;
        todo!()
    }

    /// The OpenMetrics text; `kernel` are the kernel half's counters.
    #[must_use]
    pub fn render(&self, kernel: &[(&'static str, u64)]) -> String {
        let _ = kernel;
        todo!()
    }
}

/// Starts telling on stderr what `filter` lets through.
pub fn init(format: crate::config::Format, filter: &str) {
    let _ = (format, filter);
    todo!()
}
