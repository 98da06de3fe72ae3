//! `[sniff]`: bounds of the look at a connection's first bytes.

use std::time::Duration;

use super::Problem;
use super::raw::Section;
use super::units::Size;

/// Bounds of the look at a connection's first bytes.
#[derive(Clone, Debug)]
pub struct Sniff {
    /// `first_byte`: a client that is silent for this long is taken to let the server speak first; 50 ms unless set.
    pub first_byte: Duration,
    /// `timeout`: how long a beginning may stay incomplete; 3 s unless set.
    pub timeout: Duration,
    /// `max_bytes`: how long a beginning may be; 64 KiB unless set.
    pub max_bytes: usize,
}

impl TryFrom<Section> for Sniff {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let first_byte = raw.take("first_byte").unwrap_or(Duration::from_millis(50));
        let timeout = raw.take("timeout").unwrap_or(Duration::from_secs(3));
        let Size(max_bytes) = raw.take("max_bytes").unwrap_or(Size(64 << 10));
        if timeout < first_byte {
            raw.refuse("timeout", "must not be shorter than sniff.first_byte");
        }
        if !(1 << 10..=1 << 20).contains(&max_bytes) {
            raw.refuse("max_bytes", "must be between \"1KiB\" and \"1MiB\"");
        }
        raw.finish(Self { first_byte, timeout, max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX) })
    }
}
