//! What `load` says at its end, on one line of JSON.

use serde::{Deserialize, Serialize};

/// What one run of traffic came to.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Report {
    /// Length of the measured time, in seconds.
    pub seconds: f64,
    /// Requests that were answered as they should be.
    pub requests: u64,
    /// Those that were not.
    pub errors: u64,
    /// The first error's text.
    #[serde(default)]
    pub complaint: Option<String>,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Latency in nanoseconds, connect and handshake included where each request has its own connection.
    pub p50: u64,
    /// The same for 99 of 100 requests.
    pub p99: u64,
    /// Answers that came before they were due; only where a delay is measured.
    #[serde(default)]
    pub early: u64,
    /// Processor time of the processes under test, in seconds.
    pub cpu: f64,
    /// Processors kept busy by what has nothing to do with the run.
    pub foreign: f64,
    /// What another generator printed.
    #[serde(default)]
    pub printed: String,
}

impl Report {
    /// Requests a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.requests_f() / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Microseconds of processor time for each request.
    #[must_use]
    pub fn cpu_each(&self) -> f64 {
        self.cpu * 1e6 / self.requests_f().max(1.0)
    }

    /// Megabytes of bodies a second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.gigabytes() * 1e3 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Seconds of processor time for each gigabyte of bodies.
    #[must_use]
    pub fn cpu_per_gigabyte(&self) -> f64 {
        self.cpu / self.gigabytes().max(f64::MIN_POSITIVE)
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn gigabytes(&self) -> f64 {
        self.bytes as f64 / 1e9
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn requests_f(&self) -> f64 {
        self.requests as f64
    }
}
