//! `[tls]`: whom the agent trusts toward destinations, and how many certificates it remembers.

use std::path::PathBuf;

use super::Problem;
use super::raw::Section;

/// Roots and certificates.
#[derive(Clone, Debug)]
pub struct Tls {
    /// `upstream_ca`: PEM files of roots that destinations are verified with, besides the system store.
    pub upstream_ca: Vec<PathBuf>,
    /// `leaf_cache`: how many minted certificates are kept; 1024 unless set.
    pub leaf_cache: usize,
}

impl TryFrom<Section> for Tls {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let upstream_ca = raw.take("upstream_ca").unwrap_or_default();
        let leaf_cache = raw.take("leaf_cache").unwrap_or(1024_u64);
        if !(1..=1 << 20).contains(&leaf_cache) {
            raw.refuse("leaf_cache", "must be between 1 and 1048576");
        }
        raw.finish(Self { upstream_ca, leaf_cache: usize::try_from(leaf_cache).unwrap_or(usize::MAX) })
    }
}
