//! `[drain]`: the orderly end.

use std::time::Duration;

use super::Problem;
use super::raw::Section;

/// The orderly end.
#[derive(Clone, Debug)]
pub struct Drain {
    /// `timeout`: how long connections may go on after the agent was told to end; 10 s unless set.
    pub timeout: Duration,
    /// `upgrade`: how long connections may go on in an agent that has handed over to a newer one; 1 h unless set.
    pub upgrade: Duration,
}

impl TryFrom<Section> for Drain {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let drain = Self {
            timeout: raw.take("timeout").unwrap_or(Duration::from_secs(10)),
            upgrade: raw.take("upgrade").unwrap_or(Duration::from_secs(3600)),
        };
        raw.finish(drain)
    }
}
