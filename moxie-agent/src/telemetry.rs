//! What the agent tells of itself: log lines and Prometheus metrics.

mod log;
mod metrics;

pub use log::{LogError, LogFormat, init};
pub use metrics::Metrics;
