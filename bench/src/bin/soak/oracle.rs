//! What is known of every answer before it comes, and what is said of one that is different.

use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Host that rules name.
pub(crate) const RULED: &str = "ruled.example";
/// Host that no rule names.
pub(crate) const QUIET: &str = "quiet.example";
/// Path of [`RULED`] that a rule answers, and what it answers with.
pub(crate) const MOCKED: (&str, u16, &str) = ("/mocked", 429, "{\"mocked\":true}");
/// Path of [`RULED`] that a rule answers after [`LATE_BY`].
pub(crate) const LATE: (&str, u16, &str) = ("/late", 503, "{\"late\":true}");
/// Delay of [`LATE`].
pub(crate) const LATE_BY: std::time::Duration = std::time::Duration::from_millis(100);

/// What the destination sends for a seed: different for every seed, and at every place of the body.
pub(crate) fn body(seed: u64, length: usize) -> Bytes {
    // SplitMix64, by Steele, Lea and Flood ("Fast splittable pseudorandom number generators", 2014).
    let mut state = seed;
    let word = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(word).take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes.into()
}

/// How an answer was not what a call without faults gets.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Oddity {
    /// There was none: the call failed.
    Failed,
    /// The destination's own, where a rule should have fired.
    Direct,
    /// Something that nobody should have sent.
    Wrong,
}

/// An answer that was not as expected.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Anomaly {
    /// What kind of call it was.
    pub(crate) kind: String,
    pub(crate) oddity: Oddity,
    /// What was seen.
    pub(crate) text: String,
    /// When its connection was begun, seconds of CLOCK_MONOTONIC.
    pub(crate) opened: f64,
    /// When it came, or failed.
    pub(crate) ended: f64,
}

/// What clients say at their end.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Totals {
    /// Calls of each kind that were as expected.
    pub(crate) calls: std::collections::BTreeMap<String, u64>,
}

/// CLOCK_MONOTONIC, the same for every process; in seconds.
pub(crate) fn now() -> f64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0.0, |time| std::time::Duration::from(time).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_differ_by_seed_and_have_their_length() {
        assert_eq!(body(1, 1001).len(), 1001);
        assert_eq!(body(1, 1001), body(1, 1001));
        assert_ne!(body(1, 16), body(2, 16));
        assert_eq!(body(1, 2000).slice(..1001), body(1, 1001));
    }
}
