//! `[records]`: how much of what happened is kept.

use super::Problem;
use super::raw::Section;
use super::units::Size;

/// How much of what happened is kept.
#[derive(Clone, Debug)]
pub struct Records {
    /// `bytes`: about this much of each kind of record; 64 MiB unless set.
    pub bytes: usize,
}

impl TryFrom<Section> for Records {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let Size(bytes) = raw.take("bytes").unwrap_or(Size(64 << 20));
        if bytes < 64 << 10 {
            raw.refuse("bytes", "must be at least \"64KiB\"");
        }
        raw.finish(Self { bytes: usize::try_from(bytes).unwrap_or(usize::MAX) })
    }
}
