//! `[rules]`: how rules with a percentage are drawn.

use super::Problem;
use super::raw::Section;

/// How rules are drawn.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `seed`: the same seed draws the same firings for the same requests; without it, one is made up at each start.
    pub seed: Option<u64>,
}

impl TryFrom<Section> for Rules {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let rules = Self { seed: raw.take("seed") };
        raw.finish(rules)
    }
}
